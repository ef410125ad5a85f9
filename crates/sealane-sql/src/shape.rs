//! The text of a statement without its literals, for people.

use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::bounds;
use crate::catalog::Catalog;
use crate::dialect::Dialect;
use crate::lexer;

/// `sql` on one line, with `?` in the place of each literal and without comments, which may hold
/// literals, too. Placeholders stay. `None` if it is not certain where the literals of `sql` end.
///
/// SQLite takes a name in double quotes for a string if no column has that name. Such a string is
/// shown as the name that it looks like.
///
/// ```
/// use sealane_sql::{Dialect, without_literals};
///
/// let sql = "SELECT name FROM boat -- Ida's\n WHERE name = 'Ida' AND id IN ($1, 7)";
/// assert_eq!(
///     without_literals(sql, Dialect::PostgreSql).as_deref(),
///     Some("SELECT name FROM boat WHERE name = ? AND id IN ($1, ?)"),
/// );
/// ```
#[must_use]
pub fn without_literals(sql: &str, dialect: Dialect) -> Option<String> {
    if sql.len() > bounds::MAX_TEXT_BYTES {
        return None;
    }
    let tokens = Tokenizer::new(dialect.parser(), sql).tokenize_with_location().ok()?;
    // The same check as before a text is judged. Another possible reading has other literals.
    match lexer::compare(sql, &tokens, dialect, &Catalog::default()) {
        Ok(None) => {}
        // The operator is not known, and all literals are.
        Err(crate::Reason::Operator(_)) => {}
        Ok(Some(_)) | Err(_) => return None,
    }
    Some(written(&tokens))
}

fn written(tokens: &[TokenWithSpan]) -> String {
    let mut text = String::new();
    let mut was_number = false;
    for TokenWithSpan { token, .. } in tokens {
        match token {
            // Comments, too.
            Token::Whitespace(_) => {
                if !text.is_empty() && !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            Token::EOF => {}
            // The rest of a number that the tokenizer splits, as `b101` of `0b101`.
            Token::Word(word) if was_number && word.quote_style.is_none() => {}
            // MySQL's names may begin with a digit, so its tokenizer takes `0b101` for a name.
            Token::Word(word) if is_like_number(word) => text.push('?'),
            token if is_literal(token) => text.push('?'),
            token => text.push_str(&token.to_string()),
        }
        was_number = matches!(token, Token::Number(..));
    }
    text.truncate(text.trim_end().len());
    text
}

fn is_like_number(word: &Word) -> bool {
    word.quote_style.is_none() && word.value.starts_with(|c: char| c.is_ascii_digit())
}

fn is_literal(token: &Token) -> bool {
    match token {
        Token::Word(_) | Token::Placeholder(_) | Token::Char(_) => false,
        Token::Number(..) => true,
        // Everything else that is made of letters or digits of the text is a literal of some kind.
        other => other.to_string().chars().any(|c| c.is_alphanumeric() || matches!(c, '\'' | '"')),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Dialect::PostgreSql, "SELECT E'a\\nSECRET', $$SECRET$$, U&'SECRET', 4711")]
    #[case(Dialect::PostgreSql, "SELECT x /* SECRET */ FROM t -- SECRET")]
    #[case(Dialect::PostgreSql, "SELECT B'4711', X'4711', '4711'::int, 1.4711e3")]
    #[case(Dialect::PostgreSql, "SELECT 'it''s SECRET' FROM t WHERE a = -4711")]
    #[case(Dialect::MySql, "SELECT \"SECRET\", 'it\\'s SECRET', 0x4711, 0b4711, N'SECRET'")]
    #[case(Dialect::MySql, "SELECT _utf8'SECRET' FROM `t` # SECRET")]
    #[case(Dialect::Sqlite, "SELECT x'4711', 'SECRET', 4711 FROM [t]")]
    fn no_literal_is_shown(#[case] dialect: Dialect, #[case] sql: &str) {
        let shown = without_literals(sql, dialect).unwrap_or_default();
        assert!(!shown.contains("SECRET") && !shown.contains("4711"), "{shown}");
    }

    #[rstest]
    #[case(Dialect::PostgreSql, r#"SELECT "a"."id" FROM "a" WHERE "a"."id" = $1 LIMIT $2"#)]
    #[case(Dialect::MySql, "SELECT `a`.`id` FROM `a` WHERE `a`.`t1` IN (?, ?)")]
    #[case(Dialect::Sqlite, r#"SELECT count(*) FROM "a1" WHERE "x" IS NOT NULL AND y <> ?"#)]
    #[case(Dialect::PostgreSql, "SELECT a -> $1 FROM t WHERE b @> $2 AND c::text ILIKE $3")]
    fn a_text_with_placeholders_stays_as_it_is(#[case] dialect: Dialect, #[case] sql: &str) {
        assert_eq!(without_literals(sql, dialect).as_deref(), Some(sql));
    }

    #[test]
    fn a_text_that_may_be_read_in_two_ways_is_not_shown() {
        let sql = r"SELECT '\' , 'SECRET' FROM t";
        for dialect in [Dialect::PostgreSql, Dialect::MySql] {
            let shown = without_literals(sql, dialect);
            assert!(shown.as_ref().is_none_or(|it| !it.contains("SECRET")), "{shown:?}");
        }
        assert_eq!(without_literals("SELECT 'open", Dialect::Sqlite), None);
    }
}
