//! One simulated server.

use std::collections::{BTreeSet, VecDeque};

use crate::history::{BranchId, History, Snapshot};

/// What of a server stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frozen {
    Nothing,
    /// The processes that serve clients. Probes are answered, and the log is sent on.
    Queries,
    Everything,
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
    /// Whom a replica receives from.
    pub(crate) upstream: usize,
    pub(crate) receives: bool,
    pub(crate) is_paused: bool,
    /// How long a replica takes to show what it has received.
    pub(crate) delay_ms: u64,
    /// How many of a hundred queries a replica cancels.
    pub(crate) conflicts: u64,
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
            upstream: 0,
            receives: number != 0,
            is_paused: false,
            delay_ms: 1,
            conflicts: 0,
            sessions: 0,
            most_sessions: usize::MAX,
        }
    }

    /// Whether it serves clients, if they reach it.
    pub(crate) fn serves(&self) -> bool {
        self.is_up && self.frozen == Frozen::Nothing
    }

    /// What a statement that runs now is shown.
    pub(crate) fn snapshot(&self, history: &History) -> Snapshot {
        let (len, hidden) = match self.is_primary {
            true => (history.len(self.branch), self.hidden.iter().copied().collect()),
            false => (self.replayed, Vec::new()),
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

    /// It comes back as what it was; a replica a little older than it was.
    pub(crate) fn start(&mut self, older: usize) {
        self.is_up = true;
        self.run += 1;
        if !self.is_primary {
            self.replayed = self.replayed.saturating_sub(older).max(1);
            self.due.push_back((0, self.durable));
        }
    }

    /// A replica replays all that it has, and begins a branch of its own.
    pub(crate) fn promote(&mut self, history: &mut History) {
        self.branch = history.part(self.branch, self.durable, self.number, self.source);
        self.durable = history.len(self.branch);
        self.replayed = self.durable;
        self.due.clear();
        self.is_primary = true;
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
