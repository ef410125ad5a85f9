//! A probe of a simulated server, which holds to what the real probe of PostgreSQL does: one
//! connection that is kept, one round trip, one more try on a new connection.

use std::sync::Arc;

use sealane_core::{
    Database, Failure, Feed, Incarnation, Position, ReadOnly, Replication, Report, Role, ServerInfo,
};
use sealane_monitor::Probe;

use crate::{
    error::Trouble,
    lender::{connect, in_words, incarnation, run_of},
    oracle, place,
    plant::Plant,
    replication::flows,
    scenario::Kind,
    server::{Server, Subscription},
    violation::Violation,
    world::{Leads, Link, LinkId, Opened, State, Way, World},
};

/// More probes in a second than the budget of 200 allows, with what may be saved of the second
/// before, and with those that could not wait.
const MOST_PROBES: u32 = 450;

/// Probes the server behind an address.
#[derive(Debug)]
pub(crate) struct SimProbe {
    world: Arc<World>,
    process: usize,
    endpoint: usize,
    link: Option<LinkId>,
    /// The run that was seen last, and its newest timeline.
    timeline: Option<(Incarnation, u32)>,
    last: Option<Report>,
    database: Arc<Database>,
}

impl SimProbe {
    pub(crate) fn new(world: Arc<World>, process: usize, endpoint: usize) -> Self {
        let database = Arc::new(Database { name: "shop".into(), number: Some(5) });
        SimProbe { world, process, endpoint, link: None, timeline: None, last: None, database }
    }

    async fn connected(&self) -> Result<LinkId, Failure> {
        connect(&self.world, self.process, self.endpoint, true).await.map_err(failure)
    }

    /// Asks on a connection, which is kept if it answers.
    async fn ask_on(&mut self, link: LinkId) -> Result<Report, Trouble> {
        let opened = Opened::new(&self.world, link);
        if !self.world.travel(link, Way::There).await {
            return Err(Trouble::Lost);
        }
        self.world.pass(0, 1).await;
        if !self.world.served(link, true).await {
            return Err(Trouble::Lost);
        }
        let (heard, report) = {
            let mut state = self.world.lock();
            let Some(server) = state.server_of(link).map(|it| it.number) else {
                return Err(Trouble::Lost);
            };
            count(&mut state, self.process, server);
            match state.links[&link].leads {
                Leads::Here => (state.heard_by(server), report(&state, server)),
                Leads::OtherDatabase => {
                    let database =
                        Some(Arc::new(Database { name: "attic".into(), number: Some(6) }));
                    (state.heard_by(server), Report { database, ..report(&state, server) })
                }
                Leads::OtherSystem => (0, stranger(&state, &state.links[&link])),
            }
        };
        if !self.world.travel(link, Way::Back).await {
            return Err(Trouble::Lost);
        }
        opened.keep();
        self.link = Some(link);
        self.world.lock().hears(self.process, heard);
        Ok(self.told(report))
    }

    /// What the probe makes of an answer.
    fn told(&mut self, mut report: Report) -> Report {
        if let Some(Position::Wal { timeline, .. }) = &mut report.position {
            // Within one run a replica does not go back.
            if let Some((run, newest)) = &self.timeline
                && *run == report.incarnation
            {
                *timeline = (*timeline).max(*newest);
            }
            self.timeline = Some((report.incarnation.clone(), *timeline));
        }
        if report.subscription.is_none() && report.database.is_none() {
            report.database = Some(Arc::clone(&self.database));
        }
        let last = self.last.replace(report.clone());
        match (self.world.lock().plant, last) {
            (Plant::OldSample, Some(last)) if last.role == Role::Primary => {
                Report { position: last.position, ..report }
            }
            _ => report,
        }
    }
}

impl Probe for SimProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        if let Some(link) = self.link.take() {
            match self.ask_on(link).await {
                Err(Trouble::Lost | Trouble::Refused) => {}
                answer => return answer.map_err(failure),
            }
        }
        let link = self.connected().await?;
        self.ask_on(link).await.map_err(failure)
    }

    fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            self.world.lock().close(link);
        }
    }

    fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    fn system(&self) -> &'static str {
        "postgresql"
    }
}

impl Drop for SimProbe {
    fn drop(&mut self) {
        self.disconnect();
    }
}

fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Lost | Trouble::Refused => Failure::Connection(in_words(trouble)),
        Trouble::Code(_) => Failure::Unavailable(in_words(trouble)),
    }
}

