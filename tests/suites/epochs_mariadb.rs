//! A crash that loses the end of the binary log, which MariaDB does not sync by default.

#[path = "epochs/kit.rs"]
mod kit;

use anyhow::ensure;
use sea_orm::entity::prelude::*;
use sealane_tests::{
    BROKEN_PROMISE, eventually,
    fleet::{self, reads_on_replica},
};

use crate::kit::{SOON, Seen, becomes, part, write_and_read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_missing_after_a_crash_that_lost_the_end_of_the_log() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let [ahead, level] = ["replica-1", "replica-2"].map(|name| cluster.server(name));
    let primary = cluster.primary();
    primary.keep_data().await?;
    part(&db, ahead, level, primary).await?;
    primary.crash_back().await?;
    level.resume_replication().await?;
    let writes = async || Ok(fleet::boat("Ida").insert(&db).await.map(|_| true)?);
    eventually(SOON, "the primary takes writes again", writes).await?;

    let Seen { missing, on_replicas } = write_and_read(&db, 120).await?;
    println!("{missing} of 360 reads missing, {on_replicas} on replicas");
    ensure!(missing == 0, "{BROKEN_PROMISE}: {missing} of 360 own reads missing");
    becomes(&db, "replica-1", "old_timeline").await?;
    becomes(&db, "replica-2", "serving").await?;
    let session = db.session();
    let back = async || Ok(reads_on_replica(&session).await?);
    eventually(SOON, "the other one serves", back).await?;
    let lost: i64 = primary.query_scalar("SELECT count(*) FROM boat WHERE name = 'lost'").await?;
    ensure!(lost == 0, "nothing was lost: {lost} of 60 are there");
    ahead.rebuild().await
}
