//! Where a logical subscriber is in the history of the primary.
//!
//! A subscriber knows places in its publisher's log and nothing else about this log: neither the
//! system nor the timeline, nor even which server it is connected to. A place proves something only
//! in the history to which it belongs. So:
//!
//! - A place counts while the primary reports that the subscriber's slot is being read from, since
//!   before the subscriber was probed. A subscriber that still follows a replaced primary proves
//!   nothing.
//! - A place counts on the history that the primary was on when the subscription was first seen. A
//!   subscriber can be ahead of the replica that is promoted. It then holds transactions that are
//!   lost, and it never gets the transactions written at their places, wherever it is connected
//!   afterwards. No server reports the place at which the histories part. So after a promotion, the
//!   subscriber counts as being on an old timeline until the subscription is created anew. (A
//!   process that starts later cannot see this: after a failover without PostgreSQL 17's
//!   `synchronized_standby_slots`, subscriptions must be created anew.)
//! - What the subscriber has confirmed to the primary counts as well. The subscriber confirms
//!   later, only when changes are safe on its disk. But the applied place comes only from the
//!   primary's keepalives. If the subscriber is quick to confirm, no keepalive comes until somebody
//!   writes again.
//! - While the primary does not answer, it is unknown which subscribers it sends to.
//!
//! In 5 of 100 single writes on an idle primary, the subscriber missed the publisher's last
//! keepalive. What a subscriber had within one run it keeps, whichever server it is connected to. A
//! subscriber counts as a replica whatever it says of itself, so it is never elected. While one of
//! its tables is being copied, it has no role at all.

use crate::{
    EndpointId, Lsn, Observation, Outcome, Position, Replication, Report, Subscription,
    TopologyReducer,
};

use super::watched::{FedSince, Footing, Ground};

/// A server's positions, in the history of the primary.
#[derive(Debug, Clone, Default)]
pub(super) struct Located {
    pub(super) position: Option<Position>,
    pub(super) received: Option<Position>,
    pub(super) footing: Option<Footing>,
    /// Whether that history has ended.
    pub(super) ended: bool,
}

impl Located {
    /// The positions of a server that knows its history itself.
    pub(super) fn of(report: &Report) -> Self {
        let (position, received) = (report.position.clone(), report.received.clone());
        Located { position, received, ..Located::default() }
    }
}

impl Ground {
    fn at(self, lsn: Lsn) -> Position {
        let Ground { system, timeline, .. } = self;
        Position::Wal { system, timeline, lsn }
    }
}

impl TopologyReducer {
    /// The positions of a subscriber that has answered; `None` for all other servers.
    pub(super) fn locate(&self, observation: &Observation) -> Option<Located> {
        let Outcome::Answered(report) = &observation.outcome else { return None };
        let subscription = report.subscription.as_ref()?;
        let footing = self.footing(observation.endpoint, subscription);
        let (Some(footing), Some(ground)) = (footing, self.ground()) else {
            return Some(Located { footing, ..Located::default() });
        };
        if footing.ground != ground {
            return Some(Located { footing: Some(footing), ended: true, ..Located::default() });
        }
        if report.replication == Replication::Copying {
            return Some(Located { footing: Some(footing), ..Located::default() });
        }
        let fed = self.fed(subscription).filter(|_| report.replication == Replication::Running);
        let told = |lsn: Option<Lsn>| {
            // A place reported before the slot was seen to be read from may belong to another
            // server.
            lsn.filter(|_| fed.is_some_and(|fed| fed.since <= observation.started))
        };
        let confirmed = fed.and_then(|fed| fed.feed.confirmed);
        let held = self.held(observation.endpoint, report, footing);
        let position = told(subscription.applied).max(confirmed).max(held);
        let received = told(subscription.received).max(position);
        let at = |lsn: Lsn| ground.at(lsn);
        let (position, received) = (position.map(at), received.map(at));
        Some(Located { position, received, footing: Some(footing), ended: false })
    }

    /// The history on which the subscription was first seen; if it is new, the current history.
    fn footing(&self, id: EndpointId, subscription: &Subscription) -> Option<Footing> {
        let known = self.watched(id).and_then(|watched| watched.footing);
        let known = known.filter(|known| known.subscription == subscription.id);
        let subscription = subscription.id;
        known.or_else(|| Some(Footing { subscription, ground: self.ground()? }))
    }

    /// What the subscriber held at its last answer. Within one run of its server it still holds
    /// this, even if it is not connected to any publisher.
    fn held(&self, id: EndpointId, report: &Report, footing: Footing) -> Option<Lsn> {
        let (state, watched) = (self.topology.get(id)?, self.watched(id)?);
        let same_run = state.incarnation.as_ref() == Some(&report.incarnation);
        match &state.position {
            Some(Position::Wal { lsn, .. }) if same_run && watched.footing == Some(footing) => {
                Some(*lsn)
            }
            _ => None,
        }
    }

    /// The history of the primary's newest sample.
    fn ground(&self) -> Option<Ground> {
        match self.topology.sampled_position() {
            Some(&Position::Wal { system, timeline, .. }) => {
                Some(Ground { system, timeline, parting: self.partings })
            }
            _ => None,
        }
    }

    fn fed(&self, subscription: &Subscription) -> Option<&FedSince> {
        let primary = self.watched(self.topology.primary?)?;
        primary.feeds.iter().find(|fed| *fed.feed.slot == *subscription.slot)
    }
}
