//! The proof that a statement is a read.
//!
//! A walk over the whole syntax tree in which every node must be on an
//! allow-list. Nodes are taken apart field by field, without `..`, so that a
//! field or variant added by a newer parser breaks the build instead of slipping
//! through. The walk keeps its own list of pending nodes: nothing here recurses,
//! so no statement can exhaust the stack.

mod call;
mod expression;
mod kind;
mod query;
mod show;
mod table;
mod types;

use sqlparser::ast::{Expr, ObjectName, Query, SetExpr, Statement, TableFactor, TableWithJoins};

use crate::classification::Classification;
use crate::dialect::Dialect;

/// `Err` says why the statement is not proved to be a read.
pub(crate) type Proof = Result<(), Classification>;

/// Proves that `statement` is a read.
pub(crate) fn prove(statement: &Statement, dialect: Dialect) -> Proof {
    let mut prover = Prover { dialect, pending: Vec::new() };
    prover.statement(statement)?;
    while let Some(node) = prover.pending.pop() {
        match node {
            Node::Expr(expr) => prover.expression(expr)?,
            Node::Query(query) => prover.query(query)?,
            Node::SetExpr(body) => prover.set_expression(body)?,
            Node::Joined(table) => prover.joined(table)?,
            Node::Table(table) => prover.table(table)?,
        }
    }
    Ok(())
}

/// Proves that reading the relation called `name` is a read.
pub(crate) fn prove_relation(name: &ObjectName, dialect: Dialect) -> Proof {
    Prover { dialect, pending: Vec::new() }.relation(name)
}

/// A part of the tree that is still to be proved.
enum Node<'a> {
    Expr(&'a Expr),
    Query(&'a Query),
    SetExpr(&'a SetExpr),
    Joined(&'a TableWithJoins),
    Table(&'a TableFactor),
}

struct Prover<'a> {
    dialect: Dialect,
    pending: Vec<Node<'a>>,
}

impl<'a> Prover<'a> {
    fn push(&mut self, expr: &'a Expr) {
        self.pending.push(Node::Expr(expr));
    }

    fn push_all(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) {
        self.pending.extend(exprs.into_iter().map(Node::Expr));
    }

    fn push_query(&mut self, query: &'a Query) {
        self.pending.push(Node::Query(query));
    }
}

/// Refuses unless `holds`: for the clauses that are not on the allow-list.
fn require(holds: bool, what: &str) -> Proof {
    if holds { Ok(()) } else { Err(Classification::not_listed(what)) }
}
