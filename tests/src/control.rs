//! What this machine does to statements to which nothing else happens.
//!
//! A machine that runs nine servers on two cores delays everything now and then. A test that says
//! how long a statement may take beside a fault asks a server without the fault at the same time,
//! and allows as much more as the longest of these answers took.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::{task::JoinSet, time::sleep};

use crate::{Server, connection::Line};

/// So many ask at once.
const ASKING: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);

/// Plain connections that ask a server again and again.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    asking: JoinSet<anyhow::Result<Duration>>,
}

impl Control {
    /// Begins to ask `server`, to which nothing must happen meanwhile.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn of(server: &Server) -> anyhow::Result<Self> {
        let mut control = Control { stop: Arc::default(), asking: JoinSet::new() };
        for _ in 0..ASKING {
            let mut line = Line::to(server);
            // This opens the connection.
            ask(&mut line).await?;
            let stop = Arc::clone(&control.stop);
            control.asking.spawn(async move {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    longest = longest.max(ask(&mut line).await?);
                    sleep(PAUSE).await;
                }
                Ok(longest)
            });
        }
        Ok(control)
    }

    /// Ends it, and tells the longest that an answer took.
    ///
    /// # Errors
    /// When an answer was an error.
    pub async fn end(mut self) -> anyhow::Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        while let Some(asked) = self.asking.join_next().await {
            longest = longest.max(asked??);
        }
        ensure!(longest > Duration::ZERO, "nothing was asked");
        Ok(longest)
    }
}

/// How long the answer takes.
async fn ask(line: &mut Line) -> anyhow::Result<Duration> {
    let began = Instant::now();
    line.scalar::<i64>("SELECT count(*) FROM boat").await?;
    Ok(began.elapsed())
}
