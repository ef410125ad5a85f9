//! Filters of replication.
//!
//! On MySQL and MariaDB, a replica, and the log of any server, may leave out tables. The catalog says
//! which, and statements that read them stay on the primary. So a server gets no reads before its
//! filters are known. They may change with each restart, and when somebody stops replication, sets
//! another filter, and starts it again. So it is asked whenever a new run of it is seen, when it becomes
//! a replica, and when its replication runs again. While the primary's filters are not known, no replica
//! gets reads, because the primary's log may leave out what it writes now.
//!
//! A statement may be judged by a catalog without filters that were found in the meantime. Such a
//! statement runs on the primary, however long it waited.

use super::TopologyReducer;
use crate::{
    EndpointId, EndpointSet, EndpointState, FilterQuestion, Moment, Replication, Report, Role,
    Topology,
};

impl Topology {
    /// The same topology of servers that may filter what they replicate. They get no reads until the
    /// catalog [includes their filters](TopologyReducer::note_filters).
    #[must_use]
    pub fn asking_for_filters(self) -> Self {
        Topology { asks_for_filters: true, ..self }
    }

    /// Since when a replica may lack something that the catalog does not say, because its own filters
    /// or those of the primary's log are not known. `None` if they are.
    pub(crate) fn may_miss_since(&self, state: &EndpointState) -> Option<Moment> {
        if !self.asks_for_filters {
            return None;
        }
        let primary = self.primary.and_then(|id| self.get(id));
        let of_log = primary.filter(|it| it.may_answer() && it.is_ours());
        let questions = [Some(state), of_log].into_iter().flatten();
        questions.filter_map(|it| it.filters_unknown).map(|it| it.since).min()
    }

    /// The servers that are to be asked for their filters and can be, each with the number of the
    /// question.
    pub fn filter_questions(&self) -> impl Iterator<Item = (EndpointId, u32)> + use<'_> {
        let usable = self.endpoints.iter().filter(|it| it.is_usable());
        usable.filter_map(|it| Some((it.id, it.filters_unknown?.number)))
    }

    /// The replicas that get reads, or will as soon as filters are known.
    #[must_use]
    pub fn able_replicas(&self) -> EndpointSet {
        let others = self.endpoints.iter().filter(|it| self.primary != Some(it.id));
        others.filter(|it| it.is_replica_in_use()).map(|it| it.id).collect()
    }

    /// Whether a statement that was judged by this generation of the catalog may run on replicas: it
    /// includes all filters that are known.
    #[must_use]
    pub fn includes_filters(&self, generation: u64) -> bool {
        generation >= self.filters_since
    }
}

impl TopologyReducer {
    /// Notes that these questions are answered. `since` is the first generation of the catalog that
    /// includes what was found, or `None` if that adds nothing to the current catalog.
    pub fn note_filters(&mut self, answered: &[(EndpointId, u32)], since: Option<u64>) {
        for (id, number) in answered {
            if let Some((state, _)) = self.both_mut(*id) {
                state.filters_unknown.take_if(|question| question.number == *number);
            }
        }
        let topology = &mut self.topology;
        topology.filters_since = topology.filters_since.max(since.unwrap_or_default());
        topology.note_replicas_in_use();
    }

