//! What to connect to, and how to route.

mod environment;
mod file;
mod reading;
mod replica;
mod shadow;

use std::{env, fmt, path::Path, sync::Arc, time::Duration};

use sea_orm::ConnectOptions;
use sealane_core::{
    Balancer, ByGroup, Consistency, CostClass, EjectionPolicy, FallbackPolicy, HealthPolicy,
    LocalFirst, PrimaryReads, RoutingPolicy, Rule, TwoChoices, WhenAhead, WriteTracking,
};
use sealane_monitor::ProbeSchedule;

pub(crate) use reading::Reading;
pub use replica::Replica;
pub use shadow::Shadow;

use crate::{ConnectError, error::is_name, signer::Signer};

/// A primary, its replicas, and how to route between them.
///
/// Roles are observed: if a replica is promoted, writes go to it, no matter which endpoint was
/// configured as the primary.
///
/// ```
/// use std::time::Duration;
///
/// let config = sealane::Config::new("postgres://app@db-1/shop")
///     .replica("postgres://app@db-2/shop")
///     .replica("postgres://app@db-3/shop")
///     .max_lag(Duration::from_secs(5));
/// ```
#[derive(Clone)]
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres", feature = "sqlite", feature = "assembly")),
    allow(dead_code, reason = "nothing is connected to")
)]
pub struct Config {
    pub(crate) primary: Replica,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) reading: Reading,
    pub(crate) signer: Signer,
    pub(crate) routing: Arc<dyn RoutingPolicy>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) balancer: Arc<dyn Balancer>,
    /// What metrics call the database; `None`: as the primary's URL does.
    pub(crate) name: Option<String>,
    /// The zone of this process.
    pub(crate) zone: Option<String>,
    spill_ratio: u32,
    pub(crate) schedule: ProbeSchedule,
    pub(crate) primary_wait: Duration,
    /// `None`: a share of the primary's connections.
    pub(crate) fallback_limit: Option<usize>,
    pub(crate) ejection: EjectionPolicy,
    /// The share of the reads that may leave the primary, 0 to 1.
    pub(crate) replica_share: f64,
    pub(crate) shadow: Shadow,
    /// Whether sealane may change a file to WAL mode.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "there is no file"))]
    pub(crate) may_change_journal: bool,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        allow(dead_code, reason = "nothing is probed")
    )]
    pub(crate) health: HealthPolicy,
    /// How many replicas must be usable at start.
    pub(crate) required_replicas: usize,
    /// Whether anything wrong at start is an error.
    pub(crate) strict: bool,
    /// Oddities found where the configuration came from.
    pub(crate) warnings: Vec<Warning>,
}

/// An oddity in a configuration that may be intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Warning {
    #[error("DATABASE_REPLICA_URLS is empty, so there are no replicas")]
    NoReplicaUrls,
    #[error(
        "DATABASE_REPLICA_URLS is not used: its replicas belong to DATABASE_URL, and the primary has \
         another URL"
    )]
    OtherPrimary,
}

impl Config {
    /// A primary without replicas: a URL, SeaORM's `ConnectOptions`, or a [`Replica`] with a name
    /// and other settings.
    pub fn new(primary: impl Into<Replica>) -> Self {
        let primary = primary.into().at_place(|| "primary".to_owned());
        Config {
            primary,
            replicas: Vec::new(),
            reading: Reading::default(),
            signer: Signer::default(),
            routing: Arc::new(ByGroup),
            rules: Vec::new(),
            // Spreads evenly without knowing the load of other processes, and never sends all reads
            // to one.
            balancer: Arc::new(TwoChoices),
            name: None,
            zone: None,
            // All connections of a pool of the driver's default size, before a read leaves the zone.
            spill_ratio: LocalFirst::<TwoChoices>::DEFAULT_SPILL_RATIO,
            schedule: ProbeSchedule::default(),
            // Enough for a restart, a switchover or the end of a promotion. A promotion by hand or
            // by Patroni takes longer.
            primary_wait: Duration::from_secs(5),
            fallback_limit: None,
            ejection: EjectionPolicy::default(),
            replica_share: 1.0,
            shadow: Shadow::Off,
            // Without WAL mode, readers and the writer would wait for each other.
            may_change_journal: true,
            health: HealthPolicy::default(),
            required_replicas: 0,
            strict: false,
            warnings: Vec::new(),
        }
    }

