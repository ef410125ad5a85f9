//! Failures that callers do not see, and those that they are told clearly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use sea_orm::{DbErr, TransactionTrait, entity::prelude::*};
use sealane::{Config, Event, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Engine, Server, eventually,
    fleet::{self, all_up, boat, harbour, is_up, reads, reads_on_replica},
    watch::{cut_connection, monitors, newest_monitor},
};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);
/// Between two reads of a reader, so that servers that start meanwhile get some of the processor.
const PAUSE: Duration = Duration::from_millis(2);

/// Readers that read until they are told to stop, and count what fails.
struct Readers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: JoinSet<Vec<DbErr>>,
}

impl Readers {
    /// Each of them reads in one session.
    fn start(db: &RoutedConnection, count: usize) -> Self {
        Self::reading(db, count, RoutedConnection::clone)
    }

    /// They begin a session for each read, so that none of them has to see what a primary showed.
    fn of_strangers(db: &RoutedConnection, count: usize) -> Self {
        Self::reading(db, count, RoutedConnection::session)
    }

    fn reading(
        db: &RoutedConnection,
        count: usize,
        session: fn(&RoutedConnection) -> RoutedConnection,
    ) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (db, stop, done) = (db.session(), Arc::clone(&stop), Arc::clone(&done));
            tasks.spawn(async move {
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match harbour::Entity::find().all(&session(&db)).await {
                        Ok(_) => {}
                        Err(error) => errors.push(error),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                errors
            });
        }
        Readers { stop, done, tasks }
    }

    /// Waits until so many more reads are done.
    async fn more(&self, reads: u64) -> anyhow::Result<()> {
        let goal = self.done.load(Ordering::Relaxed) + reads;
        let check = async || Ok(self.done.load(Ordering::Relaxed) >= goal);
        eventually(SOON, "the load goes on", check).await
    }

    async fn stop(mut self) -> anyhow::Result<(u64, Vec<DbErr>)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        while let Some(found) = self.tasks.join_next().await {
            errors.extend(found?);
        }
        Ok((self.done.load(Ordering::Relaxed), errors))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_killed_under_load_fails_no_read_and_joins_again() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let readers = Readers::start(&db, 8);
    readers.more(2_000).await?;
    cluster.server("replica-1").kill().await?;
    readers.more(2_000).await?;
    ensure!(!is_up(&db, "replica-1"));
    cluster.server("replica-1").start().await?;
    all_up(&db).await?;
    // New sessions are not tied to the other one.
    let before = reads(&db, "replica-1");
    let newcomers = Readers::start(&db, 8);
    newcomers.more(2_000).await?;
    newcomers.stop().await?;
    ensure!(reads(&db, "replica-1") > before, "it did not join again");
    let (done, errors) = readers.stop().await?;
    println!("{done} reads while a replica was killed, {} failed", errors.len());
    ensure!(errors.is_empty(), "{} of {done} reads failed: {:?}", errors.len(), errors[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_replica_the_primary_serves() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let readers = Readers::start(&db, 4);
    readers.more(500).await?;
    for replica in cluster.replicas() {
        replica.kill().await?;
    }
    readers.more(1_000).await?;
    ensure!(!reads_on_replica(&db).await?);
    for replica in cluster.replicas() {
        replica.start().await?;
    }
    all_up(&db).await?;
    let (done, errors) = readers.stop().await?;
    ensure!(errors.is_empty(), "{} of {done} reads failed: {:?}", errors.len(), errors[0]);
    let back = async || Ok(reads_on_replica(&db.session()).await?);
    eventually(SOON, "replicas serve again", back).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_down_at_start_joins_when_it_comes_up() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.server("replica-1").kill().await?;
    let db = sealane::connect(fleet::config(&cluster)).await?;
    let other = async || Ok(reads_on_replica(&db.session()).await?);
    eventually(SOON, "the other one serves", other).await?;
    ensure!(reads(&db, "replica-1") == 0);
    cluster.server("replica-1").start().await?;
    all_up(&db).await?;
    let joined = async || {
        reads_on_replica(&db.session()).await?;
        Ok(reads(&db, "replica-1") > 0)
    };
    eventually(SOON, "replica-1 serves", joined).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_replica_is_noticed_and_avoided() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let readers = Readers::start(&db, 8);
    readers.more(1_000).await?;
    cluster.server("replica-1").freeze().await?;
    let noticed = async || Ok(!is_up(&db, "replica-1"));
    eventually(SOON, "it is noticed", noticed).await?;
    // Those that were reading on it go on elsewhere.
    readers.more(2_000).await?;
    let (done, errors) =
        tokio::time::timeout(SOON, readers.stop()).await.context("reads hang")??;
    cluster.server("replica-1").thaw().await?;
    all_up(&db).await?;
    ensure!(errors.is_empty(), "{} of {done} reads failed: {:?}", errors.len(), errors[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_primary_is_away_replicas_go_on_and_writes_fail_clearly() -> anyhow::Result<()> {
    // No read falls back to the primary just before: nothing proves that replicas have what it shows.
    let (cluster, db) = fleet::launch_patient().await?;
    let readers = Readers::start(&db, 4);
    readers.more(500).await?;
    cluster.primary().kill().await?;
    readers.more(1_000).await?;
    ensure!(fleet::boat("Ida").insert(&db).await.is_err());
    let (done, errors) = readers.stop().await?;
    ensure!(errors.is_empty(), "{} of {done} reads failed: {:?}", errors.len(), errors[0]);
    cluster.primary().start().await?;
    all_up(&db).await?;
    let writes = async || Ok(fleet::boat("Ida").insert(&db).await.is_ok());
    eventually(SOON, "writes go on", writes).await?;
    ensure!(boat::Entity::find().count(&db).await? >= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_hang_while_the_primary_dies_serve_when_they_go_on() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    // Nothing proves that the replicas have what the primary showed just before it died.
    let readers = Readers::of_strangers(&db, 4);
    readers.more(500).await?;
    for replica in cluster.replicas() {
        replica.freeze().await?;
    }
    // The reads fall back to the primary before it is gone.
    let before = reads(&db, "primary");
    let fell_back = async || Ok(reads(&db, "primary") > before);
    eventually(SOON, "the primary serves", fell_back).await?;
    cluster.primary().kill().await?;
    for replica in cluster.replicas() {
        replica.thaw().await?;
    }
    readers.more(1_000).await?;
    let (done, errors) = readers.stop().await?;
    ensure!(errors.is_empty(), "{} of {done} reads failed: {:?}", errors.len(), errors[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_a_replicas_backend_is_seen_as_another_run() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let mut events = db.events();
    cluster.server("replica-1").crash().await?;
    let restarted = async {
        loop {
            match events.next().await {
                Some(Event::Restarted { endpoint }) => break Some(endpoint.place()),
                Some(_) => {}
                None => break None,
            }
        }
    };
    let endpoint = tokio::time::timeout(SOON, restarted).await.context("nobody noticed")?;
    ensure!(endpoint == Some(1));
    all_up(&db).await?;
    fleet::ready(&db).await?;
    ensure!(reads_on_replica(&db.session()).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_whose_connection_is_cut_takes_nobody_down() -> anyhow::Result<()> {
    // To connect again may take long on a busy machine.
    let (cluster, db) = fleet::launch_patient().await?;
    let mut events = db.events();
    for server in cluster.servers() {
        let before = newest_monitor(server).await?;
        cut_connection(server, before).await?;
        let again =
            async || Ok(monitors(server).await? == 1 && newest_monitor(server).await? != before);
        eventually(SOON, "it probes again", again).await?;
    }
    ensure!(reads_on_replica(&db.session()).await?);
    let event = tokio::time::timeout(Duration::from_millis(10), events.next()).await;
    ensure!(event.is_err(), "{event:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_does_not_go_back_in_time_with_a_replica_that_crashed() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    // One replica, so that the session is tied to it.
    cluster.server("replica-2").stop().await?;
    let id = fleet::boat("Ida").insert(&db).await?.id;
    let position = cluster.primary().position().await?;
    let replica = cluster.server("replica-1");
    let replayed = async || replica.has_replayed(&position).await;
    eventually(SOON, "replica-1 replays", replayed).await?;
    let mut newest = 0;
    for round in 1..=5 {
        let session = db.session();
        cluster.primary().sql(&format!("UPDATE boat SET voyages = {round}")).await?;
        let position = cluster.primary().position().await?;
        let replayed = async || replica.has_replayed(&position).await;
        eventually(SOON, "replica-1 replays", replayed).await?;
        let boat = boat::Entity::find_by_id(id).one(&session).await?.context("no boat")?;
        newest = newest.max(boat.voyages);
        replica.crash().await?;
        for _ in 0..200 {
            let boat = boat::Entity::find_by_id(id).one(&session).await?.context("no boat")?;
            ensure!(
                boat.voyages >= newest,
                "{BROKEN_PROMISE}: back from {newest} to {}",
                boat.voyages
            );
            newest = boat.voyages;
        }
        let up = async || Ok(is_up(&db, "replica-1"));
        eventually(SOON, "replica-1 is up", up).await?;
    }
    cluster.server("replica-2").start().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_observed_whatever_was_configured() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let config = fleet::config_of(
        &*cluster.server("replica-1").url,
        [&*cluster.primary().url, &*cluster.server("replica-2").url],
    );
    let db = sealane::connect(config).await?;
    fleet::boat("Ida").insert(&db).await?;
    ensure!(boat::Entity::find().count(&db).await? == 1);
    fleet::ready(&db).await?;
    ensure!(reads_on_replica(&db.session()).await?);
    ensure!(db.status().primary.as_deref() == Some("replica-1"), "the endpoint's name");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_without_a_primary_is_told() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let [one, two] = ["replica-1", "replica-2"].map(|name| &*cluster.server(name).url);
    let config = Config::new(one).replica(two);
    let error = sealane::connect(config).await.err().context("connected")?.to_string();
    ensure!(error.contains("none of the endpoints is a primary"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_shown() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let code = match cluster.engine() {
        Engine::Postgres => "28P01",
        _ => "1045",
    };
    let wrong = cluster.primary().url.replacen(":sealane@", ":kraken@", 1);
    ensure!(wrong != cluster.primary().url, "the test has found no password to spoil");
    let config = Config::new(&*wrong).replica(&*cluster.server("replica-1").url);
    let error = sealane::connect(config).await.err().context("connected")?.to_string();
    ensure!(error.contains(code) && !error.contains("kraken"), "{error}");

    // Of a replica: told in the status, and the others serve.
    let config = fleet::config_of(
        cluster.primary().url.clone(),
        [
            cluster.server("replica-1").url.replacen(":sealane@", ":kraken@", 1),
            cluster.server("replica-2").url.clone(),
        ],
    );
    let db = sealane::connect(config).await?;
    let other = async || Ok(reads_on_replica(&db.session()).await?);
    eventually(SOON, "the other one serves", other).await?;
    let status = serde_json::to_string(&db.status())?;
    ensure!(status.contains(code) && !status.contains("kraken"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_role_is_enough() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(&deckhand(cluster.engine())).await?;
    fleet::replayed(&cluster).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "deckhand");
    let config = fleet::config_as(&cluster, url);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    ensure!(reads_on_replica(&db.session()).await?);
    let session = db.session();
    let ida = fleet::boat("Ida").insert(&session).await?;
    ensure!(boat::Entity::find_by_id(ida.id).one(&session).await?.is_some());
    // A replica that does not replicate shows it to an ordinary role, too.
    cluster.server("replica-1").stop_replication().await?;
    let shown = match cluster.engine() {
        // But for MySQL: its positions show it with the next write.
        Engine::Mysql => "\"unknown\"",
        _ => "\"stopped\"",
    };
    let seen = async || Ok(serde_json::to_string(&db.status())?.contains(shown));
    eventually(SOON, "replication is seen to be stopped", seen).await
}

/// Makes a role that may do no more than its work.
fn deckhand(engine: Engine) -> String {
    // The view and its functions are read on replicas only by who may see what they do.
    let bodies = match engine {
        Engine::Mysql => "GRANT SHOW_ROUTINE ON *.*",
        _ => "GRANT SELECT ON mysql.proc",
    };
    match engine {
        Engine::Postgres => {
            "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'deckhand') THEN \
             DROP OWNED BY deckhand; DROP ROLE deckhand; END IF; END $$; \
             CREATE ROLE deckhand LOGIN PASSWORD 'deckhand'; \
             GRANT SELECT ON harbour, whereabouts TO deckhand; \
             GRANT SELECT, INSERT ON boat TO deckhand; GRANT USAGE ON boat_id_seq TO deckhand"
                .to_owned()
        }
        _ => format!(
            "DROP USER IF EXISTS deckhand@'%'; \
             CREATE USER deckhand@'%' IDENTIFIED BY 'deckhand'; \
             GRANT SELECT ON sealane.harbour TO deckhand@'%'; \
             GRANT SELECT, SHOW VIEW ON sealane.whereabouts TO deckhand@'%'; \
             GRANT SELECT, INSERT ON sealane.boat TO deckhand@'%'; {bodies} TO deckhand@'%'"
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_end_with_the_last_handle() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    ensure!(monitors(cluster.primary()).await? == 1);
    let other = db.session();
    drop(db);
    ensure!(reads_on_replica(&other).await?);
    drop(other);
    for server in cluster.servers() {
        let gone = async || Ok(monitors(server).await? == 0);
        eventually(SOON, "no probe is left", gone).await?;
    }
    Ok(())
}

/// What others write later on the connection that it was to begin on is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_given_up_on_while_it_begins_keeps_no_writes_to_itself() -> anyhow::Result<()>
{
    let (cluster, db) = fleet::launch().await?;
    let primary = cluster.primary();
    // Now there is a connection that it can begin on.
    fleet::boat("Ida").insert(&db).await?;
    primary.freeze().await?;
    let begun = tokio::time::timeout(Duration::from_millis(300), db.begin()).await;
    primary.thaw().await?;
    ensure!(begun.is_err(), "it began on a server that hangs");
    for boats in 2..=20 {
        fleet::boat("another one").insert(&db).await?;
        let committed: i64 = primary.query_scalar("SELECT count(*) FROM boat").await?;
        ensure!(committed == boats, "{committed} of {boats} boats are committed");
    }
    Ok(())
}
