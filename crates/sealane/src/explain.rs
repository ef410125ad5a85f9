//! The answer to "why did this go there?".

use std::fmt;

use sealane_core::{
    Access, Consistency, EndpointId, EndpointSet, Footprint, Intent, Plan, Refusal, Role, Topology,
    WhenBehind,
};
use sealane_sql::{Cost, Finding, Tables};
use serde::Serialize;

use crate::{RoutedConnection, cluster::Reach, scope};

/// What would become of a statement, and why.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What the statement wants to do.
    pub intent: Intent,
    /// What decided that, in one line and without literals.
    pub reason: String,
    /// All that keeps it on the primary, with its places in the text.
    pub findings: Vec<Finding>,
    /// The text with a caret under each finding, literals and all; empty if there is none.
    pub annotated: String,
    /// The tables that it touches.
    pub tables: Tables,
    /// How much work it may be.
    pub cost: Cost,
    /// The group of replicas that its hint asks for and that does not exist.
    pub unknown_group: Option<String>,
    /// How fresh its data must be.
    pub consistency: Consistency,
    /// What becomes of it if no replica is good enough.
    pub when_behind: WhenBehind,
    /// Whether the session may have seen more on a replica than the primary shows by now
    /// ([`WhenAhead`](crate::WhenAhead)).
    pub is_ahead_of_primary: bool,
    /// Every endpoint with the verdict on it, in the order of trying: first
    /// the replicas that may serve it, then the primary, then those refused.
    pub choices: Vec<Choice>,
    /// The balancer that orders the replicas.
    pub balancer: &'static str,
    /// The endpoint that takes writes; `None` while none may.
    pub primary: Option<String>,
}

/// One endpoint in an [`Explanation`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// The endpoint's name.
    pub endpoint: String,
    /// What it was last seen to be.
    pub role: Role,
    /// Why it may not serve the statement; `None` if it may.
    pub refusal: Option<Refusal>,
}

impl Explanation {
    /// The endpoint that would be tried first; among several replicas the
    /// balancer may choose another one.
    #[must_use]
    pub fn first_choice(&self) -> Option<&str> {
        self.choices.iter().find(|c| c.refusal.is_none()).map(|c| c.endpoint.as_str())
    }

    /// Why the statement goes to `endpoint`, in one line.
    pub(crate) fn why(&self, endpoint: &str) -> String {
        let mut why = self.reason.clone();
        if self.intent.is_read() && self.primary.as_deref() == Some(endpoint) {
            for Choice { endpoint, refusal, .. } in &self.choices {
                if let Some(refusal) = refusal {
                    why.push_str(&format!("; {endpoint} {refusal}"));
                }
            }
        }
        if self.is_ahead_of_primary && self.primary.as_deref() == Some(endpoint) {
            why.push_str("; it is not proved to show what the session has seen on a replica");
        }
        why
    }
}

pub(crate) fn explain(connection: &RoutedConnection, sql: &str) -> Explanation {
    let cluster = connection.cluster();
    let found = cluster.classifier.as_ref().map(|classifier| classifier.classify(sql));
    let read = found.as_ref().filter(|found| found.intent.is_read());
    let nowhere = Reach { readers: EndpointSet::EMPTY, tables: Footprint::WHOLE };
    let reach = read.map_or(nowhere, |read| cluster.reach_of(read));
    let mut demand = connection.demand(&reach);
    if read.is_none() {
        demand.access = Access::Write;
    }
    let when_behind = connection.own_way_out();
    let only_replicas = when_behind == WhenBehind::Fail
        && !reach.readers.is_empty()
        && demand.consistency != Consistency::Strong;
    let topology = cluster.board().topology();
    let mut choices: Vec<_> = topology
        .iter()
        .map(|(id, state)| {
            let is_primary = topology.primary() == Some(id);
            let refusal = match is_primary && only_replicas {
                true => Some(Refusal::OnlyReplicas),
                false => Plan::judge(&topology, id, &demand).err(),
            };
            let rank = match (&refusal, is_primary) {
                (None, false) => 0,
                (None, true) => 1,
                (Some(_), _) => 2,
            };
            let endpoint = state.endpoint.name().to_owned();
            (rank, Choice { endpoint, role: state.role, refusal })
        })
        .collect();
    let primary = topology.primary().map(|id| name(&topology, id).to_owned());
    choices.sort_by_key(|(rank, _)| *rank);
    let unknown_group = read.and_then(|read| cluster.groups.unknown(read));
    let annotated = found.as_ref().map(|found| found.annotate(sql).to_string());
    let reason = match &found {
        None => "not looked at: there is one endpoint only".to_owned(),
        Some(found) => match found.decisive() {
            None => "proved read".to_owned(),
            Some(finding) => finding.reason.to_string(),
        },
    };
    let intent = found.as_ref().map_or(Intent::Unknown, |found| found.intent);
    let (findings, tables, cost) =
        found.map(|found| (found.findings, found.tables, found.cost)).unwrap_or_default();
    Explanation {
        intent,
        reason,
        findings,
        annotated: annotated.unwrap_or_default(),
        tables,
        cost,
        unknown_group,
        consistency: demand.consistency,
        when_behind,
        is_ahead_of_primary: demand.session.ahead_of_primary(&topology).is_some(),
        choices: choices.into_iter().map(|(_, choice)| choice).collect(),
        balancer: cluster.balancer.name(),
        primary,
    }
}

