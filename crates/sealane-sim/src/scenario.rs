//! What happens in one world: drawn from a seed, and made smaller when it fails.
//!
//! Everything is drawn before it runs. So a fault or a statement can be left out, and the rest of
//! the scenario stays what it was.

mod behind;
mod late;
mod newcomer;
mod odd;
mod tables;
mod wider;

use clap::ValueEnum;

pub use newcomer::Newcomer;
pub use tables::Tables;

use crate::{draw::Draw, plant::Plant};

/// How servers tell how far they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// As PostgreSQL: a place in the log, on a timeline.
    Timelines,
    /// As MySQL: a set of transactions, each with the server that wrote it first.
    GtidSets,
    /// As MariaDB: the last transaction, with the server that wrote it and a number that other
    /// histories use as well.
    GtidLists,
}

impl Kind {
    /// How URLs of such servers begin.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Kind::Timelines => "postgres",
            Kind::GtidSets | Kind::GtidLists => "mysql",
        }
    }

    /// A call that takes a lock.
    pub(crate) fn locks(self) -> &'static str {
        match self {
            Kind::Timelines => "pg_advisory_lock(1)",
            Kind::GtidSets | Kind::GtidLists => "get_lock('harbour', 1)",
        }
    }
}

/// A world and all that is done in it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where all of it comes from, and the small delays while it runs.
    pub seed: u64,
    /// The kind of servers.
    pub kind: Kind,
    /// How many servers there are, the primary included.
    pub servers: usize,
    /// How many processes use them.
    pub processes: usize,
    /// Whether slow reads are sent twice.
    pub is_hedged: bool,
    /// Whether commits are answered only when a replica has them on its disk.
    pub is_synchronous: bool,
    /// Whether the last server is a logical subscriber.
    pub has_subscriber: bool,
    /// Whether there are more tables than one, and what is to know of them; `None` where statements
    /// are judged without a catalog.
    pub tables: Option<Tables>,
    /// A process and an address at which its URL names another database.
    pub misled: Option<(usize, usize)>,
    /// Whether only intended reads run on the primary.
    pub only_intended: bool,
    /// Whether a replica counts as lagging after a moment already.
    pub lags_soon: bool,
    /// Whether reads have no bound on lag.
    pub any_lag: bool,
    /// A server with a search path of its own.
    pub other_path: Option<usize>,
    /// What each user does.
    pub users: Vec<User>,
    /// A process that starts late.
    pub newcomer: Option<Newcomer>,
    /// What goes wrong, and when, in milliseconds.
    pub faults: Vec<(u64, Fault)>,
    /// What is wrong on purpose.
    pub plant: Plant,
}

/// One who does one thing after the other in a session.
#[derive(Debug, Clone)]
pub struct User {
    /// Where the session begins.
    pub process: usize,
    /// Whether it is the session of the handle that everybody shares.
    pub shares: bool,
    /// What is done, each after so many milliseconds.
    pub steps: Vec<(u64, Step)>,
}

