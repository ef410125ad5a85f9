//! Histories that have ended.
//!
//! A promotion on PostgreSQL begins a new timeline. What is on an older one gets nothing new
//! before it is pointed to the new primary, and may hold what was lost.
//!
//! Two servers that are promoted from one timeline both begin the next: their timelines
//! bear one number and are two histories. When the second takes over from the first, nothing
//! that was sampled of the first proves anything, and what was on that timeline before
//! follows the first. Such an endpoint shows no place until it is seen on another timeline, or
//! receiving in another run: it cannot follow the second before its data were made anew.

use super::TopologyReducer;
use crate::{
    Condition, EndpointId, Event, Incarnation, Position, Replication, Report, Role,
    topology::samples::History,
};

impl TopologyReducer {
    /// Notes the newest timeline of our system. A claim that is not believed does not count.
    pub(super) fn note_timelines(&mut self) {
        for (state, watched) in self.topology.endpoints.iter().zip(&self.watched) {
            let is_doubted = watched.claim.as_ref().is_some_and(|claim| !claim.is_believed());
            if let Some(position) = state.position.as_ref().filter(|_| state.is_ours())
                && !is_doubted
            {
                self.newest_timeline = self.newest_timeline.max(position.timeline());
            }
        }
    }

    /// Marks the endpoints on old timelines. It is told when `endpoint` itself has shown it:
    /// others may have moved since they were asked.
    pub(super) fn judge_timelines(&mut self, endpoint: EndpointId, events: &mut Vec<Event>) {
        let newest = self.newest_timeline;
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            let ended = watched.footing_ended
                || watched.astray.is_some()
                || (state.role == Role::Replica && watched.course.is_over());
            state.old_timeline = match &state.position {
                _ if ended => true,
                Some(position) => !state.foreign && position.timeline() < newest,
                None => state.old_timeline,
            };
            let has_shown = state.id == endpoint && (ended || state.position.is_some());
            if has_shown && watched.told_old != state.old_timeline {
                watched.told_old = state.old_timeline;
                events.push(match state.old_timeline {
                    true => Event::OldTimeline { endpoint },
                    false => Event::Recovered { endpoint, from: Condition::OldTimeline },
                });
            }
        }
    }

    /// Whether what `id` reports is of a history that another server's of the same number has
    /// taken the place of.
    pub(super) fn is_astray(&mut self, id: EndpointId, report: &Report) -> bool {
        let Some((state, watched)) = self.both_mut(id) else { return false };
        let Some(run) = watched.astray else { return false };
        let is_of_that_run =
            state.run == run && state.incarnation.as_ref() == Some(&report.incarnation);
        let has_moved = report
            .position
            .as_ref()
            .is_some_and(|position| position.timeline() != watched.timeline);
        if has_moved || (!is_of_that_run && report.replication == Replication::Running) {
            watched.astray = None;
        }
        watched.astray.is_some()
    }

    /// To be called before `position` of the primary `id` is sampled: if another server was
    /// sampled last, on a timeline of the same number, that history is over. `last_run` is the run
    /// that was sampled last.
    pub(super) fn part_histories(
        &mut self,
        id: EndpointId,
        position: &Position,
        last_run: Option<&Incarnation>,
    ) {
        let before = self.sampled_of.filter(|before| *before != id);
        let is_same_number = self.history.newest().is_some_and(|newest| {
            position.system().is_some() && newest.position.timeline() == position.timeline()
        });
        if !before.is_some_and(|before| is_same_number && !self.is_one_server(before, last_run, id))
        {
            return;
        }
        self.partings += 1;
        self.forget_samples();
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            if state.id != id && watched.timeline == position.timeline() {
                watched.astray = Some(state.run);
                state.old_timeline = true;
                (state.position, state.received) = (None, None);
            }
        }
    }

    /// Nothing that was sampled before proves anything.
    pub(super) fn forget_samples(&mut self) {
        self.history = History::default();
        self.topology.sampled = None;
    }
}
