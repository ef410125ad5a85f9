//! What `tonic-prost-build` makes of a `.proto` file: written by hand, so that the recipe needs no
//! `protoc`. Nothing here is about sealane.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codegen::{BoxFuture, Service, http, http::uri::PathAndQuery},
    server::{Grpc, NamedService, UnaryService},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::Harbour;

const LAUNCH: &str = "/harbour.Harbour/Launch";
const NEWEST: &str = "/harbour.Harbour/Newest";

/// A boat. To launch one, its number is left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Boat {
    /// Given by the database.
    #[prost(int32, tag = "1")]
    pub id: i32,
    /// As painted on its bow.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// Boats, the newest first.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Boats {
    /// At most twenty.
    #[prost(message, repeated, tag = "1")]
    pub boats: Vec<Boat>,
}

/// Nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// The service `harbour.Harbour`.
#[derive(Debug, Clone)]
pub struct HarbourServer(Harbour);

impl HarbourServer {
    /// Serves calls with this.
    #[must_use]
    pub fn new(harbour: Harbour) -> Self {
        HarbourServer(harbour)
    }
}

impl NamedService for HarbourServer {
    const NAME: &'static str = "harbour.Harbour";
}

impl Service<http::Request<Body>> for HarbourServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let harbour = self.0.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                LAUNCH => Grpc::new(ProstCodec::default()).unary(Launch(harbour), request).await,
                NEWEST => Grpc::new(ProstCodec::default()).unary(Newest(harbour), request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

struct Launch(Harbour);

impl UnaryService<Boat> for Launch {
    type Response = Boat;
    type Future = BoxFuture<Response<Boat>, Status>;

    fn call(&mut self, request: Request<Boat>) -> Self::Future {
        let harbour = self.0.clone();
        Box::pin(async move { harbour.launch(request).await })
    }
}

struct Newest(Harbour);

impl UnaryService<Empty> for Newest {
    type Response = Boats;
    type Future = BoxFuture<Response<Boats>, Status>;

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        let harbour = self.0.clone();
        Box::pin(async move { harbour.newest(request).await })
    }
}

/// Calls the service.
#[derive(Debug, Clone)]
pub struct HarbourClient(client::Grpc<Channel>);

impl HarbourClient {
    /// Calls the service over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        HarbourClient(client::Grpc::new(channel))
    }

    /// Launches a boat.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn launch(&mut self, boat: Request<Boat>) -> Result<Response<Boat>, Status> {
        self.ready().await?;
        self.0.unary(boat, PathAndQuery::from_static(LAUNCH), ProstCodec::default()).await
    }

    /// The newest boats.
    ///
    /// # Errors
    /// The status of the call.
    pub async fn newest(&mut self, empty: Request<Empty>) -> Result<Response<Boats>, Status> {
        self.ready().await?;
        self.0.unary(empty, PathAndQuery::from_static(NEWEST), ProstCodec::default()).await
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))
    }
}
