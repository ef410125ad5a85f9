//! Faults of the network between a server and all others.

use anyhow::ensure;

use crate::Server;
use crate::docker::{docker, run};

/// The firewall rules that drop all packets, except those within the container.
const RULES: &str = "inet sealane_blackhole";
/// The rules that lose some of the packets.
const LOSSES: &str = "inet sealane_loss";

impl Server {
    /// Disconnects the server from its clients and from the other servers.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn cut(&self) -> anyhow::Result<()> {
        docker(&["network", "disconnect", &self.network, &self.container]).await.map(drop)
    }

    /// Undoes [`Server::cut`]. Waits until the server answers.
    ///
    /// # Errors
    /// When Docker refuses, or the server does not answer within 30 s.
    pub async fn join(&self) -> anyhow::Result<()> {
        let alias = format!("--alias={}", self.name);
        docker(&["network", "connect", &alias, &self.network, &self.container]).await?;
        self.ready().await
    }

    /// Silently drops all packets to and from the server, without a reset or a refusal. Old
    /// connections hang, and so do attempts to connect. But Docker's proxy, which is behind
    /// [`Server::url`], still accepts connections, so use [`Server::direct_url`]. The rules end
    /// with the container.
    ///
    /// # Errors
    /// Without `nsenter` and `nft`, or the rights of root.
    pub async fn blackhole(&self) -> anyhow::Result<()> {
        // Adding the same rules again changes nothing.
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

    /// Undoes [`Server::blackhole`].
    ///
    /// # Errors
    /// When the rules do not exist.
    pub async fn unblackhole(&self) -> anyhow::Result<()> {
        self.filter(&format!("delete table {RULES}")).await.map(drop)
    }

    /// Silently drops so many of a hundred packets to and from the server. The rules end with the
    /// container.
    ///
    /// # Errors
    /// As [`Server::blackhole`].
    pub async fn lose_packets(&self, percent: u32) -> anyhow::Result<()> {
        let chain = |way, device| {
            let hook = format!("type filter hook {way} priority -200; policy accept;");
            let rule = format!("numgen random mod 100 < {percent} drop");
            format!("chain {way} {{ {hook} {device} lo accept; {rule}; }};")
        };
        let rules =
            format!("table {LOSSES} {{ {} {} }}", chain("input", "iif"), chain("output", "oif"));
        self.filter(&rules).await.map(drop)
    }

    /// Undoes [`Server::lose_packets`].
    ///
    /// # Errors
    /// When the rules do not exist.
    pub async fn lose_no_packets(&self) -> anyhow::Result<()> {
        self.filter(&format!("delete table {LOSSES}")).await.map(drop)
    }

    /// Undoes [`Server::blackhole`] and [`Server::lose_packets`]. Nothing to undo is no error, and
    /// neither is a machine without a firewall program.
    pub(crate) async fn restore_packets(&self) -> anyhow::Result<()> {
        let tables = self.filter("list tables").await.unwrap_or_default();
        for rules in [RULES, LOSSES] {
            if tables.contains(rules) {
                self.filter(&format!("delete table {rules}")).await?;
            }
        }
        Ok(())
    }

    async fn is_blackholed(&self) -> bool {
        self.filter("list tables").await.is_ok_and(|tables| tables.contains(RULES))
    }

    /// The server's URL without Docker's proxy, because the proxy accepts connections even if the
    /// server is dead. The URL may change with a restart.
    ///
    /// # Errors
    /// When Docker refuses, or the server is not running.
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

    /// Runs a firewall command from the machine's side, because the images have no program for
    /// this.
    async fn filter(&self, command: &str) -> anyhow::Result<String> {
        let process = self.inspect("{{.State.Pid}}").await?;
        run("nsenter", &["--target", &process, "--net", "nft", command]).await
    }
}
