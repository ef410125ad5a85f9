//! What MySQL and MariaDB tell of replication, to whom, and what follows from it.

use std::time::Duration;

use anyhow::ensure;
use rstest::rstest;
use sea_orm::{ActiveModelTrait, TransactionTrait};
use sealane::{Consistency, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine, Relay, Server, eventually,
    fleet::{self, reads_on_replica},
};

const SOON: Duration = Duration::from_secs(20);

/// A connection of a role that may see how replication goes.
async fn with_pilot(cluster: &Cluster) -> anyhow::Result<RoutedConnection> {
    // And the bodies of functions, without which the view `whereabouts` is for the primary.
    let (grant, bodies) = match cluster.engine() {
        Engine::Mysql => ("REPLICATION CLIENT", "GRANT SHOW_ROUTINE ON *.*"),
        _ => ("SLAVE MONITOR", "GRANT SELECT ON mysql.proc"),
    };
    let create = format!(
        "DROP USER IF EXISTS pilot@'%'; CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; \
         GRANT SELECT, SHOW VIEW, EXECUTE ON sealane.* TO pilot@'%'; \
         GRANT {grant} ON *.* TO pilot@'%'; {bodies} TO pilot@'%'"
    );
    cluster.primary().sql(&create).await?;
    fleet::replayed(cluster).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "pilot");
    let config = fleet::config_as(cluster, url);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    Ok(db)
}

/// One field of the status of `replica-1`.
fn field(db: &RoutedConnection, name: &str) -> serde_json::Value {
    let endpoints = serde_json::to_value(db.status().endpoints).unwrap_or_default();
    endpoints[1][name].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_role_sees_what_each_thread_does() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let db = with_pilot(&cluster).await?;
    let replica = cluster.server("replica-1");
    let shows = async |says: &str| {
        let check = async || Ok(field(&db, "replication") == says);
        eventually(SOON, &format!("replication is {says}"), check).await
    };
    shows("running").await?;
    replica.pause_replay().await?;
    shows("paused").await?;
    replica.resume_replay().await?;
    shows("running").await?;
    replica.stop_replication().await?;
    shows("stopped").await?;
    replica.resume_replication().await?;
    shows("running").await
}

/// Probes and connections agree on which run of the server this is, although the session of a probe
/// does not remember it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_behind_a_proxy_that_loses_variables_serves_before_and_after_a_restart()
-> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let replica = cluster.server("replica-1");
    let relay = Relay::to(replica).await?;
    relay.garble("SET @sealane_run");
    let config = fleet::config_of(cluster.primary().url.clone(), [relay.url().to_owned()]);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    fleet::boat("Ida").insert(&db.session()).await?;
    let serves = async || Ok(reads_on_replica(&db.session()).await?);
    eventually(SOON, "the replica serves", serves).await?;
    let before = relay.garbled();
    ensure!(before > 0, "the variable was set");
    replica.kill().await?;
    replica.start().await?;
    eventually(SOON, "the replica serves again", serves).await?;
    ensure!(relay.garbled() > before, "the probe has not connected again");
    Ok(())
}

