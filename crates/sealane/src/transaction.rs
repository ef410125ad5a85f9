//! Transactions: whole on the primary, or read-only on one replica.

mod place;
mod stream;
mod traits;

use std::{
    fmt,
    ops::Deref,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, TransactionError, TransactionOptions,
};
use sealane_core::Lent;

use crate::{
    RoutedConnection, ahead,
    execute::{Attempt, Begin, Notes, PrimaryWait, ReadExecution, What, Writing},
    explain, failover,
};
use place::Place;

pub use stream::RoutedTransactionStream;

/// A transaction on the endpoint where it was begun.
///
/// It dereferences to SeaORM's `DatabaseTransaction`, so that code written for
/// that type takes a reference to this one. The session is stamped when the
/// transaction ends, whatever ran inside. Statements through that reference are not
/// looked at, and may have written any table: after a change of the schema say
/// [`note_schema_change`](RoutedConnection::note_schema_change).
///
/// Dropped without [`commit`](Self::commit), it is rolled back.
///
/// # Errors
/// If the server is replaced or restarted while the transaction is open, its statements fail with
/// [`Error::TransactionLost`](crate::Error::TransactionLost), and nothing of it is committed.
pub struct RoutedTransaction {
    // First: it is rolled back before the place below lets go.
    inner: DatabaseTransaction,
    /// From when it is used as SeaORM's own type.
    lent: OnceLock<Lent>,
    /// Shared with the transactions inside.
    place: Arc<Place>,
    /// Whether another transaction is around it, which decides.
    is_nested: bool,
}

/// What traces call the beginning of a read-only transaction.
const READ_ONLY: &str = "BEGIN READ ONLY";

/// Begins a transaction where it belongs.
pub(crate) async fn begin(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<RoutedTransaction, DbErr> {
    let (inner, place) = match may_leave_primary(connection, options) {
        true => begin_read(connection, options).await?,
        false => begin_write(connection, options).await?,
    };
    let (lent, place) = (OnceLock::new(), Arc::new(place));
    Ok(RoutedTransaction { inner, lent, place, is_nested: false })
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
) -> Result<(DatabaseTransaction, Place), DbErr> {
    failover::seen(connection).await;
    ahead::overtaken(connection, None).await;
    let notes = Notes::new(connection);
    let begun = |attempt: &Attempt| explain::trace(connection, attempt.endpoint(), "BEGIN");
    let mut wait = PrimaryWait::default();
    let (attempt, inner) = wait.open(connection.cluster(), &Begin(options), begun).await?;
    let writing = Writing::new(connection, attempt, What::Transaction(Arc::clone(&notes)));
    Ok((inner, Place::Write { writing, notes }))
}

async fn begin_read(
    connection: &RoutedConnection,
    options: TransactionOptions,
) -> Result<(DatabaseTransaction, Place), DbErr> {
    let reach = connection.cluster().reach_of_transaction();
    let mut read = ReadExecution::plan(connection, &reach).await?;
    loop {
        let (attempt, inner) = read.open(&Begin(options), READ_ONLY).await?;
        // Its connection leads to the run that was planned, and stays there.
        if read.served(&attempt) {
            return Ok((inner, Place::Read { read: Box::new(read), attempt }));
        }
    }
}

impl RoutedTransaction {
    /// A transaction inside this one.
    fn nested(&self, inner: DatabaseTransaction) -> Self {
        let (lent, place) = (OnceLock::new(), Arc::clone(&self.place));
        RoutedTransaction { inner, lent, place, is_nested: true }
    }

    /// Commits.
    ///
    /// # Errors
    /// SeaORM's; or [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown) if the answer was lost,
    /// or another server had become the primary by then. It is never tried again.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the outcome unknown; the session counts
    /// it as written.
    pub async fn commit(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, place, is_nested, .. } = self;
        match is_nested {
            true => place.within(inner.commit()).await,
            false => place.commit(inner).await,
        }
    }

    /// Rolls back.
    ///
    /// # Errors
    /// SeaORM's.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let RoutedTransaction { inner, place, .. } = self;
        place.within(inner.rollback()).await
    }

    /// SeaORM's own, for statements that are noted.
    pub(crate) fn inner(&self) -> &DatabaseTransaction {
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

impl Deref for RoutedTransaction {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        self.lent.get_or_init(|| self.place.lend());
        &self.inner
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
