//! What only PostgreSQL tells sessions: timelines, which it numbers at each failover, and which
//! tables belong together.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{TransactionTrait, entity::prelude::*};
use sealane::{Config, Consistency, RoutedConnection, TokenRefusal};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Control, eventually,
    fleet::{self, boat, harbour},
};

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "a key that only the tests of sealane have";

fn config(cluster: &Cluster) -> Config {
    fleet::config(cluster).token_key(KEY)
}

/// A cluster of which no replica shows anything new, and a handle for everybody.
async fn still() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = fleet::moor().await?;
    let db = sealane::connect(config(&cluster)).await?;
    fleet::ready(&db).await?;
    cluster.pause_replay().await?;
    Ok((cluster, db))
}

async fn is_there(db: &RoutedConnection, id: i32) -> anyhow::Result<bool> {
    Ok(boat::Entity::find_by_id(id).one(db).await?.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_from_before_a_failover_is_refused() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let one = sealane::connect(config(&cluster)).await?;
    let two = sealane::connect(config(&cluster)).await?;
    fleet::ready(&one).await?;
    fleet::ready(&two).await?;
    let writer = one.session();
    fleet::boat("early").insert(&writer).await?;
    let token = writer.token().await.context("a token")?;
    fleet::replayed(&cluster).await?;
    // The old primary must not answer any more, or there are two.
    cluster.primary().freeze().await?;
    cluster.replicas()[0].promote().await?;
    let promoted = async || Ok(two.status().primary.as_deref() == Some("replica-1"));
    eventually(Duration::from_secs(20), "the promotion is seen", promoted).await?;
    eventually(SOON, "the new timeline is seen", async || {
        Ok(two.resume(&token).refused == Some(TokenRefusal::BeforeFailover))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_from_after_a_failover_that_is_not_seen_yet_waits_for_it() -> anyhow::Result<()> {
    let mut attempts = 1;
    while !a_token_that_is_ahead_waits().await? {
        ensure!(attempts < 5, "its process always knew of the failover already");
        attempts += 1;
    }
    Ok(())
}

/// Returns false if the processes knew of the failover before their tokens: on a busy machine it may
/// come while they still probe in the hurry of their beginning.
async fn a_token_that_is_ahead_waits() -> anyhow::Result<bool> {
    let cluster = fleet::moor().await?;
    let one = sealane::connect(config(&cluster)).await?;
    let rarely = || config(&cluster).probe_interval(Duration::from_secs(600));
    let (two, three) = (sealane::connect(rarely()).await?, sealane::connect(rarely()).await?);
    for db in [&one, &two, &three] {
        fleet::ready(db).await?;
    }
    let early = one.session();
    fleet::boat("early").insert(&early).await?;
    let early = early.token().await.context("a token")?;
    // The old primary goes on answering, and would serve what it has.
    cluster.replicas()[0].promote().await?;
    let promoted = async || Ok(one.status().primary.as_deref() == Some("replica-1"));
    eventually(Duration::from_secs(20), "the promotion is seen", promoted).await?;
    let writer = one.session();
    let id = fleet::boat("new").insert(&writer).await?.id;
    let token = writer.token().await.context("a token")?;
    let knows = |db: &&RoutedConnection| db.status().primary.as_deref() != Some("primary");
    if [&two, &three].iter().any(knows) {
        return Ok(false);
    }
    let strong = two.with_consistency(Consistency::Strong);
    ensure!(!is_there(&strong, id).await?, "the old primary has it");
    let resumed = two.resume(&token);
    ensure!(resumed.refused == Some(TokenRefusal::NewerTimeline), "{:?}", resumed.refused);
    ensure!(is_there(&resumed.session, id).await?, "the old primary was read");
    ensure!(two.status().primary.as_deref() == Some("replica-1"), "{:?}", two.status());
    // Among others, and for a transaction.
    let resumed = three.resume_all([&*early, "no token", &*token]);
    ensure!(resumed.refused == Some(TokenRefusal::NewerTimeline), "{:?}", resumed.refused);
    let transaction = resumed.session.begin().await?;
    ensure!(boat::Entity::find_by_id(id).one(&transaction).await?.is_some(), "on the old primary");
    transaction.commit().await?;
    // What it tells of goes on to whoever comes next.
    let next = resumed.session.token().await;
    let next = next.with_context(|| format!("no token: {:#?}", three.status()))?;
    ensure!(one.resume(&next).refused.is_none(), "{:?}", one.resume(&next).refused);
    Ok(true)
}

/// One process does not know the server that was promoted, so that it never sees the failover;
/// the other one sees it late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_from_after_a_failover_makes_nobody_else_wait() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let one = sealane::connect(config(&cluster)).await?;
    let (primary, replica) = (&cluster.primary().url, &cluster.server("replica-2").url);
    let blind = fleet::config_of(&**primary, [&**replica]).token_key(KEY);
    let blind = sealane::connect(blind).await?;
    let late = config(&cluster).probe_interval(Duration::from_secs(600));
    let late = sealane::connect(late).await?;
    for db in [&one, &blind, &late] {
        fleet::ready(db).await?;
    }
    cluster.replicas()[0].promote().await?;
    let promoted = async || Ok(one.status().primary.as_deref() == Some("replica-1"));
    eventually(Duration::from_secs(20), "the promotion is seen", promoted).await?;
    let writer = one.session();
    let id = fleet::boat("new").insert(&writer).await?.id;
    let token = writer.token().await.context("a token")?;

    let resumed = blind.resume(&token);
    ensure!(resumed.refused == Some(TokenRefusal::NewerTimeline), "{:?}", resumed.refused);
    blind.merge(&resumed.session);
    let mut slowest = Duration::ZERO;
    let control = Control::of(cluster.primary()).await?;
    for _ in 0..20 {
        let begun = Instant::now();
        boat::Entity::find().all(&blind).await?;
        boat::Entity::find().all(&blind.fork()).await?;
        slowest = slowest.max(begun.elapsed());
    }
    let control = control.end().await?;
    println!("slowest read of others: {slowest:?}; the server took {control:?} at most to answer");
    ensure!(slowest < Duration::from_millis(500) + control, "others waited: {slowest:?}");
    // Who came with the token waits.
    let begun = Instant::now();
    boat::Entity::find().all(&resumed.session).await?;
    println!("the session of the token waited {:?}", begun.elapsed());
    ensure!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());

    // Where the failover is seen, the shared handle misses nothing of what was merged.
    late.merge(&late.resume(&token).session);
    let seen = async || Ok(late.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "the failover is seen", seen).await?;
    ensure!(is_there(&late, id).await?, "{BROKEN_PROMISE}: the merged token was lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_other_tables_do_not_wait_for_what_a_session_wrote() -> anyhow::Result<()> {
    let (_cluster, db) = still().await?;
    let leaves = |sql: &str| {
        let first = db.explain(sql).first_choice().map(str::to_owned);
        first.is_some_and(|name| name.starts_with("replica"))
    };
    let (boats, harbours) = (r#"SELECT "id" FROM "boat""#, r#"SELECT "id" FROM "harbour""#);
    ensure!(leaves(boats) && leaves(harbours), "{}", db.explain(boats));
    let session = db.session();
    fleet::boat("busy").insert(&session).await?;
    ensure!(!leaves(boats) && leaves(harbours), "{}", db.explain(harbours));
    let transaction = session.begin().await?;
    fleet::boat("busier").insert(&transaction).await?;
    transaction.commit().await?;
    ensure!(leaves(harbours), "{}", db.explain(harbours));
    // The session itself waits for all its writes.
    harbour::Entity::find().all(&session).await?;
    let own = session.explain(harbours);
    ensure!(own.first_choice() == Some("primary"), "{own}");
    Ok(())
}