/// Holds the number of probes against the budget.
fn count(state: &mut State, process: usize, server: usize) {
    let second = state.now_ms() / 1_000;
    let (of, count) = state.probes.entry((process, server)).or_default();
    if *of != second {
        (*of, *count) = (second, 0);
    }
    *count += if state.plant == Plant::ManyProbes { 30 } else { 1 };
    if *count >= MOST_PROBES {
        let in_a_second = std::mem::take(count);
        let violation = Violation::TooManyProbes { process, server, in_a_second };
        oracle::note(state, violation, None);
    }
    state.count("probes");
}

/// What a logical subscriber says of itself now: places of a log, and not of which.
fn report_of_subscriber(state: &State, its: &Server, subscription: &Subscription) -> Report {
    let runs = flows(state, its.number);
    let copies = state.now_ms() < subscription.copies_until_ms;
    let told = |len: usize| runs.then_some(place::lsn(len));
    let subscription = sealane_core::Subscription {
        id: subscription.id,
        slot: slot(its).into(),
        applied: told(its.replayed),
        received: told(its.durable),
    };
    Report {
        replication: match (copies, runs) {
            (true, _) => Replication::Copying,
            (false, true) => Replication::Running,
            (false, false) => Replication::Stopped,
        },
        subscription: Some(subscription),
        search_path: Some(its.search_path.into()),
        info: ServerInfo {
            identity: Some(format!("subscriber {}", its.number).into()),
            writable: Some(true),
            receives: Some(runs),
            applies: Some(runs),
            ..ServerInfo::default()
        },
        ..Report::new(Role::Replica, incarnation(its.number, its.run, state.plant))
    }
}

/// What a server of another system says of itself. Every other one is a primary.
fn stranger(state: &State, link: &Link) -> Report {
    let role = if link.server.is_multiple_of(2) { Role::Primary } else { Role::Replica };
    let is_replica = role == Role::Replica;
    let position = Some(place::elsewhere(state.kind));
    Report {
        received: position.clone().filter(|_| is_replica),
        position,
        search_path: Some("public".into()),
        replication: if is_replica { Replication::Running } else { Replication::NotApplicable },
        info: ServerInfo { writable: Some(!is_replica), ..ServerInfo::default() },
        ..Report::new(role, run_of(link, state.plant))
    }
}

fn slot(its: &Server) -> String {
    format!("boats_{}", its.number)
}

/// The subscribers that a primary sends to now.
fn feeds(state: &State, server: usize) -> Arc<[Feed]> {
    let reads = |it: &&Server| it.upstream == server && flows(state, it.number);
    let fed = state.servers.iter().filter(reads).filter_map(|it| {
        let confirmed = Some(place::lsn(it.subscription.as_ref()?.confirmed));
        Some(Feed { slot: slot(it), confirmed })
    });
    fed.collect()
}

/// What a server says of itself now.
fn report(state: &State, server: usize) -> Report {
    let its = &state.servers[server];
    if let Some(subscription) = &its.subscription {
        return report_of_subscriber(state, its, subscription);
    }
    let plant = state.plant;
    let replayed = match plant {
        Plant::ReceivedAsReplayed => its.durable,
        Plant::AlwaysFresh => state.history.len(its.branch),
        _ => its.replayed,
    };
    let (role, position, received) = match its.is_primary {
        true => (Role::Primary, place::position(state, its, state.history.len(its.branch)), None),
        false => {
            let received = place::position(state, its, its.durable);
            (Role::Replica, place::position(state, its, replayed), Some(received))
        }
    };
    let position = Some(position).filter(|_| its.is_primary || plant != Plant::NoPositions);
    let replication = match (its.is_primary, its.receives, its.is_paused) {
        (true, _, _) => Replication::NotApplicable,
        (false, true, true) => Replication::Paused,
        (false, true, false) => Replication::Running,
        (false, false, _) => Replication::Stopped,
    };
    let is_numbered = state.kind == Kind::Timelines;
    let transactions = its.is_primary.then(|| place::shown(state, its));
    let ancestry = match plant {
        Plant::NoAncestry => None,
        _ => place::ancestry(state, its, replayed),
    };
    let info = ServerInfo {
        identity: Some(place::identity(state, its).into()),
        writable: Some(its.is_primary),
        receives: (!its.is_primary).then_some(its.receives),
        applies: (!its.is_primary).then_some(!its.is_paused),
        monitors: u32::try_from(state.told_timeline.len()).ok(),
        read_only: is_numbered.then_some(ReadOnly::Session),
        ..ServerInfo::default()
    };
    let run = incarnation(server, its.run, plant);
    Report {
        search_path: Some(its.search_path.into()),
        position,
        received,
        replication,
        transactions,
        ancestry,
        sources: place::followed(state, its).into_iter().collect(),
        feeds: if its.is_primary { feeds(state, server) } else { Arc::default() },
        info,
        ..Report::new(role, run)
    }
}
