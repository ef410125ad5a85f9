//! The database of a test, and a user of its service.

use std::net::SocketAddr;

use sealane::{Config, RoutedConnection};
use sealane_recipes::migration;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use ureq::{Agent, Body, http::Response};

use crate::route::{self, Route};

/// The record of routes is one for the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A file with the harbour's tables.
pub(crate) struct Harbour {
    pub(crate) db: RoutedConnection,
    // Removed when the test ends.
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Harbour {
    /// Without tables.
    pub(crate) async fn empty() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        route::record();
        let folder = tempfile::tempdir().unwrap();
        let config = Config::sqlite(folder.path().join("harbour.db")).token_key("k".repeat(32));
        let db = sealane::connect(config).await.unwrap();
        route::take();
        Harbour { db, _folder: folder, _turn: turn }
    }

    pub(crate) async fn open() -> Self {
        let harbour = Harbour::empty().await;
        migration::migrate(&harbour.db).await.unwrap();
        harbour.routes();
        harbour
    }

    /// Where statements ran since the last call.
    pub(crate) fn routes(&self) -> Vec<Route> {
        route::take()
    }
}

/// A client that keeps the cookie.
pub(crate) struct User {
    agent: Agent,
    address: SocketAddr,
    pub(crate) token: Option<String>,
    /// With the last request.
    pub(crate) sent: Option<String>,
    /// Whether the last response may be kept for this user only.
    pub(crate) is_private: bool,
}

impl User {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let agent = Agent::new_with_defaults();
        User { agent, address, token: None, sent: None, is_private: false }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> T {
        self.request(path, None).await.body_mut().read_json().unwrap()
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: serde_json::Value,
    ) -> T {
        self.request(path, Some(body)).await.body_mut().read_json().unwrap()
    }

    pub(crate) async fn text(&mut self, path: &str) -> String {
        self.request(path, None).await.body_mut().read_to_string().unwrap()
    }

    async fn request(&mut self, path: &str, body: Option<serde_json::Value>) -> Response<Body> {
        let url = format!("http://{}/{path}", self.address);
        self.sent = self.token.clone();
        let cookie = self.token.as_ref().map(|token| format!("theme=dark; sealane={token}"));
        let agent = self.agent.clone();
        let send = move || {
            let cookie = cookie.unwrap_or_default();
            match body {
                None => agent.get(url).header("cookie", cookie).call(),
                Some(body) => agent.post(url).header("cookie", cookie).send_json(body),
            }
        };
        let response = tokio::task::spawn_blocking(send).await.unwrap().unwrap();
        let headers = response.headers();
        self.is_private = headers.get("cache-control").is_some_and(|value| value == "private");
        if let Some(cookie) = headers.get("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let value = cookie.strip_prefix("sealane=").unwrap().split(';').next().unwrap();
            self.token = Some(value.to_owned());
        }
        response
    }
}
