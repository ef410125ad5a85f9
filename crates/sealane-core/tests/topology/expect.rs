//! What a case expects from a topology.

use std::{collections::BTreeMap, time::Duration};

use sealane_core::{
    Access, Condition, Consistency, EndpointSet, Event, Health, Moment, Plan, ReadRequest, Role,
    Session, Topology, Verdict, WriteClock,
};
use serde::Deserialize;

use crate::case::{Engine, differ, id, ms, position};

/// The expected values. Only given fields are compared.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The time for staleness and reads, in milliseconds. Default: the end of the last observation.
    pub now: Option<u64>,
    /// An endpoint or "none".
    pub primary: Option<Value>,
    #[serde(default)]
    pub health: BTreeMap<String, String>,
    #[serde(default)]
    pub role: BTreeMap<String, Role>,
    pub foreign: Option<Vec<usize>>,
    #[serde(default)]
    pub condition: BTreeMap<String, Condition>,
    #[serde(default)]
    pub position: BTreeMap<String, String>,
    #[serde(default)]
    pub run: BTreeMap<String, u32>,
    #[serde(default)]
    pub covered: BTreeMap<String, u64>,
    /// In milliseconds or "unknown", like all times.
    #[serde(default)]
    pub staleness: BTreeMap<String, Value>,
    #[serde(default)]
    pub lag: BTreeMap<String, Value>,
    #[serde(default)]
    pub least_lag: BTreeMap<String, Value>,
    /// As text, or "unknown".
    #[serde(default)]
    pub distance: BTreeMap<String, String>,
    #[serde(default)]
    pub to_receive: BTreeMap<String, String>,
    /// The replicas that serve eventual reads.
    pub eventual: Option<Vec<usize>>,
    /// The replicas that serve reads with bounded staleness, by the bound in milliseconds.
    #[serde(default)]
    pub within: BTreeMap<String, Vec<usize>>,
    /// The replicas that serve a session, by the stamp of the session's last write.
    #[serde(default)]
    pub wrote: BTreeMap<String, Vec<usize>>,
    /// Why an endpoint serves no eventual reads.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Number(u64),
    Word(String),
}

impl Value {
    fn millis(duration: Option<Duration>) -> Value {
        duration.map_or_else(
            || Value::Word("unknown".into()),
            |d| Value::Number(u64::try_from(d.as_millis()).expect("not for ever")),
        )
    }
}

fn index(key: &str) -> usize {
    key.parse().expect("an endpoint's place")
}

impl Expect {
    pub fn check(&self, engine: Engine, topology: &Topology, now: Moment) -> Vec<String> {
        let now = self.now.map_or(now, ms);
        let mut faults = Vec::new();
        if let Some(expected) = &self.primary {
            let none = || Value::Word("none".into());
            let found = topology.primary().map_or_else(none, |id| Value::Number(id.place() as u64));
            differ(&mut faults, "primary", &found, expected);
        }
        self.check_states(engine, topology, &mut faults);
        for (key, expected) in &self.staleness {
            let found = Value::millis(topology.staleness(id(index(key)), now));
            differ(&mut faults, &format!("staleness of {key}"), &found, expected);
        }
        for (key, expected) in &self.lag {
            let found = Value::millis(topology.lag(id(index(key))));
            differ(&mut faults, &format!("lag of {key}"), &found, expected);
        }
        for (key, expected) in &self.least_lag {
            let found = Value::millis(topology.least_lag(id(index(key))));
            differ(&mut faults, &format!("least lag of {key}"), &found, expected);
        }
        for (key, expected) in &self.distance {
            let found = topology.distance(id(index(key)));
            let found = found.map_or("unknown".to_owned(), |distance| distance.to_string());
            differ(&mut faults, &format!("distance of {key}"), &found, expected);
        }
        for (key, expected) in &self.to_receive {
            let found = topology.distance_to_receive(id(index(key)));
            let found = found.map_or("unknown".to_owned(), |distance| distance.to_string());
            differ(&mut faults, &format!("distance to receive of {key}"), &found, expected);
        }
        self.check_reads(topology, now, &mut faults);
        faults
    }

    fn check_states(&self, engine: Engine, topology: &Topology, faults: &mut Vec<String>) {
        let state = |key: &str| topology.get(id(index(key))).expect("an endpoint of the case");
        for (key, expected) in &self.health {
            let found = match &state(key).health {
                Health::Unknown => "unknown",
                Health::Up => "up",
                Health::Down { .. } => "down",
                Health::Probation => "probation",
                _ => "new",
            };
            differ(faults, &format!("health of {key}"), &found, &expected.as_str());
        }
        for (key, expected) in &self.role {
            differ(faults, &format!("role of {key}"), &state(key).role, expected);
        }
        for (key, expected) in &self.condition {
            let found = topology.condition(id(index(key)));
            differ(faults, &format!("condition of {key}"), &found, expected);
        }
        if let Some(expected) = &self.foreign {
            let found = topology.iter().filter(|(_, state)| state.foreign);
            differ(faults, "foreign", &found.map(|(id, _)| id.place()).collect(), expected);
        }
        for (key, expected) in &self.position {
            let found = &state(key).position;
            differ(faults, &format!("position of {key}"), found, &position(engine, expected));
        }
        for (key, expected) in &self.run {
            differ(faults, &format!("run of {key}"), &state(key).run, expected);
        }
        for (key, expected) in &self.covered {
            let found = state(key).covered.number();
            differ(faults, &format!("covered of {key}"), &found, expected);
        }
    }

