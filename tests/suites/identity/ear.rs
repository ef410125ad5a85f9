//! Hears what is logged, on the thread that it is installed on.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sealane::RoutedConnection;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry,
};

/// Warnings heard so far; and a connection whose status is asked at each of them.
#[derive(Clone, Default)]
pub struct Ear {
    warnings: Arc<Mutex<Vec<String>>>,
    asks: Arc<Mutex<Option<RoutedConnection>>>,
}

impl Ear {
    /// Listens on this thread, until the guard is dropped.
    pub fn listen() -> (Self, DefaultGuard) {
        let ear = Ear::default();
        let guard = set_default(registry().with(ear.clone()));
        (ear, guard)
    }

    /// Asks `db` for its status at each warning from now on.
    #[allow(dead_code, reason = "not in every suite")]
    pub fn ask(&self, db: &RoutedConnection) {
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.clone());
    }

    /// The warnings that contain `text`.
    pub fn heard(&self, text: &str) -> Vec<String> {
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.iter().filter(|warning| warning.contains(text)).cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != Level::WARN {
            return;
        }
        let mut message = Message::default();
        event.record(&mut message);
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(db) = asks {
            message.0 += &format!(" ({} endpoints)", db.status().endpoints.len());
        }
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message.0);
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
