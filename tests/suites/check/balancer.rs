//! A balancer without any sense: each connection goes to the next server.

use std::net::SocketAddr;

use anyhow::Context;
use sealane_tests::Server;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

/// `host:port` of a server.
pub(crate) fn address(server: &Server) -> anyhow::Result<String> {
    let (_, rest) = server.url.split_once('@').context("no address")?;
    Ok(rest.split('/').next().context("no address")?.to_owned())
}

impl Balancer {
    pub(crate) async fn over(servers: &[&Server]) -> anyhow::Result<Self> {
        let targets = servers.iter().map(|it| address(it)).collect::<anyhow::Result<Vec<_>>>()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut next = targets.iter().cycle();
            while let (Ok((mut client, _)), Some(target)) = (listener.accept().await, next.next()) {
                let target = target.clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        // It ends when either side does.
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
