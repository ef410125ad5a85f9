//! What a service needs to do its work, and what of it is missing.

use std::{fmt, time::Duration};

use sealane::{Condition, EndpointStatus, Failure, Health, Role, Status};
use serde::Serialize;

/// What a service needs to be ready.
///
/// Be careful with more than the defaults: if the same replicas serve all instances of a service,
/// their loss makes all instances unready at once, and an orchestrator then sends requests nowhere,
/// although the primary could serve them.
///
/// A server without replicas, and an SQLite file, are not probed, so they are always ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    primary: bool,
    replicas: usize,
    fresh: Option<Duration>,
}

impl Needs {
    /// A primary that takes statements. This is the default.
    ///
    /// A primary that only a failed statement has made suspect still counts: one connection may have
    /// been cut, and the probe that is under way tells within its time limit. Otherwise one
    /// terminated connection would take every instance out of service that sees it.
    #[must_use]
    pub fn primary() -> Self {
        Needs { primary: true, ..Needs::nothing() }
    }

    /// Nothing: for a service that only reads, with [`replicas`](Self::replicas).
    #[must_use]
    pub fn nothing() -> Self {
        Needs { primary: false, replicas: 0, fresh: None }
    }

    /// So many replicas with nothing wrong. One that is ejected does not count: it gets no reads.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Needs { replicas, ..self }
    }

    /// Counts only replicas that are proved to miss at most this much, and needs at least one of
    /// them. Idle servers are probed about once a second, so less than three seconds fails now and
    /// then although nothing is wrong.
    #[must_use]
    pub fn fresh(self, staleness: Duration) -> Self {
        Needs { fresh: Some(staleness), replicas: self.replicas.max(1), ..self }
    }

    /// What is missing in `status`; empty if the service is ready.
    #[must_use]
    pub fn missing(&self, status: &Status) -> Vec<Unready> {
        let mut missing = Vec::new();
        if self.primary {
            missing.extend(no_primary(status));
        }
        let found = status.endpoints.iter().filter(|it| self.counts(status, it)).count();
        // `fresh` may have been called before `replicas`.
        let needed = self.replicas.max(usize::from(self.fresh.is_some()));
        if found < needed {
            let fresh_ms = self.fresh.map(millis);
            missing.push(Unready::TooFewReplicas { needed, found, fresh_ms });
        }
        missing
    }

    /// Whether `endpoint` is a replica that counts.
    fn counts(&self, status: &Status, endpoint: &EndpointStatus) -> bool {
        let is_replica =
            endpoint.role == Role::Replica && status.primary.as_ref() != Some(&endpoint.name);
        let is_fresh = self.fresh.is_none_or(|most| {
            // Unknown is not fresh.
            endpoint.staleness_ms.is_some_and(|staleness_ms| staleness_ms <= millis(most))
        });
        let serves = endpoint.condition == Condition::Serving && !endpoint.ejected;
        is_replica && serves && is_fresh
    }
}

impl Default for Needs {
    fn default() -> Self {
        Needs::primary()
    }
}

/// Something that a service needs and that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
#[non_exhaustive]
pub enum Unready {
    /// No endpoint may take writes.
    NoPrimary {},
    /// The primary does not take statements now.
    PrimaryAway {
        /// Its name.
        endpoint: String,
        /// What is wrong with it.
        condition: Condition,
    },
    /// Too few replicas have nothing wrong.
    TooFewReplicas {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        found: usize,
        /// The most that each of them may miss, in milliseconds; `None` for any amount.
        fresh_ms: Option<u64>,
    },
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::NoPrimary {} => f.write_str("no endpoint may take writes"),
            Unready::PrimaryAway { endpoint, condition } => {
                write!(f, "the primary, {endpoint}, is {condition}")
            }
            Unready::TooFewReplicas { needed, found, fresh_ms } => {
                write!(f, "{needed} replicas are needed, {found} serve")?;
                fresh_ms.map_or(Ok(()), |ms| write!(f, " and are at most {ms} ms behind"))
            }
        }
    }
}

/// Why nothing can be written now; `None` if the primary takes statements.
pub(crate) fn no_primary(status: &Status) -> Option<Unready> {
    let Some(name) = &status.primary else { return Some(Unready::NoPrimary {}) };
    let endpoint = status.endpoints.iter().find(|it| it.name == *name)?;
    let condition = endpoint.condition;
    let is_away = condition != Condition::Serving && !is_suspect_only(endpoint);
    is_away.then(|| Unready::PrimaryAway { endpoint: name.clone(), condition })
}

/// Whether the endpoint is down only because a statement failed there, which no probe has confirmed.
fn is_suspect_only(endpoint: &EndpointStatus) -> bool {
    // `Down` hides that it is drained.
    matches!(endpoint.health, Health::Down { failure: Failure::Statement(_) }) && !endpoint.draining
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
