//! Epochs: the histories that primaries write, one after the other.
//!
//! An epoch begins when another server becomes the primary, and when a primary's own position goes
//! back: a crash has lost the end of its log, and it uses the lost numbers again. On PostgreSQL,
//! timelines are the epochs, and this module only looks for what timelines do not show.
//!
//! - What was sampled in one epoch proves nothing in the next. The first sample of the new epoch
//!   contains everything that has survived.
//! - A replica proves something only with what it has of the primary's history
//!   ([`Ancestry`](crate::Ancestry)). A replica that holds something else, which the primary lacks
//!   when probed *later*, is on an old history until it is seen without it.
//! - What a replica reported before the epoch proves nothing in the epoch, because the replica may
//!   since have received more of what is lost. It is *doubted*, and serves no session at all, until
//!   it is probed again and has only what the primary has.
//! - A replica that was ahead of the primary in the primary's own stream when an epoch began holds
//!   lost transactions, under numbers that are used again. No later number tells these from the new
//!   ones. So the replica stays on the old history until it is seen with less, until it says that
//!   it is a primary, or until another server (another UUID, on MariaDB another `server_id`) takes
//!   its place. A new copy of the primary that keeps the old server's name must be seen before it
//!   has caught up.
//! - On MySQL, a replica may add transactions of its own. These put it on no other history once the
//!   replica was seen in this epoch with something that the primary wrote in it. A transaction of
//!   its own that is there before then may be a lost one. The same holds for one that appears after
//!   a restart of the replica.
//!
//! Until the primary is probed again, a replica that shows something unknown proves what it proved
//! before. If the primary itself receives from elsewhere, that is the usual case.
//!
//! Rejected: comparing numbers alone. A replica that was ahead of the promoted one "covers"
//! everything that the new primary writes under the same numbers. Rejected: refusing each replica
//! after a promotion until it shows a transaction of the new primary. A primary that writes nothing
//! would have no replica. Rejected: forgiving a replica once it replicates again after a restart. A
//! replica with lost transactions does that, too, as soon as the primary has used its numbers
//! again.

use super::TopologyReducer;
use crate::{
    Ancestry, EndpointId, EndpointState, Incarnation, Moment, Observation, Position, Report, Role,
    Source, position::leads, topology::samples::Sample,
};

/// How many ended epochs are remembered, for tokens of sessions that wrote in them.
const ENDED_KEPT: usize = 8;

/// A position that a server has reported.
#[derive(Debug, Clone)]
pub(super) struct Told {
    position: Position,
    /// When the answer that first reported this position arrived.
    at: Moment,
    /// The server that reported it.
    by: Option<Ancestry>,
}

impl Told {
    fn is_by_server_of(&self, other: &Told) -> bool {
        Ancestry::is_of_one_server(self.by.as_ref(), other.by.as_ref())
    }
}

/// What the reducer remembers of an endpoint for telling histories apart.
#[derive(Debug, Clone, Default)]
pub(super) struct Course {
    /// The last reported position. It outlives the connection.
    last: Option<Told>,
    /// Whether the endpoint has answered since it last failed.
    is_known: bool,
    /// When the last answered probe was sent.
    asked_at: Moment,
    /// When the probe of the primary that began the epoch was sent. Set while this server has not
    /// been seen on the primary's history since then.
    doubted_since: Option<Moment>,
    /// The last position that was of the primary's history.
    settled: Option<Position>,
    /// Whether the endpoint holds something that the primary, probed later, lacks.
    strays: bool,
    /// For each server seen at this endpoint that holds something the primary lost: what that
    /// server then had. An address may lead to several servers in turn.
    lost: Vec<Told>,
    /// The position at which the endpoint was last seen to have added transactions of its own to
    /// the primary's history, in this epoch and this run.
    own: Option<Position>,
    /// The history that the endpoint writes, if it says that it is a primary.
    ancestry: Option<Ancestry>,
    /// The servers that the endpoint said it receives from.
    sources: Vec<Source>,
}

impl Course {
    /// Records that the endpoint has not answered.
    pub(super) fn fail(&mut self) {
        (self.is_known, self.settled) = (false, None);
    }

