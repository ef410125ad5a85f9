//! What suites of epochs have in common.

use std::time::Duration;

use anyhow::ensure;
use sea_orm::entity::prelude::*;
use sealane::RoutedConnection;
use sealane_tests::{
    Server, eventually,
    fleet::{self, boat, reads_on_replica},
};

pub const SOON: Duration = Duration::from_secs(20);

pub fn condition(db: &RoutedConnection, name: &str) -> String {
    let endpoints = serde_json::to_value(db.status().endpoints).unwrap_or_default();
    let mut endpoints = endpoints.as_array().into_iter().flatten();
    let found = endpoints.find(|endpoint| endpoint["name"] == name);
    found.and_then(|it| it["condition"].as_str()).unwrap_or_default().to_owned()
}

pub async fn becomes(db: &RoutedConnection, name: &str, wanted: &str) -> anyhow::Result<()> {
    let check = async || {
        let found = condition(db, name);
        ensure!(found == wanted, "it is {found}");
        Ok(true)
    };
    eventually(SOON, &format!("{name} is {wanted}"), check).await
}

pub async fn is_there(db: &RoutedConnection, id: i32) -> anyhow::Result<bool> {
    Ok(boat::Entity::find_by_id(id).one(db).await?.is_some())
}

/// What became of sessions that write and read what they wrote.
#[derive(Debug, Default)]
pub struct Seen {
    pub missing: u32,
    pub on_replicas: u32,
}

/// Each write is read at once, and a little later.
pub async fn write_and_read(db: &RoutedConnection, count: u32) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    for _ in 0..count {
        let session = db.session();
        let id = fleet::boat("own").insert(&session).await?.id;
        for _ in 0..3 {
            seen.missing += u32::from(!is_there(&session, id).await?);
            seen.on_replicas += u32::from(reads_on_replica(&session).await?);
        }
    }
    Ok(seen)
}

/// Writes that `keeps` gets and `lacks` does not.
pub async fn part(
    db: &RoutedConnection,
    keeps: &Server,
    lacks: &Server,
    primary: &Server,
) -> anyhow::Result<()> {
    lacks.stop_replication().await?;
    let session = db.session();
    for _ in 0..60 {
        fleet::boat("lost").insert(&session).await?;
    }
    let position = primary.position().await?;
    let has = async || keeps.has_replayed(&position).await;
    eventually(SOON, &format!("{} is ahead", keeps.name), has).await?;
    // What nobody has seen, nobody can tell from what comes under its numbers.
    let seen = async || Ok(reads_on_replica(&session).await?);
    eventually(SOON, "it is seen to be ahead", seen).await
}
