//! A statement's text without its literals.

use sqlparser::tokenizer::{Token, Tokenizer, Whitespace};

use crate::dialect::Dialect;

/// Longer texts are cut off here, in characters.
const MAX_CHARACTERS: usize = 500;

/// The text of `sql` with `?` in the place of each literal, without comments, on one line, and at
/// most 500 characters long. Empty if the text cannot be cut into tokens.
#[must_use]
pub fn without_literals(sql: &str, dialect: Dialect) -> String {
    let tokens = Tokenizer::new(dialect.parser(), sql).tokenize().unwrap_or_default();
    let mut outline = String::new();
    for token in tokens {
        match token {
            Token::Whitespace(Whitespace::Space | Whitespace::Newline | Whitespace::Tab) => {
                if !outline.ends_with(' ') {
                    outline.push(' ');
                }
            }
            Token::Whitespace(_) => {}
            Token::Word(_)
            | Token::Placeholder(_)
            | Token::Comma
            | Token::Period
            | Token::LParen
            | Token::RParen
            | Token::LBracket
            | Token::RBracket
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::DoubleColon
            | Token::StringConcat
            | Token::SemiColon
            | Token::Arrow
            | Token::LongArrow => outline.push_str(&token.to_string()),
            // Literals, and whatever may be a part of one.
            _ => outline.push('?'),
        }
    }
    let outline = outline.trim();
    match outline.char_indices().nth(MAX_CHARACTERS) {
        Some((at, _)) => format!("{}…", &outline[..at]),
        None => outline.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_left_out() {
        let sql = "SELECT \"a b\", 'it''s' /* x */\n FROM boat -- y\n WHERE id = 42 AND n > $1";
        let outline = without_literals(sql, Dialect::PostgreSql);
        assert_eq!(outline, "SELECT \"a b\", ? FROM boat WHERE id = ? AND n > $1");
        let sql = "SELECT \"x\" FROM `boat` WHERE a = 0x1F";
        assert_eq!(without_literals(sql, Dialect::MySql), "SELECT ? FROM `boat` WHERE a = ?");
        assert_eq!(without_literals("SELECT 'secret", Dialect::PostgreSql), "");
    }

    #[test]
    fn a_long_text_is_cut_off_between_characters() {
        let outline = without_literals(&"ü".repeat(600), Dialect::PostgreSql);
        assert_eq!(outline.chars().count(), 501);
    }
}
