//! Transactions: whole on the primary, or read-only on one replica.

mod place;
mod stream;
mod traits;

use std::{
    fmt,
    ops::Deref,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, TransactionError, TransactionOptions,
};
use sealane_core::Lent;
use tracing::Instrument;

use crate::{
    caller::Caller,
    execute::{Attempt, Begin, Notes, PrimaryWait, ReadExecution, What, Writing, ahead, failover},
    observe::{
        Metric,
        span::{self, Why},
    },
    pool::Begun,
};
use place::{Kind, Place};

pub use stream::RoutedTransactionStream;

/// A transaction on the endpoint where it began.
///
/// It dereferences to SeaORM's `DatabaseTransaction`, so that code written for that type accepts a
/// reference to this one. The session is stamped when the transaction ends, whatever ran inside.
/// sealane does not see statements sent through that reference and assumes that they may have
/// written any table. After a schema change through it, call
/// [`note_schema_change`](crate::RoutedConnection::note_schema_change).
///
/// If dropped without [`commit`](Self::commit), the transaction is rolled back.
///
/// # Errors
/// If the server is replaced or restarted while the transaction is open, its statements fail with
/// [`Error::TransactionLost`](crate::Error::TransactionLost), and nothing is committed. They also do
/// after a nested transaction that did not begin, or whose beginning was given up: then the driver
/// rolls back all of it.
pub struct RoutedTransaction {
    // This field comes first, so that the transaction is rolled back before `place` is dropped.
    inner: Begun,
    /// Set once the transaction is used as SeaORM's own type.
    lent: OnceLock<Lent>,
    /// Shared with the nested transactions.
    place: Arc<Place>,
    /// Whether the transaction is nested; then the outermost one decides about the commit.
    is_nested: bool,
    metric: Metric,
}

/// The text in traces for the beginning of a read-only transaction.
pub(crate) const READ_ONLY: &str = "BEGIN READ ONLY";

/// The same for any other transaction.
const BEGIN: &str = "BEGIN";

/// Begins a transaction on the right endpoint.
pub(crate) async fn begin(
    caller: &Caller,
    metric: Metric,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    let options = caller.cluster().begins(options);
    let reads = may_leave_primary(caller, options);
    let span = span::open(caller.cluster(), if reads { READ_ONLY } else { BEGIN });
    let beginning = async {
        match reads {
            true => begin_read(caller, options).await,
            false => begin_write(caller, options).await,
        }
    };
    let begun = beginning.instrument(span.clone()).await;
    span::ended(&span, &begun);
    let (inner, place) = begun?;
    let (lent, place) = (OnceLock::new(), Arc::new(place));
    Ok(RoutedTransaction { inner, lent, place, is_nested: false, metric })
}

/// A standby refuses SERIALIZABLE, and with a single endpoint there is no choice.
fn may_leave_primary(caller: &Caller, options: TransactionOptions) -> bool {
    options.access_mode == Some(AccessMode::ReadOnly)
        && options.isolation_level != Some(IsolationLevel::Serializable)
        && caller.cluster().classifier.is_some()
}

async fn begin_write(
    caller: &Caller,
    options: TransactionOptions,
) -> Result<(Begun, Place), DbErr> {
    failover::seen(caller).await;
    let held = ahead::held_by_primary(caller).await;
    let notes = Notes::new(caller);
    let begun = |attempt: &Attempt, earlier| attempt.trace(caller, BEGIN, Why::Write, earlier);
    let mut wait = PrimaryWait::default();
    let (attempt, inner) = wait.open(caller.cluster(), &Begin(options), begun).await?;
    let writing = Writing::new(caller, attempt, What::Transaction(Arc::clone(&notes)), held);
    Ok((inner, Kind::Write { writing, notes }.into()))
}

async fn begin_read(caller: &Caller, options: TransactionOptions) -> Result<(Begun, Place), DbErr> {
    let route = caller.route_of_transaction();
    caller.shadow_transaction(&route);
    let mut read = ReadExecution::plan(caller, route).await?;
    loop {
        let (attempt, inner) = read.open(&Begin(options), READ_ONLY).await?;
        // The connection leads to the planned run and stays there.
        if read.served(&attempt) {
            return Ok((inner, Kind::Read { read: Box::new(read), attempt }.into()));
        }
    }
}

impl RoutedTransaction {
    /// A nested transaction.
    fn nested(&self, inner: Begun) -> Self {
        let (lent, place) = (OnceLock::new(), Arc::clone(&self.place));
        RoutedTransaction { inner, lent, place, is_nested: true, metric: self.metric.clone() }
    }

    /// Commits.
    ///
    /// # Errors
    /// SeaORM's errors, or [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown) if the answer
    /// was lost or another server had become the primary. A commit is never tried again. On
    /// PostgreSQL, a transaction that an error has aborted cannot be committed, and this says so.
    /// (SeaORM's own transaction reports a success. An error of a statement that sealane does not see
    /// is not known.)
    ///
    /// # Cancel safety
    /// Dropping the future may leave the outcome unknown; the session then assumes that it has
    /// written.
    pub async fn commit(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, place, is_nested, .. } = self;
        match is_nested {
            true => place.traced("RELEASE SAVEPOINT", place.within(inner.commit())).await,
            false => place.traced("COMMIT", place.commit(inner)).await,
        }
    }

    /// Rolls back.
    ///
    /// # Errors
    /// SeaORM's errors.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, place, is_nested, .. } = self;
        match is_nested {
            true => place.traced("ROLLBACK TO SAVEPOINT", place.undo(inner)).await,
            false => place.traced("ROLLBACK", place.rollback(inner)).await,
        }
    }

    /// SeaORM's own transaction, for somebody who ends it. The session counts as one that writes for
    /// the next `time`.
    pub(crate) fn give_away(self, time: Duration) -> DatabaseTransaction {
        let RoutedTransaction { inner, place, .. } = self;
        place.expect_writes(time);
        inner.into_driver()
    }

    /// The transaction itself, for statements that sealane records.
    pub(crate) fn inner(&self) -> &Begun {
        &self.inner
    }

    /// Runs `callback` and ends the transaction as it says.
    pub(crate) async fn call<F, T, E>(self, callback: F) -> Result<T, TransactionError<E>>
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
    pub(crate) async fn call_async<F, T, E>(self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c RoutedTransaction) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let result = callback(&self).await;
        self.end_with(result).await
    }

    pub(crate) async fn end_with<T, E>(self, result: Result<T, E>) -> Result<T, TransactionError<E>>
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

impl Deref for RoutedTransaction {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        self.lent.get_or_init(|| self.place.lend());
        self.inner.driver()
    }
}

impl fmt::Debug for RoutedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedTransaction")
            .field("place", &self.place.name())
            .field("is_nested", &self.is_nested)
            .finish_non_exhaustive()
    }
}
