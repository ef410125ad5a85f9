//! What is known of all endpoints: an immutable value, and its one reducer.

mod reducer;

use std::{sync::Arc, time::Duration};

pub use reducer::TopologyReducer;

use crate::{
    Condition, Database, Distance, Endpoint, EndpointId, Failure, Health, Incarnation,
    MAX_ENDPOINTS, Moment, Particulars, Position, Replication, Role, WriteStamp, history::Sample,
};

/// What is known of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// What was configured.
    pub endpoint: Endpoint,
    /// Whether it answers.
    pub health: Health,
    /// What it was last seen to be.
    pub role: Role,
    /// Whether it still receives from its primary.
    pub replication: Replication,
    /// How far it has got, if known.
    pub position: Option<Position>,
    /// How far a replica has received, replayed or not, if known.
    pub received: Option<Position>,
    /// Which run of the server the position is of.
    pub incarnation: Option<Incarnation>,
    /// The number of that run, 0 before any. Numbers are drawn in the order in which runs
    /// are first seen, on all endpoints together, so no two runs share one. A read that
    /// was planned on one run and served by another proves nothing.
    pub run: u32,
    /// Whether it holds another system's data.
    pub foreign: bool,
    /// The database that it last said it leads to.
    pub database: Option<Arc<Database>>,
    /// Whether that is another one than the primary's, on a server with our data.
    pub other_database: bool,
    /// The endpoint that stands for the server that this one leads to as well.
    pub same_as: Option<EndpointId>,
    /// Whether it is on a timeline that a promotion has ended, as far as is known.
    pub old_timeline: bool,
    /// Whether it is a replica that is far behind, as the policy of health has
    /// it.
    pub lagging: bool,
    /// What it says of itself for people to read.
    pub particulars: Particulars,
    /// How long the last probe took, round trip and all.
    pub probe_time: Option<Duration>,
    /// The newest write stamp proved to be contained in its data.
    pub covered: WriteStamp,
    /// Its data contain all that the primary had committed at this moment.
    /// `None` while nothing is proved.
    pub fresh_at: Option<Moment>,
}

impl EndpointState {
    fn new(endpoint: Endpoint) -> Self {
        EndpointState {
            endpoint,
            health: Health::Unknown,
            role: Role::Unknown,
            replication: Replication::NotApplicable,
            position: None,
            received: None,
            incarnation: None,
            run: 0,
            foreign: false,
            database: None,
            other_database: false,
            same_as: None,
            old_timeline: false,
            lagging: false,
            particulars: Particulars::default(),
            probe_time: None,
            covered: WriteStamp::NONE,
            fresh_at: None,
        }
    }

    /// Whether no probe has found that it does not answer. One broken connection of a statement
    /// must not hand its place to another server.
    pub(crate) fn may_answer(&self) -> bool {
        matches!(self.health, Health::Up | Health::Down { failure: Failure::Statement(_) })
    }

    /// Whether it answers, holds our data, and no other endpoint stands for it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.health == Health::Up && self.is_ours()
    }

    /// Whether it leads to our database, as far as is known, and no other endpoint stands
    /// for its server.
    pub(crate) fn is_ours(&self) -> bool {
        !self.foreign && !self.other_database && self.same_as.is_none()
    }
}

/// What is known of all endpoints at one moment.
///
/// Readers hold a snapshot; only a [`TopologyReducer`] makes new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    endpoints: Vec<EndpointState>,
    primary: Option<EndpointId>,
    /// The newest sample of the primary.
    sampled: Option<Sample>,
    /// The newest stamp that the primary is proved to show; `None` if it does not tell.
    shown: Option<WriteStamp>,
}

