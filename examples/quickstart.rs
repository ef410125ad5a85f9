//! One SQLite file: entity calls as ever, and where each statement ran.
//!
//! `cargo run --example quickstart`

#![allow(clippy::print_stdout, reason = "an example talks to people")]

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, Schema,
    TransactionTrait, entity::prelude::*,
};

mod boat {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
        pub at_sea: bool,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Every statement says where it ran; see the lines of `sealane::route`.
    tracing_subscriber::fmt().with_env_filter("sealane=debug").without_time().init();

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("harbour.db");

    // The one line that changes:
    //   let db = Database::connect("sqlite://harbour.db?mode=rwc").await?;
    let db = sealane::connect(sealane::Config::sqlite(&file)).await?;

    println!("\n# Schema and writes");
    db.execute(&Schema::new(db.get_database_backend()).create_table_from_entity(boat::Entity))
        .await?;
    for name in ["Ida", "Jolle", "Kutter"] {
        let boat = boat::ActiveModel {
            name: Set(name.to_owned()),
            at_sea: Set(false),
            ..Default::default()
        };
        boat.insert(&db).await?;
    }

    println!("\n# Reads");
    let boats = boat::Entity::find().all(&db).await?;
    println!("{} boats, {} of them at sea", boats.len(), at_sea(&db).await?);

    println!("\n# A transaction stays together");
    db.transaction::<_, _, DbErr>(|txn| {
        Box::pin(async move {
            let ida =
                boat::Entity::find().one(txn).await?.ok_or(DbErr::RecordNotFound("Ida".into()))?;
            let mut ida: boat::ActiveModel = ida.into();
            ida.at_sea = Set(true);
            ida.update(txn).await
        })
    })
    .await?;
    println!("{} at sea, read at once and not stale", at_sea(&db).await?);

    println!("\n# Why?");
    for sql in [
        "SELECT name FROM boat WHERE at_sea",
        "UPDATE boat SET at_sea = false",
        "WITH gone AS (DELETE FROM boat RETURNING id) SELECT count(*) FROM gone",
        "SELECT load_extension('kraken')",
    ] {
        println!("{sql}\n{}", db.explain(sql));
    }

    println!("# Status\n{}", serde_json::to_string_pretty(&db.status())?);
    db.close().await?;
    Ok(())
}

async fn at_sea(db: &sealane::RoutedConnection) -> Result<u64, DbErr> {
    boat::Entity::find().filter(boat::Column::AtSea.eq(true)).count(db).await
}
