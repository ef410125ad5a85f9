//! What the reducer remembers of one endpoint.

use std::sync::Arc;

use super::{claim::Claim, epoch::Course};
use crate::{EndpointId, Feed, LagHistory, Moment, Position, topology::health::Standing};

/// What the reducer remembers of an endpoint for its own judgement.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    pub(super) standing: Standing,
    pub(super) lags: LagHistory,
    /// The newest sample when it first had a position that no sample proves:
    /// it lags at least since then.
    pub(super) unproved_since: Option<Moment>,
    /// When it last failed: an answer to an older question does not bring it
    /// back.
    pub(super) failed_at: Option<Moment>,
    /// When the last question that it answered was asked: the failure of an
    /// older statement says nothing new.
    pub(super) answered_at: Option<Moment>,
    /// The timeline it was last seen on; it outlives the connection.
    pub(super) timeline: u32,
    /// It was added beside the others at run time: what it says first was not so before we came.
    pub(super) came_later: bool,
    /// It says that it is the primary.
    pub(super) claim: Option<Claim>,
    /// It was told that its claim is not believed.
    pub(super) told_fenced: bool,
    /// It was told that it is on an old timeline.
    pub(super) told_old: bool,
    /// The endpoint that it was told to lead to the server of.
    pub(super) told_same_as: Option<EndpointId>,
    /// Where it looks for names without a schema.
    pub(super) search_path: Option<Arc<str>>,
    /// The search paths, its own and the primary's, that were told to differ.
    pub(super) told_search_path: Option<(Arc<str>, Arc<str>)>,
    /// The subscribers that it sends to.
    pub(super) feeds: Vec<FedSince>,
    /// Of a subscriber: the history that its positions are counted on.
    pub(super) footing: Option<Footing>,
    /// Of a subscriber: a promotion has ended that history.
    pub(super) footing_ended: bool,
    /// The run that it had when another server took over on the timeline that it was on: its
    /// numbers mean other data than those of the primary.
    pub(super) astray: Option<u32>,
    /// Whose history it is on.
    pub(super) course: Course,
}

impl Watched {
    /// Notes which slots are read from, as was told at `now`.
    pub(super) fn note_feeds(&mut self, feeds: &[Feed], now: Moment) {
        let known = std::mem::take(&mut self.feeds);
        let since = |feed: &Feed| {
            known.iter().find(|it| it.feed.slot == feed.slot).map_or(now, |it| it.since)
        };
        self.feeds =
            feeds.iter().map(|feed| FedSince { feed: feed.clone(), since: since(feed) }).collect();
    }

    /// Another system is served from now on, and it is at `position` there.
    pub(super) fn begin_anew(&mut self, position: Option<&Position>) {
        self.unproved_since = None;
        self.timeline = position.map_or(0, Position::timeline);
        self.claim = self.claim.take().map(Claim::begin_anew);
        (self.told_fenced, self.told_old) = (false, false);
        (self.footing, self.footing_ended, self.astray) = (None, false, None);
        self.course = Course::default();
    }
}

/// A history of the primary, and the subscription that was first seen on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footing {
    pub(super) subscription: u32,
    pub(super) ground: Ground,
}

/// A history of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ground {
    pub(super) system: u64,
    pub(super) timeline: u32,
    /// Counts histories that parted and bear one timeline's number.
    pub(super) parting: u32,
}

/// A slot that was read from in all answers since then.
#[derive(Debug, Clone)]
pub(super) struct FedSince {
    pub(super) feed: Feed,
    pub(super) since: Moment,
}
