//! How much of a statement's answer follows from the data.
//!
//! Two servers with the same data may answer the same statement differently, and rightly so: rows
//! come in any order without `ORDER BY`, a `LIMIT` then cuts off any of them, and `random()` or
//! `inet_server_addr()` depend on more than the data. Who compares answers must know this.
//!
//! The tokens of the text decide, by an allow-list like everywhere here: a function that is not
//! listed makes the answer incomparable. What a view hides is not seen. Sums and averages are not
//! listed, because the sum of floating-point numbers depends on their order.

use sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::dialect::Dialect;

/// How much of the answer to a statement follows from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinism {
    /// All rows, and which of them come first (unless they tie).
    Ordered,
    /// All rows, in any order.
    Rows,
    /// Only how many rows there are: a `LIMIT` without an order takes any of them.
    Number,
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// Words after which a parenthesis opens no call, and the functions whose answer follows from their
/// arguments on every server.
const BEFORE_PARENTHESIS: &[&str] = &[
    "ABS",
    "ALL",
    "AND",
    "ANY",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CHAR",
    "CHARACTER_LENGTH",
    "CHAR_LENGTH",
    "COALESCE",
    "CONCAT",
    "CONCAT_WS",
    "COUNT",
    "DECIMAL",
    "DISTINCT",
    "ELSE",
    "EXCEPT",
    "EXISTS",
    "FILTER",
    "FROM",
    "GREATEST",
    "HAVING",
    "IFNULL",
    "IN",
    "INTERSECT",
    "IS",
    "JOIN",
    "LEAST",
    "LENGTH",
    "LIKE",
    "LIMIT",
    "LOWER",
    "LTRIM",
    "MAX",
    "MIN",
    "NOT",
    "NULLIF",
    "NUMERIC",
    "OCTET_LENGTH",
    "OFFSET",
    "ON",
    "OR",
    "REPLACE",
    "RTRIM",
    "SELECT",
    "SOME",
    "SUBSTR",
    "SUBSTRING",
    "THEN",
    "TRIM",
    "UNION",
    "UPPER",
    "USING",
    "VALUES",
    "VARCHAR",
    "WHEN",
    "WHERE",
];

/// Words whose value the data do not decide.
const VARYING: &[&str] = &[
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "OVER",
    "SESSION_USER",
    "TABLESAMPLE",
    "USER",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
];

/// Beginnings of names that belong to the server.
const SYSTEM: &[&str] =
    &["pg_", "information_schema", "performance_schema", "mysql", "sys", "sqlite_", "pragma_"];

/// How much of the answer to `sql`, a proved read, follows from the data.
#[must_use]
pub fn determinism(sql: &str, dialect: Dialect) -> Determinism {
    let Ok(tokens) = Tokenizer::new(dialect.parser(), sql).tokenize() else {
        return Determinism::Nothing("it cannot be read");
    };
    let tokens: Vec<Token> =
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    judge(&tokens, dialect).unwrap_or_else(Determinism::Nothing)
}

/// A query at one depth of parentheses.
#[derive(Debug, Default, Clone, Copy)]
struct Level {
    is_ordered: bool,
    /// Whether a `LIMIT` or the like takes only some rows.
    is_cut: bool,
    is_grouped: bool,
}

impl Level {
    fn takes_any(self) -> bool {
        self.is_cut && !self.is_ordered
    }
}

fn judge(tokens: &[Token], dialect: Dialect) -> Result<Determinism, &'static str> {
    if !tokens.first().is_some_and(|first| is_one_of(first, &["SELECT", "WITH"])) {
        return Err("it is not a plain query");
    }
    let mut levels = vec![Level::default()];
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen => levels.push(Level::default()),
            Token::RParen => leave(levels.pop())?,
            Token::Word(word) => {
                let next = tokens.get(at + 1);
                may_compare(word, next)?;
                let level = levels.last_mut().ok_or("it cannot be read")?;
                note(level, word, next);
                if level.is_grouped && dialect != Dialect::PostgreSql {
                    return Err("a GROUP BY that may show any row of a group");
                }
            }
            Token::AtSign | Token::AtAt => return Err("a variable"),
            _ => {}
        }
    }
    let [level] = levels[..] else { return Err("it cannot be read") };
    Ok(match level {
        _ if level.takes_any() => Determinism::Number,
        _ if level.is_ordered || is_one_aggregate(tokens, level) => Determinism::Ordered,
        _ => Determinism::Rows,
    })
}

/// Checks a query that ends before the statement does.
fn leave(level: Option<Level>) -> Result<(), &'static str> {
    match level {
        Some(level) if level.takes_any() => Err("a LIMIT without ORDER BY in a subquery"),
        _ => Ok(()),
    }
}

/// Checks that the word does not make the answer incomparable.
fn may_compare(word: &Word, next: Option<&Token>) -> Result<(), &'static str> {
    let is_quoted = word.quote_style.is_some();
    let lower = word.value.to_ascii_lowercase();
    if SYSTEM.iter().any(|name| lower.starts_with(name)) {
        return Err("a table or a function of the server");
    }
    if word.value.starts_with('@') {
        return Err("a variable");
    }
    if !is_quoted && is_listed(word, VARYING) {
        return Err("a value that the data do not decide");
    }
    let is_call =
        next == Some(&Token::LParen) && (is_quoted || !is_listed(word, BEFORE_PARENTHESIS));
    if is_call { Err("a function that may answer differently elsewhere") } else { Ok(()) }
}

