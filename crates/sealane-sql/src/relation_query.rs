//! Two spellings of PostgreSQL's that the parser takes for something else.
//!
//! `TABLE t ORDER BY a` means `SELECT * FROM t ORDER BY a`, also in MySQL, wherever
//! a query may begin; the parser takes it for two words and no more. `FROM ONLY t`
//! means `FROM t` without its children; the parser takes it for a table called
//! `only`. Rewritten before parsing, both are judged like any other text.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::Dialect;

/// `tokens` with each `TABLE` that begins a query spelled as a `SELECT`, and
/// without each `ONLY` before a table.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>, dialect: Dialect) -> Vec<TokenWithSpan> {
    let is_rewritten = |token: &TokenWithSpan| match keyword(&token.token) {
        Some(Keyword::TABLE) => dialect != Dialect::Sqlite,
        Some(Keyword::ONLY) => dialect == Dialect::PostgreSql,
        _ => false,
    };
    if !tokens.iter().any(is_rewritten) {
        return tokens;
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 2);
    let mut before: Option<Token> = None;
    for token in tokens {
        if is_rewritten(&token) {
            let is_table = keyword(&token.token) == Some(Keyword::TABLE);
            if is_table && begins_query(before.as_ref()) {
                let select =
                    [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
                rewritten.extend(select.map(|spelled| TokenWithSpan::new(spelled, token.span)));
                before = Some(Token::make_keyword("FROM"));
                continue;
            }
            if !is_table && begins_table(before.as_ref()) {
                continue;
            }
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = Some(token.token.clone());
        }
        rewritten.push(token);
    }
    rewritten
}

/// Whether a table may stand behind this token.
fn begins_table(before: Option<&Token>) -> bool {
    match before {
        Some(Token::Comma) => true,
        Some(token) => matches!(keyword(token), Some(Keyword::FROM | Keyword::JOIN)),
        None => false,
    }
}

/// Whether a query may begin behind this token; `None` is the start of the text.
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

fn keyword(token: &Token) -> Option<Keyword> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    }
}
