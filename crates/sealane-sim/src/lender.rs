//! Pools of simulated connections, with the habits of the driver's.
//!
//! What is like sqlx's: a limit with a fair queue; one time-out for all of taking a connection, in
//! which a refused connection is tried again and again, ever less often; a ping without a limit
//! before a connection goes back. As the product does with the driver's pools, a new connection is
//! admitted only to the run of the server that the monitor knows, and a statement that was given up
//! on closes its connection.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use sea_orm::{DbErr, Statement};
use sealane::assembly::{Answer, Connection, Lender, OpenLenders, Row};
use sealane_core::{EndpointId, Incarnation};
use sealane_monitor::{Admission, RunGuard, TopologyStore};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{
    error::{Trouble, closed, timed_out},
    oracle,
    plant::Plant,
    serve::{Request, serve},
    world::{Leads, Link, LinkId, Opened, Refusal, Way, World},
};

type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How many connections a pool has.
const MOST: usize = 4;
/// How long a read waits for a connection to a replica.
const READS_WAIT: Duration = Duration::from_secs(1);
/// How long all else waits. sqlx waits for half a minute.
const WRITES_WAIT: Duration = Duration::from_secs(8);

/// How long a connection is used again without a ping.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Opens the pools of one endpoint in one process.
pub(crate) struct Endpoint {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) id: EndpointId,
    /// Where it leads: see `State::addresses`.
    pub(crate) address: usize,
    pub(crate) store: Arc<TopologyStore>,
    /// How many connections are lent, of all generations.
    pub(crate) lent: Arc<Semaphore>,
}

impl OpenLenders for Endpoint {
    fn open(&self, generation: u64) -> (Arc<dyn Lender>, Arc<dyn Lender>) {
        let pool = |is_reading| -> Arc<dyn Lender> {
            Arc::new(Pool(Arc::new(Inner {
                world: Arc::clone(&self.world),
                process: self.process,
                id: self.id,
                address: self.address,
                store: Arc::clone(&self.store),
                generation,
                is_reading,
                permits: Arc::new(Semaphore::new(MOST)),
                idle: Mutex::default(),
                is_closed: AtomicBool::new(false),
                lent: Arc::clone(&self.lent),
            })))
        };
        (pool(true), pool(false))
    }
}

