//! One attempt on one endpoint, and what ends its waits.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::DbErr;
use sealane_core::{
    AttemptOutcome, EndpointId, EndpointState, Failure, InFlight, Moment, Role, Server,
};
use sealane_monitor::{Footing, Stage};

#[cfg(feature = "mysql")]
use super::opening;
use super::opening::Opening;
#[cfg(feature = "mysql")]
use crate::pool::Begun;
use crate::{
    BoxFuture,
    caller::Caller,
    cluster::{Cluster, FallbackPermit, Operation},
    observe::{
        explain,
        span::{self, Sent, Why},
    },
    pool::Pools,
};

/// One attempt. It counts as running on its endpoint until it is dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    footing: Footing,
    started: Moment,
    /// When its connection was open.
    opened: OnceLock<Moment>,
    /// The number of the file's schema, for files, where statements must not outlive the schema.
    schema: u64,
    cluster: Arc<Cluster>,
    #[cfg(feature = "mysql")]
    is_read: bool,
    /// Whether the outcome was reported, or need not be reported.
    is_told: AtomicBool,
    /// Whether the endpoint was ejected when the attempt began.
    began_ejected: bool,
    /// After this time the attempt takes longer than it should.
    pub(super) long_after: Duration,
    /// What it gets of the read's time; `None` for all of it.
    pub(super) share: Option<Duration>,
    running: InFlight,
    /// Its place among the reads that fall back to the primary.
    pub(super) fallback: Option<FallbackPermit>,
}

/// Tells a hedge to which replica the first attempt was sent.
pub(super) type Whereabouts = tokio::sync::watch::Sender<Option<EndpointId>>;

/// Why a wait of an attempt ended without a result.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The basis of the plan no longer holds, or the attempt takes too long.
    Moved,
    /// The attempt failed.
    Failed(DbErr),
}

/// An error as if the connection led nowhere; a probe then finds out what the server is now.
#[cfg(feature = "mysql")]
fn demoted() -> DbErr {
    let why = "the server is set to be read-only and is not the primary any more";
    let why = std::io::Error::new(std::io::ErrorKind::ConnectionReset, why);
    DbErr::Conn(sea_orm::RuntimeErr::SqlxError(sea_orm::sqlx::Error::Io(why).into()))
}

impl Attempt {
    /// Begins on `footing`.
    pub(crate) fn begin(cluster: &Arc<Cluster>, footing: Footing, is_read: bool) -> Self {
        let loads = &cluster.loads;
        let began_ejected = is_read && cluster.ejections.is_ejected(footing.endpoint);
        let running = match is_read {
            // Counted as a read when it has a connection: it may have to wait, and go elsewhere.
            true => loads.start(footing.endpoint),
            false => loads.start_write(footing.endpoint),
        };
        let (started, schema) = (cluster.store().now(), cluster.file_schema());
        // Balancers are told about reads only.
        let (is_told, cluster) = (AtomicBool::new(!is_read), Arc::clone(cluster));
        Attempt {
            footing,
            started,
            opened: OnceLock::new(),
            schema,
            cluster,
            #[cfg(feature = "mysql")]
            is_read,
            is_told,
            began_ejected,
            long_after: Duration::MAX,
            share: None,
            running,
            fallback: None,
        }
    }

    /// Tells the balancer that the attempt succeeded, how long it took, and how long its statement
    /// `usual`ly takes, if that is known.
    pub(crate) fn tell_served(&self, usual: Option<Duration>) {
        let now = self.cluster.store().now();
        let served = AttemptOutcome::Served(now.since(self.started));
        self.tell_as(served, served, usual, now);
    }

    /// The same for an attempt that a hedge has outrun, which counts against its endpoint.
    pub(crate) fn tell_outrun(&self, usual: Option<Duration>) {
        let now = self.cluster.store().now();
        let served = AttemptOutcome::Served(now.since(self.started));
        self.tell_as(served, AttemptOutcome::Outrun, usual, now);
    }

    /// Tells the balancer, once, that the attempt did not succeed, and how it ended.
    pub(crate) fn tell(&self, outcome: AttemptOutcome) {
        self.tell_as(outcome, outcome, None, self.cluster.store().now());
    }

    /// `judged`: the outcome as far as ejections are concerned.
    fn tell_as(
        &self,
        outcome: AttemptOutcome,
        judged: AttemptOutcome,
        usual: Option<Duration>,
        now: Moment,
    ) {
        if self.is_told.swap(true, Ordering::Relaxed) {
            // It was slow at first, and went on because no retry was left; now it hangs.
            if judged == AttemptOutcome::Silent {
                self.cluster.judge_ejection(self.footing.endpoint, judged, self.started);
            }
        } else {
            let (cluster, endpoint) = (&self.cluster, self.footing.endpoint);
            let since_open = match outcome {
                AttemptOutcome::Served(latency) => AttemptOutcome::Served(
                    self.opened.get().map_or(latency, |opened| now.since(*opened)),
                ),
                outcome => outcome,
            };
            let returned_at = cluster.store().topology().returned_at(endpoint);
            cluster.loads.ended(endpoint, since_open, usual, now, returned_at);
            self.measure(Operation::Read(self.told_role()), outcome, now);
            cluster.balancer.ended(endpoint, outcome);
            if self.footing.role == Role::Replica && cluster.is_watched() {
                cluster.judge_ejection(endpoint, judged, self.started);
            }
        }
    }

