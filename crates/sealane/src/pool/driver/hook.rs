//! The application's own hook of new connections.
//!
//! SeaORM passes the driver's `PoolOptions` through a function of the application's
//! (`map_sqlx_mysql_pool_opts`, `map_sqlx_postgres_pool_opts`), which may set `after_connect`. A pool
//! has one such hook, and ours is needed on each connection. The driver has no getter for theirs. But
//! a pool that is made from the application's options runs it. So if there is a hook, each new
//! connection is exchanged for one that comes from such a pool, and the first one is closed. Their
//! hook runs first and ours behind it, so that theirs cannot make a reading session write.
//!
//! Whether there is a hook, the first connection of an endpoint finds out: it opens one more by the
//! application's pool, and asks the server whether anything was sent on that. A hook that sends
//! nothing is not found, and does not run. (Rejected: to exchange all connections of all
//! applications, which doubles the cost of connecting for a hook that few have; to run the hook
//! against a listener of ours, where it would fail and say so.)

use std::{mem, time::Duration};

use sea_orm::sqlx::{self, Connection, pool::PoolOptions};
use tokio::sync::OnceCell;

use super::{Driver, Options};

/// Time for saying goodbye to a connection that is exchanged.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The hook of one endpoint's options, if there is one.
pub(crate) struct Hook<DB: Driver> {
    theirs: PoolOptions<DB>,
    /// What the connection that finds out is called, on a server that many processes use.
    name: String,
    is_set: OnceCell<bool>,
}

impl<DB: Driver> Hook<DB> {
    /// Of the application's options. `number` is one that no other process has drawn.
    pub(crate) fn of(theirs: PoolOptions<DB>, number: u64) -> Self {
        // For one connection, which leaves it at once.
        let theirs = theirs
            .min_connections(0)
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false);
        Hook { theirs, name: format!("sealane hook {number:x}"), is_set: OnceCell::new() }
    }

    /// Exchanges a new connection, made with `connect`, for one on which the application's hook has
    /// run, if there is one.
    ///
    /// # Errors
    /// What the server or the hook says.
    pub(crate) async fn run(
        &self,
        connection: &mut DB::Connection,
        connect: &Options<DB>,
        settings: &DB::Settings,
    ) -> Result<(), sqlx::Error> {
        let first = &mut *connection;
        match self.is_set.get_or_try_init(move || self.find(first, connect, settings)).await {
            Ok(true) => {}
            // The server takes no second connection now: the next one finds out.
            Ok(false) | Err(sqlx::Error::Database(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let plain = mem::replace(connection, self.open(connect).await?);
        close::<DB>(plain);
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
        close::<DB>(theirs);
        is_used
    }

    async fn open(&self, connect: &Options<DB>) -> Result<DB::Connection, sqlx::Error> {
        let pool = self.theirs.clone().connect_lazy_with(connect.clone());
        Ok(pool.acquire().await?.detach())
    }
}

/// Nobody waits for it.
fn close<DB: Driver>(connection: DB::Connection) {
    tokio::spawn(tokio::time::timeout(CLOSE_LIMIT, connection.close()));
}
