//! The state of all endpoints: an immutable value, made by a single reducer.

mod condition;
mod database;
mod endpoint;
mod endpoint_state;
mod event;
mod filter_question;
mod health;
mod lag;
mod observation;
mod places;
mod reads_place;
mod reducer;
mod role;
mod samples;
mod severity;
mod subscription;
mod timed_event;

use std::{sync::Arc, time::Duration};

pub use condition::Condition;
pub use database::Database;
pub use endpoint::{Endpoint, EndpointId, EndpointSet, Horizon, MAX_ENDPOINTS};
pub use endpoint_state::EndpointState;
pub use event::Event;
pub use filter_question::FilterQuestion;
pub use health::{Health, HealthPolicy};
pub use lag::{LagHistory, LagSummary};
pub use observation::{
    Failure, Incarnation, Observation, Outcome, ReadOnly, Replication, Report, ServerInfo,
    Transactions,
};
pub use reads_place::ReadsPlace;
pub use role::Role;
pub use severity::Severity;
pub use subscription::{Feed, Subscription};
pub use timed_event::TimedEvent;

pub use reducer::TopologyReducer;

use crate::{Ancestry, Distance, Moment, Position, WriteStamp};
use places::Places;
use samples::Sample;

/// How the primary's history relates to another history, on engines that do not number histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// Both are one history, as far as is known.
    None,
    /// The other history has ended here, and the position in question was not taken over.
    Ended,
    /// The other history has a transaction of a server that the primary has not heard of.
    Unseen {
        /// A number for that server, the same in every process.
        writer: u32,
    },
}

/// The known state of all endpoints at one moment.
///
/// Readers hold a snapshot; only a [`TopologyReducer`] makes new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    endpoints: Vec<EndpointState>,
    places: Places,
    /// The least number that the next added endpoint can get.
    next: Option<EndpointId>,
    primary: Option<EndpointId>,
    /// The endpoint that was made the primary last.
    last_primary: Option<EndpointId>,
    /// The replicas that may get reads, as far as their own state decides. Derived from the states,
    /// so that a plan does not have to look at each of them.
    replicas_in_use: EndpointSet,
    /// The last time at which any endpoint came back. Derived from the states, like the above.
    last_return: Option<Moment>,
    /// The newest sample of the primary.
    sampled: Option<Sample>,
    /// The history of the newest sample, on engines whose positions do not tell histories apart.
    ancestry: Option<Ancestry>,
    /// How many histories have ended here.
    epoch: u32,
    /// The last samples of the ended histories, oldest first.
    ended: Arc<[Position]>,
    /// The newest stamp that the primary is proved to show; `None` if the primary does not report
    /// it.
    shown: Option<WriteStamp>,
    /// Whether servers may filter what they replicate, so that they are asked for their filters.
    asks_for_filters: bool,
    /// The first generation of the catalog with all filters that are known.
    filters_since: u64,
    /// Which endpoints belong to which group.
    groups: Arc<Groups>,
}

/// The groups of replicas, as configured.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    named: Vec<(Box<str>, EndpointSet)>,
    all: EndpointSet,
    /// The endpoints in no group.
    ungrouped: EndpointSet,
    /// Whether the endpoints differ in weight.
    is_weighted: bool,
    subscribers: EndpointSet,
}

impl Groups {
    fn of(endpoints: &[EndpointState]) -> Self {
        let mut groups = Groups::default();
        for state in endpoints {
            let id = state.id;
            groups.all.insert(id);
            groups.is_weighted |= state.endpoint.weight() != endpoints[0].endpoint.weight();
            if state.endpoint.is_subscriber() {
                groups.subscribers.insert(id);
            }
            match state.endpoint.group() {
                None => groups.ungrouped.insert(id),
                Some(name) => groups.insert(name, id),
            }
        }
        groups
    }

    fn insert(&mut self, name: &str, id: EndpointId) {
        match self.named.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, members)) => members.insert(id),
            None => self.named.push((name.into(), EndpointSet::from_iter([id]))),
        }
    }
}

