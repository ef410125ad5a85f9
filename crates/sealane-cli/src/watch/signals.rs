//! The signals that end the picture.
//!
//! Ctrl-C is a key while the picture is shown. An interrupt that comes from elsewhere ends every
//! command in the same way (see the program's `main`): the command is dropped, and the terminal with
//! it is given back.

use std::io;

/// Completes when the process is told to end, or when its terminal has gone. From the call on, these
/// signals do not end the process by themselves.
///
/// # Errors
/// The signals cannot be handled.
#[cfg(unix)]
pub(crate) fn end() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Never completes: this system has no such signals.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn end() -> io::Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}
