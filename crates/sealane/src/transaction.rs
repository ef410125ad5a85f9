//! Transactions: whole on the primary, or read-only on one replica.

mod traits;

use std::{fmt, ops::Deref, pin::Pin, sync::Arc};

use crate::{
    RoutedConnection, error, explain,
    lane::{Attempt, Lane, Next},
    writing::{Notes, Writing},
};
use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    TransactionError, TransactionOptions, TransactionTrait,
};

/// A transaction on the endpoint where it was begun.
///
/// It dereferences to SeaORM's `DatabaseTransaction`, so that code written for
/// that type takes a reference to this one. The session is stamped when the
/// transaction ends, whatever ran inside. Statements through that reference are not
/// looked at, and may have written any table: after a change of the schema say
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
    Nested(Option<Arc<Notes>>),
    /// The session has written.
    Write { until: Writing, notes: Arc<Notes> },
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
    let notes = Notes::new(connection);
    let (writing, primary) = Writing::start_transaction(connection, &notes).await?;
    let inner = writing.looked_at(begin_on(primary, options).await)?;
    Ok(RoutedTransaction { inner, ending: Ending::Write { until: writing, notes } })
}

async fn begin_read(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    let cluster = connection.cluster();
    let mut lane = Lane::plan(connection, &cluster.reach_of_transaction()).await?;
    let mut last_error = None;
    while let Some(attempt) = lane.next(cluster) {
        let id = attempt.guard.endpoint();
        let Some(pool) = cluster.pool(id, attempt.role) else {
            break;
        };
        explain::trace(connection, id, READ_ONLY);
        match attempt.unless_hung(cluster, begin_on(pool, options)).await {
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

/// Begins on a connection of `pool`, to the end even if the caller gives up.
///
/// sqlx counts a transaction of PostgreSQL and MySQL only once its BEGIN is answered. One that
/// is given up on before, because its server hangs or its future is dropped, goes back to the
/// pool and is begun later all the same. Then nobody ends it: writes on that connection would
/// never be committed, and reads could see an old snapshot. (SQLite's driver looks after itself.)
async fn begin_on(
    pool: &DatabaseConnection,
    options: TransactionOptions,
) -> Result<DatabaseTransaction, DbErr> {
    if pool.get_database_backend() == DbBackend::Sqlite {
        return pool.begin_with_options(options).await;
    }
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with_options(options).await }).await;
    begun.unwrap_or_else(|ended| Err(DbErr::Custom(format!("BEGIN was not carried out: {ended}"))))
}

impl RoutedTransaction {
    /// A transaction inside another one.
    fn nested(&self, inner: DatabaseTransaction) -> Self {
        RoutedTransaction { inner, ending: Ending::Nested(self.ending.notes().cloned()) }
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
        if let Ending::Write { until, .. } = &ending {
            until.ending();
        }
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

    /// SeaORM's own, for statements that were noted.
    pub(crate) fn inner(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// Takes note of a statement, which stays where the transaction was begun.
    pub(crate) fn note(&self, sql: &str) {
        if let Some(notes) = self.ending.notes() {
            notes.statement(sql);
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

    /// What is known of the outermost transaction, if it writes.
    fn notes(&self) -> Option<&Arc<Notes>> {
        match self {
            Ending::Nested(notes) => notes.as_ref(),
            Ending::Write { notes, .. } => Some(notes),
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
        if let Some(notes) = self.ending.notes() {
            notes.unseen();
        }
        &self.inner
    }
}

impl fmt::Debug for RoutedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.ending.place();
        f.debug_struct("RoutedTransaction").field("place", &place).finish_non_exhaustive()
    }
}
