//! Calls: the function's name, its arguments, and its window.

use sqlparser::ast::{
    Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, ListAggOnOverflow, ObjectName, WindowFrame,
    WindowFrameBound, WindowSpec, WindowType,
};

use crate::classification::{Classification, Reason};
use crate::dialect::Dialect;
use crate::function;

use super::{Proof, Prover, require};

impl<'a> Prover<'a> {
    pub(super) fn callable(&self, name: &ObjectName) -> Proof {
        if function::is_pure(name, self.dialect) {
            Ok(())
        } else {
            Err(Classification::unknown(Reason::Function(name.to_string())))
        }
    }

    pub(super) fn call(&mut self, call: &'a Function) -> Proof {
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
        require(!uses_odbc_syntax, "ODBC syntax")?;
        require(*parameters == FunctionArguments::None, "parameters of a function")?;
        self.callable(name)?;
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => self.push_query(query),
            FunctionArguments::List(list) => self.argument_list(list)?,
        }
        self.order_by(within_group)?;
        self.push_all(filter.as_deref());
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    pub(super) fn arguments(&mut self, args: &'a [FunctionArg]) -> Proof {
        for arg in args {
            let value = match arg {
                FunctionArg::Unnamed(value) => value,
                FunctionArg::Named { name: _, arg, operator } => {
                    self.argument_operator(operator)?;
                    arg
                }
                FunctionArg::ExprNamed { name, arg, operator } => {
                    self.argument_operator(operator)?;
                    self.push(name);
                    arg
                }
            };
            match value {
                FunctionArgExpr::Expr(expr) => self.push(expr),
                FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(Classification::not_listed("an option of a wildcard"));
                }
            }
        }
        Ok(())
    }

    fn argument_operator(&self, operator: &FunctionArgOperator) -> Proof {
        match operator {
            FunctionArgOperator::RightArrow
            | FunctionArgOperator::Colon
            | FunctionArgOperator::Value => Ok(()),
            // In MySQL this sets a variable.
            FunctionArgOperator::Assignment => {
                require(self.dialect == Dialect::PostgreSql, "an assignment")
            }
            FunctionArgOperator::Equals | FunctionArgOperator::Space => {
                Err(Classification::not_listed("a named argument"))
            }
        }
    }

    fn argument_list(&mut self, list: &'a FunctionArgumentList) -> Proof {
        let FunctionArgumentList { duplicate_treatment: _, args, clauses } = list;
        self.arguments(args)?;
        for clause in clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::Separator(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Error) => {}
                FunctionArgumentClause::OrderBy(keys) => self.order_by(keys)?,
                FunctionArgumentClause::Where(expr) | FunctionArgumentClause::Limit(expr) => {
                    self.push(expr);
                }
                FunctionArgumentClause::JsonReturningClause(returning) => {
                    self.data_type(&returning.data_type)?;
                }
                FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Truncate { .. })
                | FunctionArgumentClause::Having(_) => {
                    return Err(Classification::not_listed("a clause in a call"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn window(&mut self, window: &'a WindowSpec) -> Proof {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = window;
        self.push_all(partition_by);
        self.order_by(order_by)?;
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
        Ok(())
    }
}
