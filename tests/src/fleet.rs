//! Entities for the suites on PostgreSQL: harbours and their boats, and a view that tells
//! which server it was read on.

use std::time::Duration;

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};
use sealane::{Config, RoutedConnection};

use crate::{Cluster, Server, eventually};

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

const SCHEMA: &str = "
    DROP VIEW IF EXISTS whereabouts;
    DROP TABLE IF EXISTS boat;
    DROP TABLE IF EXISTS harbour;
    CREATE TABLE harbour (id serial PRIMARY KEY, name text NOT NULL);
    CREATE TABLE boat (
        id serial PRIMARY KEY,
        harbour_id int NOT NULL REFERENCES harbour,
        name text NOT NULL,
        voyages bigint NOT NULL DEFAULT 0
    );
    INSERT INTO harbour (name) VALUES ('Husum'), ('Wismar');
    CREATE OR REPLACE FUNCTION reads_only() RETURNS boolean LANGUAGE sql STABLE
        RETURN current_setting('default_transaction_read_only')::boolean;
    CREATE VIEW whereabouts AS
        SELECT 1 AS id, pg_is_in_recovery() AS in_recovery, host(inet_server_addr()) AS address;
";

/// The configuration that leads to `cluster`.
#[must_use]
pub fn config(cluster: &Cluster) -> Config {
    cluster
        .replicas()
        .iter()
        .fold(Config::new(&*cluster.primary().url), |config, replica| config.replica(&*replica.url))
}

/// A healthy cluster with a fresh schema on all servers.
///
/// # Errors
/// When the cluster cannot be brought there.
pub async fn moor() -> anyhow::Result<Cluster> {
    let cluster = Cluster::healthy().await?;
    cluster.primary().sql(SCHEMA).await?;
    replayed(&cluster).await?;
    Ok(cluster)
}

/// A healthy cluster with a fresh schema, and a routed connection to it.
///
/// # Errors
/// When the cluster cannot be brought there, or not be connected to.
pub async fn launch() -> anyhow::Result<(Cluster, RoutedConnection)> {
    let cluster = moor().await?;
    let db = sealane::connect(config(&cluster)).await?;
    ready(&db).await?;
    Ok((cluster, db))
}

/// Waits until every replica may serve a session that wrote nothing. At start
/// that takes a probe or two, more while something writes.
///
/// # Errors
/// When that does not come within ten seconds.
pub async fn ready(db: &RoutedConnection) -> anyhow::Result<()> {
    let session = db.session();
    let check =
        async || Ok(session.explain("SELECT 1").choices.iter().all(|c| c.refusal.is_none()));
    eventually(Duration::from_secs(10), "all replicas serve", check).await
}

/// Waits until every replica has replayed what the primary has now.
///
/// # Errors
/// When one has not within ten seconds.
pub async fn replayed(cluster: &Cluster) -> anyhow::Result<()> {
    let position = cluster.primary().position().await?;
    for replica in cluster.replicas() {
        let what = format!("{} replays {position}", replica.name);
        let check = async || replica.has_replayed(&position).await;
        eventually(Duration::from_secs(10), &what, check).await?;
    }
    Ok(())
}

/// A new boat in the first harbour.
#[must_use]
pub fn boat(name: &str) -> boat::ActiveModel {
    boat::ActiveModel { harbour_id: Set(1), name: Set(name.to_owned()), ..Default::default() }
}

/// Whether `db` reads on a replica now.
///
/// # Errors
/// SeaORM's.
pub async fn reads_on_replica(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let here = whereabouts::Entity::find().one(db).await?;
    Ok(here.ok_or_else(|| DbErr::RecordNotFound("whereabouts".to_owned()))?.in_recovery)
}

/// Waits until `db` knows all its endpoints to be up and both replicas to be
/// replicating.
///
/// # Errors
/// When that does not come within ten seconds.
pub async fn all_up(db: &RoutedConnection) -> anyhow::Result<()> {
    let up = |e: &sealane::EndpointStatus| {
        let status = serde_json::to_value(e).unwrap_or_default();
        status["health"]["state"] == "up" && status["replication"] != "stopped"
    };
    let check = async || Ok(db.status().endpoints.iter().all(up));
    eventually(Duration::from_secs(20), "all endpoints are up", check).await
}

/// How often `server` has run statements like `pattern` since the last
/// [`forget_statements`].
///
/// # Errors
/// As [`Server::sql`].
pub async fn statements(server: &Server, pattern: &str) -> anyhow::Result<i64> {
    let count = format!(
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '{pattern}'"
    );
    server.query_scalar(&count).await
}

/// Begins to count statements anew on all servers.
///
/// # Errors
/// As [`Server::sql`].
pub async fn forget_statements(cluster: &Cluster) -> anyhow::Result<()> {
    for server in cluster.servers() {
        server.sql("SELECT pg_stat_statements_reset()").await?;
    }
    Ok(())
}
