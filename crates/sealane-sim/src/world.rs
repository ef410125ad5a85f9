//! All servers, the network between them and their clients, and the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    draw::Draw,
    error::Trouble,
    history::{BranchId, CommitId, History, Snapshot, WriteId},
    plant::Plant,
    scenario::{Kind, Scenario},
    server::{Frozen, Server, Subscription},
    trace::Trace,
    violation::Violation,
};

/// The number of a connection.
pub(crate) type LinkId = u64;

/// One connection of a client to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) process: usize,
    address: usize,
    pub(crate) server: usize,
    /// The run of the server that it leads to.
    pub(crate) run: u32,
    pub(crate) leads: Leads,
    /// Whether its session refuses to write.
    pub(crate) is_reading: bool,
    pub(crate) is_broken: bool,
    /// Whether nothing is done on it any more: what is sent finds it closed.
    pub(crate) is_ending: bool,
}

/// What a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Our data.
    Here,
    /// Another database on our server.
    OtherDatabase,
    /// A server of another system, which has the place of ours in the network.
    OtherSystem,
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
    /// Addresses that lead to a server of another system.
    pub(crate) strangers: BTreeSet<usize>,
    /// A process and an address at which its URL names another database.
    misled: Option<(usize, usize)>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) transactions: BTreeMap<LinkId, OpenTransaction>,
    next_link: LinkId,
    /// Processes that do not reach a server: nothing arrives, and nobody is told.
    pub(crate) cut: Vec<(usize, usize)>,
    /// Processes that reach a server, and to which nothing comes back from it.
    pub(crate) deaf: Vec<(usize, usize)>,
    /// Addresses that a process has drained or removed: none of its statements may go there.
    pub(crate) drained: BTreeSet<(usize, usize)>,
    /// How many sessions each statement that does so has ended, by its number.
    pub(crate) killed: BTreeMap<u64, usize>,
    /// Whether a commit is answered only when a replica has it on its disk.
    pub(crate) is_synchronous: bool,
    /// Servers that do not reach another one.
    pub(crate) cut_off: Vec<usize>,
    pub(crate) draw: Draw,
    pub(crate) trace: Trace,
    pub(crate) snapshots: Vec<Snapshot>,
    /// What became of each write that a server has committed.
    pub(crate) commits_of: BTreeMap<WriteId, Vec<CommitId>>,
    /// Writes of which a client was told that they were carried out.
    pub(crate) acknowledged: Vec<WriteId>,
    /// The newest timeline that a probe has told each process of. Where histories have no numbers,
    /// only their primaries tell.
    pub(crate) told_timeline: Vec<u32>,
    /// The server that each process takes for the primary. It may have become a replica meanwhile.
    pub(crate) primary_of: Vec<Option<usize>>,
    /// The timeline of the primary that each process has chosen last.
    pub(crate) elected_timeline: Vec<u32>,
    /// The processes and the timelines of the primaries that each has ever chosen.
    pub(crate) elected: BTreeSet<(usize, u32)>,
    /// The processes that took a primary that came back for one that was promoted: see `oracle`.
    pub(crate) mistaken: BTreeSet<usize>,
    /// How many probes each process has sent to each server, and when the last second began.
    pub(crate) probes: BTreeMap<(usize, usize), (u64, u32)>,
    /// How many of a hundred starts of a server are with a filter.
    pub(crate) filters_percent: u64,
    /// What the view is now.
    pub(crate) sight: View,
    /// The last view that each process was told to have made.
    pub(crate) made_sight: Vec<View>,
    pub(crate) kind: Kind,
    pub(crate) plant: Plant,
    pub(crate) violations: Vec<Violation>,
    pub(crate) counts: BTreeMap<String, u64>,
}

/// What a view is: each change of it has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct View {
    pub(crate) number: u64,
    /// Whether reading it takes a lock, so that replicas must not be asked.
    pub(crate) locks: bool,
}

/// Why a server does not do what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    ReadOnly,
    Conflict,
    Full,
    /// It does not have a table.
    Lacks,
    /// A division by zero.
    Wrong,
}

