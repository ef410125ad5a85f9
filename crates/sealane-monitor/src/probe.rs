//! The seam between the probing tasks and the engines.

use std::{fmt, future::Future, pin::Pin};

use sealane_core::{Failure, Report};

/// Asks one server for its role, its position and its state.
///
/// Cancel safety: a future that takes too long is dropped. The next call must then start from the
/// beginning, on a new connection if necessary.
pub trait Probe: Send + 'static {
    /// Takes one round trip on a connection that the probe keeps. The first call and calls after a
    /// failure connect first.
    fn ask(&mut self) -> impl Future<Output = Result<Report, Failure>> + Send;

    /// Drops the connection, so that the next call opens a new one.
    fn disconnect(&mut self);

    /// Whether the next call needs no new connection.
    fn is_connected(&self) -> bool;

    /// Whether the last answer left something open that the next answer can settle, so that it is
    /// worth asking again soon.
    fn is_undecided(&self) -> bool {
        false
    }

    /// Called before each question: says whether a session waits for what this primary shows
    /// ([`Report::transactions`]). A probe may then ask for more than at other times.
    fn await_shown(&mut self, is_awaited: bool) {
        let _ = is_awaited;
    }

    /// The server's database system in OpenTelemetry's words (`db.system.name`), as far as it is
    /// known.
    fn system(&self) -> &'static str;
}

/// A probe of any type, for clusters whose probes differ. It costs an allocation for each question.
pub struct BoxProbe(Box<dyn DynProbe>);

impl BoxProbe {
    /// Boxes `probe`.
    pub fn new(probe: impl Probe) -> Self {
        BoxProbe(Box::new(probe))
    }
}

impl Probe for BoxProbe {
    async fn ask(&mut self) -> Result<Report, Failure> {
        self.0.ask_boxed().await
    }

    fn disconnect(&mut self) {
        self.0.disconnect_boxed();
    }

    fn is_connected(&self) -> bool {
        self.0.is_connected_boxed()
    }

    fn is_undecided(&self) -> bool {
        self.0.is_undecided_boxed()
    }

    fn await_shown(&mut self, is_awaited: bool) {
        self.0.await_shown_boxed(is_awaited);
    }

    fn system(&self) -> &'static str {
        self.0.system_boxed()
    }
}

impl fmt::Debug for BoxProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxProbe").field(&self.0.system_boxed()).finish()
    }
}

/// [`Probe`] in a form that can be boxed.
trait DynProbe: Send {
    fn ask_boxed(&mut self) -> Pin<Box<dyn Future<Output = Result<Report, Failure>> + Send + '_>>;
    fn disconnect_boxed(&mut self);
    fn is_connected_boxed(&self) -> bool;
    fn is_undecided_boxed(&self) -> bool;
    fn await_shown_boxed(&mut self, is_awaited: bool);
    fn system_boxed(&self) -> &'static str;
}

impl<P: Probe> DynProbe for P {
    fn ask_boxed(&mut self) -> Pin<Box<dyn Future<Output = Result<Report, Failure>> + Send + '_>> {
        Box::pin(self.ask())
    }

    fn disconnect_boxed(&mut self) {
        self.disconnect();
    }

    fn is_connected_boxed(&self) -> bool {
        self.is_connected()
    }

    fn is_undecided_boxed(&self) -> bool {
        self.is_undecided()
    }

    fn await_shown_boxed(&mut self, is_awaited: bool) {
        self.await_shown(is_awaited);
    }

    fn system_boxed(&self) -> &'static str {
        self.system()
    }
}
