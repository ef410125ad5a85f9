//! What only a PostgreSQL replica lacks.

use anyhow::ensure;
use sea_orm::ConnectionTrait;
use sealane_tests::fleet::{self, raw};

#[tokio::test]
async fn an_unlogged_table_is_read_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let unlogged = "DROP TABLE IF EXISTS buoy; CREATE UNLOGGED TABLE buoy (id int);
        INSERT INTO buoy VALUES (1)";
    cluster.primary().sql(unlogged).await?;
    fleet::replayed(&cluster).await?;
    ensure!(db.query_all_raw(raw(&db, "SELECT id FROM buoy")).await?.len() == 1);
    Ok(())
}