    /// Records how long the attempt took since its connection was open, or since it began if it has
    /// none.
    fn measure(&self, operation: Operation, outcome: AttemptOutcome, now: Moment) {
        let Cluster { durations, engine, .. } = &*self.cluster;
        let took = now.since(*self.opened.get().unwrap_or(&self.started));
        let (store, endpoint) = (self.cluster.store(), self.footing.endpoint);
        durations.record(store, *engine, endpoint, operation, outcome, took);
    }

    /// Records how a write ended.
    pub(super) fn measure_write(&self, outcome: AttemptOutcome) {
        self.measure(Operation::Write, outcome, self.cluster.store().now());
    }

    /// How long its connection has been open; how long it has been running, if it needs none.
    pub(crate) fn since_open(&self) -> Duration {
        let began = self.opened.get().unwrap_or(&self.started);
        self.cluster.store().now().since(*began)
    }

    /// The time since `idle` does not count: its caller asked for nothing.
    pub(crate) fn skip_since(&mut self, idle: Moment) {
        let idle = self.cluster.store().now().since(idle);
        self.started = self.started + idle;
        if let Some(opened) = self.opened.get_mut() {
            *opened = *opened + idle;
        }
    }

    pub(crate) fn endpoint(&self) -> EndpointId {
        self.footing.endpoint
    }

    /// Whether its endpoint was ejected when it began: it is a trial, or the last resort.
    pub(crate) fn began_ejected(&self) -> bool {
        self.began_ejected
    }

    /// When it began.
    pub(super) fn started(&self) -> Moment {
        self.started
    }

    /// How long it has been running.
    pub(crate) fn age(&self) -> Duration {
        self.cluster.store().now().since(self.started)
    }

    /// Whether its connection was open, as far as that is known for its way of opening.
    pub(super) fn was_opened(&self) -> bool {
        self.opened.get().is_some()
    }

    /// How long it waited until it was open.
    pub(super) fn waited(&self) -> Duration {
        self.opened.get().map_or_else(|| self.age(), |opened| opened.since(self.started))
    }

    /// It has a connection, and will be sent: it counts as a read of its endpoint.
    pub(super) fn count_read(&self) {
        self.running.count_read();
    }

    pub(crate) fn role(&self) -> Role {
        self.footing.role
    }

    /// Whether its server was the primary when it was planned. A read may run there although the
    /// balancer has chosen the primary like a replica; its [role](Self::role) is that of a replica then.
    pub(crate) fn is_on_primary(&self) -> bool {
        self.footing.on_primary || self.footing.role == Role::Primary
    }

    /// What its server was when it was planned, for people.
    fn told_role(&self) -> Role {
        if self.is_on_primary() { Role::Primary } else { self.footing.role }
    }

