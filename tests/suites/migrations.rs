//! SeaORM's migrations over a routed connection.

use anyhow::ensure;
use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::*;
use sealane_tests::{BROKEN_PROMISE, fleet};

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateLighthouse)]
    }
}

struct CreateLighthouse;

impl MigrationName for CreateLighthouse {
    fn name(&self) -> &str {
        "m1_create_lighthouse"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateLighthouse {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("lighthouse")
            .col(ColumnDef::new("id").integer().not_null().primary_key())
            .to_owned();
        manager.create_table(table).await?;
        manager
            .get_connection()
            .execute_unprepared("INSERT INTO lighthouse VALUES (1)")
            .await
            .map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("lighthouse").to_owned()).await
    }
}

#[tokio::test]
async fn migrations_run_on_the_primary_and_are_read_back() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let clean = "DROP TABLE IF EXISTS seaql_migrations, lighthouse";
    cluster.primary().sql(clean).await?;

    Migrator::up(&db, None).await?;
    db.note_write();
    let read = fleet::raw(&db, "SELECT id FROM lighthouse");
    ensure!(db.query_all_raw(read.clone()).await?.len() == 1, "{BROKEN_PROMISE}: a stale read");
    fleet::replayed(&cluster).await?;
    for replica in cluster.replicas() {
        let rows: i64 = replica.query_scalar("SELECT count(*) FROM lighthouse").await?;
        ensure!(rows == 1);
    }

    Migrator::down(&db, None).await?;
    db.note_write();
    ensure!(db.query_all_raw(read).await.is_err());
    Ok(())
}