/// One thing that a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reads, and asks for the own writes.
    Read,
    /// Reads something no older than so many milliseconds.
    ReadBound(u64),
    /// Reads whatever there is.
    ReadEventual,
    /// Reads on the primary.
    ReadStrong,
    /// Reads what is costly, in the group of the subscriber if there is one.
    ReadHeavy,
    /// Reads a table that servers may filter.
    ReadFiltered,
    /// Reads such a table in a read-only transaction.
    ReadFilteredTransaction,
    /// Reads a view.
    ReadView,
    /// Makes the view take a lock, or take none.
    ChangeView {
        /// Whether it does.
        locks: bool,
    },
    /// Reads, and not on the primary.
    ReadOnReplicas,
    /// Reads with a policy that declines whoever is at this address.
    ReadDeclining(usize),
    /// Reads what not every replica has.
    ReadLate,
    /// Reads, and writes something on the way.
    ReadNoting,
    /// Reads by a statement that fails everywhere.
    ReadWrong,
    /// Reads through the handle that everybody shares.
    ReadShared,
    /// Streams so many rows.
    Stream(usize),
    /// Streams so many rows, with so many milliseconds before each of them.
    SlowStream(usize, u64),
    /// Writes.
    Write,
    /// Writes by a query that returns rows.
    WriteReturning,
    /// Reads so many times in a read-only transaction.
    ReadTransaction(usize),
    /// Writes so many times in a transaction.
    WriteTransaction(usize, Ends),
    /// Gives a read up after so many milliseconds.
    CancelledRead(u64),
    /// Gives a write up after so many milliseconds.
    CancelledWrite(u64),
    /// Gives a stream up after so many milliseconds.
    CancelledStream(u64),
    /// Gives a transaction that reads up after so many milliseconds.
    CancelledReadTransaction(u64),
    /// Gives a transaction that writes up after so many milliseconds.
    CancelledTransaction(u64),
    /// Writes in a transaction that stays open for so many milliseconds, and reads beside it.
    LongTransaction(u64),
    /// Writes and reads in a scope, and in a task that leaves it.
    Scope,
    /// Goes on with a session that begins as this one.
    Fork,
    /// Takes over what another user knows.
    Merge(usize),
    /// Goes on in another process, with a token.
    Move(usize),
    /// Reads in another process, with a token of the handle that everybody shares.
    MoveShared(usize),
    /// Reads in a session that begins with a token that is refused.
    RefusedToken,
    /// Reads on the primary, once that shows what a replica has shown.
    ReadShown,
    /// Reads by a statement that ends its session wherever it runs.
    ReadKilling,
    /// Makes a stream, writes so many milliseconds later, and polls the stream after that.
    LateStream(u64),
    /// Writes by a stream.
    WritingStream,
    /// Reads so many times in a read-only transaction, with so many milliseconds between.
    SlowReadTransaction(usize, u64),
    /// Reads in a serializable read-only transaction.
    ReadSerializable,
    /// Writes in a transaction, reads there so many milliseconds later, and then beside it.
    TalkingTransaction(u64),
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// With a commit.
    Commit,
    /// With a rollback.
    Rollback,
    /// It is dropped.
    Dropped,
}

/// Something that goes wrong, for so many milliseconds.
#[allow(missing_docs, reason = "the names of the fields say it")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A replica shows late what it has.
    Lag { server: usize, delay_ms: u64, for_ms: u64 },
    /// A replica shows nothing new.
    Pause { server: usize, for_ms: u64 },
    /// A replica cancels queries.
    Conflicts { server: usize, percent: u64, for_ms: u64 },
    /// A server dies and comes back as what it was.
    Crash { server: usize, for_ms: u64, older: usize },
    /// A server stands still, or only its processes that serve clients do.
    Freeze { server: usize, queries_only: bool, for_ms: u64 },
    /// Nothing gets from a process to a server or back.
    Cut { process: usize, server: usize, for_ms: u64 },
    /// A server hears what a process sends, and nothing comes back.
    Deaf { process: usize, server: usize, for_ms: u64 },
    /// A server ends the sessions of queries.
    Kills { server: usize, percent: u64, for_ms: u64 },
    /// A replica restarts at once, and shows for a while less than it did.
    Blink { server: usize, older: usize, behind_ms: u64 },
    /// A server does not reach the others.
    CutOff { server: usize, for_ms: u64 },
    /// All connections of a process to a server break.
    Reset { process: usize, server: usize },
    /// A server takes no more connections.
    Full { server: usize, for_ms: u64 },
    /// The primary is lost, and a replica takes its place after a while. The old one comes back
    /// later, and takes writes for a while until somebody makes a replica of it.
    Failover { loss: Loss, candidate: usize, after_ms: u64, back_ms: u64, unfenced_ms: u64 },
    /// Two addresses lead to each other's servers from now on.
    Swap { one: usize, other: usize },
    /// A replica takes the primary's place, and nothing is lost: the old one becomes its replica.
    /// The processes may have drained its address before.
    Switchover { candidate: usize, drains: bool, back_ms: u64 },
    /// A process drains an address.
    Drain { process: usize, address: usize, for_ms: u64 },
    /// An address leads to a server of another system.
    Stranger { address: usize, for_ms: u64 },
    /// A process removes an address, and adds it again.
    Leave { process: usize, address: usize, for_ms: u64 },
}