    /// Adds a replica: a URL, SeaORM's `ConnectOptions` with separate pool sizes and timeouts, or a
    /// [`Replica`] with a name and other settings. It may be down at start.
    ///
    /// With replicas, two hooks of `ConnectOptions` work differently. Its `after_connect` runs
    /// once, for the endpoint configured first. An `after_connect` set with
    /// `map_sqlx_postgres_pool_opts` or `map_sqlx_mysql_pool_opts` runs on each connection before
    /// sealane's own hook, provided that the application's hook sends something to the server. This
    /// costs one additional connection that is opened and closed.
    #[must_use]
    pub fn replica(mut self, replica: impl Into<Replica>) -> Self {
        let place = self.replicas.len() + 1;
        self.replicas.push(replica.into().at_place(|| format!("replica-{place}")));
        self
    }

    /// One SQLite file with one writing and several reading connections. The file is created if it
    /// does not exist.
    ///
    /// The file is changed to WAL mode. This change is permanent: every program that opens the file
    /// later finds it in WAL mode (<https://sqlite.org/wal.html>).
    /// [`keep_journal_mode`](Self::keep_journal_mode) prevents the change. A file that cannot be
    /// changed, for example a read-only one, and a database in memory are not split: one pool
    /// serves everything, and a warning says why.
    ///
    /// Transactions take the write lock when they begin (`BEGIN IMMEDIATE`), because a transaction
    /// that reads first and then writes fails if another connection writes in between.
    /// `begin_with_options` can choose otherwise. Transactions with `AccessMode::ReadOnly` run on
    /// the readers.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Config::new(crate::pool::sqlite::url(path.as_ref()))
    }

    /// Like [`sqlite`](Self::sqlite), with SeaORM's options. `max_connections` limits how many
    /// statements read at the same time. `after_connect` runs once, on the writer.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let config = sealane::Config::sqlite_with("shop.db", |options| {
    ///     options.max_connections(8);
    ///     options.map_sqlx_sqlite_opts(|file| file.busy_timeout(Duration::from_secs(30)));
    /// });
    /// ```
    #[cfg(feature = "sqlite")]
    pub fn sqlite_with(
        path: impl AsRef<Path>,
        configure: impl FnOnce(&mut ConnectOptions),
    ) -> Self {
        let mut options = ConnectOptions::new(crate::pool::sqlite::url(path.as_ref()));
        configure(&mut options);
        Config::new(options)
    }

    /// Leaves the journal mode of an SQLite file unchanged. A file that is not in WAL mode is then
    /// not split.
    #[must_use]
    pub fn keep_journal_mode(mut self) -> Self {
        self.may_change_journal = false;
        self
    }

    /// The primary's URL from `DATABASE_URL`, and the replicas' URLs, if any, from
    /// `DATABASE_REPLICA_URLS`, separated by commas, semicolons or white space. `DATABASE_ZONE` may
    /// name the [`zone`](Self::zone) of this process, and `DATABASE_TOKEN_KEY` may hold a
    /// [`token_key`](Self::token_key).
    ///
    /// # Errors
    /// One of these variables cannot be used, or `DATABASE_REPLICA_URL` is set, which sealane does
    /// not read.
    pub fn from_env() -> Result<Self, ConnectError> {
        environment::parse(&|name| env::var(name))
    }

    /// A primary at this URL, and the rest from the environment, as [`from_env`](Self::from_env) reads
    /// it.
    ///
    /// # Errors
    /// Those of [`from_env`](Self::from_env).
    pub(crate) fn at(url: String) -> Result<Self, ConnectError> {
        environment::around(url, &|name| env::var(name))
    }

    /// A configuration from a TOML file. The book's chapter on the
    /// [configuration](https://github.com/sealane/sealane/blob/main/docs/src/configuration.md)
    /// lists the keys. Unknown keys are refused.
    ///
    /// # Errors
    /// The file cannot be read or is not valid.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConnectError::File { path: path.to_owned(), cause })?;
        file::parse(&text, path)
    }

    /// How fresh reads must be, unless a handle says otherwise. Default:
    /// [`Consistency::ReadYourWrites`].
    #[must_use]
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.reading.consistency = consistency;
        self
    }

    /// What happens to reads for which no replica is good enough, unless a handle says otherwise.
    /// Default: [`FallbackPolicy::Primary`].
    #[must_use]
    pub fn fallback(mut self, fallback: FallbackPolicy) -> Self {
        self.reading.fallback = fallback;
        self
    }

    /// What happens to a statement that a session sends to the primary right after a read on a
    /// replica, unless a handle says otherwise: a replica can show a commit before the primary
    /// does. Default: [`WhenAhead::Primary`], with which such a session can go back in time.
    #[must_use]
    pub fn when_ahead(mut self, when_ahead: WhenAhead) -> Self {
        self.reading.when_ahead = when_ahead;
        self
    }

    /// Which writes a read waits for when its handle has no separate session. Default:
    /// [`WriteTracking::Tables`] where the catalog of the database is known. Elsewhere, as on
    /// SQLite, it is always [`WriteTracking::Whole`]. MySQL and MariaDB show the catalog's triggers
    /// only to a role that has TRIGGER on all databases that it sees.
    ///
    /// With `Tables`, such a read sees all writes through the handle to the tables that it reads.
    /// The written tables include those that the statements name, those behind views, partitions,
    /// and those that triggers, rules and cascading keys write to. They do not include
    /// the writes of a trigger that somebody else created within the last minute (three minutes while
    /// the catalog cannot be loaded), nor the writes of a function that is part of an operator, an
    /// index or a type. A separate session waits for all its writes.
    #[must_use]
    pub fn write_tracking(mut self, tracking: WriteTracking) -> Self {
        self.reading.tracking = tracking;
        self
    }

    /// Whether reads through a handle without a separate session also wait for the writes of all
    /// sessions of this process, in the way that [`write_tracking`](Self::write_tracking)
    /// describes. This is for work that leaves the session of its request, such as a spawned task
    /// or a data loader that spawns. Default: yes.
    ///
    /// Where tables are not distinguished, every write of any session holds all reads through such
    /// a handle on the primary until the write is replayed. If this is too much, turn it off and
    /// spawn with [`in_current_scope`](crate::in_current_scope) instead.
    #[must_use]
    pub fn shared_waits_for_sessions(mut self, waits: bool) -> Self {
        self.reading.shared_waits = waits;
        self
    }

    /// Adds a secret of at least 32 bytes for the tokens that carry a session to another process
    /// ([`RoutedConnection::token`](crate::RoutedConnection::token)). All processes need the same
    /// secret. The first secret added signs tokens; all secrets verify them, so that a new secret
    /// can replace an old one without any token being refused. Default: no secret, and no tokens.
    #[must_use]
    pub fn token_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.signer.add_key(key.as_ref());
        self
    }

    /// The maximum age of a token; older tokens are refused. Default: one hour.
    #[must_use]
    pub fn token_max_age(mut self, max_age: Duration) -> Self {
        self.signer.set_max_age(max_age);
        self
    }

    /// Which replicas a read may choose from, how fresh they must be, and what happens if no replica is
    /// good enough. Default: [`ByGroup`].
    ///
    /// ```
    /// use sealane::{ByGroup, Config, Consistency, Routable, Route, RoutingPolicy, Topology};
    ///
    /// /// What only reads the catalogue of goods may be old, unless the handle says otherwise.
    /// #[derive(Debug)]
    /// struct OldGoods;
    ///
    /// impl RoutingPolicy for OldGoods {
    ///     fn name(&self) -> &'static str {
    ///         "old-goods"
    ///     }
    ///
    ///     fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
    ///         let mut route = ByGroup.route(read, topology);
    ///         let is_goods = |tables: &sealane::Tables| {
    ///             tables.complete
    ///                 && !tables.read.is_empty()
    ///                 && tables.read.iter().all(|table| table.name() == "goods")
    ///         };
    ///         if !read.chose_consistency && read.tables.is_some_and(is_goods) {
    ///             route.consistency = Consistency::Eventual;
    ///         }
    ///         route
    ///     }
    /// }
    ///
    /// let config = Config::new("postgres://app@db-1/shop").routing(OldGoods);
    /// ```
    #[must_use]
    pub fn routing(self, policy: impl RoutingPolicy + 'static) -> Self {
        Config { routing: Arc::new(policy), ..self }
    }

    /// Adds a rule for reads: by table, text, cost, tag or group, to the primary, a group or named
    /// replicas. What no rule decides is decided by the [`routing`](Self::routing) policy.
    /// [`RoutedConnection::rules`](crate::RoutedConnection::rules) changes rules at run time.
    ///
    /// ```
    /// use sealane::{Config, Replica, Rule};
    ///
    /// let config = Config::new("postgres://app@db-1/shop")
    ///     .replica("postgres://app@db-2/shop")
    ///     .rule(Rule::new("balances").table("balance").to_primary());
    /// ```
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Sends heavy reads ([`CostClass::Heavy`]: joins, grouping, counts of whole tables) to the
    /// replicas of this group. This is a [rule](Self::rule) called `heavy-reads`, which comes after
    /// all others.
    #[must_use]
    pub fn heavy_reads(self, group: impl Into<Box<str>>) -> Self {
        let rule = Rule::new("heavy-reads").cost(CostClass::Heavy).to_group(group);
        self.rule(rule.priority(i32::MIN))
    }

    /// What this database is called in metrics, as the label `database`. Default: the database's name
    /// in the primary's URL. If a process uses several databases of one name, such as shards, give
    /// each a name of its own; otherwise they share their series.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Config { name: Some(name.into()), ..self }
    }

    /// The zone or region that this process runs in. Reads stay with the replicas of this zone
    /// ([`Replica::zone`]) unless none of them may serve the read, or all of them are overloaded or
    /// slow; see [`LocalFirst`] and [`spill_ratio`](Self::spill_ratio). Default: none, and all
    /// replicas are alike.
    #[must_use]
    pub fn zone(self, zone: impl Into<String>) -> Self {
        Config { zone: Some(zone.into()), ..self }
    }

    /// How many times as much as on the cheapest replica of another zone a read may cost on the
    /// cheapest replica of our [`zone`](Self::zone) before the read leaves the zone. The cost is how
    /// slow the replica is, times the statements in flight there. Default: 10.
    #[must_use]
    pub fn spill_ratio(self, ratio: u32) -> Self {
        Config { spill_ratio: ratio, ..self }
    }

    /// `balancer`, preferring the replicas of our zone if it is known.
    #[cfg_attr(
        not(any(
            feature = "mysql",
            feature = "postgres",
            feature = "sqlite",
            feature = "assembly"
        )),
        allow(dead_code, reason = "nothing is connected to")
    )]
    pub(crate) fn local_first(&self, balancer: Arc<dyn Balancer>) -> Arc<dyn Balancer> {
        match &self.zone {
            None => balancer,
            Some(zone) => Arc::new(
                LocalFirst::new(zone.as_str(), balancer).with_spill_ratio(self.spill_ratio),
            ),
        }
    }

    /// How reads are distributed among the replicas that may serve them. Default: [`TwoChoices`].
    #[must_use]
    pub fn balancer(self, balancer: impl Balancer + 'static) -> Self {
        Config { balancer: Arc::new(balancer), ..self }
    }

    /// A replica that is further behind the primary than this serves no reads with
    /// [`Consistency::ReadYourWrites`], not even for sessions that have written nothing. `None`:
    /// any lag is accepted. Default: 30 seconds.
    #[must_use]
    pub fn max_lag(mut self, max_lag: impl Into<Option<Duration>>) -> Self {
        self.reading.max_lag = max_lag.into();
        self
    }

    /// How long a statement waits for a primary that answers. This applies to writes, to the
    /// beginning of transactions, and to reads that no replica may serve. A statement that has not
    /// been sent yet moves to a new primary as soon as there is one. After this time the statement
    /// fails with [`Error::NoPrimary`](crate::Error::NoPrimary). Default: five seconds.
    #[must_use]
    pub fn primary_wait(mut self, wait: Duration) -> Self {
        self.primary_wait = wait;
        self
    }

    /// How many reads may run on the primary at a time because no replica serves them: all are down
    /// or too far behind. Further ones wait for as long as [`primary_wait`](Self::primary_wait), and
    /// then fail with [`Error::Shed`](crate::Error::Shed). This keeps an outage of replicas from
    /// becoming one of the primary. Reads that ask for the primary, and those of a session whose
    /// writes are not replayed yet, do not count. [`usize::MAX`] sets no limit. Default: half of the
    /// primary's connections at first; while reads fall back, the limit then adapts to the time that
    /// the primary's own writes take, between an eighth and three quarters of the connections.
    #[must_use]
    pub fn fallback_limit(mut self, reads: usize) -> Self {
        self.fallback_limit = Some(reads);
        self
    }

    /// Which of the reads that replicas could serve run on the primary. SQLite has no choice: the
    /// readers of a file and its writer are one server. Default: [`PrimaryReads::Fallback`].
    #[must_use]
    pub fn primary_reads(mut self, reads: PrimaryReads) -> Self {
        self.reading.primary_reads = reads;
        self
    }

    /// How long a read may take, over all waits and attempts; then it fails with
    /// [`Error::ReadTimeout`](crate::Error::ReadTimeout). An attempt on a replica gets half of the
    /// time that is left, if its statement usually takes less. For a stream, this is the time
    /// to its first row, without the time that the caller does not ask for it; for a read-only
    /// transaction, the time to its beginning. Writes, and statements in transactions, have no limit
    /// here: a write that is cut off may have been executed. Default: no limit.
    #[must_use]
    pub fn read_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.reading.read_timeout = limit.into();
        self
    }

    /// Whether a read that is slower than 95 % of the executions of its statement is sent to a second
    /// replica as well; the first answer counts. About a tenth of the reads is sent twice at most,
    /// and none to the primary. This shortens the tail of the latencies, and costs up to a tenth
    /// more load. Streams and transactions are not hedged. Default: no.
    #[must_use]
    pub fn hedged_reads(mut self, hedged: bool) -> Self {
        self.reading.hedged = hedged;
        self
    }

    /// The share of the proved reads that may leave the primary, 0 to 1, for a gradual roll-out; the
    /// others run on the primary, whatever they ask for.
    /// [`RoutedConnection::set_replica_share`](crate::RoutedConnection::set_replica_share) changes it
    /// at run time. Default: 1.
    #[must_use]
    pub fn replica_share(self, ratio: f64) -> Self {
        Config { replica_share: ratio, ..self }
    }

    /// Shadow mode, for trying sealane in a running application: all reads run on the primary, and
    /// [`RoutedConnection::shadow_report`](crate::RoutedConnection::shadow_report) tells where they
    /// would have run. With [`Shadow::Compare`], a share of them runs on the chosen replica as well,
    /// afterwards and beside the application, and the report tells which answers would have
    /// differed. [`RoutedConnection::set_shadow`](crate::RoutedConnection::set_shadow) changes it at
    /// run time. Default: off.
    #[must_use]
    pub fn shadow(self, shadow: Shadow) -> Self {
        Config { shadow, ..self }
    }

    /// When a replica that answers probes gets no reads, because reads there fail or do not end, and
    /// for how long.
    #[must_use]
    pub fn ejection(self, ejection: EjectionPolicy) -> Self {
        Config { ejection, ..self }
    }

    /// When an endpoint goes down, comes back, and counts as lagging.
    #[must_use]
    pub fn health(self, health: HealthPolicy) -> Self {
        Config { health, ..self }
    }

    /// The time between probes of an endpoint while no session waits for a replica. The time is
    /// spread, so it can be up to a fifth longer. A replica that is down is probed less and less
    /// often, but at least once in five times this interval. Default: one second.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.schedule.idle = interval;
        self
    }

    /// The least time between probes of an endpoint while a session waits for a replica to catch up
    /// with the session's write. The first probes come up to four times as quickly. Default: 5
    /// milliseconds. If there are many processes, each of them probes less often; see
    /// [`Config::probe_budget`].
    #[must_use]
    pub fn quick_probe_interval(mut self, interval: Duration) -> Self {
        self.schedule.quick = interval;
        self
    }

    /// How many probes per second one server gets from all processes together while sessions wait.
    /// Each process sees how many processes there are and takes its share, so the time between its
    /// quick probes grows with their number. A process may use at once what it has left of its
    /// share from the last second. Default: 200; a process that is alone has all of them.
    ///
    /// On PostgreSQL, processes are counted by the name of their monitor's connection
    /// (`sealane monitor`); on MySQL and MariaDB, by named locks that this connection holds
    /// (`sealane monitor 0` to `255`). Through a pooler that assigns a connection per transaction,
    /// not all processes can be seen.
    #[must_use]
    pub fn probe_budget(mut self, per_s: u32) -> Self {
        self.schedule.budget_per_s = per_s;
        self
    }

    /// The time after which a probe without an answer counts as failed. Default: one second.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.schedule.timeout = timeout;
        self
    }

    /// How many replicas must be usable when [`connect`](crate::connect) ends; otherwise it fails.
    /// This is for applications that should rather not start than have all reads on the primary.
    /// Replicas of all groups count, and the readers of an SQLite file count as one. Default: 0.
    #[must_use]
    pub fn require_replicas(self, replicas: usize) -> Self {
        Config { required_replicas: replicas, ..self }
    }

    /// Makes [`connect`](crate::connect) fail for everything that it otherwise only warns about: a
    /// replica that is down, refuses us, lags, does not replicate, leads to another system or
    /// database, or leads to a server that is configured twice; a single URL that leads to a
    /// replica; an empty variable for replicas. Default: no.
    #[must_use]
    pub fn strict(self) -> Self {
        Config { strict: true, ..self }
    }

    pub(crate) fn endpoints_mut(&mut self) -> impl Iterator<Item = &mut Replica> {
        std::iter::once(&mut self.primary).chain(&mut self.replicas)
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Replica> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

impl From<&str> for Config {
    fn from(primary: &str) -> Self {
        Config::new(primary)
    }
}

impl From<String> for Config {
    fn from(primary: String) -> Self {
        Config::new(primary)
    }
}

impl From<ConnectOptions> for Config {
    fn from(primary: ConnectOptions) -> Self {
        Config::new(primary)
    }
}

impl fmt::Debug for Config {
    /// Only names, because URLs may contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |endpoint: &Replica| match is_name(&endpoint.name) {
            true => endpoint.name.clone(),
            false => "not a name".to_owned(),
        };
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints().map(name).collect::<Vec<_>>())
            .field("reading", &self.reading)
            .field("signer", &self.signer)
            .field("routing", &self.routing.name())
            .field("balancer", &self.balancer.name())
            .field("schedule", &self.schedule)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_debug_form_shows_no_password() {
        let config =
            Config::new("postgres://app:tide@db-1/shop").replica("postgres://a:ebb@db-2/s");
        let text = format!("{config:?}");
        assert!(text.contains("replica-1"));
        assert!(!text.contains("tide") && !text.contains("ebb"), "{text}");
    }
}
