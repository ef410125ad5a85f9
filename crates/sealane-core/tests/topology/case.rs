//! One case of the specification, as written in its file. tests/spec/README.md explains the words.

use std::{fmt, time::Duration};

use sealane_core::{
    Ancestry, Condition, Database, Endpoint, EndpointId, EndpointSet, Event, Failure, Feed,
    HealthPolicy, Incarnation, Lsn, Moment, Observation, Outcome, Position, Replication, Report,
    Role, ServerInfo, Source, Subscription, Topology, TopologyReducer, Transactions, WriteStamp,
};
use serde::Deserialize;

use crate::expect::Expect;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub case: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The specified behaviour, as a sentence.
    pub says: String,
    #[serde(default)]
    pub engine: Engine,
    #[serde(default = "three")]
    pub endpoints: usize,
    #[serde(default)]
    pub policy: Policy,
    pub steps: Vec<Step>,
    /// What holds after the last step.
    #[serde(default)]
    pub then: Expect,
}

/// Settings that replace the defaults; times in milliseconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    down_after: Option<u32>,
    down_ratio: Option<f64>,
    up_after: Option<u32>,
    back_off: Option<u64>,
    back_off_cap: Option<u64>,
    forgiven_after: Option<u64>,
    lagging_above: Option<u64>,
    lagging_until: Option<u64>,
    replaced_after: Option<u64>,
}

impl Policy {
    fn build(&self) -> HealthPolicy {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        let mut policy = HealthPolicy::default();
        let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
        set(&mut policy.down_after, self.down_after);
        set(&mut policy.down_ratio, self.down_ratio);
        set(&mut policy.up_after, self.up_after);
        set(&mut policy.back_off, ms(self.back_off));
        set(&mut policy.back_off_cap, ms(self.back_off_cap));
        set(&mut policy.forgiven_after, ms(self.forgiven_after));
        set(&mut policy.lagging_above, ms(self.lagging_above));
        set(&mut policy.lagging_until, ms(self.lagging_until));
        set(&mut policy.replaced_after, ms(self.replaced_after));
        policy
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    #[default]
    Postgres,
    Mysql,
    Mariadb,
    Aurora,
}

/// What people do to an endpoint while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Done {
    /// It is added, under the next number.
    Added,
    Removed,
    Drained,
    Undrained,
}

impl Done {
    fn apply(self, reducer: &mut TopologyReducer, of: EndpointId) -> Vec<Event> {
        match self {
            Done::Added => {
                let vacancy = reducer.vacancy(EndpointSet::EMPTY).expect("a place");
                assert_eq!(vacancy, of, "the number of the endpoint that is added");
                let name = format!("endpoint-{}", of.place());
                reducer.add(of, Endpoint::new(name, "")).into_iter().collect()
            }
            Done::Removed => reducer.remove(of),
            Done::Drained => reducer.set_draining(of, true).into_iter().collect(),
            Done::Undrained => reducer.set_draining(of, false).into_iter().collect(),
        }
    }
}

/// One observation, with the changes that it causes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The endpoint observed.
    pub of: usize,
    /// When the endpoint was asked, in milliseconds.
    pub at: u64,
    /// How long the answer took, in milliseconds.
    #[serde(default = "one")]
    pub took: u64,
    #[serde(default)]
    pub stamp: u64,
    /// What was done to the endpoint, instead of observing it.
    pub done: Option<Done>,
    pub primary: Option<String>,
    pub replica: Option<String>,
    pub failed: Option<String>,
    pub replication: Option<Replication>,
    pub run: Option<String>,
    /// The identity that the server reports, and the name of its run.
    pub server: Option<String>,
    /// The database that the endpoint leads to, as `name` or `name:number`.
    pub database: Option<String>,
    pub search_path: Option<String>,
    /// How far a replica has received.
    pub received: Option<String>,
    /// The endpoint whose UUID (MySQL) or number (MariaDB) the server has, if not this one.
    pub names_itself: Option<usize>,
    /// The endpoints whose servers a replica receives from, if it tells.
    #[serde(default)]
    pub follows: Vec<usize>,
    /// The `gtid_binlog_state` of a MariaDB server, if it is more than its position.
    pub passed: Option<String>,
    /// What a MySQL primary shows, if it is less than its position: the rest is about to commit.
    pub shows: Option<String>,
    /// What a subscriber has applied.
    pub subscriber: Option<String>,
    /// The number of the subscription, which reads from the slot `s`.
    #[serde(default = "one_subscription")]
    pub subscription: u32,
    /// The slots that a primary sends to: `slot`, or `slot:confirmed`.
    #[serde(default)]
    pub feeds: Vec<String>,
    /// All events of this step, in their order.
    pub events: Option<Vec<String>>,
    pub then: Option<Expect>,
}

