//! A read and its hedge.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::timeout;

use crate::BoxFuture;

/// For so long an attempt goes on that was outrun.
const GOES_ON: Duration = Duration::from_secs(1);

/// What a read and its hedge know of each other.
#[derive(Debug)]
pub(super) struct Race {
    /// After this time without an answer the read is hedged.
    pub(super) delay: Duration,
    /// Whether the hedge was sent.
    is_hedged: AtomicBool,
    /// Whether one of them has answered.
    is_over: AtomicBool,
}

impl Race {
    pub(super) fn new(delay: Duration) -> Self {
        Race { delay, is_hedged: AtomicBool::new(false), is_over: AtomicBool::new(false) }
    }

    /// The hedge is sent.
    pub(super) fn hedged(&self) {
        self.is_hedged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_hedged(&self) -> bool {
        self.is_hedged.load(Ordering::Relaxed)
    }

    /// Whether the caller has its answer, so that nobody waits for the other one.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// An attempt that runs for longer was outrun, and has gone on for long enough.
    pub(super) fn long_after(&self) -> Duration {
        self.delay + GOES_ON
    }

    /// The caller has its answer. Lets what was outrun end by itself, or closes its connection.
    pub(super) fn go_on<T: Send + 'static>(&self, outrun: BoxFuture<'static, T>) {
        self.is_over.store(true, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ = timeout(GOES_ON, outrun).await;
        });
    }
}
