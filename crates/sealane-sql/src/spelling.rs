//! Rewrites spellings that a server knows and the parser does not.
//!
//! Before parsing, each such spelling is replaced with an equivalent that the parser knows. The
//! statement is then judged like any other.
//!
//! | spelling | where | becomes |
//! |---|---|---|
//! | `TABLE t` (the parser reads exactly two words) | PostgreSQL, MySQL | `SELECT * FROM t` |
//! | `FROM ONLY t` (the parser reads a table called `only`) | PostgreSQL | `FROM t` |
//! | `a MOD b` | MySQL | `a % b` |
//! | `CAST(a AS CHAR CHARSET utf8mb4)`, as servers print views | MySQL | `CAST(a AS CHAR)` |
//! | `a IS b`, `a IS NOT b` for values | SQLite | `a = b`, `a <> b` (they differ for NULL only) |

use std::ops::Range;

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::Dialect;

/// Returns `tokens` in spellings that the parser knows.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>, dialect: Dialect) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_suspect(&token.token, dialect)) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 2);
    let mut before: Option<&Token> = None;
    let mut skipped: Option<Range<usize>> = None;
    for (at, spelled) in tokens.iter().enumerate() {
        if skipped.as_ref().is_some_and(|skipped| skipped.contains(&at)) {
            continue;
        }
        let token = &spelled.token;
        let put = |token: Token| TokenWithSpan::new(token, spelled.span);
        match keyword(token) {
            _ if !is_suspect(token, dialect) => rewritten.push(spelled.clone()),
            Some(Keyword::TABLE) if begins_query(before) => {
                let words =
                    [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
                rewritten.extend(words.map(put));
            }
            Some(Keyword::ONLY) if begins_table(before) => continue,
            Some(Keyword::IS) => match value_behind_is(&tokens, at) {
                Some(Comparison::Is) => rewritten.push(put(Token::Eq)),
                Some(Comparison::IsNot { not }) => {
                    rewritten.push(put(Token::Neq));
                    skipped = Some(not..not + 1);
                }
                None => rewritten.push(spelled.clone()),
            },
            Some(Keyword::CHARSET) if converts_to_text(&rewritten) => {
                match end_of_character_set(&tokens, at) {
                    Some(end) => skipped = Some(at..end),
                    None => rewritten.push(spelled.clone()),
                }
            }
            Some(Keyword::MOD) if divides(before, behind(&tokens, at)) => {
                rewritten.push(put(Token::Mod));
            }
            _ => rewritten.push(spelled.clone()),
        }
        if !matches!(token, Token::Whitespace(_)) {
            before = Some(token);
        }
    }
    rewritten
}

fn is_suspect(token: &Token, dialect: Dialect) -> bool {
    match keyword(token) {
        Some(Keyword::TABLE) => dialect != Dialect::Sqlite,
        Some(Keyword::ONLY) => dialect == Dialect::PostgreSql,
        Some(Keyword::IS) => dialect == Dialect::Sqlite,
        Some(Keyword::MOD | Keyword::CHARSET) => dialect == Dialect::MySql,
        _ => false,
    }
}

/// Whether the text so far ends in `AS CHAR` or `AS CHAR(9)`. `CHAR` is reserved, so this can only be
/// the type of a `CAST`.
fn converts_to_text(rewritten: &[TokenWithSpan]) -> bool {
    let code = |it: &&TokenWithSpan| !matches!(it.token, Token::Whitespace(_));
    let mut behind = rewritten.iter().rev().filter(code).map(|it| &it.token);
    let mut last = behind.next();
    if last == Some(&Token::RParen) {
        let is_length = matches!(behind.next(), Some(Token::Number(..)))
            && behind.next() == Some(&Token::LParen);
        last = if is_length { behind.next() } else { None };
    }
    let is = |token: Option<&Token>, word| token.and_then(keyword) == Some(word);
    is(last, Keyword::CHAR) && is(behind.next(), Keyword::AS)
}

/// The index after the name of the character set, if the name is the last thing in its parenthesis.
fn end_of_character_set(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let is_code = |at: &usize| !matches!(tokens[*at].token, Token::Whitespace(_));
    let mut code = (at + 1..tokens.len()).filter(is_code);
    let name = code.next().filter(|name| matches!(tokens[*name].token, Token::Word(_)))?;
    code.next().filter(|end| tokens[*end].token == Token::RParen).map(|_| name + 1)
}

/// Whether the name of a table may follow this token.
fn begins_table(before: Option<&Token>) -> bool {
    match before {
        Some(Token::Comma) => true,
        Some(token) => matches!(keyword(token), Some(Keyword::FROM | Keyword::JOIN)),
        None => false,
    }
}

/// Whether a query may begin after this token; `None` is the start of the text.
fn begins_query(before: Option<&Token>) -> bool {
    match before {
        None | Some(Token::SemiColon | Token::LParen | Token::RParen) => true,
        Some(token) => matches!(
            keyword(token),
            Some(
                Keyword::UNION
                    | Keyword::INTERSECT
                    | Keyword::EXCEPT
                    | Keyword::ALL
                    | Keyword::DISTINCT
                    | Keyword::EXPLAIN
            )
        ),
    }
}

/// Whether `MOD` between these tokens is the operator. `MOD` is a reserved word, so there are three
/// cases: the column in `t.mod`, a call where a value begins and a parenthesis follows, and
/// otherwise the operator.
fn divides(before: Option<&Token>, behind: Option<&Token>) -> bool {
    match (before, behind) {
        (Some(Token::Period) | None, _) => false,
        (Some(before), Some(Token::LParen)) => ends_value(before),
        _ => true,
    }
}

/// Whether this token certainly ends a value.
fn ends_value(token: &Token) -> bool {
    match token {
        Token::RParen
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_) => true,
        Token::Word(word) => {
            word.quote_style.is_some()
                || matches!(
                    word.keyword,
                    Keyword::NoKeyword
                        | Keyword::NULL
                        | Keyword::TRUE
                        | Keyword::FALSE
                        | Keyword::END
                )
        }
        _ => false,
    }
}

/// `IS` between two values.
enum Comparison {
    Is,
    /// `IS NOT`, with the index of the `NOT`.
    IsNot {
        not: usize,
    },
}

/// How `IS` at this index compares two values; `None` if the parser knows this form of `IS`.
fn value_behind_is(tokens: &[TokenWithSpan], at: usize) -> Option<Comparison> {
    let is_known = |token: &Token| {
        matches!(
            keyword(token),
            Some(
                Keyword::NULL
                    | Keyword::TRUE
                    | Keyword::FALSE
                    | Keyword::DISTINCT
                    | Keyword::UNKNOWN
            )
        )
    };
    let next = next_code(tokens, at)?;
    if keyword(&tokens[next].token) == Some(Keyword::NOT) {
        let value = behind(tokens, next)?;
        return (!is_known(value)).then_some(Comparison::IsNot { not: next });
    }
    (!is_known(&tokens[next].token)).then_some(Comparison::Is)
}

fn behind(tokens: &[TokenWithSpan], at: usize) -> Option<&Token> {
    next_code(tokens, at).map(|next| &tokens[next].token)
}

/// The index of the next token that is neither blank nor comment.
fn next_code(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let rest = tokens.iter().enumerate().skip(at + 1);
    let mut code = rest.filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    code.next().map(|(at, _)| at)
}

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
