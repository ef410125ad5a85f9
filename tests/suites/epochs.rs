//! Histories that end, on engines that do not number them: what was written in one proves nothing in the next.

#[path = "epochs/kit.rs"]
mod kit;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{DbErr, TransactionTrait, entity::prelude::*};
use sealane::{Consistency, Error, Resumed, RoutedConnection, TokenRefusal};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Control, Engine, Relay,
    crew::{Crew, Done, missing},
    eventually,
    fleet::{self, boat, reads_on_replica},
};

use crate::kit::{SOON, Seen, becomes, is_there, part, write_and_read};

const KEY: &str = "a key that only the tests of sealane have";

async fn writes_go_to(db: &RoutedConnection, name: &str) -> anyhow::Result<()> {
    let elected = async || Ok(db.status().primary.as_deref() == Some(name));
    eventually(SOON, &format!("{name} is the primary"), elected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_ahead_of_the_promoted_replica_serves_nobody() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let [promoted, survivor] = ["replica-1", "replica-2"].map(|name| cluster.server(name));
    part(&db, survivor, promoted, cluster.primary()).await?;
    cluster.primary().kill().await?;
    promoted.promote().await?;
    writes_go_to(&db, "replica-1").await?;

    let Seen { missing, on_replicas } = write_and_read(&db, 150).await?;
    println!("{missing} of 450 own reads missing, {on_replicas} on the survivor");
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 450 own reads missing");
    ensure!(on_replicas == 0, "{on_replicas} of 450 own reads on the survivor");

    // What was written longer ago than the bound must be read.
    let bound = Duration::from_millis(500);
    let bounded = db.with_consistency(Consistency::BoundedStaleness(bound));
    let (mut wrong, mut there) = (0, 0);
    for _ in 0..5 {
        let id = fleet::boat("old").insert(&db).await?.id;
        let written = Instant::now();
        while written.elapsed() <= bound {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..12 {
            wrong += u32::from(!is_there(&bounded, id).await?);
            there += u32::from(reads_on_replica(&bounded).await?);
        }
    }
    println!("{wrong} of 60 bounded reads wrong, {there} on the survivor");
    ensure!(
        wrong == 0 && there == 0,
        "{BROKEN_PROMISE}: {wrong} of 60 wrong, {there} on the survivor"
    );
    // Nor who has seen nothing yet: what is there was lost.
    for _ in 0..50 {
        ensure!(
            !reads_on_replica(&db.session()).await?,
            "{BROKEN_PROMISE}: a new session reads what was lost"
        );
    }
    becomes(&db, "replica-2", "old_timeline").await
}

/// What makes the promoted server read-only.
#[derive(Clone, Copy, Debug)]
enum ReadOnly {
    /// Somebody sets it.
    Set,
    /// It is killed and starts with `read_only = ON` in its configuration, as it is recommended.
    AfterRestart,
}

/// The old primary returns, unfenced, beside a promoted server that wrote so much.
async fn returns_beside(written: u32, read_only: ReadOnly) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let outcome = gets_no_writes(&cluster, written, read_only).await;
    cluster.begin_anew().await?;
    outcome
}

async fn gets_no_writes(
    cluster: &Cluster,
    written: u32,
    read_only: ReadOnly,
) -> anyhow::Result<()> {
    let config = fleet::config(cluster).primary_wait(Duration::from_secs(1));
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    let (old, promoted) = (cluster.primary(), cluster.server("replica-1"));
    old.kill().await?;
    promoted.promote().await?;
    writes_go_to(&db, "replica-1").await?;
    for _ in 0..written {
        fleet::boat("ours").insert(&db).await?;
    }
    old.start().await?;
    for _ in 0..40 {
        old.sql("INSERT INTO boat (harbour_id, name) VALUES (1, 'theirs')").await?;
    }
    becomes(&db, "primary", "stale_primary").await?;

    match read_only {
        ReadOnly::Set => promoted.sql("SET GLOBAL read_only = ON").await?,
        ReadOnly::AfterRestart => promoted.restart_with(&["read_only = ON"]).await?,
    }
    let moved = async || Ok(db.status().primary.as_deref() != Some("replica-1"));
    eventually(SOON, "it is seen to be read-only", moved).await?;
    let error =
        fleet::boat("ours").insert(&db).await.err().context("the write was acknowledged")?;
    ensure!(db.status().primary.is_none(), "{:?}", db.status().primary);
    ensure!(error.to_string().contains("primary is not proved to have"), "{error}");
    promoted.sql("SET GLOBAL read_only = OFF").await?;
    writes_go_to(&db, "replica-1").await?;
    let astray: i64 = old.query_scalar("SELECT count(*) FROM boat WHERE name = 'ours'").await?;
    ensure!(astray == 0, "{astray} writes went to the old primary");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_gets_no_writes_while_the_new_one_is_read_only() -> anyhow::Result<()> {
    returns_beside(10, ReadOnly::Set).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_gets_no_writes_after_the_new_one_was_restarted() -> anyhow::Result<()> {
    returns_beside(10, ReadOnly::AfterRestart).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_gets_no_writes_while_one_that_wrote_nothing_is_read_only()
-> anyhow::Result<()> {
    returns_beside(0, ReadOnly::Set).await
}

/// The old primary hangs with a transaction, and goes on when the promoted server is read-only: there is no
/// primary, and still the old one was replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_primary_that_goes_on_acknowledges_nothing_while_there_is_no_primary()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let outcome = goes_on_replaced(&cluster).await;
    cluster.begin_anew().await?;
    outcome
}

async fn goes_on_replaced(cluster: &Cluster) -> anyhow::Result<()> {
    let db = sealane::connect(fleet::config(cluster)).await?;
    fleet::ready(&db).await?;
    let (old, promoted) = (cluster.primary(), cluster.server("replica-1"));
    let transaction = db.begin().await?;
    boat("late").insert(&transaction).await?;
    old.freeze().await?;
    becomes(&db, "primary", "down").await?;
    promoted.promote().await?;
    writes_go_to(&db, "replica-1").await?;
    promoted.sql("SET GLOBAL read_only = ON").await?;
    let has_none = async || Ok(db.status().primary.is_none());
    eventually(SOON, "there is no primary", has_none).await?;
    let commit = tokio::spawn(transaction.commit());
    old.thaw().await?;
    let ended = tokio::time::timeout(SOON, commit).await.context("the COMMIT has no end")??;
    let error = ended.err().context("a replaced primary has acknowledged a COMMIT")?;
    let told = Error::of(&error).context("not an error of ours")?;
    let is_honest = matches!(told, Error::OutcomeUnknown { .. } | Error::TransactionLost { .. });
    ensure!(is_honest, "{BROKEN_PROMISE}: {error}");
    Ok(())
}

/// How many tasks write and read what they wrote during a switchover.
const WRITERS: usize = 8;
/// How long after the switchover a write may end on a busy machine.
const NOISE: Duration = Duration::from_secs(2);
/// More than a switchover takes.
const SWITCH: Duration = Duration::from_secs(30);

/// A switchover as people do it, without telling sealane: `read_only` on the old primary, then a
/// promotion of a replica that has everything, then all others follow it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_that_nobody_announced_fails_no_write_and_loses_none() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    // Writers wait from the first step to the last one.
    let db = sealane::connect(fleet::config(&cluster).primary_wait(SWITCH)).await?;
    fleet::ready(&db).await?;
    let outcome = switch_over(&cluster, &db).await;
    cluster.begin_anew().await?;
    outcome
}

#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn switch_over(cluster: &Cluster, db: &RoutedConnection) -> anyhow::Result<()> {
    let [old, new, other] = ["primary", "replica-1", "replica-2"].map(|name| cluster.server(name));
    let crew = Crew::start(WRITERS, {
        let db = db.clone();
        move |_, name| {
            let session = db.session();
            async move {
                let id = fleet::boat(&name).insert(&session).await?.id;
                let there = boat::Entity::find_by_id(id).one(&session).await?;
                there.map(drop).ok_or_else(|| DbErr::Custom("its own write is missing".into()))
            }
        }
    });
    crew.more(100).await?;
    let (control, began) = (Control::of(other).await?, Instant::now());
    old.sql("SET GLOBAL read_only = ON").await?;
    fleet::replayed_by(old, new).await?;
    new.promote().await?;
    other.follow_instead(new).await?;
    if cluster.engine() == Engine::Mariadb {
        let begin = "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos; CHANGE MASTER TO \
                     MASTER_USER = 'sealane_replication', MASTER_SSL = 0, \
                     MASTER_PASSWORD = 'sealane_replication', MASTER_USE_GTID = slave_pos";
        old.sql(begin).await?;
    }
    old.follow_instead(new).await?;
    let switch = began.elapsed();
    writes_go_to(db, "replica-1").await?;
    crew.more(200).await?;
    let control = control.end().await?;
    let done = crew.stop(SOON).await?;
    let failures: Vec<_> = done.iter().filter_map(|it| it.failure.as_ref()).collect();
    let longest = done.iter().map(Done::took).max().unwrap_or_default();
    let names: Vec<&str> = done.iter().map(|it| it.name.as_str()).collect();
    let lost = missing(new, &names).await?;
    println!(
        "{} writes, each read back; {} failed, {lost} lost, the longest took {longest:?}",
        done.len(),
        failures.len()
    );
    ensure!(failures.is_empty(), "{BROKEN_PROMISE}: {failures:?}");
    ensure!(lost == 0, "{BROKEN_PROMISE}: {lost} acknowledged writes are lost");
    let most = switch + NOISE + control;
    ensure!(longest <= most, "a write took {longest:?}, the switchover {switch:?}");
    // The old primary serves as a replica.
    becomes(db, "primary", "serving").await
}

/// A token of a write that the failover lost is refused, and one of a write that survived is not, in
/// a process that did not make them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_write_that_a_failover_lost_is_refused() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let config = || fleet::config(&cluster).token_key(KEY);
    let (one, two) = (sealane::connect(config()).await?, sealane::connect(config()).await?);
    fleet::ready(&one).await?;
    fleet::ready(&two).await?;
    let early = one.session();
    let kept = fleet::boat("early").insert(&early).await?.id;
    let early = early.token().await.context("a token")?;
    fleet::replayed(&cluster).await?;
    for replica in cluster.replicas() {
        replica.stop_replication().await?;
    }
    let late = one.session();
    let lost = fleet::boat("lost").insert(&late).await?.id;
    let late = late.token().await.context("a token")?;
    // It is known to both before it is lost.
    ensure!(
        two.resume(&late).refused.is_none() && is_there(&two.resume(&late).session, lost).await?
    );
    cluster.primary().kill().await?;
    let new = cluster.server("replica-1");
    new.promote().await?;
    writes_go_to(&two, "replica-1").await?;
    fleet::boat("new").insert(&two).await?;
    eventually(SOON, "the token of what was lost is refused", async || {
        let refused = two.resume(&late).refused;
        ensure!(refused == Some(TokenRefusal::BeforeFailover), "{refused:?}");
        Ok(true)
    })
    .await?;
    // The new one may have the number of the lost one.
    let left: i64 = new.query_scalar("SELECT count(*) FROM boat WHERE name = 'lost'").await?;
    ensure!(left == 0, "it was not lost");
    let resumed = two.resume(&early);
    println!("the token of what survived: {:?}", resumed.refused);
    ensure!(is_there(&resumed.session, kept).await?, "{BROKEN_PROMISE}: it is missing");
    Ok(())
}

