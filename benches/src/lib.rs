//! What happens to every statement, one operation at a time.
//!
//! Shared by the benchmark, which measures time, and by the program
//! `instructions`, which is counted by valgrind: on a noisy machine only the
//! second tells a regression from a busy neighbour.

#[cfg(feature = "routed")]
mod routed;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sealane_core::{
    Access, Candidates, Consistency, Endpoint, Loads, Moment, Plan, ReadRequest, Topology,
    TwoChoices,
};
use sealane_sql::{Classifier, Dialect};

/// A `find().one()` as SeaORM renders it, 300 characters.
pub const SELECT: &str = r#"SELECT "customer"."id", "customer"."name", "customer"."email", "customer"."phone", "customer"."street", "customer"."city", "customer"."country", "customer"."language", "customer"."created_at", "customer"."updated_at", "customer"."version_no" FROM "customer" WHERE "customer"."tenant_id" = $1 LIMIT $2"#;

/// About as long, with what the quick way does not take.
pub const WITH_CALLS: &str = r#"SELECT "customer"."id", LOWER("customer"."name") AS "name", COALESCE("customer"."email", $1) AS "email", CAST("customer"."kind" AS text), "customer"."city", "customer"."country", "customer"."created_at", "customer"."version" FROM "customer" WHERE LOWER("customer"."name") LIKE $3 AND "customer"."tenant_id" = $1 LIMIT $2"#;

/// An insert as SeaORM renders it.
pub const INSERT: &str = r#"INSERT INTO "customer" ("name", "email", "phone") VALUES ($1, $2, $3) RETURNING "id", "name", "email", "phone""#;

/// One operation of the hot path, ready to be repeated.
pub struct Operation {
    /// Its name in reports.
    pub name: &'static str,
    run: Box<dyn Fn() -> bool>,
}

impl Operation {
    fn new(name: &'static str, run: impl Fn() -> bool + 'static) -> Self {
        Operation { name, run: Box::new(run) }
    }

    /// Does it once. The result is what was to be found out, so that nothing is
    /// optimised away; it is always true.
    #[must_use]
    pub fn run(&self) -> bool {
        (self.run)()
    }
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Operation").field(&self.name).finish()
    }
}

/// All operations that are measured.
#[must_use]
pub fn operations() -> Vec<Operation> {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let cached = move || classifier.look_up(SELECT).may_leave_primary();
    let classifier = Classifier::new(Dialect::PostgreSql);
    let certain_write = move || !classifier.look_up(INSERT).may_leave_primary();
    #[cfg_attr(not(feature = "routed"), allow(unused_mut, reason = "there are no others"))]
    let mut operations = vec![
        Operation::new("look up a cached SELECT of 300 characters", cached),
        Operation::new("look up a new SELECT of 300 characters", new_texts(SELECT)),
        Operation::new("look up a new SELECT that takes a tree", new_texts(WITH_CALLS)),
        Operation::new("look up an INSERT", certain_write),
        Operation::new("plan a read among three replicas", planned()),
    ];
    #[cfg(feature = "routed")]
    operations.extend(routed::operations());
    operations
}

/// The same text with another number at its end each time, so that it is a new one.
fn new_texts(sql: &'static str) -> impl Fn() -> bool {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let count = AtomicU64::new(0);
    move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let sql = format!("{} {number}", sql.trim_end_matches("$2"));
        classifier.look_up(&sql).may_leave_primary()
    }
}

fn planned() -> impl Fn() -> bool {
    let names = ["primary", "replica-1", "replica-2", "replica-3"];
    let endpoints = names.iter().map(|name| Endpoint::new(*name, "here")).collect();
    let topology = Topology::always_current(endpoints);
    let loads = std::sync::Arc::new(Loads::new());
    move || {
        let now = Moment::from_origin(Duration::from_secs(1));
        let request = ReadRequest::new(Access::Read, Consistency::ReadYourWrites, now);
        let all = Candidates::all(&topology, &loads, now);
        Plan::new(&topology, &request).next(&TwoChoices, all, 7).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_select_is_as_long_as_it_says() {
        assert_eq!(SELECT.len(), 300);
    }

    #[test]
    fn every_operation_finds_what_it_is_to_find() {
        for operation in operations() {
            assert!(operation.run() && operation.run(), "{}", operation.name);
        }
    }
}
