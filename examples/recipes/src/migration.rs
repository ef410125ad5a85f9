//! The tables, and how a service makes them when it starts.

use sea_orm_migration::{prelude::*, schema};
use sealane::RoutedConnection;

/// All migrations of the harbour.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Tables)]
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m0001_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut boat = Table::create();
        boat.table("boat").col(schema::pk_auto("id")).col(schema::string("name"));
        manager.create_table(boat).await?;
        let mut sailor = Table::create();
        sailor.table("sailor").col(schema::pk_auto("id"));
        sailor.col(schema::integer("boat_id")).col(schema::string("name"));
        manager.create_table(sailor).await
    }
}

/// Runs on the primary what has not run yet, and makes reads wait for it.
///
/// # Errors
/// Those of the database.
pub async fn migrate(db: &RoutedConnection) -> Result<(), DbErr> {
    Migrator::up(db, None).await?;
    db.note_schema_change();
    Ok(())
}
