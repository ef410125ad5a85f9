//! Loco: the routed connection lives in the shared store, and the router gets the layer of
//! `sealane-tower`.
//!
//! `ctx.db` is SeaORM's own type and stays as it is, on the primary: Loco's migrations, seeds and
//! its queue use it. Handlers, and models that are given a connection, take the routed one.

use std::path::Path;

use axum::{Json, Router, routing::get};
use loco_rs::{
    app::{AppContext, Hooks, Initializer},
    bgworker::Queue,
    boot::{BootResult, StartMode, create_app},
    config::Config,
    controller::{AppRoutes, Routes, extractor::shared_store::SharedStore},
    environment::Environment,
    task::Tasks,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, QueryOrder, QuerySelect};
use sea_orm_migration::prelude::async_trait::async_trait;
use sealane::RoutedConnection;
use sealane_tower::SessionLayer;

use crate::{boat, migration::Migrator};

/// The application.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl Hooks for App {
    fn app_name() -> &'static str {
        "harbour"
    }

    async fn boot(
        mode: StartMode,
        environment: &Environment,
        config: Config,
    ) -> loco_rs::Result<BootResult> {
        create_app::<Self, Migrator>(mode, environment, config).await
    }

    /// Connects once, before routes are made.
    async fn after_context(ctx: AppContext) -> loco_rs::Result<AppContext> {
        let settings = ctx.config.settings.clone().unwrap_or_default();
        let file = settings["sealane"].as_str().unwrap_or("config/sealane.toml");
        let config = sealane::Config::from_toml_file(file).map_err(loco_rs::Error::wrap)?;
        let db = sealane::connect(config).await.map_err(loco_rs::Error::wrap)?;
        ctx.shared_store.insert(db);
        Ok(ctx)
    }

    async fn after_routes(router: Router, ctx: &AppContext) -> loco_rs::Result<Router> {
        let db = routed(ctx)?;
        // Loco has migrated through `ctx.db` by now.
        db.note_schema_change();
        Ok(router.layer(SessionLayer::new(&db).map_err(loco_rs::Error::wrap)?))
    }

    fn routes(_: &AppContext) -> AppRoutes {
        AppRoutes::empty().add_route(Routes::new().add("boats", get(newest).post(launch)))
    }

    async fn initializers(_: &AppContext) -> loco_rs::Result<Vec<Box<dyn Initializer>>> {
        Ok(Vec::new())
    }

    async fn connect_workers(_: &AppContext, _: &Queue) -> loco_rs::Result<()> {
        Ok(())
    }

    fn register_tasks(_: &mut Tasks) {}

    async fn truncate(_: &AppContext) -> loco_rs::Result<()> {
        Ok(())
    }

    async fn seed(_: &AppContext, _: &Path) -> loco_rs::Result<()> {
        Ok(())
    }
}

/// For workers and tasks, which have the context but no extractors.
///
/// # Errors
/// Before `after_context` has run.
pub fn routed(ctx: &AppContext) -> loco_rs::Result<RoutedConnection> {
    let missing = || loco_rs::Error::string("the routed connection is made in after_context");
    ctx.shared_store.get::<RoutedConnection>().ok_or_else(missing)
}

#[derive(serde::Deserialize)]
struct Launch {
    name: String,
}

async fn launch(
    SharedStore(db): SharedStore<RoutedConnection>,
    Json(boat): Json<Launch>,
) -> loco_rs::Result<Json<boat::Model>> {
    let boat = boat::ActiveModel { name: Set(boat.name), ..Default::default() };
    Ok(Json(boat.insert(&db).await?))
}

async fn newest(
    SharedStore(db): SharedStore<RoutedConnection>,
) -> loco_rs::Result<Json<Vec<boat::Model>>> {
    let newest = boat::Entity::find().order_by_desc(boat::Column::Id).limit(20);
    Ok(Json(newest.all(&db).await?))
}
