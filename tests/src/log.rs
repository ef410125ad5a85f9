//! What sealane logs in this process of reads that fail and of the catalog.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// The lines so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The only one of this process.
    pub fn of_this_process() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            let targets = Targets::new()
                .with_target("sealane::route", tracing::Level::DEBUG)
                .with_target("sealane::catalog", tracing::Level::INFO);
            let lines = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            tracing_subscriber::registry().with(lines).with(targets).init();
            log
        })
    }

    /// Begins with no lines again.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The lines that hold `part`.
    #[must_use]
    pub fn lines(&self, part: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// Those of reads that failed on an endpoint, or found no connection to it.
    #[must_use]
    pub fn failures(&self, part: &str) -> Vec<String> {
        let mut lines = self.lines(part);
        lines.retain(|line| {
            line.contains("read failed") || line.contains("no connection for a read")
        });
        lines
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
