//! The answer to "why did this go there?".

use std::fmt;

use sealane_core::{Access, Consistency, EndpointId, Intent, Plan, Refusal, Role, Topology};
use sealane_sql::Classification;
use serde::Serialize;

use crate::RoutedConnection;

/// What would become of a statement, and why.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What the statement wants to do.
    pub intent: Intent,
    /// How that was decided.
    pub reason: String,
    /// How fresh its data must be.
    pub consistency: Consistency,
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
        why
    }
}

pub(crate) fn explain(connection: &RoutedConnection, sql: &str) -> Explanation {
    let cluster = connection.cluster();
    let (intent, reason) = match &cluster.classifier {
        Some(classifier) => {
            let Classification { intent, reason, .. } = classifier.classify(sql);
            (intent, reason.to_string())
        }
        None => (Intent::Unknown, "not looked at: there is one endpoint only".to_owned()),
    };
    let access = if intent.is_read() { Access::Read } else { Access::Write };
    let demand = connection.demand(access);
    let topology = cluster.board().topology();
    let mut choices: Vec<_> = topology
        .iter()
        .map(|(id, state)| {
            let refusal = Plan::judge(&topology, id, &demand).err();
            let rank = match (&refusal, topology.primary() == Some(id)) {
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
    Explanation {
        intent,
        reason,
        consistency: demand.consistency,
        choices: choices.into_iter().map(|(_, choice)| choice).collect(),
        balancer: cluster.balancer.name(),
        primary,
    }
}

/// Tells where a statement is sent and why, to whoever listens at debug level.
/// The text has no values in it but those that the application wrote there.
pub(crate) fn trace(connection: &RoutedConnection, id: EndpointId, sql: &str) {
    if tracing::enabled!(target: "sealane::route", tracing::Level::DEBUG) {
        let explanation = connection.explain(sql);
        let topology = connection.cluster().board().topology();
        let endpoint = name(&topology, id);
        tracing::debug!(target: "sealane::route", endpoint, why = explanation.why(endpoint), sql);
    }
}

/// The name of an endpoint for people.
fn name(topology: &Topology, id: EndpointId) -> &str {
    topology.get(id).map_or("?", |state| state.endpoint.name())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "intent: {:?} ({})", self.intent, self.reason)?;
        writeln!(f, "consistency: {}, balancer: {}", self.consistency, self.balancer)?;
        for choice in &self.choices {
            match &choice.refusal {
                None => writeln!(f, "  {}: may serve it", choice.endpoint)?,
                Some(refusal) => writeln!(f, "  {}: no, it {refusal}", choice.endpoint)?,
            }
        }
        Ok(())
    }
}
