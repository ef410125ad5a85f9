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
    /// too long, or if it might be read in two ways. (SQLite takes a name in double quotes for a
    /// string if no column has that name. Such a string is shown as the name that it looks like.)
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
        Sketch {
            operation: operation(&tokens),
            written: written(&tokens),
            text: Some(text(&tokens)),
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

fn written(tokens: &[&Token]) -> Option<String> {
    let mut words = words(tokens).skip_while(|word| {
        matches!(
            word.keyword,
            Keyword::INSERT
                | Keyword::REPLACE
                | Keyword::DELETE
                | Keyword::UPDATE
                | Keyword::INTO
                | Keyword::FROM
                | Keyword::ONLY
        ) && word.quote_style.is_none()
    });
    let is_write = matches!(operation(tokens).as_str(), "INSERT" | "REPLACE" | "DELETE" | "UPDATE");
    let first = words.next().filter(|_| is_write)?;
    let at = tokens.iter().position(|token| matches!(token, Token::Word(word) if word == first))?;
    match tokens.get(at + 1..at + 3) {
        Some([Token::Period, Token::Word(name)]) => Some(format!("{}.{}", first.value, name.value)),
        _ => Some(first.value.clone()),
    }
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
        was_number = matches!(token, Token::Number(..));
    }
    text.truncate(text.trim_end().len());
    text
}

fn is_like_number(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.starts_with(|c: char| c.is_ascii_digit())
}

/// Punctuation as it is, and `?` for everything else.
fn mark(token: &str) -> String {
    let is_mark = |c: char| c.is_ascii_punctuation() && !matches!(c, '\'' | '"' | '`' | '\\');
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

    #[rstest]
    #[case("insert into \"boat\" (\"name\") values ('secret')", "INSERT", Some("boat"))]
    #[case("UPDATE harbour.boat SET name = 'x'", "UPDATE", Some("harbour.boat"))]
    #[case("DELETE FROM boat", "DELETE", Some("boat"))]
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