/// The world, which everybody holds.
#[derive(Debug)]
pub(crate) struct World {
    state: Mutex<State>,
    /// Something about servers or the network is different.
    changed: Notify,
    /// A log is longer.
    grew: Notify,
    /// A replica has more of a log on its disk.
    received: Notify,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a client to a server.
    There,
    /// From a server to a client.
    Back,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Arc<Self> {
        let Scenario { seed, kind, servers, processes, is_synchronous, plant, .. } = *scenario;
        let mut servers: Vec<_> = (0..servers).map(Server::new).collect();
        if let Some(last) = servers.last_mut().filter(|_| scenario.has_subscriber) {
            last.subscription = Some(Subscription { id: 1, ..Subscription::default() });
        }
        if let Some(other) = scenario.other_path.and_then(|other| servers.get_mut(other)) {
            other.search_path = "attic";
        }
        let state = State {
            addresses: (0..servers.len()).collect(),
            strangers: BTreeSet::new(),
            misled: scenario.misled,
            servers,
            history: History::new(0),
            links: BTreeMap::new(),
            transactions: BTreeMap::new(),
            next_link: 1,
            cut: Vec::new(),
            deaf: Vec::new(),
            drained: BTreeSet::new(),
            killed: BTreeMap::new(),
            is_synchronous,
            cut_off: Vec::new(),
            draw: Draw::new(seed),
            trace: Trace::new(),
            snapshots: Vec::new(),
            commits_of: BTreeMap::new(),
            acknowledged: Vec::new(),
            // One may come later.
            told_timeline: vec![0; processes + 1],
            primary_of: vec![None; processes + 1],
            elected_timeline: vec![0; processes + 1],
            elected: BTreeSet::new(),
            mistaken: BTreeSet::new(),
            probes: BTreeMap::new(),
            filters_percent: scenario.tables.map_or(0, |it| it.filters_percent),
            sight: View::default(),
            made_sight: vec![View::default(); processes + 1],
            kind,
            plant,
            violations: Vec::new(),
            counts: BTreeMap::new(),
        };
        let (changed, grew, received) = (Notify::new(), Notify::new(), Notify::new());
        Arc::new(World { state: Mutex::new(state), changed, grew, received })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that somebody may wait for.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        self.grew.notify_waiters();
        self.received.notify_waiters();
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

    /// A replica has received something.
    pub(crate) fn note_receipt(&self) {
        self.received.notify_waiters();
    }

    /// Waits until `holds`, of servers and the network.
    pub(crate) async fn until(&self, holds: impl FnMut(&State) -> bool) {
        self.noticed(&self.changed, holds).await;
    }

    /// Waits until `holds`, of what replicas have on their disks.
    pub(crate) async fn until_received(&self, holds: impl FnMut(&State) -> bool) {
        self.noticed(&self.received, holds).await;
    }

    async fn noticed(&self, what: &Notify, mut holds: impl FnMut(&State) -> bool) {
        loop {
            let noticed = what.notified();
            tokio::pin!(noticed);
            noticed.as_mut().enable();
            if holds(&self.lock()) {
                return;
            }
            noticed.await;
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

    /// A message goes from one end of a connection to the other. `false` if it broke.
    pub(crate) async fn travel(&self, link: LinkId, way: Way) -> bool {
        self.pass(0, 2).await;
        let mut arrives = false;
        self.until(|state| {
            let Some(it) = state.links.get(&link) else { return true };
            let is_cut = state.is_cut(it.process, it.server, way);
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
            lives = !it.is_broken && !it.is_ending;
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
    pub(crate) fn is_cut(&self, process: usize, server: usize, way: Way) -> bool {
        let ends = (process, server);
        self.cut.contains(&ends) || (way == Way::Back && self.deaf.contains(&ends))
    }

    /// A process chooses a primary of this timeline.
    pub(crate) fn elect(&mut self, process: usize, timeline: u32) {
        self.elected_timeline[process] = timeline;
        let newest = self.history.branches[self.history.current].timeline;
        let is_new = |branch: usize| self.history.branches[branch].timeline == newest;
        let is_there = |server: &Server| {
            let is_cut = self.is_cut(process, server.number, Way::Back);
            server.is_up && server.is_primary && is_new(server.branch) && !is_cut
        };
        let looks_promoted = timeline < newest
            && self.kind != Kind::Timelines
            && !self.elected.contains(&(process, timeline))
            && !self.servers.iter().any(is_there);
        self.elected.insert((process, timeline));
        match looks_promoted {
            true => self.mistaken.insert(process),
            false => self.mistaken.remove(&process),
        };
        if looks_promoted {
            self.count("returned primaries that looked promoted");
        }
    }

    /// Whether a process that is mistaken was shown what its primary has.
    pub(crate) fn is_mistaken(&self, process: usize, shown: &Snapshot) -> bool {
        let timeline = self.history.branches[shown.branch].timeline;
        self.mistaken.contains(&process) && timeline <= self.elected_timeline[process]
    }

    /// How much of what was shown is also on the branch of the primary that a process has chosen last.
    pub(crate) fn known_to_primary(&self, process: usize, shown: Snapshot) -> Snapshot {
        let elected = self.elected_timeline[process];
        let chosen = self.history.branches.iter().position(|it| it.timeline == elected);
        let shared = chosen.map_or(0, |chosen| self.history.shared(shown.branch, chosen));
        Snapshot { len: shown.len.min(shared), ..shown }
    }

    /// What a server says, in the words of its kind.
    pub(crate) fn says(&self, refusal: Refusal) -> Trouble {
        Trouble::Code(self.code_of(refusal))
    }

    pub(crate) fn code_of(&self, refusal: Refusal) -> &'static str {
        match (self.kind, refusal) {
            (Kind::Timelines, Refusal::ReadOnly) => "25006",
            (Kind::Timelines, Refusal::Conflict) => "40001",
            (Kind::Timelines, Refusal::Full) => "53300",
            (Kind::Timelines, Refusal::Lacks) => "42P01",
            (Kind::Timelines, Refusal::Wrong) => "22012",
            (Kind::GtidSets | Kind::GtidLists, Refusal::ReadOnly) => "1290",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Conflict) => "1213",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Full) => "1040",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Lacks) => "1146",
            (Kind::GtidSets | Kind::GtidLists, Refusal::Wrong) => "1365",
        }
    }

    /// The timeline that a server tells a process of.
    pub(crate) fn heard_by(&self, server: usize) -> u32 {
        let its = &self.servers[server];
        let is_numbered = self.kind == Kind::Timelines && its.subscription.is_none();
        match its.is_primary || is_numbered {
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

    /// A connection to the server at an address, which takes it.
    pub(crate) fn open(&mut self, process: usize, address: usize, is_reading: bool) -> LinkId {
        let id = self.next_link;
        self.next_link += 1;
        let server = self.addresses[address];
        let leads = match self.misled {
            _ if self.strangers.contains(&address) => Leads::OtherSystem,
            Some(misled) if misled == (process, address) => Leads::OtherDatabase,
            Some(_) | None => Leads::Here,
        };
        let its = &mut self.servers[server];
        its.sessions += 1;
        let run = its.run;
        let (is_broken, is_ending) = (false, false);
        let link = Link { process, address, server, run, leads, is_reading, is_broken, is_ending };
        self.links.insert(id, link);
        id
    }

    /// An address leads to another system, or back to ours.
    pub(crate) fn lead_astray(&mut self, address: usize, is_astray: bool) {
        let has_changed = match is_astray {
            true => self.strangers.insert(address),
            false => self.strangers.remove(&address),
        };
        if has_changed && !is_astray {
            self.break_links(|it| it.address == address && it.leads == Leads::OtherSystem);
        }
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

    /// The server closes a connection behind its last answer.
    pub(crate) fn end_after(&mut self, link: LinkId) {
        if let Some(it) = self.links.get_mut(&link) {
            it.is_ending = true;
        }
    }

    /// Whether a replica has this place of a branch on its disk.
    pub(crate) fn is_on_a_replica(&self, branch: BranchId, place: usize) -> bool {
        self.servers.iter().any(|it| {
            it.is_physical_replica()
                && it.durable > place
                && self.history.shared(it.branch, branch) > place
        })
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