/// A process that starts after a failover meets the old primary, which nobody has fenced off, and
/// cannot reach the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_gets_no_writes_of_a_process_that_did_not_see_the_failover()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let [old, new, other] = ["primary", "replica-1", "replica-2"].map(|name| cluster.server(name));
    // Whom a replica follows is shown to few.
    let grant = match cluster.engine() {
        Engine::Mysql => "REPLICATION CLIENT",
        _ => "SLAVE MONITOR",
    };
    let create = format!(
        "DROP USER IF EXISTS pilot@'%'; CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; \
         GRANT ALL ON sealane.* TO pilot@'%'; GRANT {grant} ON *.* TO pilot@'%'"
    );
    old.sql(&create).await?;
    fleet::replayed(&cluster).await?;
    new.promote().await?;
    other.follow_instead(new).await?;
    new.sql("INSERT INTO boat (harbour_id, name) VALUES (1, 'new')").await?;
    fleet::replayed_by(new, other).await?;
    let [mut to_new, mut to_other] = [Relay::to(new).await?, Relay::to(other).await?];
    to_new.refuse().await;

    let url = |url: &str| fleet::url_as(url, "pilot");
    let config = fleet::config_of(url(&old.url), [url(to_new.url()), url(to_other.url())])
        .primary_wait(Duration::from_millis(500));
    let refused = sealane::connect(config.clone()).await.err().context("it may write")?;
    ensure!(refused.to_string().contains("seems to have been replaced"), "{refused}");

    // Nobody tells it yet.
    to_other.refuse().await;
    let db = sealane::connect(config).await?;
    to_other.accept().await?;
    let none = async || Ok(db.status().primary.is_none());
    eventually(SOON, "the replica's word counts", none).await?;
    let error = fleet::boat("astray").insert(&db).await.err().context("it was acknowledged")?;
    ensure!(error.to_string().contains("primary is not proved to have"), "{error}");
    let astray: i64 = old.query_scalar("SELECT count(*) FROM boat WHERE name = 'astray'").await?;
    ensure!(astray == 0, "{BROKEN_PROMISE}: the old primary has taken a write");
    becomes(&db, "primary", "stale_primary").await?;

    to_new.accept().await?;
    writes_go_to(&db, "replica-1").await?;
    let Seen { missing, on_replicas } = write_and_read(&db, 20).await?;
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 60 own reads missing");
    println!("{on_replicas} of 60 own reads on the replica");
    Ok(())
}

