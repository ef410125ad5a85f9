//! An address that leads where one says: a proxy, or a name that is moved.

use std::sync::Arc;

use anyhow::Context;
use sealane_tests::Server;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Passes connections on to one server. A change of the server ends those to the last one.
pub struct Proxy {
    port: u16,
    target: Arc<watch::Sender<String>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass connections on to `server`.
    pub async fn to(server: &Server) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let target = Arc::new(watch::Sender::new(address(&server.url)?.to_owned()));
        let targets = Arc::clone(&target);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut changed = targets.subscribe();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        let target = targets.borrow().clone();
                        connections.spawn(pass(client, target));
                    }
                    _ = changed.changed() => connections.abort_all(),
                }
            }
        });
        Ok(Proxy { port, target, task })
    }

    /// Leads to `server` from now on.
    pub fn lead_to(&self, server: &Server) -> anyhow::Result<()> {
        self.target.send_replace(address(&server.url)?.to_owned());
        Ok(())
    }

    /// The URL of `server` with this address.
    pub fn url(&self, server: &Server) -> anyhow::Result<String> {
        Ok(server.url.replacen(address(&server.url)?, &format!("127.0.0.1:{}", self.port), 1))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, target: String) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// `host:port` of a URL.
fn address(url: &str) -> anyhow::Result<&str> {
    let (_, rest) = url.rsplit_once('@').context("a URL with a user")?;
    rest.split('/').next().context("a URL with an address")
}