/// How a primary is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It dies.
    Crash,
    /// It stands still.
    Freeze,
    /// It goes on, and its replicas do not hear of it.
    Alone,
}

/// How long users are busy.
const BUSY_MS: u64 = 40_000;

impl Scenario {
    /// The scenario of a seed: in most worlds with more than the plain one.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        behind::behind(late::late(odd::odd(Scenario::stocked(seed))))
    }

    /// The scenario of a seed before there was anything odd. What such worlds found keeps its meaning.
    #[must_use]
    pub fn stocked(seed: u64) -> Self {
        tables::stocked(Scenario::crowded(seed))
    }

    /// The scenario of a seed before there were more tables. What such worlds found keeps its meaning.
    #[must_use]
    pub fn crowded(seed: u64) -> Self {
        newcomer::joined(Scenario::wide(seed))
    }

    /// The scenario of a seed before there were newcomers. What such worlds found keeps its meaning.
    #[must_use]
    pub fn wide(seed: u64) -> Self {
        wider::widened(Scenario::plain(seed))
    }

    /// The scenario of a seed with nothing but what the first worlds had. What they found keeps its
    /// meaning.
    #[must_use]
    pub fn plain(seed: u64) -> Self {
        let draw = &mut Draw::new(seed);
        let servers = 2 + draw.below(3);
        let processes = 1 + draw.below(2);
        let count = 2 + draw.below(4);
        let users = (0..count).map(|_| user(&mut draw.split(), processes, count)).collect();
        let mut faults: Vec<_> = (0..draw.within(0..=7))
            .map(|_| (draw.within(1_000..=BUSY_MS - 5_000), fault(draw, servers, processes)))
            .collect();
        faults.sort_by_key(|(at_ms, _)| *at_ms);
        let kind = match (draw.percent(30), draw.percent(40)) {
            (true, _) => Kind::GtidSets,
            (false, true) => Kind::GtidLists,
            (false, false) => Kind::Timelines,
        };
        let is_hedged = draw.percent(25);
        let plant = Plant::Nothing;
        let (is_synchronous, has_subscriber) = (false, false);
        let (only_intended, lags_soon, any_lag) = (false, false, false);
        let (newcomer, tables, misled, other_path) = (None, None, None, None);
        Scenario {
            seed,
            kind,
            servers,
            processes,
            is_hedged,
            is_synchronous,
            has_subscriber,
            tables,
            misled,
            only_intended,
            lags_soon,
            any_lag,
            other_path,
            users,
            newcomer,
            faults,
            plant,
        }
    }

    /// Adds faults. Those of one moment stay in the order in which they were added.
    fn add_faults(&mut self, faults: impl IntoIterator<Item = (u64, Fault)>) {
        self.faults.extend(faults);
        self.faults.sort_by_key(|(at_ms, _)| *at_ms);
    }

    /// Puts another step in the place of so many of a hundred, of all users.
    fn replace_steps(
        &mut self,
        percent: u64,
        draw: &mut Draw,
        another: impl Fn(&mut Draw) -> Step,
    ) {
        let newcomer = self.newcomer.iter_mut().map(|it| &mut it.user);
        for user in self.users.iter_mut().chain(newcomer) {
            let mut draw = draw.split();
            for (_, step) in &mut user.steps {
                if draw.percent(percent) {
                    *step = another(&mut draw);
                }
            }
        }
    }

    /// Whether servers change while a process cannot see it.
    pub(crate) fn has_unseen_changes(&self) -> bool {
        let is_unseen = |fault: &Fault| matches!(fault, Fault::Swap { .. } | Fault::Leave { .. });
        self.faults.iter().any(|(_, fault)| is_unseen(fault))
    }

    /// How much it is, for telling which of two is smaller.
    #[must_use]
    pub fn size(&self) -> usize {
        let newcomer = self.newcomer.iter().map(|it| &it.user);
        let steps: usize = self.users.iter().chain(newcomer).map(|user| user.steps.len()).sum();
        let processes = self.processes + usize::from(self.newcomer.is_some());
        let odd = [
            self.misled.is_some(),
            self.only_intended,
            self.lags_soon,
            self.any_lag,
            self.other_path.is_some(),
        ];
        let odd = odd.into_iter().filter(|is| *is).count();
        self.servers + processes + self.faults.len() + steps + odd
    }
}

