//! One attempt of something on one endpoint, and what ends its waits.

use std::sync::Arc;

use sea_orm::DbErr;
use sealane_core::{EndpointId, EndpointState, Failure, InFlight, Moment, Role, Server};
use sealane_monitor::{Footing, Stage};

use super::opening::Opening;
use crate::{BoxFuture, cluster::Cluster};

/// It counts as running on its endpoint until it is dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    footing: Footing,
    started: Moment,
    cluster: Arc<Cluster>,
    _running: InFlight,
}

/// Why a wait of an attempt ended without a result.
#[derive(Debug)]
pub(crate) enum Ended {
    /// What it was planned on no longer holds.
    Moved,
    /// It failed.
    Failed(DbErr),
}

impl Attempt {
    /// Begins on `footing`. `is_read` only counts.
    pub(crate) fn begin(cluster: &Arc<Cluster>, footing: Footing, is_read: bool) -> Self {
        let loads = &cluster.loads;
        let running = match is_read {
            true => loads.start_read(footing.endpoint),
            false => loads.start_write(footing.endpoint),
        };
        let started = cluster.board().now();
        Attempt { footing, started, cluster: Arc::clone(cluster), _running: running }
    }

    pub(crate) fn endpoint(&self) -> EndpointId {
        self.footing.endpoint
    }

    pub(crate) fn role(&self) -> Role {
        self.footing.role
    }

    /// The run of the server that it was planned on.
    pub(crate) fn server(&self) -> Server {
        Server { endpoint: self.footing.endpoint, run: self.footing.run }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Whether it still stands where it was planned.
    pub(crate) fn holds(&self, stage: Stage) -> bool {
        self.cluster.board().holds(&self.footing, stage)
    }

    /// Whether its endpoint answers, as far as is known.
    pub(crate) fn is_in_use(&self) -> bool {
        let topology = self.cluster.board().topology();
        topology.get(self.footing.endpoint).is_some_and(EndpointState::is_usable)
    }

    /// Opens the attempt. `Ok` means that its footing still held when the opening ended.
    pub(crate) async fn open<O: Opening>(&self, opening: &O) -> Result<O::Output, Ended> {
        let pools = self.cluster.pools(self.footing.endpoint).at(self.footing.generation);
        let opened = self.race(Stage::Unsent, opening.on(pools.of(self.footing.role))).await;
        match opened {
            // What was opened is dropped, and goes back to its pool.
            _ if !self.holds(Stage::Unsent) => Err(Ended::Moved),
            opened => opened,
        }
    }

    /// The end of `running`, unless the world moves before.
    pub(crate) async fn race<T>(
        &self,
        stage: Stage,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, Ended> {
        tokio::select! {
            biased;
            result = running => result.map_err(Ended::Failed),
            () = self.cluster.board().moved(&self.footing, stage) => Err(Ended::Moved),
        }
    }

    /// Ready when the wait for an answer is over, to be polled beside a stream.
    pub(crate) fn moved(&self) -> BoxFuture<'static, ()> {
        let (board, footing) = (Arc::clone(self.cluster.board()), self.footing);
        Box::pin(async move { board.moved(&footing, Stage::Sent).await })
    }

    /// Takes the endpoint out of use until a probe has answered, which is sent at once: `error`
    /// says that something is wrong there. Where nothing is probed, nothing would bring it back.
    pub(crate) fn suspect(&self, error: &DbErr) {
        if self.cluster.is_watched() {
            let failure = Failure::Statement(error.to_string());
            self.cluster.board().suspect(self.footing.endpoint, self.started, failure);
        }
    }

    /// The name of its endpoint.
    pub(crate) fn place(&self) -> String {
        self.cluster.name(self.footing.endpoint)
    }
}
