//! Epochs: the histories that primaries write, one after the other.
//!
//! An epoch begins when another server becomes the primary, and when a primary's own position went
//! back: a crash has lost the end of its log, and it uses the numbers again. On PostgreSQL
//! timelines are the epochs; only what timelines do not show is looked for there.
//!
//! - What was sampled in one epoch proves nothing in the next. The first sample of the new one
//!   contains all that has survived.
//! - A replica proves something only with what it has of the primary's history
//!   ([`Ancestry`](crate::Ancestry)). A replica that holds something else, which a primary asked
//!   *later* lacks, is on an old history, until it is seen without it.
//! - What a replica said before the epoch proves nothing in it: it may have received more since, of
//!   what is lost. Until it is asked again, and has only what the primary has, it is *doubted*, and
//!   serves no session at all.
//! - What was ahead of the primary in its own stream when an epoch began holds what is lost, under
//!   numbers that are used again. No later number tells it from others, so it stays on the old
//!   history until it is seen with less, says that it is a primary, or another server (another
//!   UUID, on MariaDB another `server_id`) stands in its place. A copy of the primary that has the
//!   name of the server before it must be seen before it has caught up.
//! - On MySQL a replica may add transactions of its own, which prove nothing else, once it was seen
//!   in this epoch with something that the primary wrote in it. Such a transaction that is there
//!   before may be lost; so may one after a restart of the replica.
//!
//! Until the primary is asked again, a replica that shows something unknown proves what it proved
//! before: on a primary that receives from elsewhere itself, that is the usual case.
//!
//! Rejected: numbers alone (a replica that was ahead of the promoted one "covers" all that the new
//! primary writes under the same numbers), and refusing each replica from a promotion until it
//! shows a transaction of the new primary (one that writes nothing would have no replica); and
//! forgiving a replica when it runs again after a restart (so does one that holds what is lost, as
//! soon as the primary has used its numbers again).

use super::TopologyReducer;
use crate::{
    Ancestry, EndpointId, EndpointState, Incarnation, Moment, Observation, Position, Report, Role,
    position::leads, topology::samples::Sample,
};

/// How many ended epochs are remembered, for tokens of sessions that wrote in them.
const ENDED_KEPT: usize = 8;

/// What a server has said of its position.
#[derive(Debug, Clone)]
pub(super) struct Told {
    position: Position,
    /// When the answer was known that first said it.
    at: Moment,
    /// The server that said it.
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
    /// What it last said; it outlives the connection.
    last: Option<Told>,
    /// Whether it has answered since it last failed.
    is_known: bool,
    /// When it was last asked.
    asked_at: Moment,
    /// When the primary was asked whose answer began the epoch, if this server was not seen on its
    /// history since then.
    doubted_since: Option<Moment>,
    /// The last position that was of the primary's history.
    settled: Option<Position>,
    /// It holds what the primary, asked later, lacks.
    strays: bool,
    /// What each server here had when the primary lost that. An address may lead to several
    /// servers in turn.
    lost: Vec<Told>,
    /// What it had when it was last seen to add transactions of its own to the primary's history,
    /// in this epoch and this run.
    own: Option<Position>,
    /// Which history it writes, if it says that it is a primary.
    ancestry: Option<Ancestry>,
}

impl Course {
    /// It has not answered.
    pub(super) fn fail(&mut self) {
        (self.is_known, self.settled) = (false, None);
    }

