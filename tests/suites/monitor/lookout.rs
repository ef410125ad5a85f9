//! Looks at a cluster through sealane while a test inflicts a fault on it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use sea_orm::EntityTrait;
use sealane::{
    Condition, Config, Consistency, EndpointStatus, Event, HealthPolicy, RoutedConnection,
};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Markers, Server, eventually,
    fleet::{self, whereabouts},
    ruler::{Clock, Ruler, Summary},
};

/// A server that has to begin anew on a busy machine takes its time, and then catches up.
pub const SOON: Duration = Duration::from_secs(60);
/// Between probes of one endpoint: ten times as often as by default, so that tests need not wait.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// How long a probe may take: a thread of a server on a busy machine may stall for longer than the
/// usual second, and nothing may be told of servers that are well.
const PATIENCE: Duration = Duration::from_secs(3);
/// What a bounded read asks for.
const BOUND: Duration = Duration::from_secs(1);

/// What the afflicted replica and its sister show and do.
pub struct Lookout {
    pub cluster: Cluster,
    pub db: RoutedConnection,
    told: Arc<Mutex<Vec<Event>>>,
    addresses: BTreeMap<String, String>,
    rulers: BTreeMap<String, Ruler>,
    _markers: Markers,
}

/// Leads to `cluster` as a role that may see how replication goes, and looks often.
pub fn config(cluster: &Cluster) -> Config {
    let mut health = HealthPolicy::default();
    health.lagging_above = Duration::from_secs(1);
    health.lagging_until = Duration::from_millis(500);
    fleet::config_as(cluster, |server| server.admin_url.clone())
        .probe_interval(INTERVAL)
        .health(health)
        .ejection(fleet::never_ejected())
}

impl Lookout {
    /// On a healthy cluster whose primary is written to all the time, with everything
    /// serving.
    pub async fn take() -> anyhow::Result<Self> {
        Self::waiting(Clock::Here, PATIENCE).await
    }

    /// The same; bounds are measured in that clock's time. A server is down after the usual second
    /// of silence, so that short troubles take it down, too.
    pub async fn with(clock: Clock) -> anyhow::Result<Self> {
        Self::waiting(clock, Duration::from_secs(1)).await
    }

    /// `patience`: how long a probe may take.
    async fn waiting(clock: Clock, patience: Duration) -> anyhow::Result<Self> {
        let cluster = fleet::moor().await?;
        let markers = Markers::start(&cluster).await?;
        let db = sealane::connect(config(&cluster).probe_timeout(patience)).await?;
        fleet::ready(&db).await?;
        let (mut addresses, mut rulers) = (BTreeMap::new(), BTreeMap::new());
        for replica in cluster.replicas() {
            addresses.insert(replica.name.clone(), fleet::address(replica).await?);
            let ruler = Ruler::start(&db, &cluster, replica, &markers, clock);
            rulers.insert(replica.name.clone(), ruler);
        }
        let told = Arc::new(Mutex::new(Vec::new()));
        listen(&db, &told);
        Ok(Self { cluster, db, told, addresses, rulers, _markers: markers })
    }

    /// The replica that the test may afflict.
    pub fn replica(&self) -> &Server {
        self.cluster.server("replica-1")
    }

    pub fn status(&self, name: &str) -> anyhow::Result<EndpointStatus> {
        let mut endpoints = self.db.status().endpoints.into_iter();
        endpoints.find(|endpoint| endpoint.name == name).context("no such endpoint")
    }

    /// Waits until the endpoint shows `condition`.
    pub async fn shows(&self, name: &str, condition: Condition) -> anyhow::Result<()> {
        let begun = Instant::now();
        let shown = async || {
            let now = self.status(name)?.condition;
            ensure!(now == condition, "{now}");
            Ok(true)
        };
        eventually(SOON, &format!("{name} shows {condition:?}"), shown).await?;
        println!("{name} is {condition} after {:.1?}", begun.elapsed());
        Ok(())
    }

    /// Waits until the replica has all that the primary was known to have.
    pub async fn caught_up(&self, name: &str) -> anyhow::Result<()> {
        let level = async || Ok(self.status(name)?.lag_ms.is_some_and(|ms| ms < 500));
        eventually(SOON, &format!("{name} has caught up"), level).await
    }

    /// Waits until an event of that word came for the endpoint.
    pub async fn tells(&self, name: &str, word: &str) -> anyhow::Result<()> {
        let told = async || Ok(self.told(name)?.iter().any(|told| told == word));
        eventually(SOON, &format!("{name} tells `{word}`"), told).await
    }

    /// All that was told of the endpoint, in order.
    fn told(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let endpoints = self.db.status().endpoints;
        let index = endpoints.iter().position(|endpoint| endpoint.name == name);
        let index = index.context("no such endpoint")?;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter_map(|event| word(event, index).transpose()).collect()
    }

    /// Sees that all that was told of the endpoint is `expected`, in this order. A word with a
    /// question mark may be missing: whether a short state is seen depends on when it is looked
    /// for.
    pub async fn has_told(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        self.has_told_of(name, expected, |_| true).await
    }

    /// What is told comes a moment after what status shows.
    async fn has_told_of(
        &self,
        name: &str,
        expected: &[&str],
        counts: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let told = || -> anyhow::Result<Vec<String>> {
            Ok(self.told(name)?.into_iter().filter(|word| counts(word)).collect())
        };
        let came = async || Ok(fits(&told()?, expected));
        if eventually(Duration::from_secs(2), "the events", came).await.is_err() {
            bail!("of {name} was told {:?}, expected {expected:?}", told()?);
        }
        Ok(())
    }

