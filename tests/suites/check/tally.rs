//! What was planted and found, and the plants that all engines share.

use std::{fmt, time::Duration};

use anyhow::{Context, ensure};
use sealane::{Config, Replica};
use sealane_cli::{Finding, Report, Severity, check};
use sealane_tests::{Engine, Server, eventually, fleet};
use tokio::time::sleep;

use crate::{
    balancer::{Balancer, address},
    good::{Good, reload},
};

/// A setting takes effect, and a broken replication is noticed, within this.
const SOON: Duration = Duration::from_secs(30);
/// A replica that is not late has replayed a write long before it was looked at so often.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// Planted wherever a configuration can hold one.
const PASSWORD: &str = "tidewater";

/// What is planted: at which endpoint (none: the whole configuration) which finding must appear,
/// and what its remedy must contain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a>(pub(crate) &'a str, pub(crate) Option<&'a str>, pub(crate) &'a str);

/// What was planted and found.
pub(crate) struct Tally<'g> {
    pub(crate) good: &'g Good<'g>,
    found: Vec<Finding>,
}

impl<'g> Tally<'g> {
    pub(crate) fn new(good: &'g Good<'g>) -> Self {
        Self { good, found: Vec::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    pub(crate) fn server(&self, name: &str) -> &'g Server {
        self.good.cluster.server(name)
    }

    /// The configuration of the good cluster.
    pub(crate) fn config(&self) -> Config {
        fleet::config_as(self.good.cluster, |server| self.good.url(server))
    }

    /// The good cluster's URLs: the primary's, and the replicas'.
    pub(crate) fn all_urls(&self) -> [String; 3] {
        ["primary", "replica-1", "replica-2"].map(|name| self.good.url(self.server(name)))
    }

    /// Nothing is found, once replication has settled.
    pub(crate) async fn silent(&self) -> anyhow::Result<()> {
        let mut last = Vec::new();
        for _ in 0..5 {
            let report = check(&self.config(), 1).await?;
            ensure!(report.endpoints.len() == 3, "{report:#?}");
            if report.findings.is_empty() {
                let mut text = Vec::new();
                report.write(&mut text)?;
                ensure!(text == b"all good: 3 endpoints\n", "{}", String::from_utf8_lossy(&text));
                return Ok(());
            }
            last = report.findings;
        }
        anyhow::bail!("the good cluster is not met with silence: {last:#?}")
    }

    /// Checks `config` until the planted fault is found.
    pub(crate) async fn expect(
        &mut self,
        wanted: Wanted<'_>,
        config: &Config,
        processes: u32,
    ) -> anyhow::Result<Finding> {
        let Wanted(code, at, remedy) = wanted;
        let found = std::sync::Mutex::new((Report::clone(&check(config, processes).await?), None));
        let look = async || {
            let report = check(config, processes).await?;
            let text = serde_json::to_string(&report)?;
            ensure!(!text.contains(PASSWORD), "a password is in: {text}");
            let is_it = |it: &&Finding| it.code.name == code && it.endpoint.as_deref() == at;
            let it = report.findings.iter().find(is_it).cloned();
            let is_found = it.is_some();
            if let Ok(mut found) = found.lock() {
                *found = (report, it);
            }
            Ok(is_found)
        };
        let result = eventually(SOON, &format!("{code} is found"), look).await;
        let (report, it) = found.into_inner().ok().context("a panic elsewhere")?;
        result.with_context(|| format!("{:#?}", report.findings))?;
        let it = it.context("found, and not there")?;
        ensure!(it.remedy.contains(remedy), "{code}: the remedy is {}", it.remedy);
        println!("found {code}: {}", it.found);
        self.found.push(it.clone());
        Ok(it)
    }

    /// Runs `plant` on the server called `on`, expects the finding, and runs `undo`.
    pub(crate) async fn sql(
        &mut self,
        wanted: Wanted<'_>,
        on: &str,
        plant: &[&str],
        undo: &[&str],
    ) -> anyhow::Result<()> {
        let server = self.server(on);
        for sql in plant {
            server.sql(sql).await?;
        }
        reload(server).await?;
        let expected = self.expect(wanted, &self.config(), 1).await;
        // Also if the fault was not found: the next ones are about other things.
        for sql in undo {
            server.sql(sql).await?;
        }
        reload(server).await?;
        expected.map(drop)
    }

    /// Plants in the configuration: what is wrong are URLs.
    pub(crate) async fn urls(&mut self) -> anyhow::Result<()> {
        let is_postgres = self.good.cluster.engine() == Engine::Postgres;
        let [primary, one, two] = self.all_urls();
        let with_two = |two: &str| fleet::config_of(&*primary, [&*one, two]);
        let at = Some("replica-2");
        let port = address(self.server("replica-2"))?;
        let away = two.replace(&port, "127.0.0.1:1");
        self.expect(Wanted("unreachable", at, "start the server"), &with_two(&away), 1).await?;
        let locked = two.replace("checker:sealane@", &format!("checker:{PASSWORD}@"));
        self.expect(Wanted("login-refused", at, "password"), &with_two(&locked), 1).await?;
        let nowhere = format!("{}/nowhere", two.trim_end_matches("/sealane"));
        self.expect(Wanted("no-database", at, "GRANT"), &with_two(&nowhere), 1).await?;
        // The servers here speak no TLS.
        let mode = if is_postgres { "sslmode=require" } else { "ssl-mode=VERIFY_CA" };
        let encrypted = format!("{two}?{mode}");
        self.expect(Wanted("tls-refused", at, "ssl"), &with_two(&encrypted), 1).await?;
        self.expect(Wanted("same-server", at, "once"), &with_two(&one), 1).await?;

        let replicas = fleet::config_of(&*one, [&*two]);
        self.expect(Wanted("no-primary", None, "primary's URL"), &replicas, 1).await?;
        let swapped = fleet::config_of(&*one, [&*primary, &*two]);
        let at_first = Some("primary");
        self.expect(Wanted("first-url-is-replica", at_first, "first"), &swapped, 1).await?;
        let alone = Config::new(Replica::new(&*primary).name("primary"));
        self.expect(Wanted("no-replicas", None, "DATABASE_REPLICA_URLS"), &alone, 1).await?;
        let many = Wanted("pool-too-large", at_first, "max_connections");
        self.expect(many, &self.config(), 100).await?;

        let servers = [self.server("replica-1"), self.server("replica-2")];
        let balancer = Balancer::over(&servers).await?;
        let behind = two.replace(&port, &balancer.address.to_string());
        let several = Wanted("several-servers-behind-url", at, "balancer");
        self.expect(several, &with_two(&behind), 1).await?;
        Ok(())
    }

    /// A replica that was behind before the check began, and receives and applies all the same.
    pub(crate) async fn late(&mut self) -> anyhow::Result<()> {
        let (primary, replica) = (self.server("primary"), self.server("replica-2"));
        make_late(primary, replica).await?;
        let late = Wanted("lagging", Some("replica-2"), "long transactions");
        let expected = self.expect(late, &self.config(), 1).await;
        make_prompt(primary, replica).await?;
        let finding = expected?;
        ensure!(finding.found.contains("it did not get within"), "{}", finding.found);
        Ok(())
    }

    pub(crate) async fn clock_and_promotion(&mut self) -> anyhow::Result<()> {
        let (one, two) = (self.server("replica-1"), self.server("replica-2"));
        one.skew_clock(300).await?;
        self.good.settings().await?;
        let skewed = Wanted("clocks-differ", Some("replica-1"), "NTP");
        self.expect(skewed, &self.config(), 1).await?;
        two.promote().await?;
        let both = Wanted("two-primaries", None, "replicas again");
        self.expect(both, &self.config(), 1).await?;
        self.good.cluster.heal().await
    }
}

/// Makes `replica` apply everything an hour late, and writes what it then lacks.
pub(crate) async fn make_late(primary: &Server, replica: &Server) -> anyhow::Result<()> {
    replica.delay_replay(Duration::from_secs(3_600)).await?;
    // PostgreSQL's replay may learn of it a moment later than the sessions do.
    eventually(SOON, "a write is late", async || {
        primary.sql("INSERT INTO boat (harbour_id, name, voyages) VALUES (1, 'Late', 0)").await?;
        let position = primary.position().await?;
        for _ in 0..LOOKS {
            sleep(BETWEEN_LOOKS).await;
            if replica.has_replayed(&position).await? {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// Undoes [`make_late`].
pub(crate) async fn make_prompt(primary: &Server, replica: &Server) -> anyhow::Result<()> {
    replica.delay_replay(Duration::ZERO).await?;
    fleet::replayed_by(primary, replica).await
}

impl fmt::Display for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let of_it = self.found.iter().filter(|it| it.severity == severity);
            let names: Vec<_> = of_it.map(|it| it.code.name).collect();
            writeln!(f, "  {severity}: {}", names.join(", "))?;
        }
        Ok(())
    }
}
