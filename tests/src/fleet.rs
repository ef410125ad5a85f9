//! Entities for the suites: harbours and their boats, and a view that shows which server answers.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbBackend, DbErr, EntityTrait, Statement};
use sealane::{Config, EjectionPolicy, Health, Refusal, Replica, RoutedConnection};

use crate::{Cluster, Engine, Server, eventually, watch};

pub use crate::watch::{forget_statements, statements};

/// The password `sealane` for a role on PostgreSQL, hashed in one round, as in the servers' start
/// script.
pub const PASSWORD_HASH: &str = "SCRAM-SHA-256$1:c2VhbGFuZS1zZWFsYW5lIQ==$HyXUjdmvqPcechGtUY4izJ5LYxWwkS8O9Zo0jZfElgM=:P9TMZpw3YQ4VjABfXTVIlBDxQo/CsZQfUwxOxbzuA8M=";

/// A place for boats.
pub mod harbour {
    use sea_orm::entity::prelude::*;

    /// A row.
    #[allow(missing_docs, reason = "a fixture")]
    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "harbour")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
        #[sea_orm(has_many)]
        pub boats: HasMany<super::boat::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Something that floats, and counts its voyages.
pub mod boat {
    use sea_orm::entity::prelude::*;

    /// A row.
    #[allow(missing_docs, reason = "a fixture")]
    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub harbour_id: i32,
        pub name: String,
        pub voyages: i64,
        #[sea_orm(belongs_to, from = "harbour_id", to = "id")]
        pub harbour: HasOne<super::harbour::Entity>,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// A view of one row: the server that answers.
pub mod whereabouts {
    use sea_orm::entity::prelude::*;

