//! Ends abandoned statements on their server.
//!
//! MySQL and MariaDB notice only when they send its result that nobody waits for a statement. So a
//! background task tells the server to end the session that runs it, over a connection of its own.
//!
//! # Nobody else is hit
//! A session is named by its badge, a lock that only this session holds (see `badge`), and the server
//! looks the number up in the very statement that ends the session. So the number never leaves the
//! server: a session that is gone, another run of the server, another server behind the same address
//! and the numbers of a proxy all lead to a badge that nobody holds there. If the badge is lost
//! between the look and the end, the task ends its own session.
//!
//! The whole session ends (`KILL CONNECTION`), not the statement alone: the driver closes the
//! connection anyway, so a late end hits no later statement, and an early one hits a statement that
//! the server has not begun yet. A user may end the sessions of the same user without a privilege.
//!
//! # Limits
//! One task for each endpoint, which opens one connection when something is to be ended, and closes
//! it when nothing is left. A server that does not answer in time may be busy with the very statements
//! that are to be ended, so it is asked again for a while.

use std::{
    collections::VecDeque,
    fmt::{self, Debug, Formatter},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::sqlx::{
    self, AssertSqlSafe, ConnectOptions, Connection, Error, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlDatabaseError},
};
use sealane_monitor::Entropy;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::badge::{Badges, Mark};

/// How long the end of one statement may take, with the connection that it needs.
const LIMIT: Duration = Duration::from_secs(5);
/// After a failure, the server is left alone for this long.
const PAUSE: Duration = Duration::from_millis(500);
/// After this time, a statement is left to itself.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(30);

/// How many statements wait for their end at most.
const MOST: usize = 64;

/// Ends abandoned statements of one endpoint.
pub(crate) struct Canceller {
    connect: MySqlConnectOptions,
    entropy: Entropy,
    badges: Badges,
    queue: Mutex<Queue>,
    /// Whether the last connection got a badge.
    gives_badges: AtomicBool,
    /// Whether the server did what it was last told.
    is_heard: AtomicBool,
}

/// The badges of the sessions to be ended.
#[derive(Debug, Default)]
struct Queue {
    badges: VecDeque<(Instant, String)>,
    /// Whether a task takes care of them.
    is_served: bool,
}

/// Lets another task take over if the runtime drops this one.
struct Serving<'a>(&'a Canceller);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.queue().is_served = false;
    }
}

/// Cancels a read of one connection if it is dropped between its sending and its answer.
#[derive(Debug)]
pub(crate) struct Recall {
    canceller: Arc<Canceller>,
    mark: Mark,
    is_sent: bool,
}

impl Canceller {
    /// `connect`: how to connect to the endpoint.
    pub(crate) fn new(connect: MySqlConnectOptions, entropy: Entropy) -> Self {
        Canceller {
            connect,
            entropy,
            badges: Badges::default(),
            queue: Mutex::default(),
            gives_badges: AtomicBool::new(false),
            is_heard: AtomicBool::new(true),
        }
    }

    /// Makes it possible to cancel the statements of a new connection, if the server allows that.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) async fn set_up(&self, connection: &mut MySqlConnection) -> Result<(), Error> {
        let (first, second) = (self.entropy.word(), self.entropy.word());
        let name = format!("sealane {first:016x}{second:016x}");
        let is_given = self.badges.give(connection, name).await?;
        self.gives_badges.store(is_given, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the server can be told which statements to end.
    pub(crate) fn gives_badges(&self) -> bool {
        self.gives_badges.load(Ordering::Relaxed)
    }

    /// Whether abandoned statements are ended at once, as far as is known.
    pub(crate) fn works(&self) -> bool {
        self.gives_badges() && self.is_heard.load(Ordering::Relaxed)
    }

    /// Ends what the connection with this mark runs. Returns at once.
    fn cancel(self: &Arc<Self>, mark: &Mark) {
        let (Some(badge), Ok(runtime)) = (self.badges.take(mark), Handle::try_current()) else {
            return;
        };
        let mut queue = self.queue();
        if queue.badges.len() < MOST {
            queue.badges.push_back((Instant::now(), badge));
        }
        if !std::mem::replace(&mut queue.is_served, true) {
            let canceller = Arc::clone(self);
            runtime.spawn(async move { canceller.serve().await });
        }
    }

    /// Ends one session after the other, until none is left.
    async fn serve(&self) {
        let serving = Serving(self);
        let mut link = None;
        while let Some((since, badge)) = self.next() {
            let ended = timeout(LIMIT, self.end(&mut link, &badge)).await;
            let is_heard =
                ended.as_ref().is_ok_and(|it| it.as_ref().map_or_else(is_over, |()| true));
            self.is_heard.store(is_heard, Ordering::Relaxed);
            if !matches!(ended, Ok(Ok(()))) {
                link = None;
            }
            if !is_heard {
                let is_silent = ended.is_err();
                tracing::debug!(target: "sealane::route", is_silent, "an abandoned read goes on");
                self.queue().badges.push_front((since, badge));
                sleep(PAUSE).await;
            }
        }
        std::mem::forget(serving);
        if let Some(link) = link {
            let _ = timeout(LIMIT, link.close()).await;
        }
    }

    /// The next session to end. Without one, the task is over.
    fn next(&self) -> Option<(Instant, String)> {
        let mut queue = self.queue();
        queue.badges.retain(|(since, _)| since.elapsed() < GIVEN_UP_AFTER);
        let next = queue.badges.pop_front();
        queue.is_served = next.is_some();
        next
    }

    /// Ends the session with this badge, if there is one.
    async fn end(&self, link: &mut Option<MySqlConnection>, badge: &str) -> Result<(), Error> {
        let link = match link {
            Some(link) => link,
            None => link.insert(self.connect.connect().await?),
        };
        let find = AssertSqlSafe(format!("SELECT IS_USED_LOCK('{badge}')"));
        let row = sqlx::raw_sql(find).fetch_one(&mut *link).await?;
        let holder: Option<String> = row.try_get_unchecked(0)?;
        if holder.is_none() {
            // The statement has ended, and its session with it.
            return Ok(());
        }
        let end = format!("KILL CONNECTION COALESCE(IS_USED_LOCK('{badge}'), CONNECTION_ID())");
        sqlx::raw_sql(AssertSqlSafe(end)).execute(link).await.map(drop)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `error` says that there is nothing left to end: the session has gone in the meantime
/// (1094), or the badge has, and the task has ended its own session (1317, 1927).
fn is_over(error: &Error) -> bool {
    let error = error.as_database_error();
    let error = error.and_then(|it| it.try_downcast_ref::<MySqlDatabaseError>());
    error.is_some_and(|it| matches!(it.number(), 1094 | 1317 | 1927))
}

impl Recall {
    /// For the connection with this mark.
    pub(crate) fn new(canceller: Arc<Canceller>, mark: Mark) -> Self {
        Recall { canceller, mark, is_sent: false }
    }

    /// A statement is being sent.
    pub(crate) fn sent(&mut self) {
        self.is_sent = true;
    }

    /// The statement is over.
    pub(crate) fn answered(&mut self) {
        self.is_sent = false;
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        if self.is_sent {
            self.canceller.cancel(&self.mark);
        }
    }
}

impl Debug for Canceller {
    /// Without the options: they hold the password.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("works", &self.works()).finish_non_exhaustive()
    }
}
