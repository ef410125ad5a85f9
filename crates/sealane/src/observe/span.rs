//! The `tracing` span of a statement.
//!
//! Each statement is one span with level debug and target `sealane::statement`, from its call until
//! its answer; a stream, until it ends or is dropped. The fields have OpenTelemetry's names where
//! these exist (<https://opentelemetry.io/docs/specs/semconv/database/database-spans/>). If the
//! statement is sent to several endpoints, the fields name the last one, and an event in the span
//! tells why it left each of the others.
//!
//! Attempts are made deep inside the statement's future, which runs in the span. So they find the
//! span as `tracing`'s current one. (Rejected: passing it through plans, hedges and openings.) A
//! hedge that was outrun goes on without the span, and so changes nothing in it.
//!
//! While nobody listens, a statement costs the check of one static call site, and each attempt
//! another one.

use std::borrow::Cow;

use sea_orm::DbErr;
use sealane_core::{EndpointId, Engine, ErrorCode, PrimaryUse, Role};
use sealane_sql::{Dialect, Sketches};
use tracing::{Level, Span, field::Empty};

use crate::{Error, cluster::Cluster, error};

const TARGET: &str = "sealane::statement";

/// Why a statement runs where it runs, as the field `sealane.reason` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A proved read on a replica.
    Read,
    /// A read on the primary.
    OnPrimary(PrimaryUse),
    /// A read on the primary, whose turn it was.
    Shared,
    /// A read on a replica that is not fresh enough for it.
    Stale,
    /// Anything else.
    Write,
    /// In a transaction, which stays where it began.
    Transaction,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Why::Read => "read",
            Why::OnPrimary(PrimaryUse::Asked) => "asked_for_primary",
            Why::OnPrimary(PrimaryUse::Pinned) => "pinned_to_primary",
            Why::OnPrimary(PrimaryUse::Fallback) => "fell_back_to_primary",
            Why::Shared => "shared_with_primary",
            Why::Stale => "served_stale",
            Why::Write => "write",
            Why::Transaction => "in_transaction",
        }
    }
}

/// Where an attempt runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) endpoint: EndpointId,
    pub(crate) role: Role,
    pub(crate) why: Why,
    /// How many attempts there were before.
    pub(crate) earlier: u32,
}

/// The span of a statement that begins now; a disabled one while nobody listens.
pub(crate) fn open(cluster: &Cluster, sql: &str) -> Span {
    match is_watched() {
        true => open_watched(cluster, sql),
        false => Span::none(),
    }
}

fn is_watched() -> bool {
    tracing::span_enabled!(target: "sealane::statement", Level::DEBUG)
}

fn open_watched(cluster: &Cluster, sql: &str) -> Span {
    let sketches = cluster.sketches.get_or_init(|| Sketches::new(dialect(cluster.engine)));
    let sketch = sketches.of(sql);
    let table = sketch.written.clone().or_else(|| table_read(cluster, sql));
    let summary = match (&table, sketch.operation.as_str()) {
        (_, "") => "statement".to_owned(),
        (Some(table), operation) => format!("{operation} {table}"),
        (None, operation) => operation.to_owned(),
    };
    tracing::debug_span!(
        target: "sealane::statement",
        "statement",
        otel.name = summary,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = system(cluster),
        db.namespace = Empty,
        db.operation.name = &*sketch.operation,
        db.collection.name = table,
        db.query.summary = summary,
        db.query.text = sketch.text.as_deref(),
        server.address = Empty,
        server.port = Empty,
        sealane.endpoint = Empty,
        sealane.role = Empty,
        sealane.reason = Empty,
        sealane.retries = Empty,
        error.type = Empty,
    )
}

/// The only table that `sql` touches, if it is a read of one table.
fn table_read(cluster: &Cluster, sql: &str) -> Option<String> {
    let found = cluster.classifier.as_ref()?.look_up(sql);
    match (&*found.tables.read, &*found.tables.written) {
        ([table], []) if found.tables.complete => Some(table.to_string()),
        _ => None,
    }
}

fn dialect(engine: Engine) -> Dialect {
    match engine {
        Engine::MySql => Dialect::MySql,
        Engine::Sqlite => Dialect::Sqlite,
        _ => Dialect::PostgreSql,
    }
}

/// The database system in OpenTelemetry's words.
fn system(cluster: &Cluster) -> &'static str {
    let is_mariadb = || {
        let topology = cluster.store().topology();
        let mut versions = topology.iter().filter_map(|(_, state)| state.info.version.as_deref());
        versions.any(|version| version.contains("MariaDB"))
    };
    match cluster.engine {
        Engine::MySql if is_mariadb() => "mariadb",
        Engine::MySql => "mysql",
        Engine::Sqlite => "sqlite",
        _ => "postgresql",
    }
}

/// The span of the statement that runs now, if somebody listens.
fn current() -> Option<Span> {
    if !is_watched() {
        return None;
    }
    let span = Span::current();
    let is_ours = span.metadata().is_some_and(|metadata| metadata.target() == TARGET);
    is_ours.then_some(span)
}

/// Records in the current statement's span where the statement is about to be sent.
pub(crate) fn sent(cluster: &Cluster, sent: Sent) {
    if let Some(span) = current() {
        record(&span, cluster, sent);
    }
}

/// The same, in the statement's own `span`.
pub(crate) fn record(span: &Span, cluster: &Cluster, sent: Sent) {
    if span.is_disabled() {
        return;
    }
    let topology = cluster.store().topology();
    let Some(state) = topology.get(sent.endpoint) else { return };
    let (host, port) = state.endpoint.host_and_port();
    span.record("server.address", host);
    if let Some(port) = port {
        span.record("server.port", i64::from(port));
    }
    if let Some(database) = &state.database {
        span.record("db.namespace", &*database.name);
    }
    span.record("sealane.endpoint", state.endpoint.name());
    span.record("sealane.role", role(sent.role));
    span.record("sealane.reason", sent.why.name());
    if sent.earlier > 0 {
        span.record("sealane.retries", i64::from(sent.earlier));
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
        _ => "unknown",
    }
}

/// Tells in the current statement's span that it left an endpoint, and why.
pub(crate) fn moved(from: &str, to: &str, why: &str) {
    if current().is_some() {
        tracing::debug!(target: "sealane::statement", from, to, why, "tried again");
    }
}

/// Records in its `span` how a statement ended.
pub(crate) fn ended<T>(span: &Span, result: &Result<T, DbErr>) {
    if let (false, Err(error)) = (span.is_disabled(), result) {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", &*kind(error));
    }
}

/// An error in one word: the server's code, or what sealane or the driver found. Never the text,
/// which may quote literals.
pub(crate) fn kind(error: &DbErr) -> Cow<'static, str> {
    let ours = Error::of(error).map(|error| match error {
        Error::NoPrimary { .. } => "no_primary",
        Error::NoReplica => "no_replica",
        Error::Shed { .. } => "shed",
        Error::ReadTimeout { .. } => "read_timeout",
        Error::OutcomeUnknown { .. } => "outcome_unknown",
        Error::TransactionLost { .. } => "transaction_lost",
        Error::StreamLost { .. } => "stream_lost",
    });
    ours.map(Cow::Borrowed).unwrap_or_else(|| {
        error::with_code(error, |code| match code {
            ErrorCode::Connection => "connection".into(),
            ErrorCode::PoolExhausted => "pool_exhausted".into(),
            ErrorCode::Server(code) => code.to_owned().into(),
            // OpenTelemetry's word for an error that has no name.
            ErrorCode::Other => "_OTHER".into(),
        })
    })
}
