//! From text to a classification.

use std::sync::LazyLock;

use sealane_core::Intent;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use crate::bounds;
use crate::catalog::Catalog;
use crate::classification::Classification;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::hint::{self, Hint};
use crate::leading::Leading;
use crate::lexer;
use crate::place::Place;
use crate::pragma;
use crate::prover::{self, Found, Outcome};
use crate::relation_query;
use crate::suspicion;

/// Decides what a text does, from the text alone.
///
/// The text may hold several statements: it is a read only if each of them is
/// proved to be one. Nothing is cached; see [`Classifier`](crate::Classifier).
/// Never panics, and needs a bounded amount of stack whatever the text.
#[must_use]
pub fn classify(sql: &str, dialect: Dialect) -> Classification {
    static NOTHING_KNOWN: LazyLock<Catalog> = LazyLock::new(Catalog::default);
    classify_with(sql, dialect, &NOTHING_KNOWN)
}

/// As [`classify`], with what the database's catalog knows.
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
    judge.result.footprint = catalog.footprint_of_read(&judge.result.tables);
    judge.result
}

/// Why a text is not judged at all, or not to its end.
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
        // Literals stay as they were written: only their ends matter here.
        let tokens = Tokenizer::new(self.dialect.parser(), self.sql)
            .with_unescape(false)
            .tokenize_with_location()
            .map_err(|error| self.not_parsed(error.location))?;
        let shape = bounds::measure(&tokens)?;
        if let Some(reason) = lexer::disagreement(self.sql, &tokens, self.dialect, self.catalog) {
            return Err(reason.into());
        }
        let count = bounds::statements(&tokens);
        if count == 0 {
            return Err(Reason::Empty.into());
        }
        let suspicion = suspicion::find(&tokens, self.dialect, self.catalog);
        let tokens = relation_query::rewrite(tokens, self.dialect);
        let parsed = bounds::with_stack(shape, || self.statements(tokens, count));
        // A backstop only: what the tree has shown is more precise, if there is one.
        if let Some(Found { intent, reason, span }) = suspicion
            && (parsed.is_err() || self.result.findings.is_empty())
        {
            let place = span.and_then(|span| Place::of(self.sql, span));
            self.result.found(intent, reason, place);
        }
        parsed
    }

    fn statements(&mut self, tokens: Vec<TokenWithSpan>, count: usize) -> Result<(), Refusal> {
        let mut parser = Parser::new(self.dialect.parser())
            .with_recursion_limit(bounds::PARSER_RECURSION)
            .with_tokens_with_locations(tokens);
        let mut parsed = 0;
        // Not `parse_statements`, which stops at a stray END and drops the rest.
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
        // A statement that swallowed a semicolon was not understood.
        if parsed == count { Ok(()) } else { Err(Reason::Ambiguous("where statements end").into()) }
    }

    /// Takes one statement off `parser` and walks over it.
    fn statement(&self, parser: &mut Parser<'_>) -> Result<Outcome, ParserError> {
        if self.dialect == Dialect::Sqlite
            && let Some(found) = pragma::prove(parser)?
        {
            return Ok(Outcome { found: found.into_iter().collect(), ..Outcome::default() });
        }
        Ok(prover::prove(&parser.parse_statement()?, self.dialect, self.catalog))
    }

    /// Adds what was found in the statement that begins at `start`, which is the
    /// parser's token `first` or a blank before it.
    fn take(&mut self, outcome: Outcome, start: Span, parser: &Parser<'_>, first: usize) {
        let Outcome { found, tables, cost } = outcome;
        self.result.tables.join(tables);
        self.result.cost.join(&cost);
        for Found { intent, reason, span } in found {
            if !self.result.takes(intent) {
                continue;
            }
            let span = span
                .or_else(|| suspicion::span_of(&reason, parser, first..parser.index()))
                .unwrap_or(start);
            let place = Place::of(self.sql, span);
            self.result.found(intent, reason, place);
        }
    }

    /// What no tree has shown, the first words may.
    fn first_words(&mut self) {
        if let Some(leading) = Leading::of(self.sql, self.dialect) {
            self.result.found(leading.intent(), leading.reason(), Some(leading.place));
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

    /// The place, not the message: a message quotes the statement, literals and all.
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

/// The end of a message of the parser: `… at Line: 1, Column: 8`.
fn location(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once("at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// `/*! … */` runs on MySQL and MariaDB, `/*M! … */` on MariaDB. Looked for in
/// literals too: a false alarm costs one trip to the primary.
fn executable_comment(sql: &str) -> Option<Place> {
    ["/*!", "/*M!", "/*m!"]
        .iter()
        .filter_map(|start| sql.find(start).map(|at| Place { start: at, end: at + start.len() }))
        .min()
}