    /// Records what the endpoint reported. Must be called before the answer is applied.
    pub(super) fn note(&mut self, state: &EndpointState, report: &Report, of: &Observation) {
        let at = of.finished;
        self.asked_at = of.started;
        if state.incarnation.as_ref() != Some(&report.incarnation) {
            (self.settled, self.own) = (None, None);
        }
        self.ancestry.clone_from(&report.ancestry);
        self.sources.clone_from(&report.sources);
        self.is_known = report.position.is_some();
        if let Some(position) = &report.position {
            // If the position is repeated, its first time counts, because a probe of the primary
            // may have been on its way since then.
            let same = self.last.as_ref().filter(|last| last.position == *position);
            let at = same.map_or(at, |last| last.at);
            let by = report.ancestry.clone();
            self.last = Some(Told { position: position.clone(), at, by });
        }
        if report.role == Role::Primary {
            (self.settled, self.own, self.strays) = (None, None, false);
            self.doubted_since = None;
            self.forget_lost();
        }
    }

    /// Whether the last reported position came from `server`. An unknown server counts as the same.
    pub(super) fn is_of(&self, server: Option<&Ancestry>) -> bool {
        let by = self.last.as_ref().and_then(|last| last.by.as_ref());
        Ancestry::is_of_one_server(by, server)
    }

    /// The server behind the endpoint, and what it has of each history.
    pub(super) fn ancestry(&self) -> Option<&Ancestry> {
        self.ancestry.as_ref()
    }

    /// The last reported position.
    pub(super) fn position(&self) -> Option<&Position> {
        self.last.as_ref().map(|last| &last.position)
    }

    /// The servers that the endpoint said it receives from.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Whether the endpoint is on another history than the primary's.
    pub(super) fn is_over(&self) -> bool {
        let is_lost = |last: &Told| self.lost.iter().any(|lost| lost.is_by_server_of(last));
        self.strays || self.last.as_ref().is_some_and(is_lost)
    }

    /// Whether the endpoint may be on another history, because it was not seen on the primary's
    /// history since the epoch began.
    fn is_doubted(&self) -> bool {
        self.doubted_since.is_some()
    }

    /// Records that what the server has now contains what the primary lost.
    fn lose(&mut self) {
        self.forget_lost();
        self.lost.extend(self.last.clone());
    }

    fn forget_lost(&mut self) {
        if let Some(last) = &self.last {
            self.lost.retain(|lost| !lost.is_by_server_of(last));
        }
    }

    /// Whether the endpoint holds nothing of another history except what it wrote itself while it
    /// followed this one. (`ANALYZE TABLE`, `GRANT` and `FLUSH` are transactions, too.) It must
    /// have been seen in this epoch with something that the primary wrote in the epoch, and without
    /// those transactions. What it had before may be lost.
    fn only_adds(&mut self, epoch: &Epoch<'_>, position: &Position) -> bool {
        let (Some(ancestry), Some(its)) = (epoch.ancestry, &self.ancestry) else { return false };
        if !ancestry.strays_alone(&epoch.newest.position, position, epoch.ended, its) {
            return false;
        }
        let is_known = self.own.as_ref().is_some_and(|own| !its.has_written(own, position));
        let is_new = self.settled.as_ref().is_some_and(|settled| {
            position.covers(settled)
                && epoch.began_at.is_some_and(|began_at| ancestry.has_written(began_at, settled))
        });
        if is_new {
            self.own = Some(position.clone());
        }
        is_known || is_new
    }

    /// Decides what the endpoint's last position proves relative to the primary's.
    fn judge(&mut self, epoch: &Epoch<'_>) {
        let Some(last) = self.last.clone() else { return };
        let (position, primary) = (&last.position, &epoch.newest.position);
        self.lost.retain(|lost| !lost.is_by_server_of(&last) || position.covers(&lost.position));
        let strays = |ancestry: &Ancestry| ancestry.strays(primary, position, epoch.ended);
        let is_other = epoch.ancestry.is_some_and(strays) && !self.only_adds(epoch, position);
        let is_before = last.at <= epoch.newest.at;
        // MariaDB records a transaction in its position before sending it to replicas; MySQL only
        // afterwards.
        if is_before
            && matches!(primary, Position::GtidList(_))
            && leads(epoch.ancestry, primary, position)
        {
            self.lose();
        }
        if !is_other {
            self.strays = false;
        } else if is_before {
            self.strays = true;
        }
        // What the endpoint reported before the epoch says nothing about what it has now.
        if !is_other
            && epoch.is_of_primary
            && self.doubted_since.is_some_and(|epoch| self.asked_at >= epoch)
        {
            self.doubted_since = None;
        }
        self.settled = match (self.is_over() || self.is_doubted(), is_other) {
            (true, _) => None,
            // What the endpoint reported before it failed says nothing about what it has now.
            (false, false) => Some(last.position).filter(|_| self.is_known),
            (false, true) => self.settled.take().filter(|settled| position.covers(settled)),
        };
    }
}