impl Topology {
    /// The topology before any observation: the first endpoint counts as the primary. Endpoints
    /// beyond [`MAX_ENDPOINTS`] are left out; the configuration already rejects more.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let mut next = Some(EndpointId::FIRST);
        let mut number = |endpoint| {
            let id = next?;
            next = id.next();
            Some(EndpointState::new(id, endpoint))
        };
        let endpoints: Vec<_> =
            endpoints.into_iter().take(MAX_ENDPOINTS).map_while(&mut number).collect();
        let primary = (!endpoints.is_empty()).then_some(EndpointId::FIRST);
        let groups = Arc::new(Groups::of(&endpoints));
        Topology {
            places: Places::of(&endpoints),
            endpoints,
            next,
            primary,
            last_primary: primary,
            replicas_in_use: EndpointSet::EMPTY,
            last_return: None,
            sampled: None,
            ancestry: None,
            epoch: 0,
            ended: Arc::default(),
            shown: None,
            asks_for_filters: false,
            filters_since: 0,
            groups,
        }
    }

    /// A topology that needs no probes: a single server, or connections to one SQLite file. The
    /// first of these connections writes. The others are read-only and see every commit at once.
    #[must_use]
    pub fn always_current(endpoints: Vec<Endpoint>) -> Self {
        let mut topology = Topology::new(endpoints);
        for (index, state) in topology.endpoints.iter_mut().enumerate() {
            state.health = Health::Up;
            state.role = if index == 0 { Role::Primary } else { Role::Replica };
            state.position = Some(Position::Current);
            state.covered = WriteStamp::from_number(u64::MAX);
        }
        topology.note_replicas_in_use();
        topology
    }

    /// Must be called whenever the result of [`EndpointState::is_replica_in_use`], the choice of
    /// the primary or an endpoint's return may have changed.
    fn note_replicas_in_use(&mut self) {
        let may_serve = |state: &&EndpointState| {
            self.primary != Some(state.id)
                && state.is_replica_in_use()
                && self.may_miss_since(state).is_none()
        };
        let in_use = self.endpoints.iter().filter(may_serve);
        self.replicas_in_use = in_use.map(|state| state.id).collect();
        self.last_return = self.endpoints.iter().filter_map(|state| state.returned_at).max();
    }

    /// When `id` came back ([`EndpointState::returned_at`]); `None` if it was never away.
    #[inline]
    #[must_use]
    pub fn returned_at(&self, id: EndpointId) -> Option<Moment> {
        // Mostly no endpoint was ever away, and then nothing has to be looked up.
        self.last_return.and_then(|_| self.get(id)?.returned_at)
    }

    /// When an endpoint last came back ([`EndpointState::returned_at`]); `None` if none did.
    #[must_use]
    pub fn last_return(&self) -> Option<Moment> {
        self.last_return
    }

    /// The replicas that may get reads, unless a read needs fresher data than they have.
    #[must_use]
    pub fn replicas_in_use(&self) -> EndpointSet {
        self.replicas_in_use
    }

    /// Whether every read sees every write without a proof; see
    /// [`always_current`](Self::always_current).
    #[must_use]
    pub fn is_always_current(&self) -> bool {
        self.current_position() == Some(&Position::Current)
    }

    /// The endpoint that takes writes; `None` while no endpoint may.
    #[must_use]
    pub fn primary(&self) -> Option<EndpointId> {
        self.primary
    }

    /// The endpoint that was made the primary last, also while no endpoint may take writes. What
    /// another endpoint acknowledges after that counts for nothing.
    #[must_use]
    pub fn last_primary(&self) -> Option<EndpointId> {
        self.last_primary
    }

    /// The endpoint that takes writes, unless it is being drained: then no new statement may go
    /// there.
    #[must_use]
    pub fn open_primary(&self) -> Option<EndpointId> {
        let state = self.get(self.primary?)?;
        (!state.draining).then_some(state.id)
    }

    /// Whether there is a primary that answers and may get new statements.
    #[must_use]
    pub fn has_usable_primary(&self) -> bool {
        self.open_primary().and_then(|id| self.get(id)).is_some_and(EndpointState::is_usable)
    }

    /// All endpoints.
    #[must_use]
    pub fn all(&self) -> EndpointSet {
        self.groups.all
    }

    /// The members of `set`, in the order of their places.
    pub fn members(&self, set: EndpointSet) -> impl Iterator<Item = EndpointId> + use<'_> {
        self.states(set).map(|state| state.id)
    }

    /// The states of the members of `set`, in the order of their places.
    pub(crate) fn states(
        &self,
        set: EndpointSet,
    ) -> impl Iterator<Item = &EndpointState> + use<'_> {
        set.places().filter_map(|place| self.at(place))
    }

    /// The member of `set` that comes after `n` others; `None` past the end.
    #[must_use]
    pub fn nth(&self, set: EndpointSet, n: usize) -> Option<EndpointId> {
        self.at(set.and(self.all()).places().nth(n)?).map(|state| state.id)
    }

    /// The horizon that separates the endpoints added until now from those added later.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        Horizon(self.next)
    }

    /// The endpoints of the group called `name`; `None` if there is no such group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<EndpointSet> {
        self.groups.named.iter().find(|(known, _)| **known == *name).map(|(_, members)| *members)
    }

    /// The endpoints in no group. They serve reads that ask for no group.
    #[must_use]
    pub fn ungrouped(&self) -> EndpointSet {
        self.groups.ungrouped
    }

    /// The replicas that are out of use although no probe says that they are away: a statement lost
    /// its connection, or they must go on answering.
    #[must_use]
    pub fn suspected_replicas(&self) -> EndpointSet {
        let others = self.endpoints.iter().filter(|it| self.primary != Some(it.id));
        others.filter(|it| it.is_suspected_replica()).map(|it| it.id).collect()
    }

    /// The logical subscribers.
    #[must_use]
    pub fn subscribers(&self) -> EndpointSet {
        self.groups.subscribers
    }

    /// The endpoints that carry `tag`.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> EndpointSet {
        self.iter().filter(|(_, state)| state.endpoint.has_tag(tag)).map(|(id, _)| id).collect()
    }

    /// Whether endpoints differ in weight.
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        self.groups.is_weighted
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are no endpoints.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The state of `id`; `None` if it is not in this topology.
    #[must_use]
    pub fn get(&self, id: EndpointId) -> Option<&EndpointState> {
        self.at(id.place()).filter(|state| state.id == id)
    }

    /// The endpoint at `place`.
    fn at(&self, place: usize) -> Option<&EndpointState> {
        self.endpoints.get(self.places.index(place)?)
    }

    /// The index of `id` in the list of endpoints.
    fn index(&self, id: EndpointId) -> Option<usize> {
        let index = self.places.index(id.place())?;
        self.endpoints.get(index).filter(|state| state.id == id).map(|_| index)
    }

    /// All endpoints: the configured ones in their order, then the others in the order in which
    /// they were added.
    pub fn iter(&self) -> impl Iterator<Item = (EndpointId, &EndpointState)> {
        self.endpoints.iter().map(|state| (state.id, state))
    }

    /// The state of `id` in one word.
    #[must_use]
    pub fn condition(&self, id: EndpointId) -> Condition {
        let Some(state) = self.get(id) else { return Condition::Unobserved };
        match (&state.health, state.role) {
            (Health::Unknown, _) => Condition::Unobserved,
            (Health::Down { .. }, _) => Condition::Down,
            (Health::Probation, _) => Condition::Probation,
            (Health::Up, _) if state.foreign => Condition::Foreign,
            (Health::Up, _) if state.other_database => Condition::OtherDatabase,
            (Health::Up, _) if state.same_as.is_some() => Condition::SameServer,
            (Health::Up, _) if state.draining => Condition::Draining,
            (Health::Up, _) if self.primary == Some(id) => Condition::Serving,
            (Health::Up, Role::Replica) if self.may_miss_since(state).is_some() => {
                Condition::FiltersUnknown
            }
            (Health::Up, _) if state.replication == Replication::Copying => Condition::Copying,
            (Health::Up, Role::Unknown) => Condition::Unobserved,
            (Health::Up, Role::Primary) => Condition::StalePrimary,
            (Health::Up, Role::Replica) if state.old_timeline => Condition::OldTimeline,
            (Health::Up, Role::Replica) => match state.replication {
                Replication::Stopped => Condition::NotReplicating,
                Replication::Paused => Condition::Paused,
                Replication::Running
                | Replication::NotApplicable
                | Replication::Copying
                | Replication::Unknown => {
                    if state.lagging {
                        Condition::Lagging
                    } else {
                        Condition::Serving
                    }
                }
            },
        }
    }

    /// The most that a read on `id` may miss at `now`: the endpoint contains everything that the
    /// primary had committed this long ago. `None` if nothing is proved.
    #[must_use]
    pub fn staleness(&self, id: EndpointId, now: Moment) -> Option<Duration> {
        self.staleness_of(self.get(id)?, now)
    }

    /// Like [`staleness`](Self::staleness), for an endpoint of this topology.
    pub(crate) fn staleness_of(&self, state: &EndpointState, now: Moment) -> Option<Duration> {
        match state.position {
            // On one file, a read sees every commit.
            Some(Position::Current) => Some(Duration::ZERO),
            _ if self.primary == Some(state.id) => Some(Duration::ZERO),
            _ => state.fresh_at.map(|at| now.since(at)),
        }
    }

    /// How far `id` is behind the newest sample of the primary. Unlike [`Topology::staleness`], the
    /// lag does not grow while the primary is away.
    #[must_use]
    pub fn lag(&self, id: EndpointId) -> Option<Duration> {
        self.lag_of(self.get(id)?)
    }

    /// The least that the lag of `id` can be: the lag itself if it is known; otherwise for how long
    /// no sample of the primary has proved the endpoint's position. An endpoint that is farther
    /// behind than everything that was sampled has such a bound only. `None` if its position is
    /// unknown, too.
    #[must_use]
    pub fn least_lag(&self, id: EndpointId) -> Option<Duration> {
        let (state, sample) = (self.get(id)?, self.sampled.as_ref());
        self.lag_of(state).or_else(|| Some(sample?.at.since(state.unproved_since?)))
    }

    /// Like [`lag`](Self::lag), for an endpoint of this topology.
    pub(crate) fn lag_of(&self, state: &EndpointState) -> Option<Duration> {
        match (&state.position, &self.sampled) {
            (Some(Position::Current), _) => Some(Duration::ZERO),
            _ if self.primary == Some(state.id) => Some(Duration::ZERO),
            (_, Some(sample)) => state.fresh_at.map(|at| sample.at.since(at)),
            // The primary was never reached: unknown is not zero.
            (_, None) => None,
        }
    }

    /// How much `id` still has to replay up to the primary's newest known position, in the engine's
    /// unit. `None` if this is unknown: on another timeline, or while `id` does not answer.
    #[must_use]
    pub fn distance(&self, id: EndpointId) -> Option<Distance> {
        self.get(id)?.position.as_ref()?.behind(self.sampled_position()?)
    }

    /// How much `id` still has to receive up to the primary's newest known position. The rest of
    /// [`Topology::distance`] has arrived and waits for replay.
    #[must_use]
    pub fn distance_to_receive(&self, id: EndpointId) -> Option<Distance> {
        self.get(id)?.received.as_ref()?.behind(self.sampled_position()?)
    }

    /// The newest known position of the primary.
    #[must_use]
    pub fn sampled_position(&self) -> Option<&Position> {
        self.sampled.as_ref().map(|sample| &sample.position)
    }

    /// The position of the primary, if it is known.
    pub(crate) fn current_position(&self) -> Option<&Position> {
        let primary = || self.primary.and_then(|id| self.get(id))?.position.as_ref();
        self.sampled_position().or_else(primary)
    }

    /// How the primary's history relates to the history of `position`, where positions do not tell
    /// histories apart.
    pub(crate) fn parting(&self, position: &Position) -> Parting {
        let (Some(ancestry), Some(ours)) = (&self.ancestry, self.sampled_position()) else {
            return Parting::None;
        };
        match ancestry.stranger(ours, position) {
            None => Parting::None,
            // The position was known of a primary that was replaced here. Only numbers of the same
            // server count, because the numbers of other servers prove nothing.
            Some(_) if self.ended.iter().any(|ended| ended.has_same(position)) => Parting::Ended,
            Some(writer) => Parting::Unseen { writer },
        }
    }

    /// Whether the primary has got something that another server wrote since it was at `before`, on
    /// engines whose positions tell that.
    #[must_use]
    pub fn has_received_since(&self, before: &Position) -> bool {
        match (&self.ancestry, self.sampled_position()) {
            (Some(ancestry), Some(now)) => ancestry.stranger(before, now).is_some(),
            _ => false,
        }
    }

    /// How many histories have ended here.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The newest stamp that a known position of the primary contains.
    #[must_use]
    pub fn sampled_stamp(&self) -> WriteStamp {
        match (&self.sampled, self.primary.and_then(|id| self.get(id))) {
            (Some(sample), _) => sample.stamp,
            // Without probes, everything is covered at once.
            (None, Some(primary)) => primary.covered,
            (None, None) => WriteStamp::NONE,
        }
    }

    /// The newest stamp for which it is proved that the primary shows everything that any replica
    /// had shown when the stamp was drawn. `None` if the primary does not report this.
    #[must_use]
    pub fn shown(&self) -> Option<WriteStamp> {
        self.shown
    }

    /// The least stamp that all replicas in use are proved to cover. If a session waits for a newer
    /// stamp, quick probing is worth it.
    #[must_use]
    pub fn covered_by_replicas(&self) -> WriteStamp {
        self.iter()
            .filter(|(id, state)| {
                self.primary != Some(*id)
                    && state.is_usable()
                    && !state.draining
                    && state.role == Role::Replica
                    && state.replication != Replication::Stopped
                    && !state.old_timeline
            })
            .map(|(_, state)| state.covered)
            .min()
            .unwrap_or(WriteStamp::from_number(u64::MAX))
    }
}
