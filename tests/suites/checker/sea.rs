//! The rows that clients write and read.

use std::ops::Range;

use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QueryFilter, entity::prelude::*};
use sealane_tests::{Cluster, Engine, fleet};

use crate::history::{Cell, Key, Sight};

/// Keys that only one client writes, of each client.
const OWN: usize = 3;
/// Keys that everybody writes.
const COMMON: usize = 8;
const PAIRS: usize = 8;

/// A row that counts.
pub mod buoy {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "buoy")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub version: i64,
        pub author: i64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// The same row, with the address of the server that it was read on.
pub mod sighting {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "sighting")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub version: i64,
        pub author: i64,
        pub place: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

/// Which key is whose: first each client's own, then those of all, then the pairs.
#[derive(Clone, Copy, Debug)]
pub struct Chart {
    clients: usize,
}

impl Chart {
    pub fn new(clients: usize) -> Self {
        Self { clients }
    }

    pub fn all(&self) -> Range<Key> {
        0..self.pairs().end
    }

    pub fn pairs(&self) -> Range<Key> {
        let start = self.clients * OWN + COMMON;
        start..start + 2 * PAIRS
    }

    pub fn own(&self, client: usize, rng: &mut fastrand::Rng) -> Key {
        client * OWN + rng.usize(..OWN)
    }

    pub fn common(&self, rng: &mut fastrand::Rng) -> Key {
        self.clients * OWN + rng.usize(..COMMON)
    }

    pub fn pair(&self, rng: &mut fastrand::Rng) -> Vec<Key> {
        let first = self.pairs().start + 2 * rng.usize(..PAIRS);
        vec![first, first + 1]
    }

    /// From now on every change tells who made it, in a table of its own.
    pub async fn leave_wakes(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let wakes = match cluster.engine() {
            Engine::Postgres => include_str!("postgres_wakes.sql"),
            _ => include_str!("mysql_wakes.sql"),
        };
        cluster.primary().sql(wakes).await?;
        fleet::replayed(cluster).await
    }

    /// Makes all rows anew, and waits until every replica has them.
    pub async fn draw(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let schema = match cluster.engine() {
            Engine::Postgres => include_str!("postgres.sql"),
            _ => include_str!("mysql.sql"),
        };
        let keys = self.all().end.to_string();
        cluster.primary().sql(&schema.replace("KEYS", &keys)).await?;
        fleet::replayed(cluster).await
    }
}

/// A key as the servers know it.
pub fn id(key: Key) -> i32 {
    i32::try_from(key).unwrap_or(i32::MAX)
}

/// What `db` shows of `keys` in one statement.
pub async fn look(db: &impl ConnectionTrait, keys: &[Key]) -> Result<Sight, DbErr> {
    let ids = keys.iter().map(|key| id(*key));
    let rows = sighting::Entity::find().filter(sighting::Column::Id.is_in(ids)).all(db).await?;
    let cells = keys.iter().map(|key| match rows.iter().find(|row| row.id == id(*key)) {
        Some(row) => Cell { key: *key, version: row.version, author: row.author },
        None => Cell { key: *key, version: -1, author: 0 },
    });
    let place = rows.first().map(|row| row.place.clone()).unwrap_or_default();
    Ok(Sight { place, cells: cells.collect() })
}
