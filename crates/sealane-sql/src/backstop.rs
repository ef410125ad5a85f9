//! A second search for writes, on the tokens instead of the syntax tree.
//!
//! The search serves two purposes. As a backstop, it looks for a few words that no pure read
//! contains outside quotes, so even a clause that the parser swallows stops the proof. As a guide,
//! it finds the place of a clause in the text where the tree keeps no places.

use std::ops::Range;

use sealane_core::Intent;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Whitespace, Word};

use crate::catalog::{Catalog, Purity};
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::function;
use crate::prover::Found;
use crate::table_name::kept;

/// The first reason on the tokens why the text cannot be a read, whatever the tree says.
pub(crate) fn find(tokens: &[TokenWithSpan], dialect: Dialect, catalog: &Catalog) -> Option<Found> {
    let mut words = [Keyword::NoKeyword; 2];
    for (at, token) in tokens.iter().enumerate() {
        let found = match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) => match sets_variable(text) {
                true => Some(Found::session("SET_VAR in an optimizer hint")),
                false => continue,
            },
            Token::Whitespace(_) => continue,
            Token::Word(word) if converts(word, &tokens[at + 1..], dialect, catalog) => {
                let reason = Reason::Type(word.value.clone());
                Some(Found { intent: Intent::Unknown, reason, span: None })
            }
            Token::Word(word) if word.quote_style.is_none() => {
                let found = suspicious_word(word, &tokens[at + 1..], words, dialect);
                words = [words[1], word.keyword];
                match found {
                    None => continue,
                    found => found,
                }
            }
            token => suspicious_token(token, dialect, catalog),
        };
        if let Some(found) = found {
            return Some(Found { span: Some(token.span), ..found });
        }
        words = [Keyword::NoKeyword; 2];
    }
    None
}

/// Where the words behind `reason` stand among the parser's tokens in `range`.
pub(crate) fn span_of(reason: &Reason, parser: &Parser<'_>, range: Range<usize>) -> Option<Span> {
    let tokens = range.map(|at| parser.token_at(at));
    let mut tokens = tokens.filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    while let Some(token) = tokens.next() {
        let next = tokens.peek().map(|next| &next.token);
        let is_it = match reason {
            Reason::Locking(_) => locks(&token.token, next),
            Reason::Into => is_keyword(&token.token, Keyword::INTO),
            Reason::Operator(symbol) => token.token.to_string() == *symbol,
            Reason::SessionState("an assignment") => token.token == Token::Assignment,
            Reason::SessionState("SQL_CALC_FOUND_ROWS") => {
                is_keyword(&token.token, Keyword::SQL_CALC_FOUND_ROWS)
            }
            _ => return None,
        };
        if is_it {
            return Some(match (reason, tokens.peek()) {
                (Reason::Locking(_), Some(next)) => token.span.union(&next.span),
                _ => token.span,
            });
        }
    }
    None
}

fn locks(token: &Token, next: Option<&Token>) -> bool {
    let next = |keyword| next.is_some_and(|next| is_keyword(next, keyword));
    if is_keyword(token, Keyword::FOR) {
        return [Keyword::UPDATE, Keyword::SHARE, Keyword::NO, Keyword::KEY].into_iter().any(next);
    }
    is_keyword(token, Keyword::LOCK) && next(Keyword::IN)
}

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
}

/// Whether `word` is the type of the literal that follows (`domain 'value'`) and the conversion to
/// this type may run a function. The parser takes such a literal for an alias, which is right on
/// every server except PostgreSQL.
fn converts(word: &Word, rest: &[TokenWithSpan], dialect: Dialect, catalog: &Catalog) -> bool {
    let mut rest = rest.iter().map(|token| &token.token);
    let is_literal = |token: &Token| {
        matches!(
            token,
            Token::SingleQuotedString(_)
                | Token::EscapedStringLiteral(_)
                | Token::UnicodeStringLiteral(_)
                | Token::DollarQuotedString(_)
        )
    };
    let name = kept(&word.value, dialect);
    let names = |name: &str| catalog.is_active_type(name);
    dialect == Dialect::PostgreSql
        && catalog.has_active_types()
        && (names(name) || names(&name.to_ascii_lowercase()))
        && rest.find(|token| !matches!(token, Token::Whitespace(_))).is_some_and(is_literal)
}

fn sets_variable(comment: &str) -> bool {
    comment.starts_with('+') && comment.to_ascii_lowercase().contains("set_var")
}

fn suspicious_token(token: &Token, dialect: Dialect, catalog: &Catalog) -> Option<Found> {
    let ambiguous = |why| {
        let reason = Reason::Ambiguous(why);
        Some(Found { intent: Intent::Unknown, reason, span: None })
    };
    match token {
        Token::CustomBinaryOperator(symbol) if catalog.operator(symbol) != Purity::Pure => {
            let reason = Reason::Operator(symbol.clone());
            Some(Found { intent: Intent::Unknown, reason, span: None })
        }
        Token::Assignment | Token::AtSign if dialect == Dialect::MySql => {
            Some(Found::session("a variable"))
        }
        Token::NationalStringLiteral(_) if dialect == Dialect::Sqlite => {
            ambiguous("a literal's prefix")
        }
        Token::UnicodeStringLiteral(_) | Token::Char(_) | Token::Backslash => {
            ambiguous("an unusual token")
        }
        _ => None,
    }
}

fn suspicious_word(
    word: &Word,
    rest: &[TokenWithSpan],
    before: [Keyword; 2],
    dialect: Dialect,
) -> Option<Found> {
    let unknown = |reason| Some(Found { intent: Intent::Unknown, reason, span: None });
    let writes = |reason| Some(Found { intent: Intent::Write, reason, span: None });
    let locking = |clause| writes(Reason::Locking(clause));
    match (before, word.keyword) {
        (_, Keyword::INTO) => writes(Reason::Into),
        ([_, Keyword::FOR], Keyword::UPDATE) => locking("FOR UPDATE"),
        ([_, Keyword::FOR], Keyword::SHARE) => locking("FOR SHARE"),
        ([_, Keyword::FOR], Keyword::NO) => locking("FOR NO KEY UPDATE"),
        ([_, Keyword::FOR], Keyword::KEY) => locking("FOR KEY SHARE"),
        ([_, Keyword::LOCK], Keyword::IN) => locking("LOCK IN SHARE MODE"),
        // Outside quotes no name contains an `@`: it marks a variable, also in `INTO@a`.
        _ if dialect == Dialect::MySql && word.value.contains('@') => {
            Some(Found::session("a variable"))
        }
        _ if dialect == Dialect::MySql
            && function::needs_tight_parenthesis(&word.value)
            && is_called_after_blank(rest) =>
        {
            unknown(Reason::Function(word.value.clone()))
        }
        _ => None,
    }
}

fn is_called_after_blank(rest: &[TokenWithSpan]) -> bool {
    let mut code = rest.iter().skip_while(|token| matches!(token.token, Token::Whitespace(_)));
    matches!(rest.first().map(|token| &token.token), Some(Token::Whitespace(_)))
        && code.next().is_some_and(|token| token.token == Token::LParen)
}
