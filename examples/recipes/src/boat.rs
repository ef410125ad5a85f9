//! Boats, and what all recipes do with them.

use sea_orm::{ActiveValue::Set, QueryOrder, QuerySelect, entity::prelude::*};
use sealane::RoutedConnection;

/// A boat.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, serde::Deserialize, serde::Serialize)]
#[sea_orm(table_name = "boat")]
pub struct Model {
    /// Given by the database.
    #[sea_orm(primary_key)]
    pub id: i32,
    /// As painted on its bow.
    pub name: String,
}

/// A boat belongs to nothing.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The body of a request that launches a boat.
#[derive(Debug, serde::Deserialize)]
pub struct Launch {
    /// The name of the new boat.
    pub name: String,
}

/// Launches a boat.
///
/// # Errors
/// Those of the database.
pub async fn launch(db: &RoutedConnection, name: String) -> Result<Model, DbErr> {
    ActiveModel { name: Set(name), ..Default::default() }.insert(db).await
}

/// The twenty newest boats.
///
/// # Errors
/// Those of the database.
pub async fn newest(db: &RoutedConnection) -> Result<Vec<Model>, DbErr> {
    Entity::find().order_by_desc(Column::Id).limit(20).all(db).await
}
