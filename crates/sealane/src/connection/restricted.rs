//! SeaORM's role-based access control: who may run which statement, in addition to where it runs.
//!
//! SeaORM's `RestrictedConnection` holds the concrete connection type, so its statements would not
//! be routed. SeaORM still decides by its own rules: a SeaORM connection that leads nowhere holds
//! the rules and judges each statement, which then runs through the routed connection. (Rejected:
//! judging with SeaORM's rule engine ourselves. If SeaORM changed a rule, our copy would be wrong.)

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StatementBuilder, TransactionError, TransactionOptions, TransactionSession,
    TransactionTrait,
    rbac::{RbacEngine, RbacUserId},
};

use crate::{RoutedConnection, RoutedTransaction};

/// A connection or a transaction that executes what one user may do, and refuses everything else
/// with SeaORM's [`DbErr::AccessDenied`]. Statements as text are refused with [`DbErr::RbacError`],
/// as SeaORM does.
#[derive(Clone)]
pub struct Restricted<C> {
    rules: sea_orm::RestrictedConnection,
    inner: C,
}

/// A routed connection for one user, made by [`RoutedConnection::restricted_for`].
pub type RestrictedConnection = Restricted<RoutedConnection>;

/// A transaction for one user.
pub type RestrictedTransaction = Restricted<RoutedTransaction>;

impl RoutedConnection {
    /// Loads the access rules from the primary, for this handle and all handles made from the same
    /// connection. The new rules replace those loaded before.
    ///
    /// # Errors
    /// The tables with the rules cannot be read, or the rules contradict each other.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the rules unchanged.
    pub async fn load_rbac(&self) -> Result<(), DbErr> {
        self.load_rbac_from(self.primary()).await
    }

    /// Loads the access rules from any database.
    ///
    /// # Errors
    /// Like [`load_rbac`](Self::load_rbac).
    pub async fn load_rbac_from(&self, db: &sea_orm::DatabaseConnection) -> Result<(), DbErr> {
        self.replace_rbac(RbacEngine::load_from(db).await?);
        Ok(())
    }

    /// Replaces the access rules.
    pub fn replace_rbac(&self, engine: RbacEngine) {
        self.access_rules().replace_rbac(engine);
    }

    /// This handle for one user, whose statements are judged before they run. The session stays the
    /// same: give each user a separate one with [`session`](Self::session) first.
    ///
    /// # Errors
    /// No rules were loaded.
    pub fn restricted_for(&self, user: RbacUserId) -> Result<RestrictedConnection, DbErr> {
        let rules = self.access_rules().restricted_for(user)?;
        Ok(Restricted { rules, inner: self.clone() })
    }
}

impl<C> Restricted<C> {
    /// SeaORM's view of the rules for this user: what may be done, and by which roles. Statements
    /// sent through it fail, because it is connected to nothing.
    #[must_use]
    pub fn rules(&self) -> &sea_orm::RestrictedConnection {
        &self.rules
    }

    /// The user.
    #[must_use]
    pub fn user_id(&self) -> RbacUserId {
        self.rules.user_id()
    }

    fn with<D>(&self, inner: D) -> Restricted<D> {
        Restricted { rules: self.rules.clone(), inner }
    }
}

fn raw() -> DbErr {
    DbErr::RbacError("a statement as text is not supported: nobody can tell what it does".into())
}

#[async_trait]
impl<C: ConnectionTrait> ConnectionTrait for Restricted<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, _: Statement) -> Result<ExecResult, DbErr> {
        Err(raw())
    }

    async fn execute<S: StatementBuilder>(&self, builder: &S) -> Result<ExecResult, DbErr> {
        self.rules.user_can_run(builder)?;
        self.inner.execute(builder).await
    }

    async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
        Err(raw())
    }

    async fn query_one_raw(&self, _: Statement) -> Result<Option<QueryResult>, DbErr> {
        Err(raw())
    }

    async fn query_one<S: StatementBuilder>(
        &self,
        builder: &S,
    ) -> Result<Option<QueryResult>, DbErr> {
        self.rules.user_can_run(builder)?;
        self.inner.query_one(builder).await
    }

    async fn query_all_raw(&self, _: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Err(raw())
    }

    async fn query_all<S: StatementBuilder>(&self, builder: &S) -> Result<Vec<QueryResult>, DbErr> {
        self.rules.user_can_run(builder)?;
        self.inner.query_all(builder).await
    }

    fn support_returning(&self) -> bool {
        self.inner.support_returning()
    }
}

#[async_trait]
impl<C: TransactionTrait<Transaction = RoutedTransaction> + Sync> TransactionTrait
    for Restricted<C>
{
    type Transaction = RestrictedTransaction;

    async fn begin(&self) -> Result<RestrictedTransaction, DbErr> {
        Ok(self.with(self.inner.begin().await?))
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<RestrictedTransaction, DbErr> {
        Ok(self.with(self.inner.begin_with_config(isolation_level, access_mode).await?))
    }

    async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<RestrictedTransaction, DbErr> {
        Ok(self.with(self.inner.begin_with_options(options).await?))
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c RestrictedTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let transaction = self.begin().await?;
        let result = callback(&transaction).await;
        transaction.inner.end_with(result).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c RestrictedTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let transaction = self.begin_with_config(isolation_level, access_mode).await?;
        let result = callback(&transaction).await;
        transaction.inner.end_with(result).await
    }
}

impl RestrictedTransaction {
    /// Commits, like [`RoutedTransaction::commit`].
    ///
    /// # Errors
    /// Like those of [`RoutedTransaction::commit`].
    pub async fn commit(self) -> Result<(), DbErr> {
        self.inner.commit().await
    }

    /// Rolls back, like [`RoutedTransaction::rollback`].
    ///
    /// # Errors
    /// Like those of [`RoutedTransaction::rollback`].
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.inner.rollback().await
    }
}

#[async_trait]
impl TransactionSession for RestrictedTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.inner.commit().await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.inner.rollback().await
    }
}

impl<C: fmt::Debug> fmt::Debug for Restricted<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Restricted");
        shown.field("user_id", &self.user_id()).field("inner", &self.inner).finish()
    }
}
