//! What is known about the servers, before anybody judges it.
//!
//! Unknown is a value: what a server does not tell, or not to our role, is `None`, and no finding
//! follows from it except where *that* is the finding.

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use sealane::{Condition, Distance, Engine, ReadOnly};

use crate::ask::{TextRow, Trouble};

/// What is known about a whole configuration.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) engine: Engine,
    /// All endpoints; the one configured as the primary is the first.
    pub(crate) endpoints: Vec<EndpointFacts>,
    /// How many processes of the application use this configuration.
    pub(crate) processes: u32,
    /// Why the library does not start with this configuration.
    pub(crate) start_error: Option<String>,
}

/// What is known about one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointFacts {
    pub(crate) name: String,
    pub(crate) address: String,
    /// How many connections the application's pool may open.
    pub(crate) pool: u32,
    /// The subscription that the configuration declares.
    pub(crate) subscription: Option<String>,
    pub(crate) server: Result<Box<ServerFacts>, Trouble>,
    /// How the library sees it; `None` if it was not started.
    pub(crate) seen: Option<Seen>,
}

/// How the library sees an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) condition: Condition,
    pub(crate) lag: Option<Duration>,
    /// If a serving replica does not get to where the primary was: how long this was watched.
    pub(crate) unproved_for: Option<Duration>,
    /// How much it still has to replay.
    pub(crate) behind: Option<Distance>,
    /// How far behind it believes itself to be, by the servers' clocks.
    pub(crate) reported_lag: Option<Duration>,
    pub(crate) read_only_guard: Option<ReadOnly>,
    pub(crate) group: Option<String>,
}

/// What one server has told.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerFacts {
    pub(crate) is_replica: bool,
    /// The version as the server writes it, without what the packager added.
    pub(crate) version: String,
    /// Its main number: `17` of PostgreSQL, `11.8` of the others.
    pub(crate) release: (u32, u32),
    /// Whether MySQL's protocol is spoken by MariaDB.
    pub(crate) is_mariadb: bool,
    /// Whether it is one of Aurora's instances, which share a storage: they have no log to receive,
    /// and most settings of replication mean nothing there.
    pub(crate) is_aurora: bool,
    /// The system whose data it holds (PostgreSQL).
    pub(crate) system: Option<String>,
    /// What no other running server shares with it.
    pub(crate) run: Option<String>,
    /// The same, asked over a second connection.
    pub(crate) run_again: Option<String>,
    pub(crate) database: Option<String>,
    /// Our user on the server.
    pub(crate) user: Option<String>,
    /// Whether our user may do everything (PostgreSQL).
    pub(crate) is_superuser: Option<bool>,
    /// The privileges by which our user may write where `read_only` is on (MySQL), as statements
    /// name them.
    pub(crate) unbound_by: Vec<String>,
    /// How far the server's clock is ahead of ours, and how much of this may be the network.
    pub(crate) clock: Option<Clock>,
    /// Whether our connection is encrypted.
    pub(crate) is_encrypted: Option<bool>,
    /// Whether a session keeps its settings from one statement to the next. `None`: not tried.
    pub(crate) keeps_settings: Option<bool>,
    pub(crate) settings: Settings,
    /// What the engine calls replicas, slots and so on.
    pub(crate) sending: Sending,
    pub(crate) receiving: Receiving,
}

/// A server's clock compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) ahead_ms: i64,
    pub(crate) error_ms: i64,
}

/// A server's settings by their names, in the server's own units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(pub(crate) BTreeMap<String, String>);

/// What a server says about the replicas that it sends to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sending {
    /// The names of the connected replicas, as the server knows them.
    pub(crate) replicas: Option<Vec<String>>,
    pub(crate) slots: Vec<Slot>,
}

/// A replication slot of PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// Whether a logical subscriber (or another consumer of changes) uses it, not a replica.
    pub(crate) is_logical: bool,
    pub(crate) is_active: bool,
    /// Whether it holds back log. A slot that nobody has used yet, and that was made without a
    /// reservation, holds back nothing: its `restart_lsn` is NULL.
    pub(crate) holds_log: Option<bool>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: Option<String>,
    /// Why it cannot be used any more, such as `wal_removed` (since PostgreSQL 17).
    pub(crate) invalidation: Option<String>,
    /// How much of the log it holds back.
    pub(crate) retained_bytes: Option<u64>,
}

