//! Progress lines on standard error, each with the time since the task began.
//!
//! Standard output stays with the programs that the task runs.

use std::time::{Duration, Instant};

/// The clock of one task's progress lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    started: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Prints one line.
    pub(crate) fn say(self, text: &str) {
        eprintln!("{}", line(self.started.elapsed(), text));
    }

    /// Runs one named step between a heading and a line that says how long it took.
    pub(crate) fn step<T>(
        self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        eprintln!("\n=== {name}");
        let began = Instant::now();
        let outcome = work();
        let verdict = if outcome.is_ok() { "done" } else { "FAILED" };
        let took = began.elapsed().as_secs_f64();
        self.say(&format!("{verdict}: {name} ({took:.1}s)"));
        outcome
    }
}

fn line(elapsed: Duration, text: &str) -> String {
    format!("[{:6.1}s] {text}", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_starts_with_the_elapsed_seconds() {
        assert_eq!(line(Duration::from_millis(1_250), "up"), "[   1.2s] up");
    }
}
