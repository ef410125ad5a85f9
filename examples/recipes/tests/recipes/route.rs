//! Where statements ran, as sealane's own trace tells it.

use std::{
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, filter::Targets, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Where a statement ran, and in which kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: &'static str,
    pub(crate) session: &'static str,
    pub(crate) is_select: bool,
}

/// A read in the session of its request.
pub(crate) const READ: Route = Route { endpoint: "readers", session: "scoped", is_select: true };
/// A write in the session of its request.
pub(crate) const WRITE: Route = Route { endpoint: "writer", session: "scoped", is_select: false };

static ROUTES: Mutex<Vec<Route>> = Mutex::new(Vec::new());

/// Records the routes of the whole process from now on.
pub(crate) fn record() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let routes = Targets::new().with_target("sealane::route", tracing::Level::DEBUG);
        tracing_subscriber::registry().with(Recorder.with_filter(routes)).init();
    });
}

/// The routes since the last call.
pub(crate) fn take() -> Vec<Route> {
    std::mem::take(&mut *ROUTES.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut route = Route { endpoint: "?", session: "?", is_select: false };
        event.record(&mut route);
        ROUTES.lock().unwrap_or_else(PoisonError::into_inner).push(route);
    }
}

impl Visit for Route {
    fn record_str(&mut self, field: &Field, value: &str) {
        let known = |known: &[&'static str]| known.iter().copied().find(|it| *it == value);
        match field.name() {
            "endpoint" => self.endpoint = known(&["readers", "writer"]).unwrap_or("?"),
            "session" => self.session = known(&["own", "scoped", "shared"]).unwrap_or("?"),
            "sql" => self.is_select = value.starts_with("SELECT"),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
