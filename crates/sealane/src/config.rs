//! What to connect to, and how to route.

mod file;

use std::{env, fmt, path::Path, sync::Arc, time::Duration};

use sea_orm::ConnectOptions;
use sealane_core::{
    Balancer, Consistency, HealthPolicy, TwoChoices, WhenAhead, WhenBehind, WriteTracking,
};
use sealane_monitor::Pace;

use crate::{ConnectError, cluster::Reading, token::Signer};

/// The primary's URL.
const PRIMARY_VARIABLE: &str = "DATABASE_URL";
/// The replicas' URLs, separated by commas or white space.
const REPLICAS_VARIABLE: &str = "DATABASE_REPLICA_URLS";

/// A primary, its replicas, and how to route between them.
///
/// Roles are observed: if a replica was promoted, writes follow it, whichever
/// was configured as the primary.
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
pub struct Config {
    pub(crate) primary: EndpointConfig,
    pub(crate) replicas: Vec<EndpointConfig>,
    pub(crate) reading: Reading,
    pub(crate) signer: Signer,
    pub(crate) balancer: Arc<dyn Balancer>,
    pub(crate) pace: Pace,
    pub(crate) primary_wait: Duration,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        allow(dead_code, reason = "nothing is probed")
    )]
    pub(crate) health: HealthPolicy,
}

/// One endpoint of a [`Config`].
#[derive(Clone)]
pub(crate) struct EndpointConfig {
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) subscription: Option<String>,
    pub(crate) options: ConnectOptions,
}

impl EndpointConfig {
    fn new(name: impl Into<String>, options: impl Into<ConnectOptions>) -> Self {
        let (name, options) = (name.into(), options.into());
        EndpointConfig { name, group: None, subscription: None, options }
    }
}

impl Config {
    /// A primary alone: a URL, or SeaORM's `ConnectOptions`.
    pub fn new(primary: impl Into<ConnectOptions>) -> Self {
        let primary = EndpointConfig::new("primary", primary);
        Config {
            primary,
            replicas: Vec::new(),
            reading: Reading::default(),
            signer: Signer::default(),
            // Even without knowing the load of other processes, and never all on one.
            balancer: Arc::new(TwoChoices),
            pace: Pace::default(),
            // A promotion by hand or by Patroni takes longer; a restart, a switchover and the end
            // of a promotion do not.
            primary_wait: Duration::from_secs(5),
            health: HealthPolicy::default(),
        }
    }

    /// Adds a replica: a URL, or SeaORM's `ConnectOptions` with pool sizes and
    /// timeouts of its own. It is called `replica-1`, `replica-2` and so on in
    /// everything that people read. It may be down at start.
    ///
    /// With replicas, two hooks of `ConnectOptions` work otherwise: its
    /// `after_connect` runs once, for the endpoint configured first; and an
    /// `after_connect` that `map_sqlx_postgres_pool_opts` sets is replaced.
    #[must_use]
    pub fn replica(self, replica: impl Into<ConnectOptions>) -> Self {
        let name = format!("replica-{}", self.replicas.len() + 1);
        self.named_replica(name, replica)
    }

    /// Adds a replica with a name of its own.
    #[must_use]
    pub fn named_replica(
        mut self,
        name: impl Into<String>,
        replica: impl Into<ConnectOptions>,
    ) -> Self {
        self.replicas.push(EndpointConfig::new(name, replica));
        self
    }