fn three() -> usize {
    3
}

fn one() -> u64 {
    1
}

fn one_subscription() -> u32 {
    1
}

fn lsn(text: &str) -> Lsn {
    Lsn::from_bytes(text.parse().expect("a number"))
}

fn feed(text: &str) -> Feed {
    let (slot, confirmed) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
    Feed { slot: slot.into(), confirmed: confirmed.map(lsn) }
}

fn database(text: &str) -> Database {
    let (name, number) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
    let number = number.map(|number| number.parse().expect("a number"));
    Database { name: name.into(), number }
}

pub fn id(index: usize) -> EndpointId {
    EndpointId::from_index(index).expect("an endpoint of the case")
}

pub fn ms(ms: u64) -> Moment {
    Moment::from_origin(Duration::from_millis(ms))
}

impl Case {
    pub fn reducer(&self) -> TopologyReducer {
        let name = |index| Endpoint::new(format!("endpoint-{index}"), "");
        let topology = Topology::new((0..self.endpoints).map(name).collect());
        TopologyReducer::with_policy(topology, self.policy.build())
    }

    /// All differences from the case; `apply` is the fold under test.
    pub fn check(
        &self,
        mut apply: impl FnMut(&mut TopologyReducer, &Observation) -> Vec<sealane_core::Event>,
    ) -> Vec<String> {
        let mut reducer = self.reducer();
        let mut faults = Vec::new();
        let mut now = Moment::ZERO;
        for (number, step) in (1..).zip(&self.steps) {
            let events = match step.done {
                Some(done) => done.apply(&mut reducer, id(step.of)),
                None => {
                    let observation = step.observation(self.engine);
                    now = now.max(observation.finished);
                    apply(&mut reducer, &observation)
                }
            };
            let events: Vec<String> = events.iter().map(crate::expect::event).collect();
            if let Some(expected) = &step.events {
                differ(&mut faults, &format!("events of step {number}"), &events, expected);
            }
            if !names_its_replicas_in_use(reducer.topology()) {
                faults.push(format!("step {number}: the set of replicas in use is not up to date"));
            }
            if let Some(expect) = &step.then {
                let found = expect.check(self.engine, reducer.topology(), now);
                faults.extend(found.into_iter().map(|fault| format!("step {number}: {fault}")));
            }
        }
        faults.extend(self.then.check(self.engine, reducer.topology(), now));
        faults
    }
}

/// Records a difference.
pub fn differ<T: PartialEq + fmt::Debug>(
    faults: &mut Vec<String>,
    what: &str,
    found: &T,
    expected: &T,
) {
    if found != expected {
        faults.push(format!("{what}: {found:?}, expected {expected:?}"));
    }
}

/// The UUID of the MySQL server of this endpoint.
fn uuid(of: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(of).expect("an endpoint"));
    with_uuids(&format!("{letter}:1")).trim_end_matches(":1").to_owned()
}

/// The server of an endpoint, as its replicas name it.
fn source(engine: Engine, of: usize) -> Option<Source> {
    match engine {
        Engine::Mysql => Source::mysql(&uuid(of)),
        Engine::Mariadb => Source::mariadb(u32::try_from(of + 1).expect("an endpoint")),
        Engine::Postgres | Engine::Aurora => None,
    }
}

impl Step {
    /// Of the endpoints in their order the MySQL servers are `a`, `b`, `c`, and the MariaDB
    /// servers 1, 2, 3.
    fn ancestry(&self, engine: Engine, text: &str) -> Option<Ancestry> {
        let of = self.names_itself.unwrap_or(self.of);
        let told = match engine {
            Engine::Mysql => Ancestry::mysql(&uuid(of)),
            Engine::Mariadb if text != "?" => {
                let server = u32::try_from(of + 1).expect("an endpoint");
                Ancestry::mariadb(server, self.passed.as_deref().unwrap_or(text))
            }
            Engine::Postgres | Engine::Aurora | Engine::Mariadb => return None,
        };
        Some(told.expect("a server and what it has"))
    }

