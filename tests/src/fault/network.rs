//! Between a server and everybody else.

use anyhow::ensure;

use crate::Server;
use crate::docker::{docker, run};

/// The rules that drop all packets; what stays within the container passes.
const RULES: &str = "inet sealane_blackhole";

impl Server {
    /// Takes its network away, from clients and from the other servers.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn cut(&self) -> anyhow::Result<()> {
        docker(&["network", "disconnect", &self.network, &self.container]).await.map(drop)
    }

    /// The opposite of [`Server::cut`]. Waits until it answers.
    ///
    /// # Errors
    /// When Docker refuses, or it does not answer within 30 s.
    pub async fn join(&self) -> anyhow::Result<()> {
        let alias = format!("--alias={}", self.name);
        docker(&["network", "connect", &alias, &self.network, &self.container]).await?;
        self.ready().await
    }

    /// Drops all packets to it and from it, in silence: neither a reset nor a refusal tells
    /// anybody. Old connections hang, and so do attempts to connect. But Docker's proxy, which
    /// is behind [`Server::url`], still accepts them: use [`Server::direct_url`]. It ends with
    /// the container.
    ///
    /// # Errors
    /// Without `nsenter` and `nft`, or the rights of root.
    pub async fn blackhole(&self) -> anyhow::Result<()> {
        // Another call that adds the same again changes nothing.
        let chain = |way, device| {
            let hook = format!("type filter hook {way} priority -200; policy drop;");
            format!("chain {way} {{ {hook} {device} lo accept; }};")
        };
        let rules =
            format!("table {RULES} {{ {} {} }}", chain("input", "iif"), chain("output", "oif"));
        self.filter(&rules).await?;
        ensure!(self.is_blackholed().await, "{} still has a network", self.name);
        Ok(())
    }

    /// The opposite of [`Server::blackhole`].
    ///
    /// # Errors
    /// When there are no such rules.
    pub async fn unblackhole(&self) -> anyhow::Result<()> {
        self.filter(&format!("delete table {RULES}")).await
    }

    /// Also false where nobody can have done it.
    pub(crate) async fn is_blackholed(&self) -> bool {
        self.filter(&format!("list table {RULES}")).await.is_ok()
    }

    /// Its URL past Docker's proxy, which accepts connections whatever became of the server. It
    /// may change with a restart.
    ///
    /// # Errors
    /// When Docker refuses, or it is not running.
    pub async fn direct_url(&self) -> anyhow::Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.inspect(format).await?;
        ensure!(!address.is_empty(), "{} has no address", self.name);
        let published = self.published();
        let direct = format!("{address}:{}", self.engine.port());
        Ok(self.url.replacen(&published, &direct, 1))
    }

    /// The address in [`Server::url`], with the port.
    #[must_use]
    pub fn published(&self) -> String {
        let behind_user = self.url.rsplit('@').next().unwrap_or_default();
        behind_user.split('/').next().unwrap_or_default().to_owned()
    }

    /// From the machine's side: the images have no program for it.
    async fn filter(&self, command: &str) -> anyhow::Result<()> {
        let process = self.inspect("{{.State.Pid}}").await?;
        run("nsenter", &["--target", &process, "--net", "nft", command]).await.map(drop)
    }
}