    fn check_reads(&self, topology: &Topology, now: Moment, faults: &mut Vec<String>) {
        let read = |consistency| ReadRequest::new(Access::Read, consistency, now);
        let eventual = read(Consistency::Eventual);
        if let Some(expected) = &self.eventual {
            differ(faults, "eventual reads", &replicas(topology, &eventual), expected);
        }
        for (bound_ms, expected) in &self.within {
            let bound = Duration::from_millis(bound_ms.parse().expect("milliseconds"));
            let found = replicas(topology, &read(Consistency::BoundedStaleness(bound)));
            differ(faults, &format!("reads within {bound_ms}"), &found, expected);
        }
        for (stamp, expected) in &self.wrote {
            let (clock, session) = (WriteClock::default(), Session::own());
            let writes: u64 = stamp.parse().expect("a stamp");
            for _ in 1..writes {
                clock.tick();
            }
            if writes > 0 {
                session.wrote_anything(&clock);
            }
            let request = read(Consistency::ReadYourWrites).with_session(session.view());
            let found = replicas(topology, &request);
            differ(faults, &format!("reads of who wrote {stamp}"), &found, expected);
        }
        for (key, expected) in &self.refused {
            let verdict = Plan::judge(topology, id(index(key)), &eventual);
            differ(faults, &format!("refusal of {key}"), &refusal(&verdict), expected);
        }
    }
}

fn replicas(topology: &Topology, request: &ReadRequest) -> Vec<usize> {
    let set: EndpointSet = Plan::new(topology, request).replicas();
    set.places().collect()
}

fn refusal(verdict: &Verdict) -> String {
    match verdict {
        Ok(()) => "none".to_owned(),
        Err(refusal) => {
            let value = serde_json::to_value(refusal).expect("a refusal is plain data");
            value["refusal"].as_str().unwrap_or_default().to_owned()
        }
    }
}

/// The word that data files use for a unit of an enum.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("plain data");
    value.as_str().unwrap_or_default().to_owned()
}

/// An event in the words of the specification.
pub fn event(event: &Event) -> String {
    let place = |id: &Option<sealane_core::EndpointId>| {
        id.map_or("none".to_owned(), |id| id.place().to_string())
    };
    match event {
        Event::Added { endpoint, .. } => format!("added {}", endpoint.place()),
        Event::Removed { endpoint, .. } => format!("removed {}", endpoint.place()),
        Event::Draining { endpoint, .. } => format!("draining {}", endpoint.place()),
        Event::Undrained { endpoint, .. } => format!("undrained {}", endpoint.place()),
        Event::Up { endpoint } => format!("up {}", endpoint.place()),
        Event::Down { endpoint, .. } => format!("down {}", endpoint.place()),
        Event::RoleChanged { endpoint, from, to } => {
            format!("role {} {from:?} {to:?}", endpoint.place()).to_lowercase()
        }
        Event::PrimaryChanged { from, to } => format!("primary {} {}", place(from), place(to)),
        Event::PrimaryConflict { first, second } => {
            format!("conflict {} {}", first.place(), second.place())
        }
        Event::ReplicationChanged { endpoint, to } => {
            format!("replication {} {to:?}", endpoint.place()).to_lowercase()
        }
        Event::Restarted { endpoint } => format!("restarted {}", endpoint.place()),
        Event::Foreign { endpoint } => format!("foreign {}", endpoint.place()),
        Event::OtherDatabase { endpoint, .. } => format!("other_database {}", endpoint.place()),
        Event::SameServer { endpoint, stands } => {
            format!("same_server {} {}", endpoint.place(), stands.place())
        }
        Event::SearchPathDiffers { endpoint, search_path, primary } => {
            format!("search_path {} {search_path} {primary}", endpoint.place())
        }
        Event::Fenced { endpoint, primary } => {
            format!("fenced {} {}", endpoint.place(), place(primary))
        }
        Event::Replaced { primary } => format!("replaced {}", primary.place()),
        Event::Probation { endpoint } => format!("probation {}", endpoint.place()),
        Event::OldTimeline { endpoint } => format!("old_timeline {}", endpoint.place()),
        Event::Lagging { endpoint, lag } => {
            format!("lagging {} {}", endpoint.place(), lag.as_millis())
        }
        Event::Recovered { endpoint, from } => {
            format!("recovered {} {}", endpoint.place(), word(from))
        }
        other => panic!("an event without a word: {other:?}"),
    }
}
