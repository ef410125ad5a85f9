//! A transaction that has begun, on the connection that it occupies.

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbErr, ExecResult, QueryResult, Statement,
    TransactionOptions, TransactionTrait,
};

/// SeaORM's own transaction, or one on a simulator's connection.
pub(crate) enum Begun {
    Driver(DatabaseTransaction),
    #[cfg(feature = "assembly")]
    Simulated(super::simulated::Transaction),
}

impl Begun {
    /// SeaORM's own type. For a simulated transaction it is connected to nothing.
    pub(crate) fn driver(&self) -> &DatabaseTransaction {
        match self {
            Begun::Driver(transaction) => transaction,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.stand_in(),
        }
    }

    /// SeaORM's own type, for a caller who ends the transaction.
    pub(crate) fn into_driver(self) -> DatabaseTransaction {
        match self {
            Begun::Driver(transaction) => transaction,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.into_stand_in(),
        }
    }

    pub(crate) async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.execute_raw(statement).await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.execute(&statement).await,
        }
    }

    pub(crate) async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.execute_unprepared(sql).await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => {
                let backend = self.driver().get_database_backend();
                transaction.execute(&Statement::from_string(backend, sql)).await
            }
        }
    }

    pub(crate) async fn query_one_raw(
        &self,
        statement: Statement,
    ) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.query_one_raw(statement).await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => {
                Ok(transaction.query(&statement).await?.into_iter().next())
            }
        }
    }

    pub(crate) async fn query_all_raw(
        &self,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.query_all_raw(statement).await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.query(&statement).await,
        }
    }

    /// Begins a nested transaction.
    pub(crate) async fn begin(&self, options: TransactionOptions) -> Result<Begun, DbErr> {
        self.driver().begin_with_options(options).await.map(Begun::Driver)
    }

    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.commit().await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.end("COMMIT").await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), DbErr> {
        match self {
            Begun::Driver(transaction) => transaction.rollback().await,
            #[cfg(feature = "assembly")]
            Begun::Simulated(transaction) => transaction.end("ROLLBACK").await,
        }
    }
}
