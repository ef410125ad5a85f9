//! Filters of replication.
//!
//! On MySQL and MariaDB, a replica, and the log of any server, may leave out tables. The catalog says
//! which, and statements that read them stay on the primary. So a server gets no reads before it was
//! asked. Its configuration may change with each restart, so each run is asked. While the primary's run
//! was not asked, no replica gets reads, because the primary's log may leave out what it writes now.
//!
//! A statement may be judged by a catalog without the filters of a server that was asked in the
//! meantime. Such a statement runs on the primary, however long it waited.

use super::TopologyReducer;
use crate::{EndpointId, EndpointSet, EndpointState, Topology};

impl Topology {
    /// The same topology of servers that may filter what they replicate. A new run of a server gets no
    /// reads until the catalog [includes its filters](TopologyReducer::note_filters).
    #[must_use]
    pub fn asking_for_filters(self) -> Self {
        Topology { asks_for_filters: true, ..self }
    }

    /// Whether a replica may lack something that the catalog does not say, because of filters of its own
    /// or of the primary's log that are not known.
    pub(crate) fn may_miss(&self, state: &EndpointState) -> bool {
        let of_log = || {
            let primary = self.primary.and_then(|id| self.get(id));
            primary.is_some_and(|it| it.filters_unknown && it.is_usable())
        };
        self.asks_for_filters && (state.filters_unknown || of_log())
    }

    /// The endpoints that answer and were not asked for their filters yet.
    #[must_use]
    pub fn with_unknown_filters(&self) -> EndpointSet {
        let states = self.endpoints.iter().filter(|it| it.filters_unknown && it.is_usable());
        states.map(|state| state.id).collect()
    }

    /// Whether a statement that was judged by this generation of the catalog may run on replicas: it
    /// includes the filters of all servers that were asked.
    #[must_use]
    pub fn includes_filters(&self, generation: u64) -> bool {
        generation >= self.filters_since
    }
}

impl TopologyReducer {
    /// Notes that these runs of servers were asked for their filters. `since` is the first generation of
    /// the catalog that includes them, or `None` if they add nothing to the current catalog.
    pub fn note_filters(&mut self, runs: &[(EndpointId, u32)], since: Option<u64>) {
        for (id, run) in runs {
            if let Some((state, _)) = self.both_mut(*id)
                && state.run == *run
            {
                state.filters_unknown = false;
            }
        }
        let topology = &mut self.topology;
        topology.filters_since = topology.filters_since.max(since.unwrap_or_default());
        topology.note_replicas_in_use();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Access, Condition, Consistency, Endpoint, GtidSet, Incarnation, Moment, Observation,
        Outcome, Plan, Position, ReadRequest, Refusal, Report, Role, WriteStamp,
    };

    const PRIMARY: EndpointId = EndpointId::FIRST;

    fn replica() -> EndpointId {
        EndpointId::from_index(1).unwrap()
    }

    /// A primary and a replica that have answered, and were not asked.
    fn answered() -> TopologyReducer {
        let names = ["primary", "replica"].map(|name| Endpoint::new(name, name));
        let topology = Topology::new(names.to_vec()).asking_for_filters();
        let mut reducer = TopologyReducer::new(topology);
        answers(&mut reducer, PRIMARY, Role::Primary, "first");
        answers(&mut reducer, replica(), Role::Replica, "first");
        reducer
    }

    fn answers(reducer: &mut TopologyReducer, endpoint: EndpointId, role: Role, run: &str) {
        let position = Some(Position::GtidSet(GtidSet::default()));
        let report = Report { position, ..Report::new(role, Incarnation::new(run)) };
        let (started, finished) = (Moment::ZERO, Moment::ZERO);
        let (stamp, outcome) = (WriteStamp::NONE, Outcome::Answered(report));
        reducer.apply(&Observation { endpoint, started, finished, stamp, outcome });
    }

    fn run_of(reducer: &TopologyReducer, id: EndpointId) -> (EndpointId, u32) {
        (id, reducer.topology().get(id).unwrap().run)
    }

    fn read() -> ReadRequest {
        ReadRequest::new(Access::Read, Consistency::Eventual, Moment::ZERO)
    }

    #[test]
    fn a_replica_serves_once_it_and_the_primary_were_asked() {
        let mut reducer = answered();
        let both = EndpointSet::from_iter([PRIMARY, replica()]);
        assert_eq!(reducer.topology().with_unknown_filters(), both);
        reducer.note_filters(&[run_of(&reducer, replica())], None);
        assert_eq!(reducer.topology().condition(replica()), Condition::FiltersUnknown);
        assert!(Plan::new(reducer.topology(), &read()).replicas().is_empty());
        reducer.note_filters(&[run_of(&reducer, PRIMARY)], None);
        assert_eq!(reducer.topology().condition(replica()), Condition::Serving);
        assert!(Plan::new(reducer.topology(), &read()).replicas().contains(replica()));
    }

    #[test]
    fn what_an_earlier_run_told_says_nothing_about_the_next() {
        let mut reducer = answered();
        let runs = [run_of(&reducer, PRIMARY), run_of(&reducer, replica())];
        answers(&mut reducer, replica(), Role::Replica, "second");
        reducer.note_filters(&runs, None);
        let verdict = Plan::judge(reducer.topology(), replica(), &read());
        assert_eq!(verdict, Err(Refusal::FiltersUnknown));
        reducer.note_filters(&[run_of(&reducer, replica())], None);
        assert_eq!(Plan::judge(reducer.topology(), replica(), &read()), Ok(()));
    }

    #[test]
    fn a_statement_that_was_judged_before_a_filter_was_known_runs_on_the_primary() {
        let mut reducer = answered();
        let runs = [run_of(&reducer, PRIMARY), run_of(&reducer, replica())];
        reducer.note_filters(&runs, Some(7));
        let topology = reducer.topology();
        for (catalog, serves) in [(6, false), (7, true), (8, true)] {
            let read = read().judged_by(catalog);
            assert_eq!(Plan::new(topology, &read).replicas().contains(replica()), serves);
            assert_eq!(Plan::judge(topology, replica(), &read).is_ok(), serves, "{catalog}");
            let stale = read.or_stale(Some(std::time::Duration::MAX));
            assert_eq!(Plan::judge(topology, replica(), &stale).is_ok(), serves, "{catalog}");
        }
        // A later load without new filters, and an older one, change nothing.
        reducer.note_filters(&[], None);
        reducer.note_filters(&[], Some(3));
        assert!(!reducer.topology().includes_filters(6));
    }
}
