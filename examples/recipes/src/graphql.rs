//! async-graphql behind axum, with data loaders that stay in the session of their request.

use std::collections::HashMap;

use async_graphql::{
    Context, EmptySubscription, Object, Request, Response, Schema, SimpleObject,
    dataloader::{DataLoader, Loader},
};
use axum::{Json, Router, extract::State, routing::post};
use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use sealane::RoutedConnection;
use sealane_tower::{SessionLayer, SessionLayerError};

use crate::{boat, sailor};

type Harbour = Schema<Query, Mutation, EmptySubscription>;

/// The service. `db` needs a key for tokens.
///
/// # Errors
/// `db` has no key.
pub fn app(db: &RoutedConnection) -> Result<Router, SessionLayerError> {
    let schema = Schema::build(Query, Mutation, EmptySubscription).data(db.clone()).finish();
    let router = Router::new().route("/graphql", post(execute)).layer(SessionLayer::new(db)?);
    Ok(router.with_state((schema, db.clone())))
}

async fn execute(
    State((schema, db)): State<(Harbour, RoutedConnection)>,
    Json(request): Json<Request>,
) -> Json<Response> {
    // A loader for each request. One for all would load the keys of several users together, in the
    // session of one of them.
    let spawn = |load| tokio::spawn(sealane::in_current_scope(load));
    let crews = DataLoader::new(Crews(db), spawn);
    Json(schema.execute(request.data(crews)).await)
}

/// Loads the crews of several boats with one statement.
struct Crews(RoutedConnection);

impl Loader<i32> for Crews {
    type Value = Vec<String>;
    type Error = std::sync::Arc<DbErr>;

    async fn load(&self, boats: &[i32]) -> Result<HashMap<i32, Vec<String>>, Self::Error> {
        let boats = boats.iter().copied();
        let sailors = sailor::Entity::find()
            .filter(sailor::Column::BoatId.is_in(boats))
            .order_by_asc(sailor::Column::Id);
        let mut crews: HashMap<i32, Vec<String>> = HashMap::new();
        for sailor in sailors.all(&self.0).await? {
            crews.entry(sailor.boat_id).or_default().push(sailor.name);
        }
        Ok(crews)
    }
}

#[derive(SimpleObject)]
#[graphql(complex)]
struct Boat {
    id: i32,
    name: String,
}

#[async_graphql::ComplexObject]
impl Boat {
    async fn crew(&self, context: &Context<'_>) -> async_graphql::Result<Vec<String>> {
        let crews = context.data::<DataLoader<Crews>>()?;
        Ok(crews.load_one(self.id).await?.unwrap_or_default())
    }
}

impl From<boat::Model> for Boat {
    fn from(boat: boat::Model) -> Self {
        Boat { id: boat.id, name: boat.name }
    }
}

struct Query;

#[Object]
impl Query {
    async fn boats(&self, context: &Context<'_>) -> async_graphql::Result<Vec<Boat>> {
        let boats = boat::newest(context.data::<RoutedConnection>()?).await?;
        Ok(boats.into_iter().map(Boat::from).collect())
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn launch(
        &self,
        context: &Context<'_>,
        name: String,
        crew: Vec<String>,
    ) -> async_graphql::Result<Boat> {
        let db = context.data::<RoutedConnection>()?;
        let boat = boat::launch(db, name).await?;
        let sailor = |name| sailor::ActiveModel {
            boat_id: Set(boat.id),
            name: Set(name),
            ..Default::default()
        };
        sailor::Entity::insert_many(crew.into_iter().map(sailor)).exec(db).await?;
        Ok(boat.into())
    }
}
