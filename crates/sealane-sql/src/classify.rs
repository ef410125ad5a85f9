//! Turns a text into a classification.
//!
//! # The way of a text
//! 1. The text is cut into tokens and measured (`bounds`).
//! 2. The text is cut once more, by a lexer that knows only quotes and comments (`lexer`). A
//!    difference means that the parser's tree may not be the server's, so the text is not judged.
//! 3. The text is parsed.
//! 4. The prover walks over the tree (`prover`). The walk allows; it never looks for what is
//!    forbidden. Every node must be on its list. Common table expressions are resolved by scope,
//!    because otherwise a view could hide behind a common table expression of the same name. Syntax
//!    that one dialect has, and that another dialect takes for a call (`name(1) 'alias'`,
//!    `any(x)`), is refused in the other dialect.
//!
//! Two cases need no tree. A text that begins with INSERT, UPDATE or DELETE is a write whatever
//! follows (`first_words`). A plain SELECT of quoted names, placeholders, operators and aggregates
//! is recognised by a small grammar that is a subset of the parser's (`fast_path/select`). Tests
//! compare both with the tree, on every case and on random texts.
//!
//! A name is unescaped by the tokenizer and nowhere else.

use std::sync::LazyLock;

use sealane_core::Intent;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::backstop;
use crate::bounds;
use crate::catalog::Catalog;
use crate::classification::Classification;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::first_words::FirstWords;
use crate::hint::{self, Hint};
use crate::lexer;
use crate::place::Place;
use crate::pragma;
use crate::prover::{self, Found, Outcome};
use crate::spelling;

/// Decides what a text does, from the text alone.
///
/// The text may hold several statements: it is a read only if each of them is a proved read.
/// Nothing is cached; see [`Classifier`](crate::Classifier). The function never panics, and it
/// needs a bounded amount of stack whatever the text is.
#[must_use]
pub fn classify(sql: &str, dialect: Dialect) -> Classification {
    static NOTHING_KNOWN: LazyLock<Catalog> = LazyLock::new(Catalog::default);
    classify_with(sql, dialect, &NOTHING_KNOWN)
}

/// Like [`classify`], but also uses what the database's catalog knows.
#[must_use]
pub fn classify_with(sql: &str, dialect: Dialect, catalog: &Catalog) -> Classification {
    let mut judge = Judge { sql, dialect, catalog, result: Classification::new() };
    if let Err(refusal) = judge.text() {
        judge.result.found(Intent::Unknown, refusal.reason, refusal.place);
        judge.first_words();
    } else if judge.result.intent == Intent::Unknown {
        judge.first_words();
    }
    judge.hint();
    judge.result.tables.sort();
    judge.result.table_set = catalog.table_set_of_read(&judge.result.tables);
    judge.result
}

/// Why a text is not judged, or not completely.
struct Refusal {
    reason: Reason,
    place: Option<Place>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, place: None }
    }
}

struct Judge<'a> {
    sql: &'a str,
    dialect: Dialect,
    catalog: &'a Catalog,
    result: Classification,
}