impl Topology {
    /// The topology before any observation: the first endpoint counts as the
    /// primary. Endpoints beyond [`MAX_ENDPOINTS`] are left out; configuration
    /// refuses so many.
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let endpoints: Vec<_> =
            endpoints.into_iter().take(MAX_ENDPOINTS).map(EndpointState::new).collect();
        let primary = (!endpoints.is_empty()).then_some(EndpointId::FIRST);
        Topology { endpoints, primary, sampled: None, shown: None }
    }

    /// A topology that needs no probes: connections to one SQLite file, the
    /// first for writing and the others read-only, which see every commit at
    /// once; or one server alone.
    #[must_use]
    pub fn always_current(endpoints: Vec<Endpoint>) -> Self {
        let mut topology = Topology::new(endpoints);
        for (index, state) in topology.endpoints.iter_mut().enumerate() {
            state.health = Health::Up;
            state.role = if index == 0 { Role::Primary } else { Role::Replica };
            state.position = Some(Position::Current);
            state.covered = WriteStamp::from_number(u64::MAX);
        }
        topology
    }

    /// Whether every read sees every write, and nothing need be proved; see
    /// [`always_current`](Self::always_current).
    pub(crate) fn is_always_current(&self) -> bool {
        self.current_position() == Some(&Position::Current)
    }

    /// The endpoint that takes writes; `None` while none may.
    #[must_use]
    pub fn primary(&self) -> Option<EndpointId> {
        self.primary
    }

    /// Whether there is a primary, and it answers.
    #[must_use]
    pub fn has_usable_primary(&self) -> bool {
        self.primary.and_then(|id| self.get(id)).is_some_and(EndpointState::is_usable)
    }

    /// How many endpoints were configured.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// What is known of `id`, `None` if it is not in this topology.
    #[must_use]
    pub fn get(&self, id: EndpointId) -> Option<&EndpointState> {
        self.endpoints.get(id.index())
    }

    /// All endpoints, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (EndpointId, &EndpointState)> {
        self.endpoints
            .iter()
            .enumerate()
            .filter_map(|(index, state)| Some((EndpointId::from_index(index)?, state)))
    }

    /// How `id` stands, in one word.
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
            (Health::Up, _) if self.primary == Some(id) => Condition::Serving,
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

    /// What a read on `id` may miss at most, at `now`: it contains all that the
    /// primary had committed that long ago. `None` if nothing is proved.
    #[must_use]
    pub fn staleness(&self, id: EndpointId, now: Moment) -> Option<Duration> {
        let state = self.get(id)?;
        match state.position {
            // One file: a read sees every commit.
            Some(Position::Current) => Some(Duration::ZERO),
            _ if self.primary == Some(id) => Some(Duration::ZERO),
            _ => state.fresh_at.map(|at| now.since(at)),
        }
    }

    /// How far `id` is behind the newest that is known of the primary. Unlike
    /// [`Topology::staleness`] it does not grow while the primary is away.
    #[must_use]
    pub fn lag(&self, id: EndpointId) -> Option<Duration> {
        let state = self.get(id)?;
        match (&state.position, &self.sampled) {
            (Some(Position::Current), _) => Some(Duration::ZERO),
            _ if self.primary == Some(id) => Some(Duration::ZERO),
            (_, Some(sample)) => state.fresh_at.map(|at| sample.at.since(at)),
            // The primary was never reached: unknown is not zero.
            (_, None) => None,
        }
    }

    /// How much `id` has yet to replay of the newest that is known of the
    /// primary, in the unit of the engine. `None` if that is unknown: so it is
    /// on another timeline, and while `id` does not answer.
    #[must_use]
    pub fn distance(&self, id: EndpointId) -> Option<Distance> {
        self.get(id)?.position.as_ref()?.behind(self.sampled_position()?)
    }

    /// How much of that `id` has yet to receive. The rest of
    /// [`Topology::distance`] is there and waits to be replayed.
    #[must_use]
    pub fn distance_to_receive(&self, id: EndpointId) -> Option<Distance> {
        self.get(id)?.received.as_ref()?.behind(self.sampled_position()?)
    }

    /// The newest position that is known of the primary.
    #[must_use]
    pub fn sampled_position(&self) -> Option<&Position> {
        self.sampled.as_ref().map(|sample| &sample.position)
    }

    /// Where the primary is, as far as is known.
    pub(crate) fn current_position(&self) -> Option<&Position> {
        let primary = || self.primary.and_then(|id| self.get(id))?.position.as_ref();
        self.sampled_position().or_else(primary)
    }

    /// The newest stamp that a known position of the primary contains.
    #[must_use]
    pub fn sampled_stamp(&self) -> WriteStamp {
        match (&self.sampled, self.primary.and_then(|id| self.get(id))) {
            (Some(sample), _) => sample.stamp,
            // Without probes: everything is there at once.
            (None, Some(primary)) => primary.covered,
            (None, None) => WriteStamp::NONE,
        }
    }

    /// The newest stamp of which it is proved that the primary shows all that any replica had shown
    /// when it was drawn. `None` if the primary does not tell: only PostgreSQL does.
    #[must_use]
    pub fn shown(&self) -> Option<WriteStamp> {
        self.shown
    }

    /// The least stamp that all replicas in use are proved to cover: a session
    /// that waits for a newer one is worth quick probing.
    #[must_use]
    pub fn covered_by_replicas(&self) -> WriteStamp {
        self.iter()
            .filter(|(id, state)| {
                self.primary != Some(*id)
                    && state.is_usable()
                    && state.role == Role::Replica
                    && state.replication != Replication::Stopped
                    && !state.old_timeline
            })
            .map(|(_, state)| state.covered)
            .min()
            .unwrap_or(WriteStamp::from_number(u64::MAX))
    }
}
