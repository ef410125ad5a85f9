//! A statement as traces and logs may show it: without literals.
//!
//! Only what is known to be no literal is shown: words, placeholders and punctuation. Everything
//! else becomes `?`, so a kind of token that the parser adds later is hidden. If server and parser
//! might split the text into different tokens, a part of a literal might pass for a word, so there
//! is no text then.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::bounds::MAX_TEXT_BYTES;
use crate::catalog::Catalog;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::lexer;

/// A statement without its literals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sketch {
    /// The first word in upper case, such as `SELECT` or `WITH`. Empty if there is none.
    pub operation: String,
    /// The table that an `INSERT`, `UPDATE`, `DELETE` or `REPLACE` names, as it is written, without
    /// quotes. `None` for other statements: their [`Tables`](crate::Tables) say more.
    pub written: Option<String>,
    /// The text with `?` in the place of each literal, and without comments. `None` if the text is
    /// too long, or if it might be read in two ways; and for SQLite's `PRAGMA`, which may hold a key.
    /// (SQLite takes a name in double quotes for a string if no column has that name. Such a string
    /// is shown as the name that it looks like.)
    pub text: Option<String>,
}

impl Sketch {
    /// Sketches `sql`, in two passes over the text. For traces and logs, not for the hot path.
    #[must_use]
    pub fn of(sql: &str, dialect: Dialect) -> Sketch {
        let tokens = (sql.len() <= MAX_TEXT_BYTES)
            .then(|| Tokenizer::new(dialect.parser(), sql).tokenize_with_location().ok())
            .flatten();
        let Some(tokens) = tokens else { return Sketch::default() };
        match lexer::compare(sql, &tokens, dialect, &Catalog::default()) {
            Ok(None) | Err(Reason::Operator(_)) => {}
            Ok(Some(_)) | Err(_) => return Sketch::default(),
        }
        let tokens: Vec<&Token> = tokens.iter().map(|it| &it.token).collect();
        let is_pragma = operation(&tokens) == "PRAGMA";
        Sketch {
            operation: operation(&tokens),
            written: written(&tokens),
            text: Some(text(&tokens)).filter(|_| !is_pragma),
        }
    }
}

fn operation(tokens: &[&Token]) -> String {
    words(tokens).next().map(|word| word.value.to_ascii_uppercase()).unwrap_or_default()
}

/// The words, as long as nothing but blanks and comments is between them.
fn words<'a>(tokens: &'a [&'a Token]) -> impl Iterator<Item = &'a Word> {
    let tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_)));
    tokens.map_while(|token| match token {
        Token::Word(word) => Some(word),
        _ => None,
    })
}

/// The table that follows `INTO`, `FROM` or `UPDATE`, with what the engines allow before it.
fn written(tokens: &[&Token]) -> Option<String> {
    let leading = match operation(tokens).as_str() {
        "INSERT" | "REPLACE" => Keyword::INTO,
        "DELETE" => Keyword::FROM,
        "UPDATE" => Keyword::UPDATE,
        _ => return None,
    };
    let is_plain = |word: &Word| word.quote_style.is_none();
    let is_before = |word: &Word| {
        let is_known =
            matches!(word.keyword, Keyword::ONLY | Keyword::LOW_PRIORITY | Keyword::IGNORE);
        is_plain(word) && is_known
    };
    let mut after =
        words(tokens).skip_while(|word| !is_plain(word) || word.keyword != leading).skip(1);
    let first = after.find(|word| !is_before(word))?;
    // SQLite's `UPDATE OR IGNORE boat` names it later.
    if is_plain(first) && first.keyword == Keyword::OR {
        return None;
    }
    let at = tokens
        .iter()
        .position(|token| matches!(token, Token::Word(word) if std::ptr::eq(word, first)))?;
    let mut name = first.value.clone();
    for rest in tokens[at + 1..].chunks_exact(2) {
        let [Token::Period, Token::Word(part)] = rest else { break };
        name.push('.');
        name.push_str(&part.value);
    }
    Some(name)
}

fn text(tokens: &[&Token]) -> String {
    let mut text = String::new();
    let mut was_number = false;
    for token in tokens {
        match token {
            // The rest of a number that the tokenizer splits, as `b101` of `0b101`.
            Token::Word(word) if was_number && word.quote_style.is_none() => {}
            // MySQL's names may begin with a digit, so its tokenizer takes `0b101` for a name.
            Token::Word(word) if is_like_number(word) => text.push('?'),
            Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            Token::Word(_) | Token::Placeholder(_) => text.push_str(&token.to_string()),
            _ => text.push_str(&mark(&token.to_string())),
        }
        was_number = matches!(token, Token::Number(..) | Token::HexStringLiteral(_));
    }
    text.truncate(text.trim_end().len());
    text
}

fn is_like_number(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.starts_with(|c: char| c.is_ascii_digit())
}