    /// The server run that it was planned on.
    pub(crate) fn server(&self) -> Server {
        Server { endpoint: self.footing.endpoint, run: self.footing.run }
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Whether the basis of its plan still holds.
    pub(crate) fn holds(&self, stage: Stage) -> bool {
        self.cluster.store().holds(&self.footing, stage)
    }

    /// Whether the rows shown by a reader of a file are right: statements prepared there do not
    /// notice schema changes.
    pub(crate) fn is_schema_held(&self) -> bool {
        self.footing.role == Role::Primary || self.cluster.is_file_schema(self.schema)
    }

    /// Whether its endpoint answers, as far as is known.
    pub(crate) fn is_in_use(&self) -> bool {
        let topology = self.cluster.store().topology();
        topology.get(self.footing.endpoint).is_some_and(EndpointState::is_usable)
    }

    /// Whether its pool has a connection left that nobody waits for, or may open one.
    pub(super) fn has_room(&self) -> bool {
        self.pools().is_some_and(|pools| pools.of(self.footing.role).has_room())
    }

    /// Whether an idle connection is in its pool.
    pub(super) fn has_idle(&self) -> bool {
        self.pools().is_some_and(|pools| pools.of(self.footing.role).has_idle())
    }

    /// Whether others hold at least half of its pool's connections, or its size is unknown. Then a long
    /// wait for a connection says nothing about the server. It holds none itself. (The driver's own
    /// numbers do not tell: connections that are being opened count as open.)
    pub(super) fn is_pool_busy(&self) -> bool {
        let (loads, id) = (&self.cluster.loads, self.footing.endpoint);
        let others = loads.in_flight(id).saturating_sub(loads.waiting(id)).saturating_sub(1);
        let size = self.pools().map_or(0, |pools| pools.of(self.footing.role).size());
        others.saturating_mul(2) >= size
    }

    /// Whether its pool is also that of the writers.
    pub(super) fn is_of_writer(&self) -> bool {
        self.pools().is_some_and(|pools| pools.is_one)
    }

    fn pools(&self) -> Option<Arc<Pools>> {
        let generation = self.footing.generation.max(self.schema);
        self.cluster.pools.at(self.footing.endpoint, generation)
    }

    /// Opens the attempt. `Ok` means that the footing still held when the opening ended.
    pub(crate) async fn open<O: Opening>(&self, opening: &O) -> Result<O::Output, Ended> {
        let Some(pools) = self.pools() else { return Err(Ended::Moved) };
        let waiting = self.cluster.loads.wait(self.footing.endpoint);
        let pool = pools.of(self.footing.role);
        let idle = self.may_be_forgotten(pool);
        let mut doubtful = idle;
        let opened = loop {
            tokio::select! {
                biased;
                opened = opening.on(pool) => break opened.map_err(Ended::Failed),
                () = self.cluster.store().moved(&self.footing, Stage::Unsent) => {
                    break Err(Ended::Moved);
                }
                ended = self.has_no_connection(pool), if O::IS_FOLLOWED => break Err(ended),
                () = self.is_forgotten(doubtful == idle), if doubtful > 0 => doubtful -= 1,
            }
        };
        drop(waiting);
        #[cfg(feature = "mysql")]
        let opened = match opened {
            Ok(mut output) if self.is_unbound() => {
                let asked = self.race(Stage::Unsent, O::is_read_only(&mut output)).await;
                asked.and_then(|is_read_only| match is_read_only {
                    true => Err(Ended::Failed(demoted())),
                    false => Ok(output),
                })
            }
            opened => opened,
        };
        match opened {
            // The opened connection is dropped, and returns to its pool.
            _ if !self.holds(Stage::Unsent) => Err(Ended::Moved),
            Ok(output) => {
                if O::IS_FOLLOWED {
                    let _ = self.opened.set(self.cluster.store().now());
                }
                Ok(output)
            }
            failed => failed,
        }
    }

    /// Whether the attempt may write in a role that the server's `read_only` does not bind. A
    /// primary that was demoted a moment ago would accept such a write, and nobody would ever
    /// replicate it. (For all other roles, the server refuses the write, at no cost.)
    #[cfg(feature = "mysql")]
    fn is_unbound(&self) -> bool {
        if self.is_read || self.footing.role != Role::Primary {
            return false;
        }
        let topology = self.cluster.store().topology();
        topology.get(self.footing.endpoint).is_some_and(|it| it.info.unbound == Some(true))
    }

    /// Whether the server was demoted since `transaction` began and would accept its COMMIT all the
    /// same. A probe then finds out what the server is now.
    #[cfg(feature = "mysql")]
    pub(crate) async fn is_demoted_under(&self, transaction: &Begun) -> Result<bool, Ended> {
        if !self.is_unbound() {
            return Ok(false);
        }
        let is_demoted = self.race(Stage::Sent, opening::is_read_only(transaction)).await?;
        if is_demoted {
            self.suspect(&demoted());
        }
        Ok(is_demoted)
    }

    /// Waits for `running`, or until the basis of the plan no longer holds.
    pub(crate) async fn race<T>(
        &self,
        stage: Stage,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, Ended> {
        tokio::select! {
            biased;
            result = running => result.map_err(Ended::Failed),
            () = self.cluster.store().moved(&self.footing, stage) => Err(Ended::Moved),
        }
    }

    /// Completes when the wait for an answer is over; polled beside a stream.
    pub(crate) fn moved(&self) -> BoxFuture<'static, ()> {
        let (store, footing) = (Arc::clone(self.cluster.store()), self.footing);
        Box::pin(async move { store.moved(&footing, Stage::Sent).await })
    }

    /// Takes the endpoint out of use until a probe has answered, and sends this probe at once,
    /// because `error` says that something is wrong there. Does nothing if nothing is probed:
    /// nothing would bring the endpoint back.
    pub(crate) fn suspect(&self, error: &DbErr) {
        if self.cluster.is_watched() {
            let failure = Failure::Statement(error.to_string());
            self.cluster.store().suspect(self.footing.endpoint, self.started, failure);
        }
    }

    /// Tells traces that the statement `sql` is about to be sent there, after so many `earlier`
    /// attempts.
    pub(crate) fn trace(&self, caller: &Caller, sql: &str, why: Why, earlier: u32) {
        span::sent(&self.cluster, self.sent(why, earlier));
        explain::trace(caller, self.endpoint(), sql);
    }

    /// Where it runs, for traces.
    pub(crate) fn sent(&self, why: Why, earlier: u32) -> Sent {
        Sent { endpoint: self.endpoint(), role: self.told_role(), why, earlier }
    }

    /// The name of its endpoint.
    pub(crate) fn place(&self) -> String {
        self.cluster.name(self.footing.endpoint)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A caller who gives up early, again and again, shows a server that hangs, too; but a full
        // pool shows nothing.
        let is_long = self.age() >= self.long_after && (self.was_opened() || !self.is_pool_busy());
        self.tell(if is_long { AttemptOutcome::Outrun } else { AttemptOutcome::Abandoned });
    }
}
