//! All servers, the network between them and their clients, and the truth.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    draw::Draw,
    error::Trouble,
    history::{CommitId, History, Snapshot, WriteId},
    plant::Plant,
    scenario::{Kind, Scenario},
    server::{Frozen, Server},
    trace::Trace,
    violation::Violation,
};

/// The number of a connection.
pub(crate) type LinkId = u64;

/// One connection of a client to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) process: usize,
    pub(crate) server: usize,
    /// The run of the server that it leads to.
    pub(crate) run: u32,
    /// Whether its session refuses to write.
    pub(crate) is_reading: bool,
    pub(crate) is_broken: bool,
}

/// A transaction that is open on a connection.
#[derive(Debug, Default)]
pub(crate) struct OpenTransaction {
    pub(crate) is_reading: bool,
    pub(crate) writes: Vec<WriteId>,
}

/// What is true at this moment.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) servers: Vec<Server>,
    pub(crate) history: History,
    /// The server behind each address.
    pub(crate) addresses: Vec<usize>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) transactions: BTreeMap<LinkId, OpenTransaction>,
    next_link: LinkId,
    /// Processes that do not reach a server: nothing arrives, and nobody is told.
    pub(crate) cut: Vec<(usize, usize)>,
    /// Servers that do not reach another one.
    pub(crate) cut_off: Vec<usize>,
    pub(crate) draw: Draw,
    pub(crate) trace: Trace,
    pub(crate) snapshots: Vec<Snapshot>,
    /// What became of each write that a server has committed.
    pub(crate) commits_of: BTreeMap<WriteId, Vec<CommitId>>,
    /// The newest timeline that a probe has told each process of. Where histories have no numbers,
    /// only their primaries tell.
    pub(crate) told_timeline: Vec<u32>,
    /// The timeline of the primary that each process has chosen last.
    pub(crate) elected_timeline: Vec<u32>,
    /// How many probes each process has sent to each server, and when the last second began.
    pub(crate) probes: BTreeMap<(usize, usize), (u64, u32)>,
    pub(crate) kind: Kind,
    pub(crate) plant: Plant,
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// Why a server does not do what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    ReadOnly,
    Conflict,
    Full,
}

/// The world, which everybody holds.
#[derive(Debug)]
pub(crate) struct World {
    state: Mutex<State>,
    /// Something about servers or the network is different.
    changed: Notify,
    /// A log is longer.
    grew: Notify,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Arc<Self> {
        let Scenario { seed, kind, servers, processes, plant, .. } = *scenario;
        let state = State {
            servers: (0..servers).map(Server::new).collect(),
            history: History::new(0),
            addresses: (0..servers).collect(),
            links: BTreeMap::new(),
            transactions: BTreeMap::new(),
            next_link: 1,
            cut: Vec::new(),
            cut_off: Vec::new(),
            draw: Draw::new(seed),
            trace: Trace::new(),
            snapshots: Vec::new(),
            commits_of: BTreeMap::new(),
            told_timeline: vec![0; processes],
            elected_timeline: vec![0; processes],
            probes: BTreeMap::new(),
            kind,
            plant,
            violations: Vec::new(),
            counts: BTreeMap::new(),
        };
        let (changed, grew) = (Notify::new(), Notify::new());
        Arc::new(World { state: Mutex::new(state), changed, grew })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that somebody may wait for.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        self.grew.notify_waiters();
        result
    }

    /// A log has grown.
    pub(crate) fn note_growth(&self) {
        self.grew.notify_waiters();
    }

