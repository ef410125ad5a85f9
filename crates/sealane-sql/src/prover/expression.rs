//! Scalar expressions.

use sealane_core::Intent;
use sqlparser::ast::{
    AccessExpr, Array, CaseWhen, DataType, Expr, Ident, Interval, MemberOf, Subscript, TypedString,
};

use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::function;
use crate::table_name::folded;

use super::Prover;

impl<'a> Prover<'a> {
    pub(super) fn expression(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Identifier(name) => {
                self.name(name);
                self.word_call(name);
            }
            Expr::CompoundIdentifier(parts) => match parts.last() {
                Some(column) => {
                    self.name(column);
                    self.attribute(column);
                }
                None => self.not_listed("an empty name"),
            },
            Expr::Value(value) => self.value(&value.value, value.span),
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax }) => {
                self.require(!uses_odbc_syntax, "ODBC syntax");
                // In other dialects `name(1) 'text'` is a call with an alias.
                let is_type = self.is(Dialect::PostgreSql) || is_plain_time(data_type);
                self.require(is_type, "text that may be a call with an alias");
                self.data_type(data_type);
                self.value(&value.value, value.span);
            }
            Expr::BinaryOp { left, op, right } => {
                self.binary(op);
                self.push_all([&**left, &**right]);
            }
            Expr::UnaryOp { op, expr } => {
                self.unary(op);
                self.push(expr);
            }
            Expr::Function(call) => self.call(call),
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => {
                self.push_subquery(subquery);
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.push(expr);
                self.push_subquery(subquery);
            }
            Expr::Nested(expr)
            | Expr::IsFalse(expr)
            | Expr::IsNotFalse(expr)
            | Expr::IsTrue(expr)
            | Expr::IsNotTrue(expr)
            | Expr::IsNull(expr)
            | Expr::IsNotNull(expr)
            | Expr::IsUnknown(expr)
            | Expr::IsNotUnknown(expr)
            | Expr::Collate { expr, collation: _ } => self.push(expr),
            _ => {
                if !(self.comparison(expr)
                    || self.pattern(expr)
                    || self.conversion(expr)
                    || self.text_function(expr)
                    || self.compound(expr))
                {
                    self.not_listed("an expression of another dialect");
                }
            }
        }
    }

    /// Comparisons with their own syntax. `false` if `expr` is something else.
    fn comparison(&mut self, expr: &'a Expr) -> bool {
        match expr {
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.push_all([&**left, &**right]);
            }
            Expr::InList { expr, list, negated: _ } => {
                self.push(expr);
                self.push_all(list);
            }
            Expr::Between { expr, negated: _, low, high } => {
                self.push_all([&**expr, &**low, &**high]);
            }
            Expr::AnyOp { left, compare_op, right, is_some: _ }
            | Expr::AllOp { left, compare_op, right } => {
                self.not_in_sqlite();
                self.push_all([&**left, &**right]);
                self.binary(compare_op);
            }
            Expr::IsJson { expr, kind: _, unique_keys: _, negated: _ }
            | Expr::IsNormalized { expr, form: _, negated: _ } => {
                self.only_in(Dialect::PostgreSql);
                self.push(expr);
            }
            Expr::MatchAgainst { columns: _, match_value, opt_search_modifier: _ } => {
                self.only_in(Dialect::MySql);
                self.value(&match_value.value, match_value.span);
            }
            Expr::MemberOf(MemberOf { value, array }) => {
                self.only_in(Dialect::MySql);
                self.push_all([&**value, &**array]);
            }
            _ => return false,
        }
        true
    }

    /// Matching against a pattern. `false` if `expr` is something else.
    fn pattern(&mut self, expr: &'a Expr) -> bool {
        match expr {
            Expr::Like { negated: _, any: _, expr, pattern, escape_char } => {
                self.push_all([&**expr, &**pattern]);
                self.push_all(escape_char.as_deref());
            }
            Expr::ILike { negated: _, any: _, expr, pattern, escape_char }
            | Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                self.only_in(Dialect::PostgreSql);
                self.push_all([&**expr, &**pattern]);
                self.push_all(escape_char.as_deref());
            }
            Expr::RLike { negated: _, expr, pattern, regexp: _ } => {
                self.push_all([&**expr, &**pattern]);
            }
            _ => return false,
        }
        true
    }

    /// Casts, and functions on times and numbers with their own syntax. `false` if `expr` is
    /// something else.
    fn conversion(&mut self, expr: &'a Expr) -> bool {
        match expr {
            Expr::Cast { kind: _, expr, data_type, format } => {
                self.require(format.is_none(), "FORMAT in a cast");
                self.data_type(data_type);
                self.push(expr);
            }
            Expr::Convert {
                is_try,
                expr,
                data_type,
                charset: _,
                target_before_value: _,
                styles,
            } => {
                self.only_in(Dialect::MySql);
                self.require(!is_try && styles.is_empty(), "a conversion of another dialect");
                if let Some(data_type) = data_type {
                    self.data_type(data_type);
                }
                self.push(expr);
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                self.only_in(Dialect::PostgreSql);
                self.push_all([&**timestamp, &**time_zone]);
            }
            Expr::Extract { field: _, syntax: _, expr }
            | Expr::Ceil { expr, field: _ }
            | Expr::Floor { expr, field: _ } => self.push(expr),
            Expr::Interval(interval) => {
                let Interval {
                    value,
                    leading_field: _,
                    leading_precision: _,
                    last_field: _,
                    fractional_seconds_precision: _,
                } = interval;
                self.not_in_sqlite();
                self.push(value);
            }
            // `_utf8mb4'text'`: the prefix names a character set.
            Expr::Prefixed { prefix: _, value } => {
                self.only_in(Dialect::MySql);
                self.push(value);
            }
            _ => return false,
        }
        true
    }

    /// Functions on text with their own syntax. `false` if `expr` is something else.
    fn text_function(&mut self, expr: &'a Expr) -> bool {
        match expr {
            Expr::Position { expr, r#in } => {
                self.not_in_sqlite();
                self.push_all([&**expr, &**r#in]);
            }
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.push(expr);
                self.push_all(substring_from.as_deref());
                self.push_all(substring_for.as_deref());
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.push(expr);
                self.push_all(trim_what.as_deref());
                self.push_all(trim_characters.iter().flatten());
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.only_in(Dialect::PostgreSql);
                self.push_all([&**expr, &**overlay_what, &**overlay_from]);
                self.push_all(overlay_for.as_deref());
            }
            _ => return false,
        }
        true
    }

    /// Expressions made of several expressions. `false` if `expr` is something else.
    fn compound(&mut self, expr: &'a Expr) -> bool {
        match expr {
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.push_all(operand.as_deref());
                for CaseWhen { condition, result } in conditions {
                    self.push_all([condition, result]);
                }
                self.push_all(else_result.as_deref());
            }
            Expr::Tuple(parts) => self.push_all(parts),
            Expr::Array(Array { elem, named: _ }) => {
                self.only_in(Dialect::PostgreSql);
                self.push_all(elem);
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.only_in(Dialect::PostgreSql);
                self.push_all(sets.iter().flatten());
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.only_in(Dialect::PostgreSql);
                self.push(root);
                for access in access_chain {
                    self.access(access);
                }
            }
            // `(row).*` and `count(t.*)` name columns.
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {}
            _ => return false,
        }
        true
    }

    fn access(&mut self, access: &'a AccessExpr) {
        match access {
            AccessExpr::Dot(expr) => {
                if let Expr::Identifier(field) = expr {
                    self.attribute(field);
                }
                self.push(expr);
            }
            AccessExpr::Subscript(Subscript::Index { index: expr }) => self.push(expr),
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                self.push_all(lower_bound);
                self.push_all(upper_bound);
                self.push_all(stride);
            }
        }
    }

    /// A name: a column, a variable of MySQL, or a sequence in MariaDB's Oracle mode.
    fn name(&mut self, name: &Ident) {
        let value = name.value.as_str();
        let is_quoted = name.quote_style.is_some();
        if self.dialect == Dialect::MySql && value.starts_with('@') && !is_quoted {
            self.session("a variable", Some(name.span));
        }
        let is_sequence = ["nextval", "currval", "lastval"]
            .iter()
            .any(|word| name.quote_style.is_none() && value.eq_ignore_ascii_case(word));
        if is_sequence {
            self.impure_call(name);
        }
    }

    /// Whether `word` is PostgreSQL's `current_schema`. It calls a function without parentheses,
    /// and unquoted it cannot name a column or table. Similar words (`CURRENT_USER`, …) are pure.
    pub(super) fn word_call(&mut self, word: &Ident) -> bool {
        let is_call = self.is(Dialect::PostgreSql)
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("current_schema");
        if is_call {
            self.impure_call(word);
        }
        is_call
    }

    /// The name after a dot: an attribute, or a function call if no attribute has this name.
    fn attribute(&mut self, name: &Ident) {
        if self.dialect == Dialect::PostgreSql {
            let called = folded(name, self.dialect);
            if function::is_active_attribute(&called, self.dialect, self.catalog) {
                self.impure_call(name);
            }
            // A call may read any table.
            self.outcome.tables.complete &= !self.catalog.may_be_call(&called);
        }
    }

    fn impure_call(&mut self, name: &Ident) {
        self.refuse(Intent::Unknown, Reason::Function(name.value.clone()), Some(name.span));
    }
}

/// `DATE`, `TIME` and `TIMESTAMP`, without a size.
fn is_plain_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date | DataType::Time(None, _) | DataType::Timestamp(None, _))
}
