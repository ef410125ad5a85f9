//! gRPC with tonic: the layer of `sealane-tower`, with tokens in metadata.

use std::error::Error;

use sealane::RoutedConnection;
use sealane_tower::SessionLayer;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    codegen::http::HeaderName,
    transport::{Server, server::TcpIncoming},
};

use crate::boat;

mod proto;

pub use proto::{Boat, Boats, Empty, HarbourClient, HarbourServer};

/// Where tokens travel. A client sends the last one that it received with every call.
pub const TOKEN: &str = "sealane-token";

/// Serves calls until the process ends. `db` needs a key for tokens.
///
/// # Errors
/// `db` has no key, or the listener fails.
pub async fn serve(
    db: RoutedConnection,
    listener: TcpListener,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let sessions = SessionLayer::new(&db)?.header(HeaderName::from_static(TOKEN));
    let server = Server::builder().layer(sessions).add_service(HarbourServer::new(Harbour { db }));
    Ok(server.serve_with_incoming(TcpIncoming::from(listener)).await?)
}

/// What the calls share.
#[derive(Debug, Clone)]
pub struct Harbour {
    db: RoutedConnection,
}

impl Harbour {
    async fn launch(&self, request: Request<Boat>) -> Result<Response<Boat>, Status> {
        let boat = boat::launch(&self.db, request.into_inner().name).await.map_err(failed)?;
        Ok(Response::new(boat.into()))
    }

    async fn newest(&self, _: Request<Empty>) -> Result<Response<Boats>, Status> {
        let boats = boat::newest(&self.db).await.map_err(failed)?;
        Ok(Response::new(Boats { boats: boats.into_iter().map(Boat::from).collect() }))
    }
}

impl From<boat::Model> for Boat {
    fn from(boat: boat::Model) -> Self {
        Boat { id: boat.id, name: boat.name }
    }
}

/// The client learns only that it failed.
fn failed(error: sea_orm::DbErr) -> Status {
    tracing::error!(%error, "failed");
    Status::internal("failed")
}
