//! Adding, removing and draining endpoints while the application runs.

use crate::{ConnectError, EndpointError, Replica, RoutedConnection, connect::check_replica};

impl RoutedConnection {
    /// Adds a replica while statements run, for every handle: a URL, SeaORM's `ConnectOptions`, or
    /// a [`Replica`] with a name and other settings, as for
    /// [`Config::replica`](crate::Config::replica). A replica without a name is named after its
    /// host.
    ///
    /// Returns after the replica's first answer, and a moment more until its data are proved. A
    /// replica that does not answer in time is not an error: it joins when it comes up. A server
    /// that turns out to be the primary gets the writes if its claim is believed, like a configured
    /// one. Statements never wait for an addition.
    ///
    /// # Errors
    /// The replica is not valid: see [`ConnectError`]. This includes a name that is taken, more
    /// than 64 endpoints, and a connection that was made for a single server or for a file
    /// ([`ConnectError::FixedEndpoints`]).
    ///
    /// # Cancel safety
    /// The replica is either added as a whole or not at all.
    pub async fn add_replica(&self, replica: impl Into<Replica>) -> Result<(), ConnectError> {
        let cluster = self.cluster();
        let (replica, endpoint) =
            check_replica(replica.into(), &cluster.store().topology(), cluster.engine)?;
        // Boxed, as for `connect`.
        Box::pin(cluster.add(&replica, endpoint)).await
    }

    /// Stops sending new statements to the endpoint of this name, and waits until no statement,
    /// stream or transaction of this process runs there. This is for a server's maintenance: the
    /// endpoint is still probed, and [`undrain`](Self::undrain) brings it back. The wait has no
    /// limit; use `tokio::time::timeout` if you want one.
    ///
    /// Draining the *primary* is the first half of a planned switchover: writes, and reads that
    /// need the primary, wait for up to [`Config::primary_wait`](crate::Config::primary_wait) until
    /// another primary is seen, or until the draining ends. The promoted server then takes over.
    /// The old primary stays drained, also as a replica.
    ///
    /// Statements through SeaORM's own connection ([`primary`](Self::primary),
    /// [`reader`](Self::reader), a transaction that was turned into a `DatabaseExecutor`) are
    /// neither held back nor waited for. Other processes are not informed. If code with an open
    /// transaction on a drained primary also uses a handle outside that transaction, this use waits
    /// for the next primary, while the drain waits for the transaction.
    ///
    /// # Errors
    /// There is no such endpoint, the connection has fixed endpoints, or somebody ended the
    /// draining in the meantime.
    ///
    /// # Cancel safety
    /// If the future is dropped, the endpoint continues to be drained.
    pub async fn drain(&self, name: &str) -> Result<(), EndpointError> {
        let id = self.cluster().endpoint(name)?;
        self.cluster().drain(id).await
    }

    /// Ends the draining of an endpoint: it gets statements again.
    ///
    /// # Errors
    /// There is no such endpoint, or the connection has fixed endpoints.
    pub fn undrain(&self, name: &str) -> Result<(), EndpointError> {
        let id = self.cluster().endpoint(name)?;
        self.cluster().store().set_draining(id, false);
        Ok(())
    }

    /// Removes an endpoint, with its pools and its probe. The endpoint is [drained](Self::drain)
    /// first, for up to 30 seconds. Statements that run there for longer are cut off: a read runs
    /// elsewhere, a transaction is lost, and the outcome of a write is unknown. To wait longer,
    /// drain the endpoint yourself first.
    ///
    /// Sessions and tokens that have read or written there stay correct: what they have seen is
    /// proved on other endpoints, or they wait. What was known *against* a server is forgotten with
    /// it: do not remove and re-add a replica that has transactions that were lost in a failover or
    /// crash. If the primary is removed, there is no primary until another endpoint says that it is
    /// the primary. On PostgreSQL, a primary that was restarted before it is added again cannot be
    /// told from another server that was promoted: replicas are not used until they are restarted.
    ///
    /// # Errors
    /// There is no such endpoint, it is the last one, or somebody ended its draining in the
    /// meantime.
    ///
    /// # Cancel safety
    /// One endpoint is removed at a time. If the future is dropped, the endpoint is removed,
    /// continues to be drained, or is unchanged if another removal or addition was under way.
    pub async fn remove(&self, name: &str) -> Result<(), EndpointError> {
        Box::pin(self.cluster().remove(name)).await
    }
}