/// What the primary has reported about the history that it writes.
struct Epoch<'a> {
    ancestry: Option<&'a Ancestry>,
    began_at: Option<&'a Position>,
    newest: &'a Sample,
    /// The last samples of the histories that have ended.
    ended: &'a [Position],
    /// Whether the newest sample comes from the primary in charge.
    is_of_primary: bool,
}

impl TopologyReducer {
    /// Must be called before a position of the primary is sampled. Begins an epoch if the position
    /// belongs to another history than the last sample.
    pub(super) fn follow_history(&mut self, observation: &Observation, report: &Report) {
        let (id, Some(position)) = (observation.endpoint, &report.position) else { return };
        let run = self.sampled_run.replace(report.incarnation.clone());
        self.part_histories(id, position, run.as_ref());
        let before = self.sampled_of.replace(id).filter(|before| *before != id);
        if let Some(last) = self.history.newest().filter(|last| {
            // A newer timeline is an epoch by itself.
            last.position.timeline() == position.timeline() && *position != Position::Opaque
        }) {
            let is_other =
                before.is_some_and(|before| !self.is_one_server(before, run.as_ref(), id));
            // What a crash took away may have been shown since that sample.
            let is_same_run = run.as_ref() == Some(&report.incarnation);
            let shown = self.sampled_shown.as_ref().filter(|_| is_same_run);
            let shown = shown.unwrap_or(&last.position);
            let went_back = observation.started >= last.at && !position.covers(shown);
            let is_led = run.is_some_and(|run| run != report.incarnation)
                && self.leading(observation, report).next().is_some();
            if is_other || went_back || is_led {
                self.begin_epoch(observation, report, last.position.clone());
            }
        }
        if self.history.newest().is_none() {
            self.epoch_began_at = Some(position.clone());
        }
        self.topology.ancestry.clone_from(&report.ancestry);
    }

    /// Whether `other` leads to the server that was last sampled, at endpoint `last` in run
    /// `last_run`. It does if both addresses were last seen to lead to one run. It also does if
    /// `other` leads to the sampled run, while `last` was removed or leads elsewhere by now.
    pub(super) fn is_one_server(
        &self,
        last: EndpointId,
        last_run: Option<&Incarnation>,
        other: EndpointId,
    ) -> bool {
        let run = |id: EndpointId| self.topology.get(id).map(|it| it.incarnation.as_ref());
        let its = run(other).flatten();
        run(last).unwrap_or(last_run) == its || (its.is_some() && its == last_run)
    }

    /// The endpoints that, before the primary was probed, had more of the primary's own stream than
    /// the primary now reports.
    fn leading(&self, asked: &Observation, report: &Report) -> impl Iterator<Item = usize> {
        let is_ahead = |told: &Told| {
            let primary = report.position.as_ref();
            told.at <= asked.started
                && primary.is_some_and(|it| leads(report.ancestry.as_ref(), it, &told.position))
        };
        let asked_index = self.topology.index(asked.endpoint);
        let others = self.watched.iter().enumerate();
        let others = others.filter(move |(index, _)| Some(*index) != asked_index);
        others.filter(move |(_, it)| it.course.last.as_ref().is_some_and(is_ahead)).map(|it| it.0)
    }

    /// Must be called when the primary may have changed. Until the new primary is sampled, it is
    /// unknown what it lacks, and what the last primary's samples prove may be lost. (Timelines
    /// show this at once.)
    pub(super) fn doubt_until_sampled(&mut self) {
        let (Some(primary), Some(sampled)) = (self.topology.primary, self.sampled_of) else {
            return;
        };
        let has_epochs = self.history.newest().is_some_and(|newest| {
            newest.position.timeline() == 0 && newest.position != Position::Opaque
        });
        if !has_epochs || self.is_one_server(sampled, self.sampled_run.as_ref(), primary) {
            return;
        }
        for watched in &mut self.watched {
            if watched.footing.is_none() && watched.course.doubted_since.is_none() {
                // The sample that begins the epoch sets the actual time.
                watched.course.doubted_since = Some(Moment::ZERO);
            }
        }
    }

