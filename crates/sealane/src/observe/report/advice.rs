//! What it would take to spread the load better.

use std::fmt;

use serde::Serialize;

use super::{EndpointReport, Report, percent};

/// Before this many reads, figures say little, and there is no advice about them.
const LEAST_READS: u64 = 100;
/// Pinned reads are worth a word from this share of the reads on, in percent.
const PINNED: u64 = 10;
/// Pinned reads come from the shared handle if so many of them do, in percent.
const SHARED: u64 = 25;
/// Reads that ask for the primary are worth a word from this share of the reads on, in percent.
const ASKED: u64 = 50;
/// Reads that fall back to the primary, from this share of the reads on, in percent.
const FELL_BACK: u64 = 5;
/// Statements that may be reads and are not proved, from this share of them and the reads on, in
/// percent.
const UNPROVED: u64 = 10;

/// One thing that would spread the load better. [`Display`](fmt::Display) says it in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "advice", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Advice {
    /// At least 10 % of the reads are pinned to the primary, and at least a quarter of these come
    /// through the handle that everybody shares.
    UseSessions {
        /// Pinned reads, in percent of all reads.
        pinned_percent: u64,
        /// Those of the pinned reads that came through the shared handle, in percent.
        shared_percent: u64,
    },
    /// At least 10 % of the reads are pinned to the primary, most of them by sessions of their own.
    ReadsFollowWrites {
        /// Pinned reads, in percent of all reads.
        pinned_percent: u64,
    },
    /// At least half of the reads ask for the primary, or could never run elsewhere.
    MostAskForPrimary {
        /// In percent of all reads.
        percent: u64,
    },
    /// At least 5 % of the reads found no replica that was usable or fresh enough.
    ReplicasMissing {
        /// In percent of all reads.
        percent: u64,
    },
    /// At least 10 % of what may be a read is not proved to be one.
    ProveReads {
        /// In percent of the reads and these statements.
        percent: u64,
        /// The text that ran most often, without literals.
        text: String,
        /// Why it is not proved.
        why: String,
    },
    /// Reads failed because too many of them fell back to the primary.
    Shed {
        /// How many.
        reads: u64,
    },
    /// A replica that serves has less than half of an equal share of the replicas' reads.
    LittleLoad {
        /// Its name.
        endpoint: String,
        /// Its share of the reads on replicas, in percent.
        percent: u64,
        /// Its weight.
        weight: u32,
        /// The weights of all replicas together.
        weights: u32,
    },
    /// At least as many statements wait for a connection to an endpoint as it has connections.
    MoreConnections {
        /// Its name.
        endpoint: String,
        /// How many wait.
        waiting: u32,
        /// How many connections are open.
        open: u32,
    },
    /// [`Config::replica_share`](crate::Config::replica_share) keeps reads on the primary.
    RaiseReplicaShare {
        /// The share, in percent.
        percent: u64,
    },
}

impl Advice {
    /// What follows from the figures of `report`.
    pub(super) fn on(report: &Report) -> Vec<Advice> {
        let mut advice = Vec::new();
        let has_replica = report.endpoints.iter().any(|it| !it.is_primary);
        if has_replica && report.reads >= LEAST_READS {
            advice.extend(pinned(report));
            advice.extend(on_primary(report));
            advice.extend(little_load(report));
        }
        if has_replica {
            advice.extend(unproved(report));
        }
        advice.extend(share(report));
        let shed = report.detours.shed;
        advice.extend((shed > 0).then_some(Advice::Shed { reads: shed }));
        advice.extend(report.endpoints.iter().filter_map(more_connections));
        advice
    }
}

fn pinned(report: &Report) -> Option<Advice> {
    let pinned = report.detours.pinned_to_primary;
    let pinned_percent = percent(pinned, report.reads);
    let shared_percent = percent(report.detours.pinned_by_shared_handle, pinned);
    (pinned_percent >= PINNED).then_some(match shared_percent >= SHARED {
        true => Advice::UseSessions { pinned_percent, shared_percent },
        false => Advice::ReadsFollowWrites { pinned_percent },
    })
}

fn on_primary(report: &Report) -> impl Iterator<Item = Advice> {
    let asked = percent(report.detours.asked_for_primary, report.reads);
    let fell_back = percent(report.detours.fell_back_to_primary, report.reads);
    // Reads outside the share of the replicas count as asking for the primary.
    let is_asked = asked >= ASKED && report.replica_share >= 1.0;
    let asked = is_asked.then_some(Advice::MostAskForPrimary { percent: asked });
    let missing =
        (fell_back >= FELL_BACK).then_some(Advice::ReplicasMissing { percent: fell_back });
    asked.into_iter().chain(missing)
}

