//! Endpoints that come, go, and are drained while the application runs.

use crate::{ConnectError, EndpointError, Replica, RoutedConnection, connect::check_replica};

impl RoutedConnection {
    /// Adds a replica while statements run, for every handle: a URL, SeaORM's `ConnectOptions`, or
    /// a [`Replica`] with a name and more, as for [`Config::replica`](crate::Config::replica). One
    /// without a name is called by its host.
    ///
    /// Returns when the replica has answered once, and for a moment more until its data are proved.
    /// A replica that does not answer in time is no error: it joins when it comes up. A server that
    /// turns out to be the primary takes the writes if its claim is believed, as with those that are
    /// configured. Statements never wait for an addition.
    ///
    /// # Errors
    /// The replica is not valid: see [`ConnectError`], which also tells a name that is taken, more
    /// than 64 endpoints, and a connection that was made for one server or for a file
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

    /// Sends no new statements to the endpoint of this name, and waits until no statement, stream
    /// or transaction of this process runs there. For maintenance of a server: it is probed as
    /// before, and [`undrain`](Self::undrain) brings it back. There is no limit to the wait; put a
    /// `tokio::time::timeout` around it if you want one.
    ///
    /// Draining the *primary* is the first half of a planned switchover: writes, and reads that
    /// need the primary, wait for up to [`Config::primary_wait`](crate::Config::primary_wait) until
    /// another primary is seen, or until the draining ends. What is promoted then takes over; the
    /// old primary stays drained, also as a replica.
    ///
    /// What runs over SeaORM's own connection ([`primary`](Self::primary), [`reader`](Self::reader),
    /// a transaction that was turned into a `DatabaseExecutor`) is neither held back nor waited
    /// for. Other processes are not told. Whoever uses a handle beside an open transaction of its own
    /// on a drained primary waits for the next primary, while the drain waits for that transaction.
    ///
    /// # Errors
    /// There is no such endpoint, the connection has fixed endpoints, or its draining was ended meanwhile.
    ///
    /// # Cancel safety
    /// If the future is dropped, the endpoint goes on being drained.
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
    /// first, for up to 30 seconds. What runs there for longer is cut off: a read runs elsewhere, a
    /// transaction is lost, and of a write nobody knows whether it was carried out. Drain it yourself first if you want to wait longer.
    ///
    /// Sessions and tokens that have read or written there stay right: what they have seen is
    /// proved of other endpoints, or they wait. What was known *against* a server is forgotten with
    /// it: do not remove and add again a replica that holds what a failover or a crash has lost. If the primary is removed, there is none until
    /// another endpoint says that it is the primary.
    ///
    /// # Errors
    /// There is no such endpoint, it is the last one, or its draining was ended meanwhile.
    ///
    /// # Cancel safety
    /// One endpoint is removed at a time. If the future is dropped, the endpoint is removed, goes on
    /// being drained, or is as it was if another removal or addition was under way.
    pub async fn remove(&self, name: &str) -> Result<(), EndpointError> {
        Box::pin(self.cluster().remove(name)).await
    }
}