    fn begin_epoch(&mut self, observation: &Observation, report: &Report, last: Position) {
        let leading: Vec<usize> = self.leading(observation, report).collect();
        for (index, watched) in self.watched.iter_mut().enumerate() {
            let course = &mut watched.course;
            (course.settled, course.own) = (None, None);
            if watched.footing.is_none() {
                course.doubted_since = Some(observation.started);
            }
            // If a replica strays in the new primary's own stream, its transactions could not be
            // told apart from those that the new primary writes there.
            let strays_there =
                course.strays
                    && report.ancestry.as_ref().zip(course.last.as_ref()).is_some_and(
                        |(ancestry, told)| ancestry.has_written(&last, &told.position),
                    );
            if leading.contains(&index) || strays_there {
                course.lose();
            }
        }
        self.topology.epoch += 1;
        let ended = self.topology.ended.iter().cloned().chain([last]);
        let surplus = (self.topology.ended.len() + 1).saturating_sub(ENDED_KEPT);
        self.topology.ended = ended.skip(surplus).collect();
        self.forget_samples();
    }

    /// Removes the positions of replicas that are not on the primary's history.
    pub(super) fn judge_histories(&mut self) {
        let Some(newest) = &self.topology.sampled else { return };
        let (ancestry, began_at) = (self.topology.ancestry.as_ref(), self.epoch_began_at.as_ref());
        let primary = self.topology.primary;
        let is_of_primary = primary.is_none() || self.sampled_of == primary;
        let ended = &self.topology.ended;
        let epoch = Epoch { ancestry, began_at, newest, ended, is_of_primary };
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            let course = &mut watched.course;
            state.doubted = false;
            if state.role != Role::Replica || state.foreign || watched.astray.is_some() {
                continue;
            }
            course.judge(&epoch);
            if watched.footing.is_some() {
                // Subscribers have histories of their own.
                course.doubted_since = None;
            }
            state.doubted = course.is_doubted();
            if !course.is_known || watched.footing.is_some() {
                continue;
            }
            state.position.clone_from(&course.settled);
            if course.settled.is_none() {
                state.received = None;
            }
        }
    }

    /// Whether the data of `id`, which says that it is a primary, is proved to continue the newest
    /// sample of the last primary. The data must hold the whole sample, including something that
    /// the last primary wrote itself in its epoch. Otherwise, what an earlier primary held before
    /// it was replaced might cover the sample as well, while its successor writes nothing.
    pub(super) fn goes_on(&self, id: EndpointId) -> bool {
        let position = self.topology.get(id).and_then(|state| state.position.as_ref());
        let (Some(position), Some(newest)) = (position, self.history.newest()) else {
            return false;
        };
        if newest.position.system().is_some() {
            return position.covers(&newest.position);
        }
        let its = self.watched(id).and_then(|it| it.course.ancestry.as_ref());
        let (Some(its), Some(ours), Some(began_at)) =
            (its, &self.topology.ancestry, &self.epoch_began_at)
        else {
            return false;
        };
        its.contains(position, &newest.position) && ours.has_written(began_at, &newest.position)
    }

    /// Whether `id` has everything that was sampled, as far as the last primary itself has that, and
    /// the last primary now has received something
    /// that `id` wrote after the last sample; or, if `level_counts`, both have the same.
    pub(super) fn is_followed_by_the_last(&self, id: EndpointId, level_counts: bool) -> bool {
        let course = |id: EndpointId| self.watched(id).map(|it| &it.course);
        let (Some(newest), Some(last), Some(its)) =
            (self.history.newest(), self.sampled_of.and_then(course), course(id))
        else {
            return false;
        };
        let (Some(theirs), Some(last), Some(ours), Some(told)) =
            (&last.ancestry, &last.last, &its.ancestry, &its.last)
        else {
            return false;
        };
        let is_level = level_counts
            && theirs.contains(&last.position, &told.position)
            && ours.contains(&told.position, &last.position);
        // Data made anew lack what the last primary wrote alone. Its numbers are used again, so they
        // are no measure of what came later.
        let is_gone = !theirs.contains(&last.position, &newest.position);
        let began_at = self.epoch_began_at.as_ref().filter(|_| is_gone);
        let since = began_at.unwrap_or(&newest.position);
        let has_received = ours.has_written(since, &last.position);
        let is_complete = is_gone || ours.contains(&told.position, &newest.position);
        is_complete && (is_level || has_received)
    }
}
