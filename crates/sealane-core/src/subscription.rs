//! PostgreSQL's logical replication, as its two ends tell of it.

use std::sync::Arc;

use crate::Lsn;

/// What a logical subscriber says of how far it has got: in its publisher's log,
/// of which it knows neither system nor timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its `oid`: a subscription that is made anew has another.
    pub id: u32,
    /// The slot of the publisher that it reads from.
    pub slot: Arc<str>,
    /// All transactions that ended before it are applied, and seen by new snapshots.
    pub applied: Option<Lsn>,
    /// How far it has received.
    pub received: Option<Lsn>,
}

/// A slot that a subscriber reads from at this moment, as the publisher tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The slot's name.
    pub slot: String,
    /// What the subscriber has confirmed to have applied, and to keep over a crash.
    pub confirmed: Option<Lsn>,
}
