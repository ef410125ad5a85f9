//! How long after the end of a promotion the first write is done, and by whom.
//!
//! Each kind of failover is run twice, or as often as `SEALANE_FAILOVER_RUNS` says.

#[path = "moves/promotion.rs"]
mod promotion;

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use promotion::promote;
use sealane_tests::{
    Control,
    crew::{Crew, Done, missing},
    eventually,
    fleet::{self, is_up},
};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(40);
const RUNS: usize = 2;
/// Some wait, whatever becomes of the first.
const WRITERS: usize = 4;
/// So long the cluster is watched after its last change.
const WATCHED: Duration = Duration::from_secs(1);
/// On a machine that does much else at once nothing is as quick as it could be: the slowest of all
/// runs may take so many times what it should, and the median twice as long.
const NOISE: u32 = 5;

/// What becomes of the old primary.
#[derive(Clone, Copy, Debug)]
enum Old {
    /// It is gone: who connects is refused.
    Refuses,
    /// It accepts connections and says nothing.
    Hangs,
    /// It was gone, and returns as it was while another one is promoted.
    Returns,
}

/// Of all runs of one kind.
struct Figures {
    old: Old,
    /// The time of one write on a healthy cluster: two round trips or so.
    usual: Duration,
    first: Vec<Duration>,
    /// Writes that were under way when a replica was promoted.
    waited: usize,
    from_old: usize,
    /// How long a server to which nothing happened took to answer meanwhile, at most.
    control: Duration,
}

impl Figures {
    /// What it should take.
    fn target(&self) -> Duration {
        match self.old {
            Old::Refuses => Duration::from_millis(100) + self.usual,
            Old::Hangs | Old::Returns => Duration::from_millis(1_500),
        }
    }

    fn median(&self) -> Duration {
        self.first.get(self.first.len() / 2).copied().unwrap_or_default()
    }

    fn longest(&self) -> Duration {
        self.first.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the old primary {:<8} {} runs: median {:>8.1?}, longest {:>8.1?} (target {:.1?}, a write \
             usually {:.1?}, an answer of another server {:.1?} at most), {} writes waited, {} \
             successes from the old one",
            format!("{:?}:", self.old).to_lowercase(),
            self.first.len(),
            self.median(),
            self.longest(),
            self.target(),
            self.usual,
            self.control,
            self.waited,
            self.from_old
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_write_after_a_promotion_is_done_soon_and_by_the_new_primary()
-> anyhow::Result<()> {
    let runs = std::env::var("SEALANE_FAILOVER_RUNS").ok().and_then(|text| text.parse().ok());
    let mut table = Vec::new();
    for old in [Old::Refuses, Old::Hangs, Old::Returns] {
        let mut figures = Figures {
            old,
            usual: Duration::ZERO,
            first: Vec::new(),
            waited: 0,
            from_old: 0,
            control: Duration::ZERO,
        };
        for _ in 0..runs.unwrap_or(RUNS) {
            fail_over(&mut figures).await.with_context(|| format!("{old:?}"))?;
        }
        figures.first.sort();
        println!("{figures}");
        table.push(figures);
    }
    for figures in table {
        ensure!(figures.waited >= figures.first.len(), "nobody waited: {figures}");
        ensure!(figures.from_old == 0, "{figures}");
        let (target, control) = (figures.target(), figures.control);
        ensure!(figures.median() <= target * 2 + control, "{figures}");
        ensure!(figures.longest() <= target * NOISE + control, "{figures}");
    }
    Ok(())
}

/// One failover under load.
async fn fail_over(figures: &mut Figures) -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let primary = cluster.primary();
    let crew = Crew::writing(&db, WRITERS);
    crew.more(200).await?;
    match figures.old {
        Old::Refuses | Old::Returns => primary.kill().await?,
        Old::Hangs => primary.freeze().await?,
    }
    let lost = Instant::now();
    eventually(SOON, "it is noticed", async || Ok(!is_up(&db, "primary"))).await?;
    let returns = async {
        match figures.old {
            Old::Returns => primary.start().await,
            Old::Refuses | Old::Hangs => Ok(()),
        }
    };
    let control = Control::of(cluster.server("replica-2")).await?;
    let (promotion, ()) = tokio::try_join!(promote(&cluster, &db), returns)?;
    let acknowledged = async || {
        let next = crew.succeeded();
        crew.more(1).await.map(|()| crew.succeeded() > next)
    };
    // If that fails the figures tell.
    let _ = acknowledged().await;
    figures.control = figures.control.max(control.end().await?);
    if let Old::Hangs = figures.old {
        primary.thaw().await?;
    }
    sleep(WATCHED).await;
    let done = crew.stop(LIMIT).await?;
    let mut usual: Vec<_> =
        done.iter().filter(|done| done.ended < lost).map(|done| done.took()).collect();
    usual.sort();
    figures.usual = figures.usual.max(usual.get(usual.len() / 2).copied().unwrap_or_default());
    figures.waited += done.iter().filter(|done| done.spans(promotion.began)).count();
    let after = |done: &&Done| done.failure.is_none() && done.ended > promotion.known;
    let after: Vec<_> = done.iter().filter(after).collect();
    let names: Vec<&str> = after.iter().map(|done| done.name.as_str()).collect();
    figures.from_old += missing(cluster.server("replica-1"), &names).await?;
    let since = |done: &&Done| done.ended.saturating_duration_since(promotion.ended);
    // Without any it took longer than all that was waited for.
    figures.first.push(after.iter().map(since).min().unwrap_or(LIMIT));
    Ok(())
}
