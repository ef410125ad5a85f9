//! One simulated server.

use std::collections::{BTreeSet, VecDeque};

use crate::history::{BranchId, History, Snapshot};

/// How long a subscriber copies its tables.
const COPY_MS: u64 = 300;

/// What of a server stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    Nothing,
    /// The processes that serve clients. Probes are answered, and the log is sent on.
    Queries,
    Everything,
}

/// What a logical subscriber has of its publisher.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscription {
    /// A subscription that is made anew has another number.
    pub(crate) id: u32,
    /// How much the publisher knows to be on the subscriber's disk.
    pub(crate) confirmed: usize,
    /// Places that it never gets: it had come further on a branch that has ended.
    pub(crate) passed_over: Vec<usize>,
    /// Until when its tables are copied.
    pub(crate) copies_until_ms: u64,
}

/// The state of one server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) number: usize,
    /// The identity of its data. A server that is made anew has another one.
    pub(crate) source: u64,
    /// Which start of it this is.
    pub(crate) run: u32,
    pub(crate) is_up: bool,
    pub(crate) frozen: Frozen,
    pub(crate) is_primary: bool,
    pub(crate) branch: BranchId,
    /// How much of the branch is on its disk.
    pub(crate) durable: usize,
    /// How much of that a replica shows.
    pub(crate) replayed: usize,
    /// When a replica shows what it has received.
    pub(crate) due: VecDeque<(u64, usize)>,
    /// What a primary has written and does not show yet.
    pub(crate) hidden: BTreeSet<usize>,
    /// The numbers of transactions that write.
    pub(crate) running: BTreeSet<u64>,
    pub(crate) next_transaction: u64,
    /// A server of its own that gets what its upstream publishes.
    pub(crate) subscription: Option<Subscription>,
    /// Whom a replica receives from.
    pub(crate) upstream: usize,
    pub(crate) receives: bool,
    pub(crate) is_paused: bool,
    /// How long a replica takes to show what it has received.
    pub(crate) delay_ms: u64,
    /// How many of a hundred queries a replica cancels.
    pub(crate) conflicts: u64,
    /// How many of a hundred queries end their session.
    pub(crate) kills: u64,
    /// Where it looks for the tables of our role.
    pub(crate) search_path: &'static str,
    /// Whether it leaves out a table of what it receives, since its start.
    pub(crate) filters_pier: bool,
    /// Whether a primary takes no more writes, because it is about to be a replica.
    pub(crate) steps_down: bool,
    pub(crate) sessions: usize,
    pub(crate) most_sessions: usize,
}

impl Server {
    pub(crate) fn new(number: usize) -> Self {
        Server {
            number,
            source: number as u64 * 1_000,
            run: 1,
            is_up: true,
            frozen: Frozen::Nothing,
            is_primary: number == 0,
            branch: 0,
            durable: 1,
            replayed: 1,
            due: VecDeque::new(),
            hidden: BTreeSet::new(),
            running: BTreeSet::new(),
            next_transaction: 700,
            subscription: None,
            upstream: 0,
            receives: number != 0,
            is_paused: false,
            delay_ms: 1,
            conflicts: 0,
            kills: 0,
            search_path: "public",
            filters_pier: false,
            steps_down: false,
            sessions: 0,
            most_sessions: usize::MAX,
        }
    }

    /// Whether it is a replica with the primary's log, which can take the primary's place.
    pub(crate) fn is_physical_replica(&self) -> bool {
        !self.is_primary && self.subscription.is_none()
    }

    /// Follows a new primary with its subscription as it is. What it has of a branch that has ended
    /// stays, and it never gets what the new branch has at these places.
    pub(crate) fn repoint(&mut self, upstream: usize, branch: BranchId, shared: usize) {
        let Some(subscription) = &mut self.subscription else { return };
        subscription.passed_over.extend(shared..self.durable);
        (self.upstream, self.branch) = (upstream, branch);
    }

    /// Its subscription is made anew, and its tables are copied.
    pub(crate) fn subscribe_anew(&mut self, upstream: &Server, now_ms: u64) {
        let Some(subscription) = &mut self.subscription else { return };
        let copied_ms = now_ms + COPY_MS;
        *subscription = Subscription {
            id: subscription.id + 1,
            copies_until_ms: copied_ms,
            ..Subscription::default()
        };
        self.run += 1;
        (self.upstream, self.branch, self.durable) =
            (upstream.number, upstream.branch, upstream.durable);
        self.replayed = 1;
        self.due.clear();
        self.due.push_back((copied_ms, self.durable));
    }

    /// Whether it serves clients, if they reach it.
    pub(crate) fn serves(&self) -> bool {
        self.is_up && self.frozen == Frozen::Nothing
    }

    /// What a statement that runs now is shown.
    pub(crate) fn snapshot(&self, history: &History) -> Snapshot {
        let (len, hidden) = match self.is_primary {
            true => (history.len(self.branch), self.hidden.iter().copied().collect()),
            false => {
                let passed_over = self.subscription.as_ref().map(|it| it.passed_over.clone());
                (self.replayed, passed_over.unwrap_or_default())
            }
        };
        let (server, branch, by_primary) = (self.number, self.branch, self.is_primary);
        Snapshot { server, branch, len, hidden, by_primary }
    }

    /// It dies at once, and its primary's memory with it.
    pub(crate) fn crash(&mut self, history: &mut History) {
        self.is_up = false;
        self.frozen = Frozen::Nothing;
        self.receives = false;
        if self.is_primary {
            history.cut(self.branch, self.durable);
            self.hidden.clear();
        }
        self.running.clear();
        self.due.clear();
    }

    /// It comes back as what it was; a replica a little older than it was. It shows the rest of what
    /// it has `at_ms`.
    pub(crate) fn start(&mut self, older: usize, at_ms: u64) {
        self.is_up = true;
        self.run += 1;
        if !self.is_primary {
            self.replayed = self.replayed.saturating_sub(older).max(1);
            self.due.push_back((at_ms, self.durable));
        }
    }

    /// A primary that shows all that it has written becomes a replica, with nothing lost.
    pub(crate) fn demote(&mut self, upstream: usize, restarts: bool) {
        self.is_primary = false;
        self.steps_down = false;
        self.run += u32::from(restarts);
        self.replayed = self.durable;
        self.due.clear();
        self.upstream = upstream;
    }

    /// A replica replays all that it has, and begins a branch of its own.
    pub(crate) fn promote(&mut self, history: &mut History) {
        self.branch = history.part(self.branch, self.durable, self.number, self.source);
        self.durable = history.len(self.branch);
        self.replayed = self.durable;
        self.due.clear();
        self.is_primary = true;
        self.steps_down = false;
        self.is_paused = false;
        self.receives = false;
    }

    /// It becomes a replica of `upstream`, as a copy of that.
    pub(crate) fn rebuild(&mut self, upstream: &Server) {
        self.is_up = true;
        self.run += 1;
        self.source += 1;
        self.frozen = Frozen::Nothing;
        self.is_primary = false;
        self.steps_down = false;
        self.branch = upstream.branch;
        self.durable = upstream.durable;
        self.replayed = upstream.durable;
        self.hidden.clear();
        self.running.clear();
        self.due.clear();
        self.upstream = upstream.number;
        self.is_paused = false;
    }
}
