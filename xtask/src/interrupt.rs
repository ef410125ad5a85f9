//! Turns Ctrl-C, SIGTERM and SIGHUP into a flag.
//!
//! A signal does not end the task immediately. Waiting code sees the flag and returns an error, and
//! the guards on the way up remove what was started.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets the flag instead of ending the process.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::SeqCst))
        .context("cannot install the handler for Ctrl-C")
}

/// Whether a signal has asked this task to end.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Returns an error if a signal has asked this task to end.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!requested(), "interrupted");
    Ok(())
}