impl Judge<'_> {
    fn text(&mut self) -> Result<(), Refusal> {
        if self.sql.len() > bounds::MAX_TEXT_BYTES {
            return Err(Reason::TooLong(bounds::MAX_TEXT_BYTES).into());
        }
        if self.dialect == Dialect::MySql
            && let Some(place) = executable_comment(self.sql)
        {
            return Err(Refusal { reason: Reason::ExecutableComment, place: Some(place) });
        }
        // The tokenizer removes the quotes from names and turns `""` into `"`. From here on, a name
        // is what the server would look up. The fast path accepts no name that needs unescaping.
        let tokens = Tokenizer::new(self.dialect.parser(), self.sql)
            .tokenize_with_location()
            .map_err(|error| self.not_parsed(error.location))?;
        let shape = bounds::measure(&tokens)?;
        let other = lexer::compare(self.sql, &tokens, self.dialect, self.catalog)?;
        let count = bounds::statements(&tokens);
        if count == 0 {
            return Err(Reason::Empty.into());
        }
        let suspect = backstop::find(&tokens, self.dialect, self.catalog);
        let tokens = spelling::rewrite(tokens, self.dialect);
        let parsed = bounds::with_stack(shape, || self.statements(tokens, count));
        // The backstop counts only if there is no tree or the tree shows nothing: a finding in the
        // tree is more precise.
        if let Some(Found { intent, reason, span }) = suspect
            && (parsed.is_err() || self.result.findings.is_empty())
        {
            let place = span.and_then(|span| Place::of(self.sql, span));
            self.result.found(intent, reason, place);
        }
        if let Some(other) = other
            && !classify_with(&other, self.dialect, self.catalog).may_leave_primary()
        {
            return Err(lexer::BACKSLASH.into());
        }
        parsed
    }

    fn statements(&mut self, tokens: Vec<TokenWithSpan>, count: usize) -> Result<(), Refusal> {
        let mut parser = Parser::new(self.dialect.parser())
            .with_recursion_limit(bounds::PARSER_RECURSION)
            .with_tokens_with_locations(tokens);
        let mut parsed = 0;
        // `parse_statements` is not used: it stops at a stray END and drops the rest.
        loop {
            while parser.consume_token(&Token::SemiColon) {}
            if parser.peek_token_ref().token == Token::EOF {
                break;
            }
            let first = parser.index();
            let start = parser.peek_token_ref().span;
            let outcome = self.statement(&mut parser).map_err(|error| self.parser_error(&error))?;
            parsed += 1;
            let end = parser.peek_token_ref();
            if !matches!(end.token, Token::EOF | Token::SemiColon) {
                return Err(self.not_parsed(end.span.start));
            }
            self.take(outcome, start, &parser, first);
        }
        // If the counts differ, the parser swallowed a semicolon and did not understand the text.
        if parsed == count { Ok(()) } else { Err(Reason::Ambiguous("where statements end").into()) }
    }

    /// Parses one statement and walks over it.
    fn statement(&self, parser: &mut Parser<'_>) -> Result<Outcome, ParserError> {
        if self.dialect == Dialect::Sqlite
            && let Some(found) = pragma::prove(parser)?
        {
            return Ok(Outcome { found: found.into_iter().collect(), ..Outcome::default() });
        }
        Ok(prover::prove(&parser.parse_statement()?, self.dialect, self.catalog))
    }

    /// Adds the findings of the statement that begins at `start`: the parser's token `first`, or a
    /// blank before this token.
    fn take(&mut self, outcome: Outcome, start: Span, parser: &Parser<'_>, first: usize) {
        let Outcome { found, tables, cost } = outcome;
        self.result.tables.join(tables);
        self.result.cost.join(&cost);
        for Found { intent, reason, span } in found {
            if !self.result.takes(intent) {
                continue;
            }
            let span = span
                .or_else(|| backstop::span_of(&reason, parser, first..parser.index()))
                .unwrap_or(start);
            let place = Place::of(self.sql, span);
            self.result.found(intent, reason, place);
        }
    }

    /// Adds what the first words show, for a text that the tree could not explain.
    fn first_words(&mut self) {
        if let Some(words) = FirstWords::of(self.sql, self.dialect) {
            self.result.found(words.intent(), words.reason(), Some(words.place));
        }
    }

    fn hint(&mut self) {
        match hint::leading(self.sql) {
            Ok(None) => {}
            Ok(Some((Hint::Primary, place))) => {
                self.result.found(Intent::Read, Reason::HintPrimary, Some(place));
            }
            Ok(Some((Hint::Group(group), _))) => self.result.group = Some(group),
            Err(place) => {
                self.result.found(Intent::Read, Reason::HintNotUnderstood, Some(place));
            }
        }
    }

    fn not_parsed(&self, at: Location) -> Refusal {
        Refusal { reason: Reason::NotParsed, place: Place::at(self.sql, at) }
    }

    /// Takes only the place from the error. The message quotes the statement with its literals.
    fn parser_error(&self, error: &ParserError) -> Refusal {
        match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                match location(text) {
                    Some(at) => self.not_parsed(at),
                    None => Reason::NotParsed.into(),
                }
            }
            ParserError::RecursionLimitExceeded => Reason::TooComplex("nesting").into(),
        }
    }
}

/// Reads the place from the end of a parser's message: `… at Line: 1, Column: 8`.
fn location(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// MySQL and MariaDB execute `/*! … */`, and MariaDB executes `/*M! … */`. The search includes
/// literals: a false alarm only sends a read to the primary.
fn executable_comment(sql: &str) -> Option<Place> {
    ["/*!", "/*M!", "/*m!"]
        .iter()
        .filter_map(|start| sql.find(start).map(|at| Place { start: at, end: at + start.len() }))
        .min()
}