fn user(draw: &mut Draw, processes: usize, users: usize) -> User {
    user_until(draw, processes, users, BUSY_MS)
}

/// One who is busy for so long.
fn user_until(draw: &mut Draw, processes: usize, users: usize, busy_ms: u64) -> User {
    let (process, shares) = (draw.below(processes), draw.percent(20));
    // Some are in a hurry, some are not.
    let slowest_ms = [30, 150, 600][draw.below(3)];
    let (mut steps, mut ends_ms) = (Vec::new(), 0);
    while ends_ms < busy_ms && steps.len() < 300 {
        // Now and then a pause: the next step finds a calm process.
        let pause_ms =
            if draw.percent(4) { draw.within(1_000..=4_000) } else { draw.within(0..=slowest_ms) };
        steps.push((pause_ms, step(draw, processes, users)));
        ends_ms += pause_ms + 8;
    }
    User { process, shares, steps }
}

fn step(draw: &mut Draw, processes: usize, users: usize) -> Step {
    match draw.below(100) {
        0..=39 => Step::Read,
        40..=45 => Step::ReadBound([50, 500, 3_000][draw.below(3)]),
        46..=48 => Step::ReadEventual,
        49..=50 => Step::ReadStrong,
        51..=53 => Step::ReadShared,
        54..=57 => Step::Stream(draw.below(3)),
        58..=75 => Step::Write,
        76..=79 => Step::WriteReturning,
        80..=83 => Step::ReadTransaction(1 + draw.below(3)),
        84..=88 => {
            let ends = [Ends::Commit, Ends::Commit, Ends::Rollback, Ends::Dropped][draw.below(4)];
            Step::WriteTransaction(1 + draw.below(3), ends)
        }
        89..=90 => Step::CancelledRead(draw.within(0..=8)),
        91..=92 => Step::CancelledWrite(draw.within(0..=12)),
        93..=94 => Step::Fork,
        95..=96 => Step::Merge(draw.below(users)),
        _ => Step::Move(draw.below(processes)),
    }
}

fn fault(draw: &mut Draw, servers: usize, processes: usize) -> Fault {
    let (server, process) = (draw.below(servers), draw.below(processes));
    let for_ms = [300, 1_500, 6_000][draw.below(3)] + draw.within(0..=500);
    match draw.below(20) {
        0..=2 => {
            Fault::Lag { server, delay_ms: [20, 200, 2_000][draw.below(3)], for_ms: for_ms * 2 }
        }
        3..=4 => Fault::Pause { server, for_ms },
        5 => Fault::Conflicts { server, percent: 60, for_ms },
        6..=7 => Fault::Crash { server, for_ms, older: draw.below(4) },
        8..=9 => Fault::Freeze { server, queries_only: draw.percent(50), for_ms },
        10..=11 => Fault::Cut { process, server, for_ms },
        12 => Fault::CutOff { server, for_ms },
        13..=14 => Fault::Reset { process, server },
        15 => Fault::Full { server, for_ms },
        16..=18 => Fault::Failover {
            loss: [Loss::Crash, Loss::Freeze, Loss::Alone][draw.below(3)],
            candidate: draw.below(servers),
            after_ms: draw.within(100..=2_500),
            back_ms: for_ms,
            unfenced_ms: draw.within(0..=2_500),
        },
        _ => Fault::Swap { one: server, other: draw.below(servers) },
    }
}