/// Punctuation as it is, and `?` for everything else: what quotes begin, dollar signs included.
fn mark(token: &str) -> String {
    let is_quote = |c: char| matches!(c, '\'' | '"' | '`' | '\\' | '$' | '_');
    let is_mark = |c: char| c.is_ascii_punctuation() && !is_quote(c);
    if token.chars().all(is_mark) { token.to_owned() } else { "?".to_owned() }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        r#"SELECT "id" FROM "cake" WHERE "name" = $1 LIMIT $2"#,
        r#"SELECT "id" FROM "cake" WHERE "name" = $1 LIMIT $2"#
    )]
    #[case("SELECT  1,\n 2.5 -- 77\n FROM t /* 78 */", "SELECT ?, ? FROM t")]
    #[case("SELECT 'it''s secret', E'a\\nb', $tag$secret$tag$, X'1F'", "SELECT ?, ?, ?, ?")]
    #[case(
        "SELECT * FROM t WHERE a->>'key' @> '{}' AND b <> -7",
        "SELECT * FROM t WHERE a->>? @> ? AND b <> -?"
    )]
    fn literals_are_hidden_on_postgres(#[case] sql: &str, #[case] text: &str) {
        assert_eq!(Sketch::of(sql, Dialect::PostgreSql).text.as_deref(), Some(text));
    }

    #[rstest]
    #[case(
        "SELECT \"secret\", 'secret', 0x1F, N'secret', _utf8'secret' FROM `t`",
        Some("SELECT ?, ?, ?, ?, _utf8? FROM `t`")
    )]
    #[case("SELECT 'a\\' FROM t WHERE b = ' OR secret'", None)]
    fn literals_are_hidden_on_mysql(#[case] sql: &str, #[case] text: Option<&str>) {
        assert_eq!(Sketch::of(sql, Dialect::MySql).text.as_deref(), text);
    }

    #[rstest]
    #[case(Dialect::PostgreSql, "SELECT E'a\\nSECRET', $$SECRET$$, U&'SECRET', 4711")]
    #[case(Dialect::PostgreSql, "SELECT x /* SECRET */ FROM t -- SECRET")]
    #[case(Dialect::PostgreSql, "SELECT B'4711', X'4711', '4711'::int, 1.4711e3")]
    #[case(Dialect::PostgreSql, "SELECT 'it''s SECRET' FROM t WHERE a = -4711")]
    #[case(Dialect::MySql, "SELECT \"SECRET\", 'it\\'s SECRET', 0x4711, 0b4711, N'SECRET'")]
    #[case(Dialect::MySql, "SELECT _utf8'SECRET' FROM `t` # SECRET")]
    #[case(Dialect::Sqlite, "SELECT x'4711', 'SECRET', 4711 FROM [t]")]
    #[case(Dialect::Sqlite, "PRAGMA key = \"x'4711SECRET'\"")]
    #[case(Dialect::Sqlite, "SELECT 0x47_11SECRET")]
    #[case(Dialect::PostgreSql, "SELECT 0x47_11SECRET")]
    #[case(Dialect::PostgreSql, "SELECT 0x1F_4711, 0o4711, 1_4711")]
    fn no_literal_is_shown(#[case] dialect: Dialect, #[case] sql: &str) {
        let shown = Sketch::of(sql, dialect).text.unwrap_or_default();
        assert!(!shown.contains("SECRET") && !shown.contains("4711"), "{shown}");
    }

    #[rstest]
    #[case(Dialect::PostgreSql, r#"SELECT "a"."id" FROM "a" WHERE "a"."id" = $1 LIMIT $2"#)]
    #[case(Dialect::MySql, "SELECT `a`.`id` FROM `a` WHERE `a`.`t1` IN (?, ?)")]
    #[case(Dialect::Sqlite, r#"SELECT count(*) FROM "a1" WHERE "x" IS NOT NULL AND y <> ?"#)]
    #[case(Dialect::PostgreSql, "SELECT a -> $1 FROM t WHERE b @> $2 AND c::text ILIKE $3")]
    fn a_text_with_placeholders_stays_as_it_is(#[case] dialect: Dialect, #[case] sql: &str) {
        assert_eq!(Sketch::of(sql, dialect).text.as_deref(), Some(sql));
    }

    #[test]
    fn punctuation_within_a_literal_is_hidden() {
        for literal in ["$$#!*-+@$$", "$_$#!$_$", "'#!'", "E'#!'"] {
            let sketch = Sketch::of(&format!("SELECT {literal}"), Dialect::PostgreSql);
            assert!(sketch.text.is_none_or(|it| it == "SELECT ?"), "{literal}");
        }
    }

    #[rstest]
    #[case(Dialect::MySql, "INSERT IGNORE INTO boat VALUES (1)", Some("boat"))]
    #[case(Dialect::MySql, "DELETE QUICK FROM boat", Some("boat"))]
    #[case(Dialect::MySql, "UPDATE LOW_PRIORITY boat SET a = 1", Some("boat"))]
    #[case(Dialect::MySql, "REPLACE INTO `a`.`boat` VALUES (1)", Some("a.boat"))]
    #[case(Dialect::Sqlite, "INSERT OR REPLACE INTO boat VALUES (1)", Some("boat"))]
    #[case(Dialect::Sqlite, "UPDATE OR IGNORE boat SET a = 1", None)]
    fn the_written_table_follows_what_an_engine_allows_before_it(
        #[case] dialect: Dialect,
        #[case] sql: &str,
        #[case] written: Option<&str>,
    ) {
        assert_eq!(Sketch::of(sql, dialect).written.as_deref(), written);
    }

    #[rstest]
    #[case("insert into \"boat\" (\"name\") values ('secret')", "INSERT", Some("boat"))]
    #[case("UPDATE harbour.boat SET name = 'x'", "UPDATE", Some("harbour.boat"))]
    #[case("DELETE FROM boat", "DELETE", Some("boat"))]
    #[case("DELETE FROM ONLY db.public.boat b", "DELETE", Some("db.public.boat"))]
    #[case("UPDATE \"only\" SET a = 1", "UPDATE", Some("only"))]
    #[case("WITH a AS (SELECT 1) SELECT * FROM a", "WITH", None)]
    #[case("'open", "", None)]
    fn the_first_word_and_the_written_table_are_told(
        #[case] sql: &str,
        #[case] operation: &str,
        #[case] written: Option<&str>,
    ) {
        let sketch = Sketch::of(sql, Dialect::PostgreSql);
        assert_eq!((&*sketch.operation, sketch.written.as_deref()), (operation, written));
    }
}
