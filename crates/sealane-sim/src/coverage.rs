//! What a run has reached of the product, by what the product itself tells.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, Interest},
};

/// What a hundred worlds must reach. They have no other systems or databases and no policies of an
/// application. Rarer things are counted and not asked for: probation, lost connections of which a
/// server knows nothing.
pub const WANTED: &[&str] = &[
    "catalogs loaded",
    "condition: Down",
    "condition: Draining",
    "condition: FiltersUnknown",
    "condition: NotReplicating",
    "condition: OldTimeline",
    "condition: Paused",
    "condition: SameServer",
    "condition: Serving",
    "condition: StalePrimary",
    "condition: Unobserved",
    "decision: Suspect",
    "decision: TryElsewhere",
    "event: Added",
    "event: Draining",
    "event: Fenced",
    "event: PrimaryChanged",
    "event: PrimaryConflict",
    "event: Removed",
    "event: Restarted",
    "reads: fell back to the primary",
    "reads: hedged",
    "reads: overdue",
    "reads: retried",
    "reads: won by a hedge",
    "refusal: BehindSession",
    "refusal: Down",
    "refusal: OtherGroup",
    "refusal: StalePrimary",
    "refusal: TooStale",
    "views on primaries",
    "views on replicas",
];

/// What the product can decide or find, so that what is never reached can be named.
const ALL: &[&str] = &[
    "condition: Copying",
    "condition: Down",
    "condition: Draining",
    "condition: FiltersUnknown",
    "condition: Foreign",
    "condition: Lagging",
    "condition: NotReplicating",
    "condition: OldTimeline",
    "condition: OtherDatabase",
    "condition: Paused",
    "condition: Probation",
    "condition: SameServer",
    "condition: Serving",
    "condition: StalePrimary",
    "condition: Unobserved",
    "decision: AskPrimary",
    "decision: LearnWrite",
    "decision: Reconnect",
    "decision: Renew",
    "decision: ReturnToCaller",
    "decision: Suspect",
    "decision: TryElsewhere",
    "event: Added",
    "event: Down",
    "event: Draining",
    "event: Ejected",
    "event: Fenced",
    "event: Foreign",
    "event: OtherDatabase",
    "event: PrimaryChanged",
    "event: PrimaryConflict",
    "event: Probation",
    "event: Readmitted",
    "event: Removed",
    "event: ReplicationChanged",
    "event: Restarted",
    "event: RoleChanged",
    "event: SameServer",
    "event: SearchPathDiffers",
    "event: Undrained",
    "event: Up",
    "reads: fell back to the primary",
    "reads: hedged",
    "reads: overdue",
    "reads: retried",
    "reads: shed",
    "reads: won by a hedge",
    "refusal: BehindSession",
    "refusal: Declined",
    "refusal: Down",
    "refusal: Draining",
    "refusal: Ejected",
    "refusal: FiltersUnknown",
    "refusal: Foreign",
    "refusal: Lagging",
    "refusal: NotObserved",
    "refusal: NotPrimary",
    "refusal: NotReplicating",
    "refusal: OldTimeline",
    "refusal: OnlyReplicas",
    "refusal: OtherDatabase",
    "refusal: OtherGroup",
    "refusal: Probation",
    "refusal: SameServer",
    "refusal: StalePrimary",
    "refusal: TooStale",
];

/// What the product can decide or find, and was not seen to.
#[must_use]
pub fn never_reached(counts: &BTreeMap<String, u64>) -> Vec<&'static str> {
    let was_reached = |what: &&&str| counts.keys().any(|it| it.starts_with(**what));
    ALL.iter().filter(|what| !was_reached(what)).copied().collect()
}

/// The name of a variant, without what it holds.
pub(crate) fn variant(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

/// Counts what is told of decisions while the guard is held.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    /// Listens to this thread.
    pub(crate) fn listen(&self) -> DefaultGuard {
        tracing::subscriber::set_default(Listener(self.clone()))
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Listener(Told);

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.enabled(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("sealane::")
            && *metadata.level() <= Level::DEBUG
            && metadata.fields().field("decision").is_some()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut decision = Decision::default();
        event.record(&mut decision);
        let told = format!("decision: {}, {}", decision.decision, decision.message);
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Decision {
    decision: String,
    message: String,
}

impl Visit for Decision {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "decision" => self.decision = format!("{value:?}"),
            "message" => self.message = format!("{value:?}"),
            _ => {}
        }
    }
}
