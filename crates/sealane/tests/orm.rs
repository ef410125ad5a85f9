//! An application whose crates get SeaORM from one of their own, which takes it from sealane.
#![cfg(feature = "sqlite")]

mod service {
    pub use sealane::orm as sea_orm;
}

use service::sea_orm::{
    ActiveValue::Set, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbConn,
    DbErr, Schema, TransactionTrait, entity::prelude::*,
};

mod boat {
    use crate::service::sea_orm::{self, entity::prelude::*};

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

async fn count(db: &DbConn) -> Result<u64, DbErr> {
    boat::Entity::find().filter(boat::Column::Name.ne("")).count(db).await
}

async fn launch(transaction: &DatabaseTransaction, name: &str) -> Result<(), DbErr> {
    let boat = boat::ActiveModel { name: Set(name.to_owned()), ..Default::default() };
    boat.insert(transaction).await.map(drop)
}

#[tokio::test]
async fn its_connection_is_routed_without_another_name() -> Result<(), DbErr> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("harbour.db").display());
    let db: DatabaseConnection = Database::connect(url).await?;
    let table = Schema::new(db.get_database_backend()).create_table_from_entity(boat::Entity);
    db.execute(&table).await?;

    let transaction: DatabaseTransaction = db.begin().await?;
    launch(&transaction, "Ida").await?;
    transaction.commit().await?;
    db.transaction(|transaction| Box::pin(async move { launch(transaction, "Ute").await }))
        .await
        .map_err(|error| DbErr::Custom(error.to_string()))?;

    assert_eq!(count(&db).await?, 2);
    let explanation = db.explain("SELECT name FROM boat");
    assert_eq!(explanation.first_choice(), Some("readers"), "{explanation}");
    db.close().await
}
