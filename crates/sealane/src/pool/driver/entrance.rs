//! Which new connections a pool takes.

use std::sync::Arc;

use futures_util::FutureExt;
use sea_orm::sqlx::{Connection, Error};
use sealane_core::EndpointId;
use sealane_monitor::{Admission, RunGuard, TopologyStore};
use tokio::task::unconstrained;

use super::{Access, Driver, Hook, Options};

/// Looks at each new connection of one pool.
pub(super) struct Entrance<DB: Driver> {
    pub(super) store: Arc<TopologyStore>,
    pub(super) endpoint: EndpointId,
    pub(super) connect: Options<DB>,
    pub(super) settings: DB::Settings,
    pub(super) hook: Arc<Hook<DB>>,
    pub(super) access: Access,
    /// `None` for the plain pool, which is never replaced.
    pub(super) generation: Option<u64>,
}

impl<DB: Driver> Entrance<DB> {
    /// A new connection, prepared.
    ///
    /// # Errors
    /// The server cannot be reached, or as [`Entrance::admit`].
    pub(super) async fn open(&self) -> Result<DB::Connection, Error> {
        let mut connection = DB::Connection::connect_with(&self.connect).await?;
        self.admit(&mut connection).await?;
        Ok(connection)
    }

    /// Prepares a connection. After an error, the pool closes it and tries again until its time is
    /// up, and does not say why it failed.
    ///
    /// # Errors
    /// The connection is not to be used, or cannot be prepared.
    pub(super) async fn admit(&self, connection: &mut DB::Connection) -> Result<(), Error> {
        let admitted = self.prepare(connection).await;
        if admitted.is_err() {
            leave_an_answer(connection);
        }
        admitted
    }

    async fn prepare(&self, connection: &mut DB::Connection) -> Result<(), Error> {
        let (store, endpoint) = (&self.store, self.endpoint);
        self.hook.run(connection, &self.connect, &self.settings).await?;
        let generation = self.generation.unwrap_or_else(|| store.generation(endpoint));
        let incarnation = DB::set_up(connection, self.access, &self.settings)
            .await
            .inspect_err(|_| _ = store.probe_anew(endpoint))?;
        let guard = RunGuard::new(Arc::clone(store), endpoint, generation);
        match (guard.admit(&incarnation).await, self.access) {
            _ if self.is_plain() && store.topology().primary() != Some(endpoint) => {
                Err(Error::Protocol("this endpoint is not the primary now".into()))
            }
            // Writes go on even if no probe can reach the server.
            (Admission::Known, _) | (Admission::Unobserved, Access::Writes) => Ok(()),
            // Nothing is proved about the data that it would read, or another run answers there
            // now.
            (Admission::Unobserved, Access::Reads) | (Admission::Replaced, _) => {
                Err(Error::Protocol(
                    "this connection does not lead to the server run that the monitor knows".into(),
                ))
            }
        }
    }

    fn is_plain(&self) -> bool {
        self.generation.is_none()
    }
}

/// Asks the server something, and leaves the answer unread. With TLS (rustls in sqlx 0.9), closing
/// reads if there is nothing to send. Without this, it would wait until the server says something,
/// which the server does not do by itself.
fn leave_an_answer<C: Connection>(connection: &mut C) {
    // Unconstrained: the first poll sends, and must not be put off. An answer that came at once was
    // read. After an error, closing waits for nothing.
    while let Some(Ok(())) = unconstrained(connection.ping()).now_or_never() {}
}