/// One pool.
#[derive(Debug)]
struct Pool(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    process: usize,
    id: EndpointId,
    address: usize,
    store: Arc<TopologyStore>,
    generation: u64,
    is_reading: bool,
    permits: Arc<Semaphore>,
    /// With the moment since when.
    idle: Mutex<Vec<(LinkId, Instant)>>,
    is_closed: AtomicBool,
    lent: Arc<Semaphore>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Lender for Pool {
    fn lend(&self) -> Answering<'_, Result<Box<dyn Connection>, DbErr>> {
        let pool = Arc::clone(&self.0);
        Box::pin(async move {
            let wait = if pool.is_reading { READS_WAIT } else { WRITES_WAIT };
            let taken = tokio::time::timeout(wait, Inner::take(&pool, wait)).await;
            let lent = taken.map_err(|_| timed_out())??;
            Ok(Box::new(lent) as Box<dyn Connection>)
        })
    }

    fn size(&self) -> u32 {
        u32::try_from(MOST).unwrap_or(u32::MAX)
    }

    fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.0.lock());
        let mut state = self.0.world.lock();
        idle.into_iter().for_each(|(link, _)| state.close(link));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let idle = std::mem::take(self.idle.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.world.lock();
        idle.into_iter().for_each(|(link, _)| state.close(link));
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(LinkId, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(pool: &Arc<Inner>, wait: Duration) -> Result<Lent, DbErr> {
        let permit = Arc::clone(&pool.permits).acquire_owned().await.map_err(|_| closed())?;
        let link = match pool.pop().await {
            Some(link) => link,
            None => pool.connect(wait).await?,
        };
        if pool.world.lock().plant == Plant::LeakedConnections && pool.is_reading {
            pool.lent.add_permits(1);
        }
        pool.lent.add_permits(1);
        Ok(Lent {
            pool: Arc::clone(pool),
            link,
            permit: Some(permit),
            is_under_way: false,
            in_transaction: false,
        })
    }

    /// A connection that was used before. It is asked first if that is some time ago.
    async fn pop(&self) -> Option<LinkId> {
        let (link, since) = self.lock().pop()?;
        if since.elapsed() < TRUSTED_FOR {
            return Some(link);
        }
        let opened = Opened::new(&self.world, link);
        serve(Arc::clone(&self.world), link, Request::Ping).await.ok()?;
        opened.keep();
        Some(link)
    }

    /// A new connection, as soon as there is one.
    async fn connect(&self, wait: Duration) -> Result<LinkId, DbErr> {
        let mut pause = Duration::from_millis(10);
        loop {
            match connect(&self.world, self.process, self.address, self.is_reading).await {
                Ok(link) => {
                    let opened = Opened::new(&self.world, link);
                    if self.is_admitted(link).await {
                        opened.keep();
                        return Ok(link);
                    }
                }
                // As it is while a server starts.
                Err(Trouble::Refused | Trouble::Code("53300")) => {}
                Err(trouble) => return Err(trouble.connection()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(wait / 5);
        }
    }

    /// Whether a new connection leads to the run that the monitor knows.
    async fn is_admitted(&self, link: LinkId) -> bool {
        // The greeting, which tells the run.
        let arrives = self.world.travel(link, Way::There).await;
        if !arrives || !self.world.served(link, false).await {
            self.store.probe_anew(self.id);
            return false;
        }
        let (incarnation, plant) = {
            let state = self.world.lock();
            let Some(it) = state.links.get(&link) else { return false };
            (run_of(it, state.plant), state.plant)
        };
        if !self.world.travel(link, Way::Back).await {
            return false;
        }
        if plant == Plant::OldPools {
            return true;
        }
        let guard = RunGuard::new(Arc::clone(&self.store), self.id, self.generation);
        match guard.admit(&incarnation).await {
            Admission::Known => true,
            Admission::Unobserved => !self.is_reading,
            Admission::Replaced => false,
        }
    }
}

/// The name of an endpoint, by its address.
pub(crate) fn endpoint_name(address: usize) -> String {
    format!("server-{address}")
}

/// The address of an endpoint, by its name.
pub(crate) fn address_of(name: &str) -> Option<usize> {
    name.strip_prefix("server-")?.parse().ok()
}

/// The run of a server, in its own words.
pub(crate) fn incarnation(server: usize, run: u32, plant: Plant) -> Incarnation {
    let run = if plant == Plant::OneRun { 1 } else { run };
    Incarnation::new(format!("server {server}, run {run}"))
}

/// The run that a connection leads to.
pub(crate) fn run_of(link: &Link, plant: Plant) -> Incarnation {
    match link.leads {
        Leads::Here | Leads::OtherDatabase => incarnation(link.server, link.run, plant),
        Leads::OtherSystem => Incarnation::new("a stranger"),
    }
}

/// Connects to whoever is behind an address.
pub(crate) async fn connect(
    world: &World,
    process: usize,
    address: usize,
    is_reading: bool,
) -> Result<LinkId, Trouble> {
    world.pass(0, 2).await;
    let mut result = Err(Trouble::Refused);
    world
        .until(|state| {
            let server = state.addresses[address];
            let its = &state.servers[server];
            result = match its {
                its if !its.is_up => Err(Trouble::Refused),
                its if its.sessions >= its.most_sessions => Err(state.says(Refusal::Full)),
                _ => Ok(server),
            };
            let stands = its.is_up && its.frozen == crate::server::Frozen::Everything;
            !state.is_cut(process, server, Way::Back) && !stands
        })
        .await;
    let server = result?;
    let mut state = world.lock();
    let link = state.open(process, address, is_reading);
    let (run, leads) = (state.servers[server].run, state.links[&link].leads);
    let where_to = match leads {
        Leads::Here => "",
        Leads::OtherDatabase => ", another database",
        Leads::OtherSystem => ", another system",
    };
    state.trace.note(format_args!(
        "  link {link}: process {process}, endpoint {address}, server {server}, run {run}{where_to}"
    ));
    Ok(link)
}

/// A connection, lent.
#[derive(Debug)]
struct Lent {
    pool: Arc<Inner>,
    link: LinkId,
    permit: Option<OwnedSemaphorePermit>,
    /// Whether an answer is to come.
    is_under_way: bool,
    in_transaction: bool,
}

impl Lent {
    async fn ask(&mut self, request: Request) -> Result<Answer, DbErr> {
        // A beginning that its caller has given up goes to its end, and nothing follows it.
        if matches!(request, Request::Read { .. } | Request::Write { .. }) {
            oracle::check_drained(
                &mut self.pool.world.lock(),
                self.pool.process,
                self.pool.address,
            );
        }
        self.is_under_way = true;
        let (tell, told) = oneshot::channel();
        let (world, link) = (Arc::clone(&self.pool.world), self.link);
        tokio::spawn(async move {
            // The client may be gone.
            let _ = tell.send(serve(world, link, request).await);
        });
        let answer = told.await.unwrap_or(Err(Trouble::Lost));
        self.is_under_way = answer.as_ref().err().is_some_and(|it| *it == Trouble::Lost);
        match request {
            Request::Begin { .. } => self.in_transaction = answer.is_ok(),
            Request::Commit | Request::Rollback => self.in_transaction = false,
            _ => {}
        }
        answer.map_err(Trouble::statement)
    }
}

impl Connection for Lent {
    fn send<'a>(&'a mut self, statement: &'a Statement) -> Answering<'a, Result<Answer, DbErr>> {
        Box::pin(self.ask(Request::parse(statement)))
    }

    fn stream(
        mut self: Box<Self>,
        statement: Statement,
    ) -> Pin<Box<dyn Stream<Item = Result<Row, DbErr>> + Send>> {
        let rows = async move {
            let answer = self.ask(Request::parse(&statement)).await;
            match answer {
                Ok(answer) => rest(self, answer.rows).left_stream(),
                Err(error) => stream::iter([Err(error)]).right_stream(),
            }
        };
        Box::pin(stream::once(rows).flatten())
    }

    fn ping(&mut self) -> Answering<'_, Result<(), DbErr>> {
        Box::pin(async move { self.ask(Request::Ping).await.map(drop) })
    }
}

/// Rows of which the first one has arrived. Each of the others comes by itself, and the connection
/// stays lent until the end. A stream that is dropped before closes it.
fn rest(mut lent: Box<Lent>, rows: Vec<Row>) -> impl Stream<Item = Result<Row, DbErr>> + Send {
    lent.is_under_way = true;
    stream::unfold((lent, rows.into_iter(), true), |(mut lent, mut rows, is_first)| async move {
        let Some(row) = rows.next() else {
            lent.is_under_way = false;
            return None;
        };
        if is_first || lent.pool.world.travel(lent.link, Way::Back).await {
            return Some((Ok(row), (lent, rows, false)));
        }
        Some((Err(Trouble::Lost.statement()), (lent, Vec::new().into_iter(), false)))
    })
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Ok(permit) = self.pool.lent.try_acquire() {
            permit.forget();
        }
        let is_closed = self.pool.is_closed.load(Ordering::Acquire);
        if self.is_under_way || is_closed {
            let mut state = self.pool.world.lock();
            if state.plant != Plant::UnclosedConnections {
                state.close(self.link);
            }
            return;
        }
        let (pool, link, permit) = (Arc::clone(&self.pool), self.link, self.permit.take());
        let in_transaction = self.in_transaction;
        tokio::spawn(async move {
            let request = if in_transaction { Request::Rollback } else { Request::Ping };
            let lives = serve(Arc::clone(&pool.world), link, request).await.is_ok();
            match lives && !pool.is_closed.load(Ordering::Acquire) {
                true => pool.lock().push((link, Instant::now())),
                false => pool.world.lock().close(link),
            }
            drop(permit);
        });
    }
}

/// An error of the network, for probes.
pub(crate) fn in_words(trouble: Trouble) -> String {
    match trouble {
        Trouble::Lost => io::ErrorKind::ConnectionReset.to_string(),
        Trouble::Refused => io::ErrorKind::ConnectionRefused.to_string(),
        Trouble::Code(code) => format!("simulated ({code})"),
    }
}