    /// The next growth of a log, or any other change.
    pub(crate) fn growth(&self) -> tokio::sync::futures::Notified<'_> {
        self.grew.notified()
    }

    /// Waits until `holds`.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Lets some time pass.
    pub(crate) async fn pass(&self, least_ms: u64, most_ms: u64) {
        let ms = self.lock().draw.within(least_ms..=most_ms);
        match ms {
            0 => tokio::task::yield_now().await,
            ms => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }

    /// The way of a message from one end of a connection to the other. `false` if it broke.
    pub(crate) async fn travel(&self, link: LinkId) -> bool {
        self.pass(0, 2).await;
        let mut arrives = false;
        self.until(|state| {
            let Some(it) = state.links.get(&link) else { return true };
            let is_cut = state.is_cut(it.process, it.server);
            arrives = !is_cut && !it.is_broken;
            !is_cut
        })
        .await;
        arrives
    }

    /// Waits while the server of a connection does nothing for it. `false` if it broke.
    pub(crate) async fn served(&self, link: LinkId, is_probe: bool) -> bool {
        let mut lives = false;
        self.until(|state| {
            let Some(it) = state.links.get(&link) else { return true };
            let frozen = state.servers[it.server].frozen;
            let stands = frozen == Frozen::Everything || (frozen == Frozen::Queries && !is_probe);
            lives = !it.is_broken;
            !lives || !stands
        })
        .await;
        lives
    }
}

/// A connection that is closed when this is dropped, unless it is kept.
pub(crate) struct Opened<'a> {
    world: &'a World,
    link: Option<LinkId>,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(world: &'a World, link: LinkId) -> Self {
        Opened { world, link: Some(link) }
    }

    pub(crate) fn keep(mut self) {
        self.link = None;
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.link {
            self.world.lock().close(link);
        }
    }
}

impl State {
    pub(crate) fn is_cut(&self, process: usize, server: usize) -> bool {
        self.cut.contains(&(process, server))
    }

    /// What a server says, in the words of its kind.
    pub(crate) fn says(&self, refusal: Refusal) -> Trouble {
        Trouble::Code(match (self.kind, refusal) {
            (Kind::Timelines, Refusal::ReadOnly) => "25006",
            (Kind::Timelines, Refusal::Conflict) => "40001",
            (Kind::Timelines, Refusal::Full) => "53300",
            (Kind::GtidSets | Kind::GtidLists, Refusal::ReadOnly) => "1290",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Conflict) => "1213",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Full) => "1040",
        })
    }

    /// The timeline that a server tells a process of.
    pub(crate) fn heard_by(&self, server: usize) -> u32 {
        let its = &self.servers[server];
        match its.is_primary || self.kind == Kind::Timelines {
            true => self.history.branches[its.branch].timeline,
            false => 0,
        }
    }

    pub(crate) fn hears(&mut self, process: usize, timeline: u32) {
        let told = &mut self.told_timeline[process];
        *told = timeline.max(*told);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.trace.now_ms()
    }

    pub(crate) fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    /// A connection to a server that takes it.
    pub(crate) fn open(&mut self, process: usize, server: usize, is_reading: bool) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        let its = &mut self.servers[server];
        its.sessions += 1;
        let run = its.run;
        self.links.insert(id, Link { process, server, run, is_reading, is_broken: false });
        id
    }

    /// The client has closed it.
    pub(crate) fn close(&mut self, link: LinkId) {
        self.transactions.remove(&link);
        if let Some(it) = self.links.remove(&link)
            && !it.is_broken
        {
            self.servers[it.server].sessions -= 1;
        }
    }

    /// Breaks connections.
    pub(crate) fn break_links(&mut self, which: impl Fn(&Link) -> bool) {
        for link in self.links.values_mut().filter(|it| !it.is_broken && which(it)) {
            link.is_broken = true;
            self.servers[link.server].sessions -= 1;
        }
    }

    /// The server of a connection that lives.
    pub(crate) fn server_of(&mut self, link: LinkId) -> Option<&mut Server> {
        let link = self.links.get(&link).filter(|it| !it.is_broken)?;
        self.servers.get_mut(link.server)
    }

    pub(crate) fn show(&mut self, server: usize) -> usize {
        let snapshot = self.servers[server].snapshot(&self.history);
        self.snapshots.push(snapshot);
        self.snapshots.len() - 1
    }
}
