//! What the reducer remembers of one endpoint.

use std::sync::Arc;

use super::{claim::Claim, epoch::Course};
use crate::{EndpointId, Feed, LagHistory, Moment, Position, topology::health::Standing};

/// What the reducer remembers of an endpoint for its own decisions.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    pub(super) standing: Standing,
    pub(super) lags: LagHistory,
    /// When the endpoint last failed. An answer to an older probe does not bring it back.
    pub(super) failed_at: Option<Moment>,
    /// When the last answered probe was sent. The failure of an older statement says nothing new.
    pub(super) answered_at: Option<Moment>,
    /// The timeline on which the endpoint was last seen. It outlives the connection.
    pub(super) timeline: u32,
    /// Whether the endpoint was added at run time, beside others. What it reports first did not
    /// necessarily hold before this process started.
    pub(super) came_later: bool,
    /// The endpoint's claim to be the primary, if it makes one.
    pub(super) claim: Option<Claim>,
    /// Whether an event has reported that the claim is not believed.
    pub(super) told_fenced: bool,
    /// Whether an event has reported that the endpoint is on an old timeline.
    pub(super) told_old: bool,
    /// The endpoint that, according to the last event, represents this endpoint's server.
    pub(super) told_same_as: Option<EndpointId>,
    /// The search path for names without a schema.
    pub(super) search_path: Option<Arc<str>>,
    /// The two search paths, the endpoint's and the primary's, that an event has reported as
    /// different.
    pub(super) told_search_path: Option<(Arc<str>, Arc<str>)>,
    /// The subscribers that the endpoint sends to.
    pub(super) feeds: Vec<FedSince>,
    /// For a subscriber: the history to which its positions belong.
    pub(super) footing: Option<Footing>,
    /// For a subscriber: whether a promotion has ended that history.
    pub(super) footing_ended: bool,
    /// The run that the endpoint had when another server took over on a timeline with the same
    /// number. Positions of this run mean other data than the primary's.
    pub(super) astray: Option<u32>,
    /// The history that the endpoint is on.
    pub(super) course: Course,
}

impl Watched {
    /// Records the slots that are read from, as reported at `now`.
    pub(super) fn note_feeds(&mut self, feeds: &[Feed], now: Moment) {
        let known = std::mem::take(&mut self.feeds);
        let since = |feed: &Feed| {
            known.iter().find(|it| it.feed.slot == feed.slot).map_or(now, |it| it.since)
        };
        self.feeds =
            feeds.iter().map(|feed| FedSince { feed: feed.clone(), since: since(feed) }).collect();
    }

    /// Another system is served from now on, and this endpoint is at `position` in it.
    pub(super) fn begin_anew(&mut self, position: Option<&Position>) {
        self.timeline = position.map_or(0, Position::timeline);
        self.claim = self.claim.take().map(Claim::begin_anew);
        (self.told_fenced, self.told_old) = (false, false);
        (self.footing, self.footing_ended, self.astray) = (None, false, None);
        self.course = Course::default();
    }
}

/// A history of the primary, together with the subscription that was first seen on it.
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
    /// Tells apart histories that share a timeline number, by counting them.
    pub(super) parting: u32,
}

/// A slot that was read from according to every answer since `since`.
#[derive(Debug, Clone)]
pub(super) struct FedSince {
    pub(super) feed: Feed,
    pub(super) since: Moment,
}
