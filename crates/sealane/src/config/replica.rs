//! One endpoint of a configuration.

use std::time::Duration;

use sea_orm::ConnectOptions;
use sealane_core::Endpoint;

/// A server and its settings. It is accepted wherever a URL is, also for the primary, which may
/// become a replica later.
///
/// ```
/// use sealane::{Config, Replica};
///
/// let config = Config::new("postgres://app@db-1/shop")
///     .replica(Replica::new("postgres://app@db-2/shop").name("near").zone("eu-1").weight(2))
///     .replica(Replica::new("postgres://app@db-3/shop").group("analytics").tag("ssd"));
/// ```
#[derive(Clone)]
pub struct Replica {
    pub(crate) name: String,
    /// Whether the name was chosen explicitly.
    is_named: bool,
    pub(crate) group: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) weight: u32,
    pub(crate) read_timeout: Option<Duration>,
    pub(crate) subscription: Option<String>,
    pub(crate) options: ConnectOptions,
}

impl Replica {
    /// A server given by its URL, or by SeaORM's `ConnectOptions` with separate pool sizes and
    /// timeouts.
    pub fn new(options: impl Into<ConnectOptions>) -> Self {
        Replica {
            name: String::new(),
            is_named: false,
            group: None,
            zone: None,
            tags: Vec::new(),
            weight: 1,
            read_timeout: None,
            subscription: None,
            options: options.into(),
        }
    }

    /// Its name in everything that people read. Default: its host, with the port if endpoints share
    /// a host. Roles move between servers, so do not name an endpoint after its role.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self.is_named = true;
        self
    }

    /// Puts it into a group: letters, digits, `-` and `_`.
    ///
    /// A replica in a group serves only reads that ask for the group: through a handle
    /// ([`RoutedConnection::group`](crate::RoutedConnection::group)), or with a leading
    /// `/* sealane: group=NAME */`. Other reads are served by the replicas that are in no group.
    /// Example: `"analytics"` keeps reports away from the replicas that users wait for.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Its zone or region: processes in the same zone ([`Config::zone`](crate::Config::zone)) prefer
    /// it.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds a tag, for [`RoutedConnection::tagged`](crate::RoutedConnection::tagged) and for the
    /// application's own policies.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Its share of the reads, relative to the other weights: 1 to 1,000. Values outside this range
    /// are clamped. [`RoundRobin`](crate::RoundRobin) ignores it. Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 1_000);
        self
    }

    /// The longest that a read may take there. Then it moves to another replica, once and within the
    /// [budget for retries](crate::Config::ejection); a read that no other replica may serve goes on.
    /// For all attempts of a read together, see
    /// [`Config::read_timeout`](crate::Config::read_timeout). Default: no limit but what the statement
    /// usually takes, several times over.
    #[must_use]
    pub fn read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = Some(limit);
        self
    }

    /// Declares the server a logical subscriber of PostgreSQL: a separate server that holds what
    /// the subscription of this name brings from the primary.
    ///
    /// It must be in a [`group`](Self::group), because it lacks everything that is not published:
    /// reads go there only if they ask for the group. It never gets writes, although it would
    /// accept them.
    ///
    /// ```
    /// use sealane::{Config, Replica};
    ///
    /// let reports = Replica::new("postgres://app@reports-1/shop")
    ///     .subscription("shop_to_reports")
    ///     .group("reports");
    /// let config = Config::new("postgres://app@db-1/shop").replica(reports);
    /// ```
    #[must_use]
    pub fn subscription(mut self, subscription: impl Into<String>) -> Self {
        self.subscription = Some(subscription.into());
        self
    }

    /// The same at this place of a configuration. An endpoint without a name is named after its
    /// place until its host is known, for example in errors about its URL.
    pub(crate) fn at_place(mut self, place: impl FnOnce() -> String) -> Self {
        if !self.is_named {
            self.name = place();
        }
        self
    }

    /// The explicitly chosen name.
    pub(crate) fn chosen_name(&self) -> Option<&str> {
        self.is_named.then_some(&*self.name)
    }

    /// The endpoint at `address`, as the rest of sealane sees it.
    pub(crate) fn endpoint(&self, name: &str, address: impl Into<String>) -> Endpoint {
        let mut endpoint = Endpoint::new(name, address).with_weight(self.weight);
        if self.subscription.is_some() {
            endpoint = endpoint.as_subscriber();
        }
        if let Some(group) = &self.group {
            endpoint = endpoint.in_group(group.as_str());
        }
        if let Some(zone) = &self.zone {
            endpoint = endpoint.in_zone(zone.as_str());
        }
        if let Some(limit) = self.read_timeout {
            endpoint = endpoint.with_read_timeout(limit);
        }
        self.tags.iter().fold(endpoint, |endpoint, tag| endpoint.with_tag(tag.as_str()))
    }
}

impl std::fmt::Debug for Replica {
    /// Shows no URL, because it may contain a password, and no name, because it may be a misplaced
    /// URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("weight", &self.weight).finish_non_exhaustive()
    }
}

impl From<&str> for Replica {
    fn from(url: &str) -> Self {
        Replica::new(url)
    }
}

impl From<String> for Replica {
    fn from(url: String) -> Self {
        Replica::new(url)
    }
}

impl From<&String> for Replica {
    fn from(url: &String) -> Self {
        Replica::new(url.as_str())
    }
}

impl From<ConnectOptions> for Replica {
    fn from(options: ConnectOptions) -> Self {
        Replica::new(options)
    }
}
