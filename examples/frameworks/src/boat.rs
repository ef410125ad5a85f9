//! Boats. `RelatedEntity` is for Seaography.

use sea_orm::entity::prelude::*;

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

/// What belongs to a boat.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Its crew.
    #[sea_orm(has_many = "super::sailor::Entity")]
    Sailor,
}

impl Related<super::sailor::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Sailor.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

/// The fields that Seaography gives a boat beside its columns.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelatedEntity)]
pub enum RelatedEntity {
    /// Its crew.
    #[sea_orm(entity = "super::sailor::Entity")]
    Sailor,
}
