//! Transactions: whole on the primary, or read-only on one replica.

mod traits;

use std::{fmt, ops::Deref, pin::Pin, sync::Arc};

use crate::{
    RoutedConnection, error, explain,
    lane::{Attempt, Lane, Next},
    writing::{SchemaChange, Writing},
};
use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, TransactionError, TransactionOptions,
    TransactionTrait,
};

/// A transaction on the endpoint where it was begun.
///
/// It dereferences to SeaORM's `DatabaseTransaction`, so that code written for
/// that type takes a reference to this one. The session is stamped when the
/// transaction ends, whatever ran inside. Statements through that reference are not
/// looked at: after a change of the schema say
/// [`note_schema_change`](RoutedConnection::note_schema_change).
///
/// Dropped without [`commit`](Self::commit), it is rolled back.
pub struct RoutedTransaction {
    // First: it is rolled back before the guards below let go.
    inner: DatabaseTransaction,
    ending: Ending,
}

/// What the end of a transaction means to its session.
enum Ending {
    /// The outer transaction decides.
    Nested(Option<Arc<SchemaChange>>),
    /// The session has written. The last is told when the transaction is over.
    Write { until: Writing, schema: Arc<SchemaChange> },
    /// The session has seen what one replica had.
    Read(Box<ReadEnding>),
}

struct ReadEnding {
    connection: RoutedConnection,
    lane: Lane,
    attempt: Attempt,
}

/// What traces call the beginning of a read-only transaction.
const READ_ONLY: &str = "BEGIN READ ONLY";

/// Begins a transaction where it belongs.
pub(crate) async fn begin(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    if may_leave_primary(connection, options) {
        begin_read(connection, options).await
    } else {
        begin_write(connection, options).await
    }
}

/// A standby refuses SERIALIZABLE, and a lone endpoint has nowhere to go.
fn may_leave_primary(connection: &RoutedConnection, options: TransactionOptions) -> bool {
    options.access_mode == Some(AccessMode::ReadOnly)
        && options.isolation_level != Some(IsolationLevel::Serializable)
        && connection.cluster().classifier.is_some()
}

async fn begin_write(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    let (writing, primary) = Writing::start(connection, "BEGIN")?;
    let inner = writing.looked_at(primary.begin_with_options(options).await)?;
    let schema = SchemaChange::watch(connection.cluster());
    Ok(RoutedTransaction { inner, ending: Ending::Write { until: writing, schema } })
}

async fn begin_read(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    let cluster = connection.cluster();
    let mut lane = Lane::plan(connection, cluster.groups.others()).await;
    let mut last_error = None;
    while let Some(attempt) = lane.next(cluster) {
        let id = attempt.guard.endpoint();
        let Some(pool) = cluster.pool(id, attempt.role) else {
            break;
        };
        explain::trace(connection, id, READ_ONLY);
        match attempt.unless_hung(cluster, pool.begin_with_options(options)).await {
            // Its connection leads to the run that was planned, and stays there.
            Ok(inner) if lane.served(connection, &attempt) => {
                let connection = connection.clone();
                let ending = Ending::Read(Box::new(ReadEnding { connection, lane, attempt }));
                return Ok(RoutedTransaction { inner, ending });
            }
            Ok(_) => {}
            Err(error) => match lane.failed(cluster, &attempt, &error) {
                Next::Retry => last_error = Some(error),
                Next::GiveUp | Next::Write => return Err(error),
            },
        }
    }
    Err(last_error.unwrap_or_else(error::no_primary))
}

impl RoutedTransaction {
    /// A transaction inside another one.
    fn nested(&self, inner: DatabaseTransaction) -> Self {
        RoutedTransaction { inner, ending: Ending::Nested(self.ending.schema_change().cloned()) }
    }

    /// Commits.
    ///
    /// # Errors
    /// SeaORM's. If the connection was lost, whether the transaction was
    /// committed is unknown, and it is never tried again.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the outcome unknown; the session counts
    /// it as written.
    pub async fn commit(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, ending } = self;
        ending.looked_at(inner.commit().await)
    }

    /// Rolls back.
    ///
    /// # Errors
    /// SeaORM's.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, ending } = self;
        ending.looked_at(inner.rollback().await)
    }

    /// Takes note of a statement, which stays where the transaction was begun.
    pub(crate) fn note(&self, sql: &str) {
        if let Some(change) = self.ending.schema_change() {
            change.note(sql);
        }
        let place = self.ending.place();
        tracing::debug!(target: "sealane::route", place, why = "in a transaction", sql);
    }

    /// Passes the result of a statement on, and takes note of what it tells.
    pub(crate) fn looked_at<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        self.ending.looked_at(result)
    }

    /// Runs `callback` and ends the transaction as it says.
    pub(crate) async fn run<F, T, E>(self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c RoutedTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let result = callback(&self).await;
        self.end_with(result).await
    }

    /// Runs `callback` and ends the transaction as it says.
    pub(crate) async fn run_async<F, T, E>(self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let result = callback(&self).await;
        self.end_with(result).await
    }

    async fn end_with<T, E>(self, result: Result<T, E>) -> Result<T, TransactionError<E>>
    where
        E: fmt::Display + fmt::Debug,
    {
        match &result {
            Ok(_) => self.commit().await?,
            Err(_) => self.rollback().await?,
        }
        result.map_err(TransactionError::Transaction)
    }
}

impl Ending {
    /// Where the transaction runs, for people.
    fn place(&self) -> &'static str {
        match self {
            Ending::Nested(_) => "nested",
            Ending::Write { .. } => "primary",
            Ending::Read(_) => "read-only",
        }
    }

    /// Where changes of the schema are noted until the outermost transaction ends.
    fn schema_change(&self) -> Option<&Arc<SchemaChange>> {
        match self {
            Ending::Nested(schema) => schema.as_ref(),
            Ending::Write { schema, .. } => Some(schema),
            Ending::Read(_) => None,
        }
    }

    fn looked_at<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        match self {
            Ending::Nested(_) => result,
            Ending::Write { until, .. } => until.looked_at(result),
            Ending::Read(read) => {
                read.note();
                result
            }
        }
    }
}

impl ReadEnding {
    /// What the transaction has read by now, the session has seen.
    fn note(&self) {
        self.lane.served(&self.connection, &self.attempt);
    }
}

impl Drop for ReadEnding {
    fn drop(&mut self) {
        self.note();
    }
}

impl Deref for RoutedTransaction {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.inner
    }
}

impl fmt::Debug for RoutedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.ending.place();
        f.debug_struct("RoutedTransaction").field("place", &place).finish_non_exhaustive()
    }
}