/// Tells where a statement is sent and why, to whoever listens at debug level.
/// The text has no values in it but those that the application wrote there.
pub(crate) fn trace(connection: &RoutedConnection, id: EndpointId, sql: &str) {
    if connection.session_ref().reports_strays() {
        warn_of_stray(connection, sql);
    }
    if tracing::enabled!(target: "sealane::route", tracing::Level::DEBUG) {
        let explanation = connection.explain(sql);
        let topology = connection.cluster().board().topology();
        let (endpoint, session) = (name(&topology, id), scope::kind_of_session(connection));
        let why = explanation.why(endpoint);
        tracing::debug!(target: "sealane::route", endpoint, session, why, sql);
    }
}

/// Warns of a read through the shared session that may be the work of another one.
fn warn_of_stray(connection: &RoutedConnection, sql: &str) {
    let cluster = connection.cluster();
    if connection.own_consistency() != Consistency::ReadYourWrites {
        return;
    }
    let (generation, topology) = (cluster.catalog_generation(), cluster.board().topology());
    let is_stray = cluster.reach(sql).is_some_and(|reach| {
        connection.session_ref().is_stray(&reach.tables, generation, &topology)
    });
    if is_stray {
        tracing::warn!(
            target: "sealane::session",
            sql,
            "a read outside any session follows a write of a request's session that is not replayed \
             everywhere yet; if it is work of that request in a task of its own, spawn it with \
             sealane::in_current_scope (this is said once)"
        );
    }
}

/// The name of an endpoint for people.
fn name(topology: &Topology, id: EndpointId) -> &str {
    topology.get(id).map_or("?", |state| state.endpoint.name())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "intent: {:?} ({})", self.intent, self.reason)?;
        if !self.annotated.is_empty() {
            writeln!(f, "{}", self.annotated)?;
        }
        for (what, names) in [("reads", &self.tables.read), ("writes", &self.tables.written)] {
            if let Some((first, others)) = names.split_first() {
                write!(f, "{what}: {first}")?;
                others.iter().try_for_each(|name| write!(f, ", {name}"))?;
                writeln!(f, "{}", if self.tables.complete { "" } else { ", and maybe more" })?;
            }
        }
        if self.intent.is_read() {
            writeln!(f, "cost: {}", self.cost)?;
        }
        if let Some(group) = &self.unknown_group {
            writeln!(f, "group: there is no `{group}`, so replicas of no group may serve it")?;
        }
        writeln!(f, "consistency: {}, balancer: {}", self.consistency, self.balancer)?;
        if self.when_behind != WhenBehind::Primary {
            writeln!(f, "when all replicas are behind: {}", self.when_behind)?;
        }
        if self.is_ahead_of_primary {
            writeln!(f, "the session may have seen more on a replica than the primary shows")?;
        }
        for choice in &self.choices {
            match &choice.refusal {
                None => writeln!(f, "  {}: may serve it", choice.endpoint)?,
                Some(refusal) => writeln!(f, "  {}: no, it {refusal}", choice.endpoint)?,
            }
        }
        Ok(())
    }
}
