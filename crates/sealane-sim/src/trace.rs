//! What happened in a world, line by line, in its own time.

use std::fmt::{self, Write as _};

use tokio::time::Instant;

/// The lines of one run. Two runs of a scenario are the same run if their lines are.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Instant,
    text: String,
    /// The FNV-1a hash of all lines.
    hash: u64,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Trace { began: Instant::now(), text: String::new(), hash: 0xCBF2_9CE4_8422_2325 }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        let from = self.text.len();
        let now_ms = self.now_ms();
        // A text takes everything.
        let _ = writeln!(self.text, "{now_ms:>7} {line}");
        for byte in self.text[from..].bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(crate) fn take(&mut self) -> (String, u64) {
        (std::mem::take(&mut self.text), self.hash)
    }
}
