//! One endpoint of a configuration.

use sea_orm::ConnectOptions;
use sealane_core::Endpoint;

/// A server, with what sets it apart from the others. It stands wherever a URL does, also for the
/// primary, which may be a replica later.
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
    /// Whether somebody has chosen the name.
    is_named: bool,
    pub(crate) group: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) weight: u32,
    pub(crate) subscription: Option<String>,
    pub(crate) options: ConnectOptions,
}

impl Replica {
    /// A server by its URL, or by SeaORM's `ConnectOptions` with pool sizes and timeouts of its own.
    pub fn new(options: impl Into<ConnectOptions>) -> Self {
        Replica {
            name: String::new(),
            is_named: false,
            group: None,
            zone: None,
            tags: Vec::new(),
            weight: 1,
            subscription: None,
            options: options.into(),
        }
    }

    /// Its name in everything that people read. Default: its host; with the port where endpoints
    /// share a host. Roles move between servers, so a name should not be one.
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
    /// `/* sealane: group=NAME */`. Reads that do not ask are served by the replicas of no group.
    /// Example: `"analytics"` keeps reports away from the replicas that users wait for.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The zone or region that it is in, for balancers and policies of the application's.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds a tag, for [`RoutedConnection::tagged`](crate::RoutedConnection::tagged) and for policies
    /// of the application's.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Its share of the reads, relative to the other weights: 1 to 1,000; what is beyond counts as the
    /// nearest of these. [`RoundRobin`](crate::RoundRobin) does not look at it. Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 1_000);
        self
    }

    /// Says that it is a logical subscriber of PostgreSQL: a server of its own that holds what the
    /// subscription of this name brings from the primary.
    ///
    /// It must be in a [`group`](Self::group): it lacks what is not published, so reads go there only
    /// when they ask for it. It never takes writes, though it could.
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

    /// The same, at this place of a configuration. An endpoint without a name is called by its
    /// place for as long as its host is not known, as in errors about its URL.
    pub(crate) fn at_place(mut self, place: impl FnOnce() -> String) -> Self {
        if !self.is_named {
            self.name = place();
        }
        self
    }

    /// The name that somebody has chosen.
    pub(crate) fn chosen_name(&self) -> Option<&str> {
        self.is_named.then_some(&*self.name)
    }

    /// The endpoint at `address` that it is to the rest of sealane.
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
        self.tags.iter().fold(endpoint, |endpoint, tag| endpoint.with_tag(tag.as_str()))
    }
}

impl std::fmt::Debug for Replica {
    /// No URL: it may hold a password. Neither a name, which may be a URL by mistake.
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
