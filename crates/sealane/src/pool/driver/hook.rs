//! The application's own hook for new connections.
//!
//! SeaORM passes the driver's `PoolOptions` through a function of the application
//! (`map_sqlx_mysql_pool_opts`, `map_sqlx_postgres_pool_opts`), which may set `after_connect`. A
//! pool has one such hook, and our hook is needed on each connection. The driver has no getter for
//! the application's hook. But a pool made from the application's options runs it. So if there is
//! such a hook, each new connection is exchanged for one from such a pool, and the first connection
//! is closed. The application's hook runs first and ours after it, so that the application's hook
//! cannot make a reading session write.
//!
//! The first connection of an endpoint finds out whether there is a hook: it opens another
//! connection with the application's pool, and asks the server whether anything was sent on that. A
//! hook that sends nothing is not found, and does not run. (Rejected: exchanging all connections of
//! all applications. This doubles the cost of connecting for a hook that few applications have.
//! Rejected: running the hook against a listener of ours, where it would fail and report this.)

use std::mem;

use sea_orm::sqlx::{self, pool::PoolOptions};
use tokio::sync::OnceCell;

use super::{Driver, Options};
use crate::pool::lent::leave;

/// The hook of one endpoint's options, if there is one.
pub(crate) struct Hook<DB: Driver> {
    theirs: PoolOptions<DB>,
    /// The name of the connection that finds out, on a server that many processes use.
    name: String,
    is_set: OnceCell<bool>,
}

impl<DB: Driver> Hook<DB> {
    /// The hook of the application's options. `number` is unique among all processes.
    pub(crate) fn of(theirs: PoolOptions<DB>, number: u64) -> Self {
        // For one connection, which leaves the pool at once.
        let theirs = theirs
            .min_connections(0)
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false);
        Hook { theirs, name: format!("sealane hook {number:x}"), is_set: OnceCell::new() }
    }

    /// If there is an application's hook, exchanges a new connection, made with `connect`, for one
    /// on which the hook has run.
    ///
    /// # Errors
    /// The error of the server or the hook.
    pub(crate) async fn run(
        &self,
        connection: &mut DB::Connection,
        connect: &Options<DB>,
        settings: &DB::Settings,
    ) -> Result<(), sqlx::Error> {
        let first = &mut *connection;
        match self.is_set.get_or_try_init(move || self.find(first, connect, settings)).await {
            Ok(true) => {}
            // The server accepts no second connection now, so the next connection finds out.
            Ok(false) | Err(sqlx::Error::Database(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let plain = mem::replace(connection, self.open(connect).await?);
        leave(plain);
        Ok(())
    }

    async fn find(
        &self,
        connection: &mut DB::Connection,
        connect: &Options<DB>,
        settings: &DB::Settings,
    ) -> Result<bool, sqlx::Error> {
        let mut theirs = self.open(&DB::named(connect, &self.name)).await?;
        let is_used = DB::is_used(connection, &mut theirs, &self.name, settings).await;
        leave(theirs);
        is_used
    }

    async fn open(&self, connect: &Options<DB>) -> Result<DB::Connection, sqlx::Error> {
        let pool = self.theirs.clone().connect_lazy_with(connect.clone());
        Ok(pool.acquire().await?.detach())
    }
}
