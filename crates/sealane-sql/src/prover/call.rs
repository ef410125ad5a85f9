//! Calls: the function's name, its arguments, and its window.

use sealane_core::Intent;
use sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ListAggOnOverflow, ObjectName, ObjectNamePart,
    WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span;

use crate::aggregate::is_aggregate;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::function::{self, Purity};

use super::Prover;

impl<'a> Prover<'a> {
    pub(super) fn callable(&mut self, name: &ObjectName) {
        match function::purity(name, self.dialect, self.catalog) {
            Purity::Pure => {}
            Purity::PureReader => self.outcome.tables.complete = false,
            Purity::Unproved => {
                let reason = Reason::Function(name.to_string());
                self.refuse(Intent::Unknown, reason, span_of(name));
            }
        }
    }

    pub(super) fn call(&mut self, call: &'a Function) {
        let Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment: _,
            over,
        } = call;
        self.require(!uses_odbc_syntax, "ODBC syntax");
        self.require(*parameters == FunctionArguments::None, "parameters of a function");
        self.callable(name);
        self.count_call(name, over.is_some());
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => self.push_subquery(query),
            FunctionArguments::List(list) => self.argument_list(list),
        }
        self.order_by(within_group);
        self.push_all(filter.as_deref());
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
            Some(WindowType::NamedWindow(_)) | None => {}
        }
    }

    fn count_call(&mut self, name: &ObjectName, is_window: bool) {
        let cost = &mut self.outcome.cost;
        if is_window {
            cost.windows = cost.windows.saturating_add(1);
            return;
        }
        if let Some(ObjectNamePart::Identifier(name)) = name.0.last()
            && is_aggregate(&name.value)
        {
            cost.aggregates = cost.aggregates.saturating_add(1);
            // A WHERE would bound the count; `finish` checks this on the whole statement.
            cost.unbounded_count |= name.value.eq_ignore_ascii_case("count");
        }
    }

    pub(super) fn arguments(&mut self, args: &'a [FunctionArg]) {
        for arg in args {
            let value = match arg {
                FunctionArg::Unnamed(value) => value,
                FunctionArg::Named { name: _, arg, operator } => {
                    self.argument_operator(operator);
                    arg
                }
                FunctionArg::ExprNamed { name, arg, operator } => {
                    self.argument_operator(operator);
                    self.push(name);
                    arg
                }
            };
            match value {
                FunctionArgExpr::Expr(expr) => self.push(expr),
                FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::WildcardWithOptions(_) => {
                    self.not_listed("an option of a wildcard");
                }
            }
        }
    }

    fn argument_operator(&mut self, operator: &FunctionArgOperator) {
        match operator {
            FunctionArgOperator::RightArrow
            | FunctionArgOperator::Colon
            | FunctionArgOperator::Value => {}
            // In MySQL this sets a variable.
            FunctionArgOperator::Assignment => {
                self.require(self.dialect == Dialect::PostgreSql, "an assignment");
            }
            FunctionArgOperator::Equals | FunctionArgOperator::Space => {
                self.not_listed("a named argument");
            }
        }
    }

    fn argument_list(&mut self, list: &'a FunctionArgumentList) {
        let FunctionArgumentList { duplicate_treatment: _, args, clauses } = list;
        self.arguments(args);
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::Separator(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Error) => {}
                FunctionArgumentClause::OrderBy(keys) => self.order_by(keys),
                FunctionArgumentClause::Where(expr) | FunctionArgumentClause::Limit(expr) => {
                    self.push(expr);
                }
                FunctionArgumentClause::JsonReturningClause(returning) => {
                    self.data_type(&returning.data_type);
                }
                FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Truncate { .. })
                | FunctionArgumentClause::Having(_) => {
                    self.not_listed("a clause in a call");
                }
            }
        }
    }

    pub(super) fn window(&mut self, window: &'a WindowSpec) {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = window;
        self.push_all(partition_by);
        self.order_by(order_by);
        if let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame {
            for bound in std::iter::once(start_bound).chain(end_bound) {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(distance)
                    | WindowFrameBound::Following(distance) => {
                        self.push_all(distance.as_deref());
                    }
                }
            }
        }
    }
}

/// The span from the first part of a name to its last part.
pub(super) fn span_of(name: &ObjectName) -> Option<Span> {
    let mut spans = name.0.iter().filter_map(ObjectNamePart::as_ident).map(|ident| ident.span);
    let first = spans.next()?;
    Some(spans.fold(first, |whole, part| whole.union(&part)))
}