    /// Takes in what it said. To be called before the answer is taken over.
    pub(super) fn note(&mut self, state: &EndpointState, report: &Report, of: &Observation) {
        let at = of.finished;
        self.asked_at = of.started;
        if state.incarnation.as_ref() != Some(&report.incarnation) {
            (self.settled, self.own) = (None, None);
        }
        self.ancestry.clone_from(&report.ancestry);
        self.is_known = report.position.is_some();
        if let Some(position) = &report.position {
            // Said again, it was so before: a question to the primary may have been on its way.
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

    /// Whether `server` said what it last said. One of which that is not known counts as the same.
    pub(super) fn is_of(&self, server: Option<&Ancestry>) -> bool {
        let by = self.last.as_ref().and_then(|last| last.by.as_ref());
        Ancestry::is_of_one_server(by, server)
    }

    /// Whether it is on another history than the primary's.
    pub(super) fn is_over(&self) -> bool {
        let is_lost = |last: &Told| self.lost.iter().any(|lost| lost.is_by_server_of(last));
        self.strays || self.last.as_ref().is_some_and(is_lost)
    }

    /// Whether it may be on another history, because it was not seen on the primary's since the
    /// epoch began.
    fn is_doubted(&self) -> bool {
        self.doubted_since.is_some()
    }

    /// What the server has now contains what the primary lost.
    fn lose(&mut self) {
        self.forget_lost();
        self.lost.extend(self.last.clone());
    }

    fn forget_lost(&mut self) {
        if let Some(last) = &self.last {
            self.lost.retain(|lost| !lost.is_by_server_of(last));
        }
    }

    /// Whether it holds nothing of another history but what it wrote itself while it followed this
    /// one: `ANALYZE TABLE`, `GRANT` and `FLUSH` are transactions, too. It was seen in this epoch
    /// with what the primary wrote in it, and without them. What it had before may be lost.
    fn only_adds(&mut self, epoch: &Epoch<'_>, position: &Position) -> bool {
        let (Some(ancestry), Some(its)) = (epoch.ancestry, &self.ancestry) else { return false };
        if !ancestry.strays_alone(&epoch.newest.position, position, its) {
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

    /// What is proved of its position beside the primary's.
    fn judge(&mut self, epoch: &Epoch<'_>) {
        let Some(last) = self.last.clone() else { return };
        let (position, primary) = (&last.position, &epoch.newest.position);
        self.lost.retain(|lost| !lost.is_by_server_of(&last) || position.covers(&lost.position));
        let is_other = epoch.ancestry.is_some_and(|ancestry| ancestry.strays(primary, position))
            && !self.only_adds(epoch, position);
        let is_before = last.at <= epoch.newest.at;
        // MariaDB notes a transaction in the position before it is sent; MySQL only afterwards.
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
        // What it said before the epoch says nothing of what it has now.
        if !is_other
            && epoch.is_of_primary
            && self.doubted_since.is_some_and(|epoch| self.asked_at >= epoch)
        {
            self.doubted_since = None;
        }
        self.settled = match (self.is_over() || self.is_doubted(), is_other) {
            (true, _) => None,
            // What it said before it failed says nothing of what it has now.
            (false, false) => Some(last.position).filter(|_| self.is_known),
            (false, true) => self.settled.take().filter(|settled| position.covers(settled)),
        };
    }
}

/// What the primary has said of the history that it writes.
struct Epoch<'a> {
    ancestry: Option<&'a Ancestry>,
    began_at: Option<&'a Position>,
    newest: &'a Sample,
    /// Whether the newest sample is of the primary in charge.
    is_of_primary: bool,
}

impl TopologyReducer {
    /// To be called before a position of the primary is sampled: begins an epoch if it is of
    /// another history than what was sampled last.
    pub(super) fn follow_history(&mut self, observation: &Observation, report: &Report) {
        let (id, Some(position)) = (observation.endpoint, &report.position) else { return };
        let run = self.sampled_run.replace(report.incarnation.clone());
        self.part_histories(id, position, run.as_ref());
        let before = self.sampled_of.replace(id).filter(|before| *before != id);
        if let Some(last) = self.history.newest().filter(|last| {
            // A newer timeline is an epoch of its own.
            last.position.timeline() == position.timeline() && *position != Position::Opaque
        }) {
            let is_other =
                before.is_some_and(|before| !self.is_one_server(before, run.as_ref(), id));
            let shown = self.sampled_shown.as_ref().unwrap_or(&last.position);
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

    /// Whether `other` leads to the server that was sampled `last`, in `last_run`: both addresses
    /// were last seen to lead to one run, or `last` leads elsewhere by now, or was removed, and
    /// `other` leads to the run of the sample.
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

    /// The endpoints that had more of the primary's own stream, before it was asked, than it says.
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

    /// To be called when the primary may have changed. Until the new one is sampled, nobody knows
    /// what it lacks, and what the samples of the last one prove may be lost. (Timelines tell that
    /// at once.)
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
                // The sample that begins the epoch says since when.
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
            // What strays in the stream of the new primary could not be told from what that writes.
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

    /// Takes away the positions of replicas that are not of the primary's history.
    pub(super) fn judge_histories(&mut self) {
        let Some(newest) = &self.topology.sampled else { return };
        let (ancestry, began_at) = (self.topology.ancestry.as_ref(), self.epoch_began_at.as_ref());
        let primary = self.topology.primary;
        let is_of_primary = primary.is_none() || self.sampled_of == primary;
        let epoch = Epoch { ancestry, began_at, newest, is_of_primary };
        for (state, watched) in self.topology.endpoints.iter_mut().zip(&mut self.watched) {
            let course = &mut watched.course;
            state.doubted = false;
            if state.role != Role::Replica || state.foreign || watched.astray.is_some() {
                continue;
            }
            course.judge(&epoch);
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

    /// Whether the data of `id`, which says that it is a primary, are proved to go on from the
    /// newest sample of the last one: they hold it all, and something that the last one wrote
    /// itself in its epoch. What a primary held before it was replaced may cover the sample as
    /// well, while its successor writes nothing.
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

    /// Whether the last primary, as it is now, has all that `id` has, or something that `id` wrote
    /// after the last sample; and `id` has all that was sampled.
    pub(super) fn is_followed_by_the_last(&self, id: EndpointId) -> bool {
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
        let is_level = theirs.contains(&last.position, &told.position)
            && ours.contains(&told.position, &last.position);
        let has_received = ours.has_written(&newest.position, &last.position);
        ours.contains(&told.position, &newest.position) && (is_level || has_received)
    }
}
