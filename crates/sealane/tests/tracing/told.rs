//! What a subscriber of `tracing` is told.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, Once},
};

use tracing::subscriber::{DefaultGuard, set_default, set_global_default};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything told in this thread during the value's life.
pub(crate) struct Told {
    text: Text,
    _listening: DefaultGuard,
}

/// `tracing` caches for the whole program whether a subscriber listens. Tests in other threads must
/// not set this cache.
fn listen_everywhere() {
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(io::sink)
            .finish();
        set_global_default(subscriber).unwrap();
    });
}

impl Told {
    /// Listens as `filter` says, in the form of `RUST_LOG`.
    pub(crate) fn listen(filter: &str) -> Self {
        listen_everywhere();
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Told { text, _listening: set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines that contain all `parts`.
    pub(crate) fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
        lines.map(str::to_owned).collect()
    }

    /// The only line that contains all `parts`.
    pub(crate) fn line_with(&self, parts: &[&str]) -> String {
        let mut lines = self.lines_with(parts);
        assert_eq!(lines.len(), 1, "{parts:?} in {}", self.text());
        lines.remove(0)
    }

    /// The fields of the only span that was closed, and contain all `parts`.
    pub(crate) fn span_with(&self, parts: &[&str]) {
        let line = self.line_with(&["sealane::statement", " close "]);
        for part in parts {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}
