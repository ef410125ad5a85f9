//! Proves that a statement is a read.
//!
//! The proof is a walk over the whole syntax tree, in which every node must be on an allow-list.
//! Nodes are destructured field by field, without `..`, so that a field or variant of a newer
//! parser breaks the build instead of slipping through. The walk keeps its own list of pending
//! nodes and does not recurse, so no statement can exhaust the stack. The walk does not stop at the
//! first finding, because it also counts tables and costs, of writes too.

mod call;
mod changes;
mod expression;
mod kind;
mod query;
mod scope;
mod show;
mod table;
mod types;

use sealane_core::Intent;
use sqlparser::ast::{Expr, Query, SetExpr, Statement, TableFactor, TableWithJoins};
use sqlparser::tokenizer::Span;

use crate::catalog::Catalog;
use crate::dialect::Dialect;
use crate::finding::Reason;
use scope::{Scope, Scopes};
use sealane_core::Cost;
use sealane_core::Tables;

/// The result of the walk over one statement.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) found: Vec<Found>,
    pub(crate) tables: Tables,
    pub(crate) cost: Cost,
}

/// A finding, with its place if the parser keeps one.
pub(crate) struct Found {
    pub(crate) intent: Intent,
    pub(crate) reason: Reason,
    pub(crate) span: Option<Span>,
}

impl Found {
    pub(crate) fn session(what: &'static str) -> Self {
        Self { intent: Intent::Session, reason: Reason::SessionState(what), span: None }
    }
}

/// Walks over `statement`, which is a read if the walk finds nothing.
pub(crate) fn prove(statement: &Statement, dialect: Dialect, catalog: &Catalog) -> Outcome {
    let mut prover = Prover {
        dialect,
        catalog,
        pending: Vec::new(),
        scopes: Scopes::default(),
        scope: Scope::default(),
        outcome: Outcome::default(),
    };
    prover.statement(statement);
    while let Some((node, scope)) = prover.pending.pop() {
        prover.scope = scope;
        match node {
            Node::Expr(expr) => prover.expression(expr),
            Node::Query(query) => prover.query(query),
            Node::SetExpr(body) => prover.set_expression(body),
            Node::Joined(table) => prover.joined(table),
            Node::Table(table) => prover.table(table),
        }
    }
    prover.finish()
}

/// The most findings collected from one statement.
const MAX_FOUND: usize = 32;

/// A part of the tree that the walk still has to prove.
enum Node<'a> {
    Expr(&'a Expr),
    Query(&'a Query),
    SetExpr(&'a SetExpr),
    Joined(&'a TableWithJoins),
    Table(&'a TableFactor),
}

struct Prover<'a> {
    dialect: Dialect,
    catalog: &'a Catalog,
    pending: Vec<(Node<'a>, Scope)>,
    scopes: Scopes<'a>,
    /// The common table expressions that the current node sees.
    scope: Scope,
    outcome: Outcome,
}

impl<'a> Prover<'a> {
    fn later(&mut self, node: Node<'a>) {
        self.pending.push((node, self.scope));
    }

    fn push(&mut self, expr: &'a Expr) {
        self.later(Node::Expr(expr));
    }

    fn push_all(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) {
        let scope = self.scope;
        self.pending.extend(exprs.into_iter().map(|expr| (Node::Expr(expr), scope)));
    }

    /// Adds a query within the statement.
    fn push_subquery(&mut self, query: &'a Query) {
        let subqueries = &mut self.outcome.cost.subqueries;
        *subqueries = subqueries.saturating_add(1);
        self.later(Node::Query(query));
    }

    fn refuse(&mut self, intent: Intent, reason: Reason, span: Option<Span>) {
        // A part that is not understood may touch further tables.
        self.outcome.tables.complete &= intent != Intent::Unknown;
        let found = &mut self.outcome.found;
        let is_stronger = intent == Intent::Write && found.iter().all(|it| it.intent != intent);
        if found.len() < MAX_FOUND || is_stronger {
            found.push(Found { intent, reason, span });
        }
    }

    fn not_listed(&mut self, what: &'static str) {
        self.refuse(Intent::Unknown, Reason::NotListed(what), None);
    }

    fn session(&mut self, what: &'static str, span: Option<Span>) {
        self.refuse(Intent::Session, Reason::SessionState(what), span);
    }

    fn writes(&mut self, statement: &'static str, span: Option<Span>) {
        self.refuse(Intent::Write, Reason::Writes(statement), span);
    }

    /// Refuses the statement unless `holds`, because `what` is not on the allow-list.
    fn require(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.not_listed(what);
        }
    }

    fn is(&self, dialect: Dialect) -> bool {
        self.dialect == dialect
    }

    /// Allows syntax in `dialect` only. In other dialects the same text may be a call of an unknown
    /// function.
    fn only_in(&mut self, dialect: Dialect) {
        self.require(self.dialect == dialect, "syntax of another dialect");
    }

    fn not_in_sqlite(&mut self) {
        self.require(self.dialect != Dialect::Sqlite, "syntax of another dialect");
    }

    fn finish(mut self) -> Outcome {
        if self.catalog.has_active_comparisons() {
            self.refuse(Intent::Unknown, Reason::Operator("of a comparison".to_owned()), None);
        }
        let cost = &mut self.outcome.cost;
        cost.unbounded_count &= !cost.filtered;
        self.outcome
    }
}
