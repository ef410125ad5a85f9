//! Data types, literals and operators.

use sqlparser::ast::{ArrayElemTypeDef, BinaryOperator, DataType, UnaryOperator, Value};

use crate::classification::Classification;
use crate::dialect::Dialect;

use super::{Proof, Prover, require};

impl Prover<'_> {
    /// A type by name. A type of the user's is let through: `CAST($1 AS mood)` is how
    /// SeaORM compares enums, and only the catalog knows a domain from an enum.
    pub(super) fn data_type(&self, data_type: &DataType) -> Proof {
        let mut data_type = data_type;
        while let DataType::Array(
            ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::Parenthesis(element),
        ) = data_type
        {
            data_type = element;
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
        require(!structured, "a type of another dialect")
    }

    pub(super) fn value(&self, value: &Value) -> Proof {
        match value {
            Value::Placeholder(name) if name.starts_with('@') => {
                if self.dialect == Dialect::Sqlite {
                    Ok(())
                } else {
                    Err(Classification::session("a variable"))
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
            | Value::Placeholder(_) => Ok(()),
            _ => Err(Classification::not_listed("a literal of another dialect")),
        }
    }

    pub(super) fn unary(&self, operator: &UnaryOperator) -> Proof {
        match operator {
            UnaryOperator::Plus
            | UnaryOperator::Minus
            | UnaryOperator::Not
            | UnaryOperator::BangNot
            | UnaryOperator::BitwiseNot => Ok(()),
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
                require(self.dialect == Dialect::PostgreSql, "an operator of another dialect")
            }
        }
    }

    pub(super) fn binary(&self, operator: &BinaryOperator) -> Proof {
        match operator {
            BinaryOperator::Custom(_) | BinaryOperator::PGCustomBinaryOperator(_) => {
                Err(Classification::not_listed("an operator of the user's"))
            }
            BinaryOperator::Assignment => Err(Classification::session("an assignment")),
            BinaryOperator::DuckIntegerDivide => {
                Err(Classification::not_listed("an operator of another dialect"))
            }
            _ if is_built_in(operator) => Ok(()),
            _ => Err(Classification::not_listed("an operator")),
        }
    }
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