/// What a server says about its own replication.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receiving {
    /// Whether our role may see it.
    pub(crate) is_visible: Option<bool>,
    /// Whether the server is told to follow another one (MySQL).
    pub(crate) follows: Option<bool>,
    /// Whether the receiving process is connected (MySQL: the IO thread).
    pub(crate) receives: Option<bool>,
    /// Whether the applying process runs (MySQL: the SQL thread).
    pub(crate) applies: Option<bool>,
    /// The slot that it uses.
    pub(crate) slot: Option<String>,
    /// The last errors of the receiving and of the applying thread.
    pub(crate) receive_error: Option<String>,
    pub(crate) apply_error: Option<String>,
    /// By how much it deliberately stays behind.
    pub(crate) delay: Option<Duration>,
    /// Subscriptions in the database, by name, and whether each is enabled. `None` if the server
    /// does not tell.
    pub(crate) subscriptions: Option<BTreeMap<String, bool>>,
    /// The subscriptions whose worker runs.
    pub(crate) running_subscriptions: Vec<String>,
}

impl Slot {
    /// Whether it cannot be used any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation.is_some()
    }
}

impl Settings {
    /// Takes rows of two columns: a name and a value.
    pub(crate) fn from_rows(rows: &[TextRow], name: &str, value: &str) -> Self {
        let pair = |row: &TextRow| {
            Some((row.text(name)?.to_ascii_lowercase(), row.text(value)?.to_owned()))
        };
        Settings(rows.iter().filter_map(pair).collect())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// Whether the setting is on; `None` if it is unknown or says something else.
    pub(crate) fn is_on(&self, name: &str) -> Option<bool> {
        self.text(name).and_then(crate::ask::truth)
    }

    /// Whether the setting is known to be off.
    pub(crate) fn is_off(&self, name: &str) -> bool {
        self.is_on(name) == Some(false)
    }
}

impl Facts {
    /// Decides about servers of MySQL that accept writes although they follow another server.
    ///
    /// The library goes by `read_only` alone, and a primary may follow a server of another cluster.
    /// So a server that follows is only a replica that was left writable if another server, which
    /// follows nobody, accepts writes.
    pub(crate) fn settle_roles(&mut self) {
        let follows = |server: &ServerFacts| server.receiving.follows == Some(true);
        if self.engine != Engine::MySql
            || !self.answered().any(|(_, server)| !server.is_replica && !follows(server))
        {
            return;
        }
        for endpoint in &mut self.endpoints {
            if let Ok(server) = &mut endpoint.server {
                server.is_replica |= follows(server);
            }
        }
    }

    /// The endpoints that answered, with what they told.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (&EndpointFacts, &ServerFacts)> {
        self.endpoints.iter().filter_map(|it| Some((it, &**it.server.as_ref().ok()?)))
    }

    /// Those of them that accept writes and are no logical subscribers.
    pub(crate) fn primaries(&self) -> impl Iterator<Item = (&EndpointFacts, &ServerFacts)> {
        self.answered().filter(|(it, server)| !server.is_replica && !self.is_subscriber(it, server))
    }

    /// Whether an endpoint is a logical subscriber, declared or not. The first endpoint is none: a
    /// primary may subscribe to something else.
    pub(crate) fn is_subscriber(&self, endpoint: &EndpointFacts, server: &ServerFacts) -> bool {
        let is_first = self.endpoints.first().is_some_and(|first| first.name == endpoint.name);
        let subscriptions = server.receiving.subscriptions.as_ref();
        let subscribes = !server.is_replica && subscriptions.is_some_and(|it| !it.is_empty());
        endpoint.subscription.is_some() || (subscribes && !is_first)
    }

    /// Those of them that replicate.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = (&EndpointFacts, &ServerFacts)> {
        self.answered().filter(|(_, server)| server.is_replica)
    }

    /// The endpoint whose statements and settings others are compared with: the first primary.
    pub(crate) fn reference(&self) -> Option<(&EndpointFacts, &ServerFacts)> {
        self.primaries().next()
    }
}

impl EndpointFacts {
    /// Whether its address is on this machine: nothing on a wire can be read.
    pub(crate) fn is_local(&self) -> bool {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        // Only an address of this machine can be bound to.
        let is_ours = |ip: IpAddr| ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
        host.starts_with('/') || host == "localhost" || ip.is_ok_and(is_ours)
    }
}
