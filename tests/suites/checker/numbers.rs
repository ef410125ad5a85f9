//! A router that goes by the numbers of positions alone, as if there were one history. It is what
//! the checker must catch where a replica is ahead of the one that was promoted.

use anyhow::Context;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbErr};
use sealane::RoutedConnection;
use sealane_tests::{Cluster, Engine, fleet::raw};

/// The replicas, past sealane.
#[derive(Debug)]
pub struct Numbers {
    engine: Engine,
    replicas: Vec<DatabaseConnection>,
}

impl Numbers {
    pub async fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut replicas = Vec::new();
        for replica in cluster.replicas() {
            replicas.push(Database::connect(&*replica.url).await.context("a replica")?);
        }
        Ok(Self { engine: cluster.engine(), replicas })
    }

    /// How far a server has got.
    async fn number(&self, db: &impl ConnectionTrait) -> Result<u64, DbErr> {
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                 ELSE pg_current_wal_insert_lsn() END - '0/0')::text AS position"
            }
            Engine::Mysql => "SELECT @@global.gtid_executed AS position",
            _ => "SELECT @@global.gtid_binlog_pos AS position",
        };
        let row = db.query_one_raw(raw(db, sql)).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("position".to_owned()))?;
        let position: String = row.try_get("", "position")?;
        Ok(number_of(self.engine, &position))
    }

    /// The replicas that have got as far as `db` has.
    pub async fn level_with(
        &self,
        db: &RoutedConnection,
    ) -> Result<Vec<&DatabaseConnection>, DbErr> {
        let number = self.number(&db.on_primary()).await?;
        let mut level = Vec::new();
        for replica in &self.replicas {
            if self.number(replica).await? >= number {
                level.push(replica);
            }
        }
        Ok(level)
    }
}

/// How far a position is.
pub fn number_of(engine: Engine, position: &str) -> u64 {
    match engine {
        Engine::Mysql => count(position),
        _ => last(position),
    }
}

/// How many transactions are in a set of MySQL's.
fn count(set: &str) -> u64 {
    let words = set.split([',', ':', '\n']);
    let intervals = words.filter_map(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
    });
    intervals.map(|(first, last)| last + 1 - first).sum()
}

/// The number at the end.
fn last(position: &str) -> u64 {
    position.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
