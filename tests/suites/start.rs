//! What is told when a connection begins: on real servers that are not what was configured.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use sea_orm::{ActiveModelTrait, EntityTrait};
use sealane::{Config, FallbackPolicy, Replica};
use sealane_tests::{
    eventually,
    fleet::{self, boat},
};

/// Planted wherever a configuration can hold one.
const PASSWORD: &str = "tidewater";

/// What is logged in this process, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn of_this_process() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone())
                .init();
            log
        })
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lines of this level on the topology that hold all of `parts`.
    fn lines(&self, level: &str, parts: &[&str]) -> Vec<String> {
        let text = self.text();
        let of_level = text.lines().filter(|line| {
            line.contains(&format!("{level} sealane::topology"))
                && parts.iter().all(|part| line.contains(part))
        });
        of_level.map(str::to_owned).collect()
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

/// `url` with the planted password.
fn refused(url: &str) -> String {
    url.replacen("sealane:sealane@", &format!("sealane:{PASSWORD}@"), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_once_in_one_line_each_and_no_password_with_it() -> anyhow::Result<()>
{
    let cluster = fleet::moor().await?;
    let (primary, [one, two]) =
        (&cluster.primary().url, [0, 1].map(|n| &cluster.replicas()[n].url));
    let log = Log::of_this_process();
    let odd = || {
        let away = format!("{}://app:{PASSWORD}@127.0.0.1:1/x", scheme(primary));
        fleet::config_of(&**primary, [&**one])
            .replica(Replica::new(refused(two)).name("locked"))
            .replica(Replica::new(&**one).name("again"))
            .replica(Replica::new(away).name("away"))
    };
    log.forget();
    let db = sealane::connect(odd()).await?;
    let mut events = db.events();
    // Some probes later, too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for name in ["locked", "again", "away"] {
        let told = log.lines("WARN", &[&format!(": {name} ")]);
        println!("{}", told.join("\n"));
        ensure!(told.len() == 1, "{name} is told {} times: {told:#?}", told.len());
    }
    ensure!(log.lines("WARN", &[": replica-1 "]).is_empty(), "nothing is wrong with replica-1");
    let summary = log.lines("INFO", &["1 primary primary (", "4 replicas replica-1 ("]);
    println!("{}", summary.join("\n"));
    ensure!(summary.len() == 1, "{summary:#?}");
    ensure!(summary[0].ends_with("; read-your-writes; no tokens"), "{summary:?}");

    let error =
        sealane::connect(odd().strict()).await.err().context("not all is well")?.to_string();
    println!("{error}");
    ensure!(error.lines().count() == 1, "{error}");
    for name in ["locked", "again", "away"] {
        ensure!(error.contains(&format!("{name} (")), "{name} is not in: {error}");
    }
    ensure!(!error.contains("replica-1 ("), "{error}");
    let error = sealane::connect(odd().require_replicas(2)).await.err().context("one is there")?;
    let told = error.to_string();
    ensure!(told.starts_with("2 replicas are required and 1 can be used: "), "{told}");
    sealane::connect(odd().require_replicas(1)).await?;

    let mut told = vec![format!("{:?}", db.status()), serde_json::to_string(&db.status())?];
    told.extend([format!("{db:?}"), format!("{:?}", odd()), error.to_string(), log.text()]);
    cluster.replicas()[0].kill().await?;
    let down = tokio::time::timeout(Duration::from_secs(10), events.next()).await?;
    let down = down.context("no event")?;
    told.extend([db.in_words(&down), format!("{down:?}"), serde_json::to_string(&down)?]);
    for text in told {
        ensure!(!text.contains(PASSWORD), "a password is in: {text}");
    }
    cluster.replicas()[0].start().await
}

fn scheme(url: &str) -> &str {
    url.split_once(':').map_or(url, |(scheme, _)| scheme)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_as_the_only_server_is_told() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let url = &cluster.replicas()[0].url;
    let log = Log::of_this_process();
    log.forget();
    sealane::connect(&**url).await?;
    let told = log.lines("WARN", &["is a replica and refuses every write"]);
    ensure!(told.len() == 1, "{told:#?}");
    let strict = sealane::connect(Config::new(&**url).strict()).await;
    let error = strict.err().context("it is a replica")?.to_string();
    ensure!(error.contains("is a replica and refuses every write"), "{error}");
    let all = fleet::config(&cluster).strict().require_replicas(2);
    sealane::connect(all).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_without_end_ends_when_a_replica_has_caught_up() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    cluster.pause_replay().await?;
    let session = db.session();
    // Without the wait: MySQL and MariaDB read back what they insert.
    let id = fleet::boat("far").insert(&session).await?.id;
    let waiting = session.fallback(FallbackPolicy::Wait(Duration::MAX));
    let reading = tokio::spawn(async move { boat::Entity::find_by_id(id).one(&waiting).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.resume_replay().await?;
    eventually(Duration::from_secs(10), "the read ends", async || Ok(reading.is_finished()))
        .await?;
    ensure!(reading.await??.is_some(), "the write was not read");
    Ok(())
}
