//! Histories that have ended.
//!
//! A promotion on PostgreSQL begins a new timeline. A server on an older timeline gets nothing new
//! before it is pointed to the new primary, and it may hold data that was lost.
//!
//! If two servers are promoted from one timeline, both begin the next one. The two new timelines
//! have the same number but are two histories. When the second server takes over from the first, no
//! sample of the first proves anything any more, and every endpoint on that timeline follows the
//! first. Such an endpoint has no usable position until it is seen on another timeline, or
//! receiving in another run: it cannot follow the second server before its data is made anew.

use super::TopologyReducer;
use crate::{
    Condition, EndpointId, Event, Incarnation, Position, Replication, Report, Role,
    topology::samples::History,
};

impl TopologyReducer {
    /// Records the newest timeline of our system. A claim that is not believed does not count.
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

    /// Marks the endpoints on old timelines. An event is sent only if `endpoint` itself has shown
    /// the change: other endpoints may have moved since they were probed.
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

    /// Whether `id` reports a history that was replaced by another server's history with the same
    /// timeline number.
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

    /// Must be called before `position` of the primary `id` is sampled. If another server was
    /// sampled last, on a timeline with the same number, that server's history has ended.
    /// `last_run` is the run that was sampled last.
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

    /// Voids all earlier samples.
    pub(super) fn forget_samples(&mut self) {
        self.history = History::default();
        self.topology.sampled = None;
    }
}
