//! The default settings of reads.

use std::time::Duration;

use sealane_core::{Consistency, FallbackPolicy, PrimaryReads, WhenAhead, WriteTracking};

/// How reads are served that ask for nothing special.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) consistency: Consistency,
    pub(crate) fallback: FallbackPolicy,
    pub(crate) when_ahead: WhenAhead,
    pub(crate) primary_reads: PrimaryReads,
    pub(crate) max_lag: Option<Duration>,
    pub(crate) tracking: WriteTracking,
    /// Whether reads through the shared handle wait for the writes of all sessions.
    pub(crate) shared_waits: bool,
    pub(crate) read_timeout: Option<Duration>,
    /// Whether slow reads are sent to a second replica.
    pub(crate) hedged: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            // This is what an application expects that was written without replicas in mind.
            consistency: Consistency::ReadYourWrites,
            fallback: FallbackPolicy::Primary,
            // Going back in time is rare, while waiting costs every transaction that follows a read
            // on a replica.
            when_ahead: WhenAhead::Primary,
            // Reads stay off a primary that writes need, and an outage of replicas costs no read.
            primary_reads: PrimaryReads::Fallback,
            // A replica further behind than this has a problem, which users should not notice.
            max_lag: Some(Duration::from_secs(30)),
            // A shared handle would otherwise read on the primary as long as anybody writes.
            tracking: WriteTracking::Tables,
            // Work that leaves its session must not miss what the session wrote.
            shared_waits: true,
            // Nobody knows how long the application's reports take.
            read_timeout: None,
            // A hedge is a further statement; whoever wants short tails decides to pay for it.
            hedged: false,
        }
    }
}
