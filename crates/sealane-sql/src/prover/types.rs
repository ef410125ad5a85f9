//! Data types, literals and operators.

use sealane_core::Intent;
use sqlparser::ast::{ArrayElemTypeDef, BinaryOperator, DataType, UnaryOperator, Value};
use sqlparser::tokenizer::Span;

use crate::catalog::Purity;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::table_name::table_name;

use super::Prover;
use super::call::span_of;

impl Prover<'_> {
    /// A type by name. A user's type is allowed unless the catalog forbids it, because SeaORM
    /// compares enums with `CAST($1 AS mood)`.
    pub(super) fn data_type(&mut self, data_type: &DataType) {
        let mut data_type = data_type;
        while let DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) = data_type
        {
            data_type = element;
        }
        if self.catalog.has_active_types() {
            self.named_type(data_type);
        }
        let structured = matches!(
            data_type,
            DataType::Table(_)
                | DataType::NamedTable { .. }
                | DataType::Nested(_)
                | DataType::Map(..)
                | DataType::Tuple(_)
                | DataType::Struct(..)
                | DataType::Union(_)
                | DataType::Nullable(_)
                | DataType::LowCardinality(_)
                | DataType::Trigger
        );
        self.require(!structured, "a type of another dialect");
    }

    /// Looks up a type in the catalog, even if the parser knows its name, because a user's type may
    /// have the same name.
    fn named_type(&mut self, data_type: &DataType) {
        let (name, span) = match data_type {
            DataType::Custom(name, _) => match table_name(name, self.dialect) {
                Some(known) => (known.name().to_owned(), span_of(name)),
                None => return self.not_listed("a computed type"),
            },
            known => {
                let text = known.to_string().to_ascii_lowercase();
                (text.split('(').next().unwrap_or_default().trim().to_owned(), None)
            }
        };
        if self.catalog.is_active_type(&name) {
            self.refuse(Intent::Unknown, Reason::Type(name), span);
        }
    }

    pub(super) fn value(&mut self, value: &Value, span: Span) {
        match value {
            Value::Placeholder(name) if name.starts_with('@') => {
                if self.dialect != Dialect::Sqlite {
                    self.session("a variable", Some(span));
                }
            }
            Value::Number(..)
            | Value::SingleQuotedString(_)
            | Value::DoubleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::SingleQuotedByteStringLiteral(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::Placeholder(_) => {}
            _ => self.not_listed("a literal of another dialect"),
        }
    }

    pub(super) fn unary(&mut self, operator: &UnaryOperator) {
        match operator {
            UnaryOperator::Plus
            | UnaryOperator::Minus
            | UnaryOperator::Not
            | UnaryOperator::BangNot
            | UnaryOperator::BitwiseNot => {}
            UnaryOperator::AtDashAt
            | UnaryOperator::DoubleAt
            | UnaryOperator::Hash
            | UnaryOperator::PGAbs
            | UnaryOperator::PGCubeRoot
            | UnaryOperator::PGPostfixFactorial
            | UnaryOperator::PGPrefixFactorial
            | UnaryOperator::PGSquareRoot
            | UnaryOperator::QuestionDash
            | UnaryOperator::QuestionPipe => {
                let is_known = self.dialect == Dialect::PostgreSql;
                self.require(is_known, "an operator of another dialect");
            }
        }
        if self.catalog.has_active_operators() {
            self.overloaded(&operator.to_string());
        }
    }

    pub(super) fn binary(&mut self, operator: &BinaryOperator) {
        match operator {
            BinaryOperator::Custom(symbol) => self.custom_operator(symbol),
            BinaryOperator::PGCustomBinaryOperator(parts) => {
                let symbol = parts.last().map(String::as_str).unwrap_or_default();
                // An operator with a schema may still be the server's own.
                if !is_pg_catalog(parts) || self.catalog.operator(symbol) == Purity::Impure {
                    self.custom_operator(symbol);
                }
            }
            BinaryOperator::Assignment => self.session("an assignment", None),
            BinaryOperator::DuckIntegerDivide => {
                self.not_listed("an operator of another dialect");
            }
            _ if is_built_in(operator) => {
                if self.catalog.has_active_operators() {
                    self.overloaded(&operator.to_string());
                }
            }
            _ => self.not_listed("an operator"),
        }
    }

    /// An operator that only the catalog can know.
    fn custom_operator(&mut self, symbol: &str) {
        match self.catalog.operator(symbol) {
            // The operator's function may read any table.
            Purity::Pure => self.outcome.tables.complete = false,
            Purity::Impure | Purity::Unknown | Purity::Overloaded => {
                self.refuse(Intent::Unknown, Reason::Operator(symbol.to_owned()), None);
            }
        }
    }

    /// A built-in operator that a user may have overloaded.
    fn overloaded(&mut self, symbol: &str) {
        if self.catalog.operator(symbol) == Purity::Impure {
            self.refuse(Intent::Unknown, Reason::Operator(symbol.to_owned()), None);
        }
    }
}

fn is_pg_catalog(parts: &[String]) -> bool {
    matches!(parts, [schema, _] if schema.eq_ignore_ascii_case("pg_catalog"))
}

/// Operators that the servers define themselves.
fn is_built_in(operator: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        operator,
        Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Spaceship
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::Xor
            | Op::BitwiseOr
            | Op::BitwiseAnd
            | Op::BitwiseXor
            | Op::MyIntegerDivide
            | Op::Match
            | Op::Regexp
            | Op::Glob
    ) || is_postgres_own(operator)
}

/// Operators that only PostgreSQL has, and SQLite's `->` and `->>`.
fn is_postgres_own(operator: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        operator,
        Op::PGBitwiseXor
            | Op::PGBitwiseShiftLeft
            | Op::PGBitwiseShiftRight
            | Op::PGExp
            | Op::PGOverlap
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
            | Op::PGLikeMatch
            | Op::PGILikeMatch
            | Op::PGNotLikeMatch
            | Op::PGNotILikeMatch
            | Op::PGStartsWith
            | Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtAt
            | Op::AtArrow
            | Op::ArrowAt
            | Op::HashMinus
            | Op::AtQuestion
            | Op::Question
            | Op::QuestionAnd
            | Op::QuestionPipe
            | Op::Overlaps
            | Op::DoubleHash
            | Op::LtDashGt
            | Op::AndLt
            | Op::AndGt
            | Op::LtLtPipe
            | Op::PipeGtGt
            | Op::AndLtPipe
            | Op::PipeAndGt
            | Op::LtCaret
            | Op::GtCaret
            | Op::QuestionHash
            | Op::QuestionDash
            | Op::QuestionDashPipe
            | Op::QuestionDoublePipe
            | Op::At
            | Op::TildeEq
    )
}
