//! `TABLE name` is a query, which the parser takes for two words and no more.
//!
//! `TABLE t ORDER BY a` means `SELECT * FROM t ORDER BY a`, in PostgreSQL and in
//! MySQL, wherever a query may begin. Rewritten so before parsing, it is judged
//! like any other. Elsewhere the word is left alone.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::Dialect;

/// `tokens` with each `TABLE` that begins a query spelled as a `SELECT`.
pub(crate) fn rewrite(tokens: Vec<TokenWithSpan>, dialect: Dialect) -> Vec<TokenWithSpan> {
    let is_table = |token: &TokenWithSpan| keyword(&token.token) == Some(Keyword::TABLE);
    if dialect == Dialect::Sqlite || !tokens.iter().any(is_table) {
        return tokens;
    }
    let mut rewritten = Vec::with_capacity(tokens.len() + 2);
    let mut before: Option<Token> = None;
    for token in tokens {
        if is_table(&token) && begins_query(before.as_ref()) {
            let select = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
            rewritten.extend(select.map(|spelled| TokenWithSpan::new(spelled, token.span)));
            before = None;
            continue;
        }
        if !matches!(token.token, Token::Whitespace(_)) {
            before = Some(token.token.clone());
        }
        rewritten.push(token);
    }
    rewritten
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
