//! Where a logical subscriber is in the history of the primary.
//!
//! A subscriber knows places in its publisher's log and nothing else of it: neither
//! the system nor the timeline, nor even which server it is connected to. A place
//! proves something only in the history that it is of. So:
//!
//! - It counts while the primary says that the subscriber's slot is being read from,
//!   since before the subscriber was asked. A subscriber that still follows a
//!   primary which was replaced proves nothing.
//! - It counts on the history that the primary was on when the subscription was
//!   first seen. A subscriber can be ahead of the replica that is promoted: it then
//!   holds transactions that are lost, and never gets those that are written at
//!   their places, wherever it is connected afterwards. Nobody tells at which place
//!   the histories part, so after a promotion it counts as being on an old timeline
//!   until the subscription is made anew. (A process that begins later cannot see
//!   it: whoever fails over without PostgreSQL 17's `synchronized_standby_slots`
//!   must make subscriptions anew.)
//! - What it has confirmed to the primary counts as well. That is later, for it is
//!   told when it is safe on the subscriber's disk; but the other place is told only
//!   by the primary's keepalives, and when the subscriber is quick to confirm, there
//!   is none until somebody writes again.
//! - What a primary that does not answer sends to, nobody knows.
//!
//! The publisher's last keepalive was lost to it in 5 of 100 single writes on an idle primary.
//! What it had within one run it keeps, whatever server it is connected to. It is a replica
//! whatever it says of itself, so nobody elects it; while a table is being copied it has no role
//! at all.

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
    /// That history has ended.
    pub(super) ended: bool,
}

impl Located {
    /// Of a server that knows its history itself.
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
    /// The positions of a subscriber that has answered; `None` for all others.
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
            // Told before the slot was seen to be read from, it may be another server's place.
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

    /// What the subscription was first seen on: if that was never, the history of now.
    fn footing(&self, id: EndpointId, subscription: &Subscription) -> Option<Footing> {
        let known = self.watched(id).and_then(|watched| watched.footing);
        let known = known.filter(|known| known.subscription == subscription.id);
        let subscription = subscription.id;
        known.or_else(|| Some(Footing { subscription, ground: self.ground()? }))
    }

    /// What it held when it last answered, it holds: within one run of the server,
    /// also when it is connected to nobody.
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