fn share(report: &Report) -> Option<Advice> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    let percent = (report.replica_share * 100.0).round() as u64;
    (report.replica_share < 1.0).then_some(Advice::RaiseReplicaShare { percent })
}

fn unproved(report: &Report) -> Option<Advice> {
    let listed = &report.statements.on_primary;
    let unproved: u64 = listed.iter().map(|it| it.unproved).sum();
    let share = percent(unproved, unproved + report.reads);
    let most = listed.iter().max_by_key(|it| it.unproved)?;
    (unproved >= LEAST_READS && share >= UNPROVED).then(|| Advice::ProveReads {
        percent: share,
        text: most.text.clone(),
        why: most.why.clone().unwrap_or_default(),
    })
}

fn little_load(report: &Report) -> Vec<Advice> {
    // What is in a group serves only reads that ask for the group.
    let ungrouped = report.endpoints.iter().filter(|it| !it.is_primary && it.group.is_none());
    let replicas: Vec<_> = ungrouped.collect();
    let serving: Vec<_> = replicas.iter().filter(|it| it.serves).collect();
    let reads: u64 = serving.iter().map(|it| it.reads).sum();
    if serving.len() < 2 || reads < LEAST_READS {
        return Vec::new();
    }
    let count = u64::try_from(serving.len()).unwrap_or(u64::MAX);
    let weights = replicas.iter().map(|it| it.weight).sum();
    let has_little = |it: &EndpointReport| it.reads.saturating_mul(2 * count) < reads;
    let advice = |it: &EndpointReport| Advice::LittleLoad {
        endpoint: it.name.clone(),
        percent: percent(it.reads, reads),
        weight: it.weight,
        weights,
    };
    serving.into_iter().filter(|it| has_little(it)).map(|it| advice(it)).collect()
}

fn more_connections(endpoint: &EndpointReport) -> Option<Advice> {
    let connections = endpoint.connections;
    let is_short = connections.open > 0 && connections.waiting >= connections.open;
    is_short.then(|| Advice::MoreConnections {
        endpoint: endpoint.name.clone(),
        waiting: connections.waiting,
        open: connections.open,
    })
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Advice::UseSessions { pinned_percent, shared_percent } => write!(
                f,
                "{pinned_percent} % of the reads are pinned to the primary because their session \
                 wrote or saw something newer than the replicas have; {shared_percent} % of these \
                 come through the shared handle: use a session per request"
            ),
            Advice::ReadsFollowWrites { pinned_percent } => write!(
                f,
                "{pinned_percent} % of the reads are pinned to the primary because their session \
                 has just written: let reads that may miss it be eventual, or let them wait for a \
                 replica"
            ),
            Advice::MostAskForPrimary { percent } => write!(
                f,
                "{percent} % of the reads ask for the primary, or no replica may ever serve them: \
                 look for strong consistency, rules and hints"
            ),
            Advice::ReplicasMissing { percent } => write!(
                f,
                "{percent} % of the reads fell back to the primary because no replica was usable \
                 or fresh enough: look at the replicas' state and lag, or allow more staleness"
            ),
            Advice::ProveReads { percent, text, why } => write!(
                f,
                "{percent} % of what may be reads runs on the primary because nothing proves that \
                 it only reads; most often `{text}`: {why}"
            ),
            Advice::Shed { reads } => write!(
                f,
                "{reads} reads failed because too many had fallen back to the primary: add a \
                 replica, or raise the fallback limit if the primary has room"
            ),
            Advice::LittleLoad { endpoint, percent, weight, weights } => write!(
                f,
                "{endpoint} serves {percent} % of the reads on replicas although it is healthy: \
                 its weight is {weight} of {weights}, and it may be slower or farther away than \
                 the others, or joined later"
            ),
            Advice::MoreConnections { endpoint, waiting, open } => write!(
                f,
                "{waiting} statements wait for one of {open} connections to {endpoint}: its pool \
                 is too small, or its statements take too long"
            ),
            Advice::RaiseReplicaShare { percent } => write!(
                f,
                "only {percent} % of the reads may leave the primary: raise the replica share when \
                 the replicas have proved themselves"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