    /// Puts the replica added last into a group: letters, digits, `-` and `_`.
    ///
    /// A replica in a group serves only statements that ask for it, with a leading
    /// `/* sealane: group=NAME */`; statements that do not ask are served by the
    /// replicas of no group. Such as `"analytics"`, to keep reports from the
    /// replicas that users wait for. Without a replica it does nothing.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        if let Some(replica) = self.replicas.last_mut() {
            replica.group = Some(group.into());
        }
        self
    }

    /// Says that the replica added last is a logical subscriber of PostgreSQL: a server
    /// of its own that holds what the subscription of this name brings from the primary.
    ///
    /// It must be in a group ([`Config::in_group`]): it lacks what is not published, so
    /// statements go there only when they ask for it. It never takes writes, though it
    /// could. Without a replica it does nothing.
    ///
    /// ```
    /// let config = sealane::Config::new("postgres://app@db-1/shop")
    ///     .replica("postgres://app@reports-1/shop")
    ///     .subscription("shop_to_reports")
    ///     .in_group("reports");
    /// ```
    #[must_use]
    pub fn subscription(mut self, subscription: impl Into<String>) -> Self {
        if let Some(replica) = self.replicas.last_mut() {
            replica.subscription = Some(subscription.into());
        }
        self
    }

    /// One SQLite file with one writing and several reading connections. The
    /// file is created if it is not there.
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl AsRef<Path>) -> Self {
        Config::new(crate::pool::sqlite::url(path.as_ref()))
    }

    /// The primary's URL from `DATABASE_URL`, and those of replicas, if any,
    /// from `DATABASE_REPLICA_URLS`, separated by commas or white space.
    ///
    /// # Errors
    /// `DATABASE_URL` is not set, or one of the two is not text.
    pub fn from_env() -> Result<Self, ConnectError> {
        let variable =
            |name| env::var(name).map_err(|cause| ConnectError::Environment { name, cause });
        let primary = variable(PRIMARY_VARIABLE)?;
        let replicas = match variable(REPLICAS_VARIABLE) {
            Err(ConnectError::Environment { cause: env::VarError::NotPresent, .. }) => {
                String::new()
            }
            other => other?,
        };
        Ok(replica_urls(&replicas).fold(Config::new(primary), Config::replica))
    }

    /// A configuration from a TOML file; see the README for its keys. Unknown
    /// keys are refused.
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

    /// What becomes of reads for which no replica is good enough, unless a handle
    /// says otherwise. Default: [`WhenBehind::Primary`].
    #[must_use]
    pub fn when_behind(mut self, when_behind: WhenBehind) -> Self {
        self.reading.when_behind = when_behind;
        self
    }

    /// What becomes of what a session runs on the primary right after a read on a replica, which can
    /// show a commit before the primary does; unless a handle says otherwise. Default:
    /// [`WhenAhead::Primary`], by which such a session can go back in time.
    #[must_use]
    pub fn when_ahead(mut self, when_ahead: WhenAhead) -> Self {
        self.reading.when_ahead = when_ahead;
        self
    }

    /// What reads through a handle without a session of its own wait for. Default:
    /// [`WriteTracking::Tables`], where the catalog of the database is known; else, as on
    /// MySQL and MariaDB, it is [`WriteTracking::Whole`] in any case.
    ///
    /// With `Tables` such a read sees all writes through the handle to the tables that
    /// it reads: those that the statements name, those behind views, partitions, and
    /// those that triggers, rules and cascading keys make a write of. What it does not
    /// see to be so: the work of a trigger that somebody else made in the last minute, and
    /// of functions that write although they stand in an operator, an index or a type. A
    /// session of its own waits for all its writes.
    #[must_use]
    pub fn write_tracking(mut self, tracking: WriteTracking) -> Self {
        self.reading.tracking = tracking;
        self
    }

    /// Whether reads through a handle without a session of its own also wait for the writes
    /// of all sessions of this process, as [`write_tracking`](Self::write_tracking) says:
    /// for work that leaves the session of its request, such as a task that is spawned or a
    /// data loader that spawns. Default: yes.
    ///
    /// Where tables are not told apart, every write of any session holds all reads through
    /// such a handle on the primary until it is replayed. Turn this off where that is too much,
    /// and spawn with [`in_current_scope`](crate::in_current_scope) instead.
    #[must_use]
    pub fn shared_waits_for_sessions(mut self, waits: bool) -> Self {
        self.reading.shared_waits = waits;
        self
    }

    /// Adds a secret of at least 32 bytes for the tokens that carry a session to
    /// another process ([`RoutedConnection::token`](crate::RoutedConnection::token));
    /// all processes need the same. The first that is added signs; all are good for
    /// checking, so that a new one can take over without refusing anybody. Default:
    /// none, and no tokens.
    #[must_use]
    pub fn token_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.signer.add_key(key.as_ref());
        self
    }

    /// A token that is older than this is refused. Default: one hour.
    #[must_use]
    pub fn token_max_age(mut self, max_age: Duration) -> Self {
        self.signer.set_max_age(max_age);
        self
    }

    /// How reads are spread over the replicas that may serve them. Default:
    /// [`TwoChoices`].
    #[must_use]
    pub fn balancer(self, balancer: impl Balancer + 'static) -> Self {
        Config { balancer: Arc::new(balancer), ..self }
    }

    /// A replica that is further behind the primary than this serves no
    /// [`Consistency::ReadYourWrites`], not even for sessions that wrote
    /// nothing. `None`: any lag will do. Default: 30 seconds.
    #[must_use]
    pub fn max_lag(mut self, max_lag: impl Into<Option<Duration>>) -> Self {
        self.reading.max_lag = max_lag.into();
        self
    }

    /// How long a statement waits for a primary that answers: a write, the beginning of a
    /// transaction, or a read that no replica may serve. What was not sent yet moves to the new
    /// primary at once when there is one. When the time is over it fails with
    /// [`Error::NoPrimary`](crate::Error::NoPrimary). Default: five seconds.
    #[must_use]
    pub fn primary_wait(mut self, wait: Duration) -> Self {
        self.primary_wait = wait;
        self
    }

    /// When endpoints go down, come back, and count as lagging.
    #[must_use]
    pub fn health(self, health: HealthPolicy) -> Self {
        Config { health, ..self }
    }

    /// The time between probes of an endpoint when no session waits for a
    /// replica; spread, so up to a fifth more. Replicas that are down are asked every
    /// five times as long at least. Default: one second.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.pace.idle = interval;
        self
    }

    /// The time between probes of an endpoint while a session waits for a
    /// replica to catch up with its write, at least. Default: 5 milliseconds. Many processes
    /// ask less often each, see [`Config::probe_budget`].
    #[must_use]
    pub fn quick_probe_interval(mut self, interval: Duration) -> Self {
        self.pace.quick = interval;
        self
    }

    /// How many probes a second one server gets from all processes together while sessions
    /// wait: each process sees how many they are and takes its share, so that the time
    /// between its own quick probes grows with the number of processes. What a process has
    /// not used of its share in the last second it may use at once. Default: 200, all of
    /// which a process has that is alone.
    ///
    /// On PostgreSQL processes are counted by the name of their monitor's connection
    /// (`sealane monitor`), on MySQL and MariaDB by named locks that it holds (`sealane
    /// monitor 0` to `255`). Through a pooler that hands out connections for each
    /// transaction they cannot all be seen.
    #[must_use]
    pub fn probe_budget(mut self, per_s: u32) -> Self {
        self.pace.budget_per_s = per_s;
        self
    }

    /// A probe that has no answer after this time counts as failed. Default:
    /// one second.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.pace.timeout = timeout;
        self
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &EndpointConfig> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }
}

fn replica_urls(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|url| !url.is_empty())
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
    /// Names only: URLs may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints().map(|e| &e.name).collect::<Vec<_>>())
            .field("reading", &self.reading)
            .field("signer", &self.signer)
            .field("balancer", &self.balancer.name())
            .field("pace", &self.pace)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_urls_are_separated_by_commas_or_space() {
        let urls: Vec<_> = replica_urls(" postgres://a,\n postgres://b postgres://c ,").collect();
        assert_eq!(urls, ["postgres://a", "postgres://b", "postgres://c"]);
    }

    #[test]
    fn the_debug_form_shows_no_password() {
        let config =
            Config::new("postgres://app:tide@db-1/shop").replica("postgres://a:ebb@db-2/s");
        let text = format!("{config:?}");
        assert!(text.contains("replica-1"));
        assert!(!text.contains("tide") && !text.contains("ebb"), "{text}");
    }
}
