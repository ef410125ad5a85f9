//! What an attempt begins with: something that may be tried elsewhere at no risk.

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, TransactionOptions, TransactionTrait,
};

use crate::pool::Line;

/// The first step of an attempt. Whatever becomes of it, nothing was written.
pub(crate) trait Opening: Sync {
    type Output: Send;

    fn on(
        &self,
        pool: &DatabaseConnection,
    ) -> impl Future<Output = Result<Self::Output, DbErr>> + Send;
}

/// A connection for a statement or a stream.
pub(crate) struct TakeLine;

/// The beginning of a transaction.
pub(crate) struct Begin(pub(crate) TransactionOptions);

impl Opening for TakeLine {
    type Output = Line;

    async fn on(&self, pool: &DatabaseConnection) -> Result<Line, DbErr> {
        Line::take(pool).await
    }
}

impl Opening for Begin {
    type Output = DatabaseTransaction;

    /// Begins, to the end even if the caller gives up.
    ///
    /// sqlx counts a transaction of PostgreSQL and MySQL only once its BEGIN is answered. One that
    /// is given up on before, because its server hangs or its future is dropped, goes back to the
    /// pool and is begun later all the same. Then nobody ends it: writes on that connection would
    /// never be committed, and reads could see an old snapshot. (SQLite's driver looks after
    /// itself.)
    async fn on(&self, pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
        let Begin(options) = *self;
        if pool.get_database_backend() == DbBackend::Sqlite {
            return pool.begin_with_options(options).await;
        }
        let pool = pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with_options(options).await }).await;
        begun.unwrap_or_else(|ended| {
            Err(DbErr::Custom(format!("BEGIN was not carried out: {ended}")))
        })
    }
}
