//! Ctrl-C, SIGTERM and SIGHUP as a flag.
//!
//! A signal does not end the task where it stands: whoever waits sees the flag, returns an
//! error, and the guards on the way up remove what was started.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal sets the flag instead of ending the process.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::SeqCst))
        .context("cannot install the handler for Ctrl-C")
}

/// Whether somebody asked this task to end.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// An error if somebody asked this task to end.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!requested(), "interrupted");
    Ok(())
}