/// Depending on who answers first: a conflict, or, since it holds nothing of its own, a
/// former primary that nobody uses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_made_writable_takes_no_writes() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.server("replica-1").sql("SET GLOBAL read_only = OFF").await?;
    match sealane::connect(fleet::config(&cluster)).await {
        Err(error) => {
            let error = error.to_string();
            ensure!(error.contains("primary, replica-1") && error.contains("read_only"), "{error}");
        }
        Ok(db) => {
            ensure!(db.status().primary.as_deref() == Some("primary"));
            for n in 1..=20 {
                fleet::boat(&format!("boat {n}")).insert(&db.session()).await?;
                reads_on_replica(&db.session()).await?;
            }
            let served = field(&db, "reads");
            ensure!(served == 0, "{served} reads on a server that may be written to");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_errant_transaction_on_a_replica_hides_none_of_the_primarys() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let replica = cluster.server("replica-1");
    replica.pause_replay().await?;
    cluster.server("replica-2").stop().await?;
    let errant = "SET GLOBAL read_only = OFF; CREATE TABLE errant (id int); \
        DROP TABLE errant; SET GLOBAL read_only = ON";
    replica.sql(errant).await?;
    let session = db.session();
    for n in 1..=20 {
        fleet::boat(&format!("boat {n}")).insert(&session).await?;
        ensure!(!reads_on_replica(&session).await?, "{BROKEN_PROMISE}: a stale read");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_followed_while_the_old_primary_is_away() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::boat("Ida").insert(&db).await?;
    fleet::replayed(&cluster).await?;
    cluster.primary().stop().await?;
    cluster.server("replica-1").promote().await?;
    let followed = async || Ok(db.status().primary.as_deref() == Some("replica-1"));
    eventually(SOON, "the promotion is seen", followed).await?;
    fleet::boat("Jolle").insert(&db.session()).await?;
    // The other one follows nobody: eventual reads at most, and no stale one by session.
    let session = db.session();
    fleet::boat("Kutter").insert(&session).await?;
    ensure!(!reads_on_replica(&session).await?, "{BROKEN_PROMISE}: a stale read");
    let eventual = db.with_consistency(Consistency::Eventual);
    reads_on_replica(&eventual.session()).await?;
    Ok(())
}

/// A URL that names no database, beside others that name one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_url_without_a_database_is_told_and_never_read() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let odd = &cluster.server("replica-1").url;
    let odd = odd.rsplit_once('/').map_or(odd.as_str(), |(server, _)| server);
    let config =
        fleet::config_of(&*cluster.primary().url, [odd, &*cluster.server("replica-2").url]);
    let db = sealane::connect(config).await?;
    let known = async || Ok(field(&db, "condition") == "other_database");
    eventually(SOON, "replica-1 leads to another database", known).await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    for _ in 0..20 {
        reads_on_replica(&eventual.session()).await?;
    }
    ensure!(field(&db, "reads") == 0, "it was read");
    Ok(())
}

/// How a user has a privilege.
#[derive(Clone, Copy, Debug)]
enum Has {
    Itself,
    ByRole,
    /// With SUPER, which includes it on MySQL.
    AsSuper,
}

/// A user that `read_only` does not bind, and a primary that is demoted under its connections.
#[rstest]
#[case::by_itself(Has::Itself)]
#[case::by_a_role(Has::ByRole)]
#[case::as_super(Has::AsSuper)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_read_only_does_not_bind_writes_nothing_into_a_demoted_primary(
    #[case] has: Has,
) -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let grant = match (cluster.engine(), has) {
        (Engine::Mysql, Has::AsSuper) => "SUPER",
        (Engine::Mysql, _) => "CONNECTION_ADMIN",
        (_, Has::AsSuper) => "SUPER, READ_ONLY ADMIN",
        _ => "READ_ONLY ADMIN",
    };
    let default = if cluster.engine() == Engine::Mysql { "TO" } else { "FOR" };
    let how = match has {
        Has::Itself | Has::AsSuper => format!("GRANT {grant} ON *.* TO pilot@'%'"),
        Has::ByRole => format!(
            "GRANT {grant} ON *.* TO bridge; GRANT bridge TO pilot@'%'; \
             SET DEFAULT ROLE bridge {default} pilot@'%'"
        ),
    };
    let create = format!(
        "DROP USER IF EXISTS pilot@'%'; CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; \
         DROP ROLE IF EXISTS bridge; CREATE ROLE bridge; \
         GRANT ALL ON sealane.* TO pilot@'%'; {how}"
    );
    cluster.primary().sql(&create).await?;
    fleet::replayed(&cluster).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "pilot");
    let config = || fleet::config_as(&cluster, url);
    let strict = sealane::connect(config().strict()).await.err();
    let told = strict.map(|error| error.to_string()).unwrap_or_default();
    ensure!(told.contains("may write where read_only is on"), "{told}");
    let db = sealane::connect(config().primary_wait(Duration::from_millis(200))).await?;
    fleet::boat("Ida").insert(&db).await?;
    let count = "SELECT COUNT(*) FROM boat";
    for round in 0..5 {
        let open = db.begin().await?;
        fleet::boat("Open").insert(&open).await?;
        cluster.primary().sql("SET GLOBAL read_only = ON").await?;
        let before: i64 = cluster.primary().query_scalar(count).await?;
        // The monitor has not asked since, most likely: writes and transactions alike find out.
        let lone = fleet::boat("Jolle").insert(&db).await;
        let begun = db.begin().await;
        let committed = open.commit().await;
        let after: i64 = cluster.primary().query_scalar(count).await?;
        cluster.primary().sql("SET GLOBAL read_only = OFF").await?;
        ensure!(after == before, "round {round}: {} rows written", after - before);
        ensure!(lone.is_err(), "round {round}: a write was acknowledged");
        ensure!(begun.is_err(), "round {round}: a transaction was begun");
        ensure!(committed.is_err(), "round {round}: a COMMIT was acknowledged");
        let back = async || Ok(db.status().primary.as_deref() == Some("primary"));
        eventually(SOON, "the primary is back", back).await?;
        fleet::boat("Kutter").insert(&db).await?;
    }
    cluster.primary().sql("DROP USER pilot@'%'; DROP ROLE bridge").await
}

/// MariaDB's `gtid_slave_pos` is empty on a server that never followed another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_made_read_only_holds_the_same_system() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::boat("Ida").insert(&db).await?;
    cluster.primary().sql("SET GLOBAL read_only = ON").await?;
    let of_first = |name: &str| {
        let endpoints = serde_json::to_value(db.status().endpoints).unwrap_or_default();
        endpoints[0][name].clone()
    };
    let seen = async || Ok(of_first("role") == "replica");
    let outcome = eventually(SOON, "it is read-only", seen).await;
    let (foreign, condition) = (of_first("foreign"), of_first("condition"));
    cluster.primary().sql("SET GLOBAL read_only = OFF").await?;
    outcome?;
    ensure!(foreign == false, "it is {condition}");
    Ok(())
}
