//! The bound on staleness, held against the truth for as long as one likes while replicas go
//! from one trouble to the next.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sealane::{Condition, Consistency};
use sealane_tests::{
    BROKEN_PROMISE, Server, eventually,
    fleet::reads_on_replica,
    ruler::{Clock, Sample, Summary},
};

use crate::lookout::{INTERVAL, Lookout, SOON};

/// How long it goes on, in seconds; until every trouble was there once at least.
const SECONDS: &str = "SEALANE_STALENESS_SECONDS";
const DEFAULT_SECONDS: u64 = 20;
/// It goes on for so much longer if a bound that is too low would not have been found.
const MORE: Duration = Duration::from_secs(60);
/// Which order the troubles come in.
const SEED: &str = "SEALANE_STALENESS_SEED";
const DEFAULT_SEED: u64 = 4;

/// Something that passes.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Pause,
    Delay,
    Stop,
    Freeze,
    Cut,
}

const TROUBLES: [Trouble; 5] =
    [Trouble::Pause, Trouble::Delay, Trouble::Stop, Trouble::Freeze, Trouble::Cut];
/// Between one trouble and the next.
const NONE: &str = "none";
/// From when a trouble was taken back until the replica serves again.
const RECOVERY: &str = "recovery";

impl Trouble {
    fn name(self) -> &'static str {
        match self {
            Trouble::Pause => "pause",
            Trouble::Delay => "delay",
            Trouble::Stop => "stop",
            Trouble::Freeze => "freeze",
            Trouble::Cut => "cut",
        }
    }

    async fn begins(self, replica: &Server) -> anyhow::Result<()> {
        match self {
            Trouble::Pause => replica.pause_replay().await,
            Trouble::Delay => replica.delay_replay(Duration::from_secs(1)).await,
            Trouble::Stop => replica.stop_replication().await,
            Trouble::Freeze => replica.freeze().await,
            Trouble::Cut => replica.cut().await,
        }
    }

    async fn ends(self, replica: &Server) -> anyhow::Result<()> {
        match self {
            Trouble::Pause => replica.resume_replay().await,
            Trouble::Delay => replica.delay_replay(Duration::ZERO).await,
            Trouble::Stop => replica.resume_replication().await,
            Trouble::Freeze => replica.thaw().await,
            Trouble::Cut => replica.join().await,
        }
    }

    /// Whether the replica answers meanwhile, so that its bounds can be measured.
    fn answers(self) -> bool {
        matches!(self, Trouble::Pause | Trouble::Delay | Trouble::Stop)
    }
}

/// From one replica to the other and from trouble to trouble, in an order that `random` makes.
async fn sail(
    lookout: &Lookout,
    end: Instant,
    random: &mut fastrand::Rng,
) -> anyhow::Result<usize> {
    let (mut passed, mut coming) = (0, Vec::new());
    while passed < TROUBLES.len() || Instant::now() < end {
        if coming.is_empty() {
            coming = TROUBLES.to_vec();
            random.shuffle(&mut coming);
        }
        let trouble = coming.pop().context("never empty")?;
        let replica = &lookout.cluster.replicas()[random.usize(..2)];
        let ruler = lookout.ruler(&replica.name)?;
        let hold = Duration::from_millis(random.u64(500..2_500));
        ruler.note(trouble.name());
        trouble.begins(replica).await.with_context(|| format!("{trouble:?}"))?;
        tokio::time::sleep(hold).await;
        ruler.note(RECOVERY);
        trouble.ends(replica).await.with_context(|| format!("{trouble:?} ends"))?;
        let serves = async || Ok(lookout.status(&replica.name)?.condition == Condition::Serving);
        let what = format!("{} serves again after {trouble:?}", replica.name);
        eventually(SOON, &what, serves).await?;
        ruler.note(NONE);
        passed += 1;
        tokio::time::sleep(Duration::from_millis(random.u64(200..800))).await;
    }
    Ok(passed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_is_never_below_the_true_staleness() -> anyhow::Result<()> {
    let lookout = Lookout::with(Clock::Primary).await?;
    // Somebody who wants fresh data has the probes be quick, and the bounds narrow.
    let demanding = Consistency::BoundedStaleness(INTERVAL / 2);
    let reader = lookout.db.with_consistency(demanding);
    let reader = tokio::spawn(async move {
        loop {
            // It finds some replica, or the primary; what it reads is nobody's concern.
            let _ = reads_on_replica(&reader).await;
            tokio::time::sleep(INTERVAL / 10).await;
        }
    });
    let (seconds, seed) = (number(SECONDS, DEFAULT_SECONDS)?, number(SEED, DEFAULT_SEED)?);
    let begun = Instant::now();
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut passed, mut end) = (0, begun + Duration::from_secs(seconds));
    let found = loop {
        passed +=
            sail(&lookout, end, &mut random).await.with_context(|| format!("{SEED}={seed}"))?;
        let samples = samples(&lookout)?;
        println!("{passed} troubles in {:.0?}, {SEED}={seed}", begun.elapsed());
        bounds_held(&samples).with_context(|| format!("{SEED}={seed}"))?;
        let found = would_be_found(&samples);
        // On a busy machine probes come late, and the bounds are wide.
        if found.is_ok() || begun.elapsed() > Duration::from_secs(seconds) + MORE {
            break found;
        }
        end = Instant::now() + Duration::from_secs(seconds);
    };
    reader.abort();
    found
}

fn samples(lookout: &Lookout) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for replica in lookout.cluster.replicas() {
        samples.extend(lookout.ruler(&replica.name)?.samples());
    }
    Ok(samples)
}

fn bounds_held(samples: &[Sample]) -> anyhow::Result<()> {
    let kinds = TROUBLES.into_iter().map(Trouble::name).chain([NONE, RECOVERY]);
    for kind in kinds {
        println!("{kind:>8}: {}", Summary::of(samples, kind));
    }
    let all = Summary::of(samples, "");
    println!("     all: {all}");
    ensure!(
        all.wrong == 0,
        "{BROKEN_PROMISE}: {} of {} bounds are too low",
        all.wrong,
        all.samples
    );
    Ok(())
}

/// That the test finds a bound that is too low, whatever the replica suffers from: had every
/// bound been less by the interval of the probes, it would have been wrong.
fn would_be_found(samples: &[Sample]) -> anyhow::Result<()> {
    let measured = TROUBLES.into_iter().filter(|trouble| trouble.answers()).map(Trouble::name);
    for kind in measured.chain([NONE]) {
        let of_kind = samples.iter().filter(|sample| sample.fault == kind);
        let found = of_kind.filter(|sample| sample.is_wrong_if_less(INTERVAL)).count();
        println!("{kind:>8}: {found} bounds would be wrong if they were {INTERVAL:?} less");
        ensure!(found > 0, "during `{kind}` a bound too low by {INTERVAL:?} is not found");
    }
    Ok(())
}

fn number(variable: &str, default: u64) -> anyhow::Result<u64> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}: {text}")),
        Err(_) => Ok(default),
    }
}