    /// A row.
    #[allow(missing_docs, reason = "a fixture")]
    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "whereabouts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub in_recovery: bool,
        pub address: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

fn schema(engine: Engine) -> String {
    let mysql = include_str!("fleet/mysql.sql");
    match engine {
        Engine::Postgres => include_str!("fleet/postgres.sql").to_owned(),
        // MariaDB 10.11 does not know the newer name, and MySQL not the older one.
        Engine::Mysql => mysql.replace("READS_ONLY", "transaction_read_only"),
        Engine::Mariadb => mysql.replace("READS_ONLY", "tx_read_only"),
    }
}

/// The configuration for `cluster`.
#[must_use]
pub fn config(cluster: &Cluster) -> Config {
    config_as(cluster, |server| server.url.clone())
}

/// The same, by other URLs of the servers.
pub fn config_as(cluster: &Cluster, url: impl Fn(&Server) -> String) -> Config {
    config_of(url(cluster.primary()), cluster.replicas().iter().map(url))
}

/// Endpoints that are called as the cluster's servers are: `primary`, `replica-1` and so on. All of
/// them have the same host.
pub fn config_of<U: Into<Replica>>(primary: U, replicas: impl IntoIterator<Item = U>) -> Config {
    let config = Config::new(primary.into().name("primary"));
    (1..).zip(replicas).fold(config, |config, (number, replica)| {
        config.replica(replica.into().name(format!("replica-{number}")))
    })
}

/// No replica is ejected, and no read leaves one because it is slow, however busy this machine is.
pub fn never_ejected() -> EjectionPolicy {
    let mut policy = EjectionPolicy::default();
    policy.after = 0;
    policy
}

/// How long a probe may take in tests that are not about silent servers: a thread of a server on a
/// busy machine may stall for longer than the usual second.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// `config` for tests that are not about slow servers: nobody is taken out of use because this
/// machine is busy.
#[must_use]
pub fn patient(config: Config) -> Config {
    config.ejection(never_ejected()).probe_timeout(PATIENCE)
}

/// A healthy cluster with a fresh schema on all servers.
///
/// # Errors
/// When the cluster cannot be healed.
pub async fn moor() -> anyhow::Result<Cluster> {
    let cluster = Cluster::healthy().await?;
    watch::stop(&cluster).await?;
    cluster.primary().sql(&schema(cluster.engine())).await?;
    if cluster.engine() == Engine::Mariadb {
        // `ahead::moor` grants it, and other tests are about an ordinary role.
        cluster.primary().sql("REVOKE BINLOG MONITOR ON *.* FROM sealane@'%'").await?;
    }
    replayed(&cluster).await?;
    Ok(cluster)
}

/// A healthy cluster with a fresh schema, and a routed connection to it.
///
/// # Errors
/// When the cluster cannot be healed, or the connection fails.
pub async fn launch() -> anyhow::Result<(Cluster, RoutedConnection)> {
    launch_with(|config| config).await
}

/// As [`launch`], but the connection is [`patient`].
///
/// # Errors
/// As [`launch`].
pub async fn launch_patient() -> anyhow::Result<(Cluster, RoutedConnection)> {
    launch_with(patient).await
}

async fn launch_with(
    configure: impl FnOnce(Config) -> Config,
) -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = moor().await?;
    let db = sealane::connect(configure(config(&cluster))).await?;
    ready(&db).await?;
    Ok((cluster, db))
}

/// How many proved reads were sent to the endpoint called `name` so far.
#[must_use]
pub fn reads(db: &RoutedConnection, name: &str) -> u64 {
    db.status().endpoints.iter().filter(|e| e.name == name).map(|e| e.reads).sum()
}

/// Waits until every replica may serve a session that wrote nothing. At the start this takes one or
/// two probes, more while something writes.
///
/// # Errors
/// When this does not happen in time.
pub async fn ready(db: &RoutedConnection) -> anyhow::Result<()> {
    let session = db.session();
    let check = async || {
        let choices = session.explain("SELECT 1").choices;
        if choices.iter().any(|choice| choice.refusal == Some(Refusal::Ejected)) {
            // A busy machine may have been slow when the connection was made. Reads try it again.
            session.query_one_raw(raw(&session, "SELECT 1")).await?;
        }
        let refused = choices.iter().filter(|choice| choice.refusal.is_some());
        let refused: Vec<_> =
            refused.map(|it| format!("{} {:?}", it.endpoint, it.refusal)).collect();
        ensure!(refused.is_empty(), "{}", refused.join("; "));
        Ok(true)
    };
    eventually(Duration::from_secs(10), "all replicas serve", check).await
}

/// Waits until every replica has replayed what the primary has now.
///
/// # Errors
/// When a replica has not done so within ten seconds.
pub async fn replayed(cluster: &Cluster) -> anyhow::Result<()> {
    let position = cluster.primary().position().await?;
    for replica in cluster.replicas() {
        let what = format!("{} replays {position}", replica.name);
        let check = async || replica.has_replayed(&position).await;
        eventually(Duration::from_secs(10), &what, check).await?;
    }
    Ok(())
}

/// Waits until `replica` has replayed what `primary` has now.
///
/// # Errors
/// When it has not within ten seconds.
pub async fn replayed_by(primary: &Server, replica: &Server) -> anyhow::Result<()> {
    let position = primary.position().await?;
    let what = format!("{} replays {position}", replica.name);
    let check = async || replica.has_replayed(&position).await;
    eventually(Duration::from_secs(10), &what, check).await
}

/// A new boat in the first harbour.
#[must_use]
pub fn boat(name: &str) -> boat::ActiveModel {
    boat::ActiveModel { harbour_id: Set(1), name: Set(name.to_owned()), ..Default::default() }
}

/// Whether `db` reads on a replica now.
///
/// # Errors
/// Errors of SeaORM.
pub async fn reads_on_replica(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let here = whereabouts::Entity::find().one(db).await?;
    Ok(here.ok_or_else(|| DbErr::RecordNotFound("whereabouts".to_owned()))?.in_recovery)
}

/// Whether `db` knows the endpoint called `name` to be up.
#[must_use]
pub fn is_up(db: &RoutedConnection, name: &str) -> bool {
    db.status().endpoints.iter().any(|e| e.name == name && matches!(e.health, Health::Up))
}

/// Waits until `db` shows all its endpoints as up and both replicas as replicating.
///
/// # Errors
/// When this does not happen in time.
pub async fn all_up(db: &RoutedConnection) -> anyhow::Result<()> {
    let up = |e: &sealane::EndpointStatus| {
        let status = serde_json::to_value(e).unwrap_or_default();
        status["health"]["state"] == "up" && status["replication"] != "stopped"
    };
    let check = async || Ok(db.status().endpoints.iter().all(up));
    eventually(Duration::from_secs(20), "all endpoints are up", check).await
}

/// The staleness of an idle, healthy cluster stays below this. The primary's position and the
/// replica's position that covers it each come from the last idle probe, at most 1.2 s ago, and
/// answers need some time on a busy machine.
const IDLE_STALENESS_MS: u64 = 2_800;

/// Waits until the staleness of all endpoints is known. Then checks for the time `during` that it
/// stays below that of two idle probes. Returns the highest staleness seen.
///
/// # Errors
/// When the staleness is not known within ten seconds, or grows.
pub async fn shows_no_lag(db: &RoutedConnection, during: Duration) -> anyhow::Result<Duration> {
    let level = async || {
        let lags: Vec<_> = db.status().endpoints.iter().map(|e| e.staleness_ms).collect();
        Ok(lags.iter().all(|lag| lag.is_some_and(|ms| ms < IDLE_STALENESS_MS)))
    };
    eventually(Duration::from_secs(10), "staleness is known", level).await?;
    let (until, mut most_ms) = (Instant::now() + during, 0);
    while Instant::now() < until {
        for endpoint in db.status().endpoints {
            let staleness_ms = endpoint.staleness_ms.context("unknown staleness")?;
            ensure!(staleness_ms < IDLE_STALENESS_MS, "{}: {staleness_ms} ms", endpoint.name);
            most_ms = most_ms.max(staleness_ms);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Duration::from_millis(most_ms))
}

/// The address that `server` shows in [`whereabouts`].
///
/// # Errors
/// As [`Server::sql`].
pub async fn address(server: &Server) -> anyhow::Result<String> {
    server.query_scalar("SELECT address FROM whereabouts").await
}

/// A statement for `db` from `sql`, whose names are quoted as in PostgreSQL.
#[must_use]
pub fn raw(db: &impl ConnectionTrait, sql: &str) -> Statement {
    let backend = db.get_database_backend();
    let quoted = match backend {
        DbBackend::MySql => sql.replace('"', "`"),
        _ => sql.to_owned(),
    };
    Statement::from_string(backend, quoted)
}

/// `url` for the user `name`, whose password is the same as the name.
#[must_use]
pub fn url_as(url: &str, name: &str) -> String {
    url.replacen("sealane:sealane@", &format!("{name}:{name}@"), 1)
}
