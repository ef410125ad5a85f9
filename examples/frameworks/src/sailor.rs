//! Who sails on a boat.

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

/// What a sailor belongs to.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// The sailor's boat.
    #[sea_orm(
        belongs_to = "super::boat::Entity",
        from = "Column::BoatId",
        to = "super::boat::Column::Id"
    )]
    Boat,
}

impl Related<super::boat::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Boat.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

/// The fields that Seaography gives a sailor beside the columns.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelatedEntity)]
pub enum RelatedEntity {
    /// The sailor's boat.
    #[sea_orm(entity = "super::boat::Entity")]
    Boat,
}
