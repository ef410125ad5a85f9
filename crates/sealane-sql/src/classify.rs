//! From text to a classification.

use sealane_core::Intent;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::bounds;
use crate::classification::{Classification, Reason};
use crate::dialect::Dialect;
use crate::lexer;
use crate::pragma;
use crate::prover;

/// Decides what a text does, from the text alone.
///
/// The text may hold several statements: it is a read only if each of them is
/// proved to be one. Nothing is cached; see [`Classifier`](crate::Classifier).
/// Never panics, and needs a bounded amount of stack whatever the text.
#[must_use]
pub fn classify(sql: &str, dialect: Dialect) -> Classification {
    match decide(sql, dialect) {
        Ok(()) => Classification::read(),
        Err(refusal) => refusal,
    }
}

fn decide(sql: &str, dialect: Dialect) -> prover::Proof {
    let refuse = |reason| Err(Classification::unknown(reason));
    if sql.len() > bounds::MAX_TEXT_BYTES {
        return refuse(Reason::TooLong(bounds::MAX_TEXT_BYTES));
    }
    if dialect == Dialect::MySql && has_executable_comment(sql) {
        return refuse(Reason::ExecutableComment);
    }
    // Literals stay as they were written: only their ends matter here.
    let tokens = Tokenizer::new(dialect.parser(), sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| {
            Classification::unknown(Reason::NotParsed(format!(
                "line {}, column {}",
                error.location.line, error.location.column
            )))
        })?;
    if let Some(reason) = bounds::exceeded(&tokens) {
        return refuse(reason);
    }
    if let Some(why) = lexer::disagreement(sql, &tokens, dialect) {
        return refuse(Reason::Ambiguous(why));
    }
    let count = bounds::statements(&tokens);
    if count == 0 {
        return refuse(Reason::Empty);
    }
    let suspicion = bounds::suspicion(&tokens, dialect);
    prove_all(tokens, count, dialect)?;
    match suspicion {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// Proves each statement; a write among them outranks any other refusal.
fn prove_all(tokens: Vec<TokenWithSpan>, count: usize, dialect: Dialect) -> prover::Proof {
    let mut parser = Parser::new(dialect.parser())
        .with_recursion_limit(bounds::PARSER_RECURSION)
        .with_tokens_with_locations(tokens);
    let mut refusal: Option<Classification> = None;
    let mut parsed = 0;
    // Not `parse_statements`, which stops at a stray END and drops the rest.
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            break;
        }
        let proof = prove_next(&mut parser, dialect).map_err(|error| not_parsed(&error))?;
        parsed += 1;
        let end = parser.peek_token_ref();
        if !matches!(end.token, Token::EOF | Token::SemiColon) {
            let start = end.span.start;
            return Err(Classification::unknown(Reason::NotParsed(format!(
                "line {}, column {}",
                start.line, start.column
            ))));
        }
        if let Err(found) = proof {
            let outranks = match &refusal {
                None => true,
                Some(known) => known.intent != Intent::Write && found.intent == Intent::Write,
            };
            if outranks {
                refusal = Some(found);
            }
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        // A statement that swallowed a semicolon was not understood.
        None if parsed != count => {
            Err(Classification::unknown(Reason::Ambiguous("where statements end")))
        }
        None => Ok(()),
    }
}

/// Takes one statement off `parser` and judges it.
fn prove_next(parser: &mut Parser<'_>, dialect: Dialect) -> Result<prover::Proof, ParserError> {
    match dialect {
        Dialect::Sqlite => {
            if let Some(proof) = pragma::prove(parser)? {
                return Ok(proof);
            }
        }
        // `TABLE t` is a query, which the parser does not know as a statement.
        Dialect::PostgreSql | Dialect::MySql if parser.parse_keyword(Keyword::TABLE) => {
            return Ok(prover::prove_relation(&parser.parse_object_name(false)?, dialect));
        }
        Dialect::PostgreSql | Dialect::MySql => {}
    }
    Ok(prover::prove(&parser.parse_statement()?, dialect))
}

/// The place, not the message: a message quotes the statement, literals and all.
fn not_parsed(error: &ParserError) -> Classification {
    let place = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
            match text.rsplit_once("at Line: ") {
                Some((_, place)) => format!("line {}", place.to_ascii_lowercase()),
                None => "no place given".to_owned(),
            }
        }
        ParserError::RecursionLimitExceeded => {
            return Classification::unknown(Reason::TooComplex("nesting"));
        }
    };
    Classification::unknown(Reason::NotParsed(place))
}

/// `/*! … */` runs on MySQL and MariaDB, `/*M! … */` on MariaDB. Looked for in
/// literals too: a false alarm costs one trip to the primary.
fn has_executable_comment(sql: &str) -> bool {
    sql.contains("/*!") || sql.contains("/*M!") || sql.contains("/*m!")
}