    fn observation(&self, engine: Engine) -> Observation {
        // Runs of two servers never have the same name.
        let run = format!("{} of {}", self.run.as_deref().unwrap_or("first"), self.of);
        let run = self.server.clone().unwrap_or(run);
        let answered = |role, text: &str, replication| Report {
            position: position(engine, text),
            received: self.received.as_deref().and_then(|text| position(engine, text)),
            replication: self.replication.unwrap_or(replication),
            feeds: self.feeds.iter().map(|text| feed(text)).collect(),
            database: self.database.as_deref().map(|text| database(text).into()),
            search_path: self.search_path.as_deref().map(Into::into),
            ancestry: self.ancestry(engine, text),
            sources: self.follows.iter().filter_map(|of| source(engine, *of)).collect(),
            transactions: self
                .shows
                .as_deref()
                .and_then(|text| position(engine, text))
                .map(Transactions::Within),
            info: ServerInfo {
                identity: self.server.as_deref().map(Into::into),
                ..ServerInfo::default()
            },
            ..Report::new(role, Incarnation::new(run.as_str()))
        };
        let subscribed = |text: &str| Subscription {
            id: self.subscription,
            slot: "s".into(),
            applied: (text != "?").then(|| lsn(text)),
            received: None,
        };
        let outcome = match (&self.primary, &self.replica, &self.subscriber, &self.failed) {
            (Some(text), None, None, None) => {
                Outcome::Answered(answered(Role::Primary, text, Replication::NotApplicable))
            }
            (None, Some(text), None, None) => {
                Outcome::Answered(answered(Role::Replica, text, Replication::Running))
            }
            (None, None, Some(text), None) => Outcome::Answered(Report {
                subscription: Some(subscribed(text)),
                ..answered(Role::Replica, "?", Replication::Running)
            }),
            (None, None, None, Some(kind)) => Outcome::Failed(failure(kind)),
            _ => panic!("a step has one of primary, replica, subscriber, failed: {self:?}"),
        };
        Observation {
            endpoint: id(self.of),
            started: ms(self.at),
            finished: ms(self.at + self.took),
            stamp: WriteStamp::from_number(self.stamp),
            outcome,
        }
    }
}

fn failure(kind: &str) -> Failure {
    match kind {
        "statement" => Failure::Statement("cut".into()),
        "timeout" => Failure::Timeout,
        "connection" => Failure::Connection("reset".into()),
        "misconfigured" => Failure::Misconfigured("no such user".into()),
        "no_database" => Failure::NoDatabase("no such database".into()),
        "unavailable" => Failure::Unavailable("starting up".into()),
        "unexpected" => Failure::Unexpected("nonsense".into()),
        other => panic!("no kind of failure: {other}"),
    }
}

/// `?` is an unknown position, and `opaque` one that tells nothing.
pub fn position(engine: Engine, text: &str) -> Option<Position> {
    if text == "?" {
        return None;
    }
    Some(match engine {
        Engine::Postgres => wal(text),
        Engine::Mysql | Engine::Mariadb if text == "opaque" => Position::Opaque,
        Engine::Mysql => Position::GtidSet(with_uuids(text).parse().expect("a GTID set")),
        Engine::Mariadb => Position::GtidList(text.parse().expect("a GTID list")),
        Engine::Aurora => Position::Opaque,
    })
}

/// `lsn`, `timeline:lsn` or `system:timeline:lsn`, in decimal.
fn wal(text: &str) -> Position {
    let numbers: Vec<u64> = text.split(':').map(|n| n.parse().expect("a number")).collect();
    let (system, timeline, lsn) = match numbers.as_slice() {
        [lsn] => (1, 1, *lsn),
        [timeline, lsn] => (1, *timeline, *lsn),
        [system, timeline, lsn] => (*system, *timeline, *lsn),
        _ => panic!("no position: {text}"),
    };
    let timeline = u32::try_from(timeline).expect("a timeline");
    Position::Wal { system, timeline, lsn: Lsn::from_bytes(lsn) }
}

/// A single letter before a colon stands for a server's UUID.
fn with_uuids(text: &str) -> String {
    let expand = |set: &str| match set.trim_start().split_once(':') {
        Some((name, rest)) if name.len() == 1 => {
            format!("{}-0000-0000-0000-000000000000:{rest}", name.repeat(8))
        }
        _ => set.to_owned(),
    };
    text.split(',').map(expand).collect::<Vec<_>>().join(",")
}

/// Whether the set that plans start from is what the endpoints' conditions say.
fn names_its_replicas_in_use(topology: &Topology) -> bool {
    let (in_use, primary) = (topology.replicas_in_use(), topology.primary());
    topology.iter().all(|(id, state)| {
        let expected = match topology.condition(id) {
            Condition::Unobserved
            | Condition::Down
            | Condition::Probation
            | Condition::Foreign
            | Condition::OtherDatabase
            | Condition::SameServer
            | Condition::Draining
            | Condition::FiltersUnknown
            | Condition::StalePrimary
            | Condition::Copying => false,
            _ => primary != Some(id) && state.role == Role::Replica,
        };
        in_use.contains(id) == expected
    })
}
