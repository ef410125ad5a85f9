//! Waits for a condition, never for a fixed time.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout};

/// The first pause between two probes. Many ask a server over a new connection each time, so that what
/// takes long is asked less and less often.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(150);
/// A machine that is busy with much else gets so many times the deadline.
const BUSY: u32 = 3;

/// Calls `probe` again and again until it returns true.
///
/// An error counts as "not yet": a server that is starting refuses connections.
///
/// `deadline` is more than enough on a machine that does nothing else; three times as long ends the
/// wait. A test that is about a time measures it.
///
/// # Errors
/// When that time passes first. The message names `what` and the probe's last answer.
pub async fn eventually<F, Fut>(deadline: Duration, what: &str, mut probe: F) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<bool>>,
{
    let deadline = deadline * BUSY;
    let end = Instant::now() + deadline;
    let (mut last, mut pause) = ("not yet".to_owned(), SHORTEST);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match timeout(left, probe()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => "not yet".clone_into(&mut last),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) if left.is_zero() => {}
            Err(_) => "no answer".clone_into(&mut last),
        }
        if Instant::now() >= end {
            bail!("not within {deadline:?}: {what} (last answer: {last})");
        }
        sleep(pause).await;
        pause = pause.mul_f64(1.25).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn errors_count_as_not_yet() {
        let asked = Cell::new(0);
        let probe = || async {
            asked.set(asked.get() + 1);
            anyhow::ensure!(asked.get() > 1, "down");
            Ok(asked.get() > 2)
        };
        eventually(Duration::from_secs(10), "third time", probe).await.unwrap();
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test]
    async fn the_error_names_what_was_awaited_and_why_it_failed() {
        let probe = || async { anyhow::bail!("port closed") };
        let outcome = eventually(Duration::from_millis(60), "server is up", probe).await;
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("server is up") && message.contains("port closed"), "{message}");
    }

    #[tokio::test]
    async fn a_hanging_probe_ends_at_the_deadline() {
        let outcome = eventually(Duration::from_millis(60), "never", std::future::pending).await;
        assert!(outcome.unwrap_err().to_string().contains("no answer"));
    }
}