/// A token of a write on the new primary, made where that one is known.
async fn token_of_a_write(url: &str, replica: &str) -> anyhow::Result<(String, i32)> {
    let there = sealane::connect(fleet::config_of(url, [replica]).token_key(KEY)).await?;
    let writer = there.session();
    let id = fleet::boat("far").insert(&writer).await?.id;
    let token = writer.token().await.context("a session that wrote has something to tell")?;
    Ok((token, id))
}

async fn switched(cluster: &Cluster) -> anyhow::Result<(RoutedConnection, String, i32)> {
    let db = sealane::connect(fleet::config(cluster).token_key(KEY)).await?;
    fleet::ready(&db).await?;
    let [old, new, other] = ["primary", "replica-1", "replica-2"].map(|name| cluster.server(name));
    // All but the last step, so that nobody has time to see the switch.
    new.sql("STOP REPLICA; RESET REPLICA ALL").await?;
    old.sql("SET GLOBAL read_only = ON").await?;
    new.sql("SET GLOBAL read_only = OFF").await?;
    let (token, id) = token_of_a_write(&new.url, &other.url).await?;
    Ok((db, token, id))
}

/// How many of 16 resumed tokens waited for the new primary. None may miss the write.
async fn waited_after_a_switch() -> anyhow::Result<usize> {
    let cluster = fleet::moor().await?;
    let (db, token, id) = switched(&cluster).await?;
    let resumed: Vec<_> = (0..16).map(|_| db.resume(&token)).collect();
    let is_told = |it: &&Resumed| it.refused == Some(TokenRefusal::NewerTimeline);
    let told = resumed.iter().filter(is_told).count();
    let mut missing = 0;
    for it in resumed {
        missing += u32::from(!is_there(&it.session, id).await?);
    }
    ensure!(
        missing == 0,
        "{BROKEN_PROMISE}: {missing} of 16 handles missed the write; {told} waited"
    );
    cluster.primary().sql("SET GLOBAL read_only = OFF").await?;
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_new_primary_is_not_served_by_the_old_one() -> anyhow::Result<()> {
    // Where the failover is seen before the token comes, nothing is shown.
    let mut rounds = 1;
    while waited_after_a_switch().await? == 0 {
        ensure!(rounds < 5, "each time the failover was seen before the token came");
        rounds += 1;
    }
    println!("in round {rounds} the token came before the failover was seen");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_primary_that_is_not_configured_is_refused() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let [old, new, other] = ["primary", "replica-1", "replica-2"].map(|name| cluster.server(name));
    let config = fleet::config_of(&*old.url, [&*other.url]).token_key(KEY);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    new.promote().await?;
    let (token, _) = token_of_a_write(&new.url, &other.url).await?;
    // The old one has the greater number.
    for _ in 0..60 {
        fleet::boat("old").insert(&db).await?;
    }
    fleet::replayed_by(old, other).await?;
    let session = {
        let resumed = db.resume(&token);
        ensure!(resumed.refused == Some(TokenRefusal::NewerTimeline), "{:?}", resumed.refused);
        resumed.session
    };
    for _ in 0..16 {
        ensure!(!reads_on_replica(&session).await?, "a replica of the old one serves the token");
    }
    // A token of the old one is as good as ever.
    let writer = db.session();
    let id = fleet::boat("near").insert(&writer).await?.id;
    let token = writer.token().await.context("a token")?;
    let resumed = db.resume(&token);
    ensure!(resumed.refused.is_none(), "{:?}", resumed.refused);
    ensure!(is_there(&resumed.session, id).await?);
    Ok(())
}