fn note(level: &mut Level, word: &Word, next: Option<&Token>) {
    if word.quote_style.is_some() {
        return;
    }
    level.is_ordered |= is_listed(word, &["ORDER"]);
    level.is_grouped |= is_listed(word, &["GROUP"]);
    let distinct_on =
        is_listed(word, &["DISTINCT"]) && next.is_some_and(|it| is_one_of(it, &["ON"]));
    level.is_cut |= distinct_on || is_listed(word, &["LIMIT", "OFFSET", "FETCH", "TOP"]);
}

/// Whether the outermost query selects an aggregate of everything, and so is one row.
fn is_one_aggregate(tokens: &[Token], outermost: Level) -> bool {
    let begins_so = tokens.first().is_some_and(|it| is_one_of(it, &["SELECT"]))
        && tokens.get(1).is_some_and(|it| is_one_of(it, &["COUNT", "MAX", "MIN"]))
        && tokens.get(2) == Some(&Token::LParen);
    let is_several = || tokens.iter().any(|it| is_one_of(it, &["UNION", "INTERSECT", "EXCEPT"]));
    begins_so && !outermost.is_grouped && !is_several()
}

fn is_one_of(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && is_listed(word, words))
}

fn is_listed(word: &Word, words: &[&str]) -> bool {
    words.iter().any(|listed| listed.eq_ignore_ascii_case(&word.value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::order("SELECT * FROM boat ORDER BY id LIMIT 20", Determinism::Ordered)]
    #[case::count("SELECT COUNT(*) FROM boat WHERE name = $1", Determinism::Ordered)]
    #[case::count_of_rows(
        "SELECT COUNT(*) FROM (SELECT id FROM boat) AS sub",
        Determinism::Ordered
    )]
    #[case::no_order("SELECT name FROM boat WHERE id IN (1, 2)", Determinism::Rows)]
    #[case::quoted_names(r#"SELECT "limit" FROM "order""#, Determinism::Rows)]
    #[case::order_of_another_query(
        "SELECT id FROM boat WHERE id = (SELECT MAX(id) FROM boat ORDER BY 1)",
        Determinism::Rows
    )]
    #[case::two_counts("SELECT COUNT(*) FROM a UNION SELECT COUNT(*) FROM b", Determinism::Rows)]
    #[case::limit(r#"SELECT "boat"."id" FROM "boat" LIMIT $1"#, Determinism::Number)]
    #[case::fetch("SELECT id FROM boat FETCH FIRST 3 ROWS ONLY", Determinism::Number)]
    #[case::offset("SELECT id FROM boat OFFSET 3", Determinism::Number)]
    #[case::distinct_on("SELECT DISTINCT ON (name) id FROM boat", Determinism::Number)]
    fn what_follows_from_the_data(#[case] sql: &str, #[case] expected: Determinism) {
        assert_eq!(determinism(sql, Dialect::PostgreSql), expected);
    }

    #[rstest]
    #[case::random("SELECT random() FROM boat")]
    #[case::now("SELECT id FROM boat WHERE made < now()")]
    #[case::today("SELECT id FROM boat WHERE made < CURRENT_DATE")]
    #[case::server("SELECT inet_server_addr()")]
    #[case::quoted_call(r#"SELECT "count"(id) FROM boat"#)]
    #[case::system("SELECT relname FROM pg_class")]
    #[case::window("SELECT id, count(*) OVER (ORDER BY name) FROM boat")]
    #[case::sample("SELECT id FROM boat TABLESAMPLE SYSTEM (10)")]
    #[case::limit_in_a_subquery("SELECT id FROM boat WHERE id IN (SELECT id FROM boat LIMIT 1)")]
    #[case::concatenation("SELECT string_agg(name, ',') FROM boat")]
    #[case::sum("SELECT sum(length) FROM boat")]
    #[case::explain("EXPLAIN SELECT 1")]
    #[case::unreadable("SELECT 'a")]
    #[case::unbalanced("SELECT id) FROM boat")]
    fn what_does_not_follow_from_the_data(#[case] sql: &str) {
        let found = determinism(sql, Dialect::PostgreSql);
        assert!(matches!(found, Determinism::Nothing(_)), "{sql}: {found:?}");
    }

    #[test]
    fn dialects_have_rows_of_their_own() {
        let grouped = "SELECT name FROM boat GROUP BY id";
        assert_eq!(determinism(grouped, Dialect::PostgreSql), Determinism::Rows);
        for dialect in [Dialect::MySql, Dialect::Sqlite] {
            assert!(matches!(determinism(grouped, dialect), Determinism::Nothing(_)));
        }
        let variable = determinism("SELECT @@hostname", Dialect::MySql);
        assert!(matches!(variable, Determinism::Nothing(_)), "{variable:?}");
    }
}
