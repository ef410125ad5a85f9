//! Who sails on a boat; for the recipe with data loaders.

use sea_orm::entity::prelude::*;

/// A sailor.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sailor")]
pub struct Model {
    /// Given by the database.
    #[sea_orm(primary_key)]
    pub id: i32,
    /// The boat's number.
    pub boat_id: i32,
    /// What the others call the sailor.
    pub name: String,
}

/// Its boats are looked up by number.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