    /// Sees that reads with a bound stay away from the replica, and that eventual ones go on.
    pub async fn avoids(&self, name: &str) -> anyhow::Result<()> {
        let bounded = self.db.with_consistency(Consistency::BoundedStaleness(BOUND));
        let refused = async || {
            let choices = bounded.explain("SELECT id FROM harbour").choices;
            Ok(choices.iter().any(|choice| choice.endpoint == name && choice.refusal.is_some()))
        };
        eventually(SOON, &format!("{name} is refused"), refused).await?;
        let avoided = self.addresses.get(name).context("no such replica")?;
        for _ in 0..50 {
            let here = whereabouts::Entity::find().one(&bounded).await?.context("no row")?;
            ensure!(here.address != *avoided, "a read within {BOUND:?} was served by {name}");
        }
        self.reads_go_on().await
    }

    /// Sees that eventual reads are served, and by a replica.
    async fn reads_go_on(&self) -> anyhow::Result<()> {
        let eventual = self.db.with_consistency(Consistency::Eventual);
        for _ in 0..50 {
            let here = whereabouts::Entity::find().one(&eventual.session()).await?;
            ensure!(here.context("no row")?.in_recovery, "an eventual read is on the primary");
        }
        Ok(())
    }

    /// Sees that the endpoint goes on showing `condition` and that nothing is told of it for a
    /// while.
    pub async fn stays(
        &self,
        name: &str,
        condition: Condition,
        during: Duration,
    ) -> anyhow::Result<()> {
        let before = self.told(name)?;
        look_on(during, || {
            let now = self.status(name)?.condition;
            let told = self.told(name)?;
            ensure!(now == condition && told == before, "{name} is {now}, and was told {told:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the endpoint is in use, were it far behind.
    pub async fn is_in_use(&self, name: &str) -> anyhow::Result<()> {
        let in_use = async || Ok(is_in_use(self.status(name)?.condition));
        eventually(SOON, &format!("{name} is in use"), in_use).await
    }

    /// Sees that the endpoint stays in use for a while, were it far behind.
    pub async fn stays_in_use(&self, name: &str, during: Duration) -> anyhow::Result<()> {
        look_on(during, || {
            let now = self.status(name)?.condition;
            ensure!(is_in_use(now), "{name} is {now}");
            Ok(())
        })
        .await
    }

    /// As [`Lookout::has_told`], whatever was told of how far behind it is.
    pub async fn has_told_besides_lag(&self, name: &str, expected: &[&str]) -> anyhow::Result<()> {
        self.has_told_of(name, expected, |word| !matches!(word, "lagging" | "no longer lagging"))
            .await
    }

    /// Sees that the endpoint does not serve for a while, whatever it shows.
    pub async fn stays_away(&self, name: &str, during: Duration) -> anyhow::Result<()> {
        look_on(during, || {
            let now = self.status(name)?.condition;
            ensure!(now != Condition::Serving, "{name} is {now} again");
            Ok(())
        })
        .await
    }

    /// Sees that the bounds of all replicas were right all the time.
    pub fn bounds_held(&self) -> anyhow::Result<()> {
        for (name, ruler) in &self.rulers {
            let samples = ruler.samples();
            let summary = Summary::of(&samples, "");
            println!("{name}: {summary}");
            ensure!(summary.wrong == 0, "{BROKEN_PROMISE}: {name}: {summary}");
            ensure!(samples.iter().any(|sample| sample.compared().is_some()), "{name}: unmeasured");
        }
        Ok(())
    }

    /// The end of a test in which only one replica was afflicted: nothing happened to its
    /// sister, and everybody's bounds were right.
    pub async fn done(self) -> anyhow::Result<()> {
        self.has_told_besides_lag("replica-2", &[]).await?;
        self.has_told("primary", &[]).await?;
        let sister = self.status("replica-2")?.condition;
        ensure!(sister == Condition::Serving, "the sister is {sister}");
        self.bounds_held()
    }

    /// What measures the replica of that name.
    pub fn ruler(&self, name: &str) -> anyhow::Result<&Ruler> {
        self.rulers.get(name).context("no such replica")
    }
}

/// Looks again and again for a while.
async fn look_on(during: Duration, look: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        look()?;
        tokio::time::sleep(INTERVAL / 4).await;
    }
    Ok(())
}

fn is_in_use(condition: Condition) -> bool {
    matches!(condition, Condition::Serving | Condition::Lagging)
}

/// Keeps what is told until the connection is gone.
fn listen(db: &RoutedConnection, told: &Arc<Mutex<Vec<Event>>>) {
    let (mut events, told) = (db.events(), Arc::clone(told));
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("  {event}");
            told.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    });
}

/// An event of this endpoint in a word.
fn word(event: &Event, endpoint: usize) -> anyhow::Result<Option<String>> {
    let json = serde_json::to_value(event)?;
    if json["endpoint"] != endpoint {
        return Ok(None);
    }
    Ok(Some(match event {
        Event::ReplicationChanged { to, .. } => format!("{to:?}").to_lowercase(),
        Event::Recovered { from, .. } => format!("no longer {from}"),
        _ => json["event"].as_str().unwrap_or_default().to_owned(),
    }))
}

fn fits(told: &[String], expected: &[&str]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return told.is_empty() };
    let (word, may_miss) = match first.strip_prefix('?') {
        Some(word) => (word, true),
        None => (*first, false),
    };
    let here = told.first().is_some_and(|told| told == word) && fits(&told[1..], rest);
    here || (may_miss && fits(told, rest))
}
