//! A primary and its replicas.

use anyhow::Context;
use serde::Deserialize;

use crate::{Engine, Server};

/// The variable in which `cargo xtask itest` describes its cluster, as JSON.
pub const ENVIRONMENT: &str = "SEALANE_ITEST";

/// The cluster of this test run.
#[derive(Clone, Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

/// The description that `xtask/src/cluster.rs` writes.
#[derive(Debug, Deserialize)]
struct Description {
    engine: Engine,
    network: String,
    servers: Vec<Described>,
}

#[derive(Debug, Deserialize)]
struct Described {
    name: String,
    container: String,
    url: String,
    admin_url: String,
}

impl Cluster {
    /// The cluster that `cargo xtask itest` started, in its current state.
    ///
    /// # Panics
    /// When there is no cluster, or its description cannot be read.
    #[must_use]
    #[allow(clippy::panic, reason = "a suite without a cluster cannot go on")]
    pub fn from_env() -> Self {
        let Ok(json) = std::env::var(ENVIRONMENT) else {
            panic!("{ENVIRONMENT} is not set: run through `cargo xtask itest`");
        };
        match Self::from_json(&json) {
            Ok(cluster) => cluster,
            Err(error) => panic!("{ENVIRONMENT}: {error:#}"),
        }
    }

    /// The same cluster, once every server is up and every replica streams and has caught up. What
    /// earlier tests wrote may be gone.
    ///
    /// # Errors
    /// When the cluster cannot be healed.
    pub async fn healthy() -> anyhow::Result<Self> {
        let cluster = Self::from_env();
        Box::pin(cluster.renew()).await?;
        Ok(cluster)
    }

    /// The engine of the servers.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.primary().engine
    }

    /// The server that began as the primary.
    #[must_use]
    pub fn primary(&self) -> &Server {
        &self.servers[0]
    }

    /// The servers that began as replicas.
    #[must_use]
    pub fn replicas(&self) -> &[Server] {
        &self.servers[1..]
    }

    /// All servers, the primary first.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server with this name: `primary`, `replica-1`, ….
    ///
    /// # Panics
    /// When no server has this name; see `--replicas` of `cargo xtask itest`.
    #[must_use]
    #[allow(clippy::panic, reason = "a suite that misnames its servers cannot go on")]
    pub fn server(&self, name: &str) -> &Server {
        match self.servers.iter().find(|server| server.name == name) {
            Some(server) => server,
            None => panic!("the cluster has no server `{name}`"),
        }
    }

    fn from_json(json: &str) -> anyhow::Result<Self> {
        let described: Description = serde_json::from_str(json).context("not a cluster")?;
        let (engine, network) = (described.engine, described.network);
        let servers: Vec<Server> = described
            .servers
            .into_iter()
            .map(|server| Server {
                name: server.name,
                engine,
                container: server.container,
                url: server.url,
                admin_url: server.admin_url,
                network: network.clone(),
            })
            .collect();
        anyhow::ensure!(!servers.is_empty(), "a cluster without servers");
        Ok(Self { servers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"engine":"postgres","run":"1-a","network":"net","servers":[
        {"name":"primary","container":"net-primary","url":"postgres://a","admin_url":"postgres://b"},
        {"name":"replica-1","container":"net-replica-1","url":"postgres://b","admin_url":"postgres://b"}]}"#;

    #[test]
    fn the_first_server_is_the_primary() {
        let cluster = Cluster::from_json(JSON).unwrap();
        assert_eq!(cluster.primary().name, "primary");
        assert_eq!(cluster.replicas().len(), 1);
        assert_eq!(cluster.engine(), Engine::Postgres);
        assert_eq!(cluster.server("replica-1").url, "postgres://b");
    }

    #[test]
    fn a_cluster_needs_a_server() {
        assert!(Cluster::from_json(r#"{"engine":"mysql","network":"n","servers":[]}"#).is_err());
    }
}
