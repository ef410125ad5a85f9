//! PostgreSQL's logical replication, as its two ends report it.

use std::sync::Arc;

use crate::Lsn;

/// How far a logical subscriber has got in its publisher's log. The subscriber knows neither the
/// system nor the timeline of this log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The subscription's `oid`: a subscription that is created again has a new one.
    pub id: u32,
    /// The publisher's slot that the subscription reads from.
    pub slot: Arc<str>,
    /// All transactions that ended before this place are applied and visible to new snapshots.
    pub applied: Option<Lsn>,
    /// How far the subscriber has received.
    pub received: Option<Lsn>,
}

/// A slot that a subscriber currently reads from, as the publisher reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The slot's name.
    pub slot: String,
    /// How far the subscriber has confirmed that changes are applied and survive a crash.
    pub confirmed: Option<Lsn>,
}
