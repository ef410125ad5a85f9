//! The seam between the probing tasks and the engines.

use std::future::Future;

use sealane_core::{Failure, Report};

/// Asks one server what it is and how far it has got.
///
/// Cancel safety: the future is dropped when it takes too long; the next call
/// must then begin anew, on a new connection if need be.
pub trait Probe: Send + 'static {
    /// One round trip on a connection that the probe keeps; a first call, or
    /// one after a failure, connects.
    fn ask(&mut self) -> impl Future<Output = Result<Report, Failure>> + Send;

    /// Gives up the connection, so that the next call makes a new one.
    fn disconnect(&mut self);

    /// Whether the next call can do without connecting first.
    fn is_connected(&self) -> bool;

    /// Whether the last answer showed the beginning of something that the next one can
    /// settle, so that it is worth to ask again soon.
    fn is_undecided(&self) -> bool {
        false
    }

    /// What the server runs, as far as it is known, in OpenTelemetry's words
    /// (`db.system.name`).
    fn system(&self) -> &'static str;
}