    /// Asks for the filters of a server if they may be other ones than before. To be called before
    /// `report` is taken in.
    pub(super) fn ask_for_filters(&mut self, id: EndpointId, report: &Report, now: Moment) {
        if !self.topology.asks_for_filters {
            return;
        }
        let number = self.filter_questions.saturating_add(1);
        let Some((state, _)) = self.both_mut(id) else { return };
        let is_new_run = state.incarnation.as_ref() != Some(&report.incarnation);
        let becomes_replica = report.role == Role::Replica && state.role != Role::Replica;
        let resumes =
            report.replication == Replication::Running && state.replication != Replication::Running;
        if is_new_run || becomes_replica || resumes {
            state.filters_unknown = Some(FilterQuestion { number, since: now });
            self.filter_questions = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Access, Condition, Consistency, Endpoint, Failure, GtidSet, Incarnation, Moment,
        Observation, Outcome, Plan, Position, ReadRequest, Refusal, Report, Role, WriteStamp,
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
        let replication = match role {
            Role::Replica => Replication::Running,
            _ => Replication::NotApplicable,
        };
        tells(reducer, endpoint, role, run, replication);
    }

    fn tells(
        reducer: &mut TopologyReducer,
        endpoint: EndpointId,
        role: Role,
        run: &str,
        replication: Replication,
    ) {
        let position = Some(Position::GtidSet(GtidSet::default()));
        let report = Report { position, replication, ..Report::new(role, Incarnation::new(run)) };
        let (started, finished) = (Moment::ZERO, Moment::ZERO);
        let (stamp, outcome) = (WriteStamp::NONE, Outcome::Answered(report));
        reducer.apply(&Observation { endpoint, started, finished, stamp, outcome });
    }

    fn question(reducer: &TopologyReducer, id: EndpointId) -> (EndpointId, u32) {
        reducer.topology().filter_questions().find(|(of, _)| *of == id).unwrap()
    }

    fn read() -> ReadRequest {
        ReadRequest::new(Access::Read, Consistency::Eventual, Moment::ZERO)
    }

    #[test]
    fn a_replica_serves_once_it_and_the_primary_were_asked() {
        let mut reducer = answered();
        assert_eq!(reducer.topology().filter_questions().count(), 2);
        assert!(reducer.topology().able_replicas().contains(replica()));
        reducer.note_filters(&[question(&reducer, replica())], None);
        assert_eq!(reducer.topology().condition(replica()), Condition::FiltersUnknown);
        assert!(Plan::new(reducer.topology(), &read()).replicas().is_empty());
        reducer.note_filters(&[question(&reducer, PRIMARY)], None);
        assert_eq!(reducer.topology().condition(replica()), Condition::Serving);
        assert!(Plan::new(reducer.topology(), &read()).replicas().contains(replica()));
    }

    #[test]
    fn what_an_earlier_run_told_says_nothing_about_the_next() {
        let mut reducer = answered();
        let runs = [question(&reducer, PRIMARY), question(&reducer, replica())];
        answers(&mut reducer, replica(), Role::Replica, "second");
        reducer.note_filters(&runs, None);
        let verdict = Plan::judge(reducer.topology(), replica(), &read());
        assert_eq!(verdict, Err(Refusal::FiltersUnknown));
        reducer.note_filters(&[question(&reducer, replica())], None);
        assert_eq!(Plan::judge(reducer.topology(), replica(), &read()), Ok(()));
    }

    /// All that is asked for is answered.
    fn settle(reducer: &mut TopologyReducer) {
        let questions: Vec<_> = reducer.topology().filter_questions().collect();
        reducer.note_filters(&questions, None);
    }

    #[test]
    fn a_server_is_asked_again_when_its_replication_runs_again_or_begins() {
        let mut reducer = answered();
        settle(&mut reducer);
        answers(&mut reducer, replica(), Role::Replica, "first");
        assert_eq!(reducer.topology().filter_questions().count(), 0, "nothing is new");
        tells(&mut reducer, replica(), Role::Replica, "first", Replication::Stopped);
        assert_eq!(reducer.topology().filter_questions().count(), 0);
        answers(&mut reducer, replica(), Role::Replica, "first");
        let question = question(&reducer, replica());
        // A demoted primary without a channel, and then with one.
        settle(&mut reducer);
        tells(&mut reducer, PRIMARY, Role::Replica, "first", Replication::Stopped);
        let first = super::tests::question(&reducer, PRIMARY);
        settle(&mut reducer);
        tells(&mut reducer, PRIMARY, Role::Replica, "first", Replication::Running);
        let second = super::tests::question(&reducer, PRIMARY);
        reducer.note_filters(&[question, first], None);
        assert_eq!(reducer.topology().filter_questions().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn one_failed_statement_does_not_make_the_primarys_log_known() {
        let mut reducer = answered();
        reducer.note_filters(&[question(&reducer, replica())], None);
        let failure = Failure::Statement("broken".into());
        let (started, finished) = (Moment::ZERO, Moment::ZERO);
        let (stamp, outcome) = (WriteStamp::NONE, Outcome::Failed(failure));
        reducer.apply(&Observation { endpoint: PRIMARY, started, finished, stamp, outcome });
        assert!(reducer.topology().replicas_in_use().is_empty());
    }

    #[test]
    fn a_statement_that_was_judged_before_a_filter_was_known_runs_on_the_primary() {
        let mut reducer = answered();
        let runs = [question(&reducer, PRIMARY), question(&reducer, replica())];
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
