//! One addressable server, and small sets of them.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

/// The most endpoints that one topology can hold at a time: a set of them is one word.
pub const MAX_ENDPOINTS: usize = 64;

/// The number of an endpoint in this process. The configured endpoints are numbered from 0. An
/// endpoint added later gets a higher number than all before it. No number is used twice, so what
/// is remembered of a removed endpoint is never attributed to another one.
///
/// Tables with one entry per endpoint, and sets, are indexed by the endpoint's *place*. Two
/// endpoints of one topology never share a place, but a new endpoint may get the place of a removed
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EndpointId(u32);

impl EndpointId {
    /// The first endpoint of the configuration: the primary, until probes show another one.
    pub const FIRST: EndpointId = EndpointId(0);

    /// The endpoint with this index in the configuration, or `None` from [`MAX_ENDPOINTS`] on.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        u32::try_from(index).ok().filter(|_| index < MAX_ENDPOINTS).map(EndpointId)
    }

    /// The place, for tables with [`MAX_ENDPOINTS`] entries.
    #[must_use]
    pub fn place(self) -> usize {
        self.0 as usize % MAX_ENDPOINTS
    }

    /// The next number; `None` after the largest number.
    pub(super) fn next(self) -> Option<EndpointId> {
        self.0.checked_add(1).map(EndpointId)
    }
}

/// A moment in the order in which endpoints are added.
///
/// A set of endpoints holds places, and a new endpoint may get the place of a removed one. Code
/// that keeps a set for longer than the topology from which the set was made must also keep that
/// topology's horizon. Then no new endpoint is mistaken for an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon(pub(super) Option<EndpointId>);

impl Horizon {
    /// Includes every endpoint.
    pub const NEVER: Horizon = Horizon(None);

    /// Whether `id` was added before this horizon.
    #[must_use]
    pub fn includes(self, id: EndpointId) -> bool {
        self.0.is_none_or(|next| id < next)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One addressable server, as configured. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Arc<Configured>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Configured {
    name: String,
    address: String,
    group: Option<Box<str>>,
    zone: Option<Box<str>>,
    tags: Vec<Box<str>>,
    weight: u32,
    is_subscriber: bool,
    #[serde(skip)]
    read_timeout: Option<Duration>,
}

/// The largest weight: the share of an endpoint relative to one of weight 1.
const MAX_WEIGHT: u32 = 1_000;

impl Endpoint {
    /// An endpoint at `address` (`host:port` or a file, never with credentials). Plans, events and
    /// logs call it `name`. It has no group, no zone and no tags, and weight 1.
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        let (name, address) = (name.into(), address.into());
        let configured = Configured {
            name,
            address,
            group: None,
            zone: None,
            tags: Vec::new(),
            weight: 1,
            is_subscriber: false,
            read_timeout: None,
        };
        Endpoint(Arc::new(configured))
    }

    /// The same endpoint in a group: it serves only reads that ask for the group.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).group = Some(group.into());
        self
    }

    /// The same endpoint in a zone, such as `eu-west-1a`.
    #[must_use]
    pub fn in_zone(mut self, zone: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).zone = Some(zone.into());
        self
    }

    /// The same endpoint with one more tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).tags.push(tag.into());
        self
    }

    /// The same endpoint as a logical subscriber, which lacks everything that is not published.
    #[must_use]
    pub fn as_subscriber(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_subscriber = true;
        self
    }

    /// The same endpoint with this weight: its share of the reads relative to the other weights,
    /// from 1 to 1,000. A value outside this range is clamped.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        Arc::make_mut(&mut self.0).weight = weight.clamp(1, MAX_WEIGHT);
        self
    }

    /// The same endpoint with a limit on the time that a read may take there, if another replica may
    /// serve it as well.
    #[must_use]
    pub fn with_read_timeout(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.0).read_timeout = Some(limit);
        self
    }

    /// The name that plans, events and logs use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The address, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The address as a host and a port. An address without a port, such as a file, is the host.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, Option<u16>) {
        let address = self.address();
        match address.rsplit_once(':').map(|(host, port)| (host, port.parse().ok())) {
            Some((host, Some(port))) => (host, Some(port)),
            _ => (address, None),
        }
    }

    /// The group of replicas that the endpoint belongs to.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    /// The zone that the endpoint is in.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.0.zone.as_deref()
    }

    /// Whether the endpoint carries `tag`.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.0.tags.iter().any(|it| **it == *tag)
    }

    /// Whether the endpoint is a logical subscriber.
    #[must_use]
    pub fn is_subscriber(&self) -> bool {
        self.0.is_subscriber
    }

    /// The endpoint's share of the reads, relative to the other weights; at least 1.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.0.weight
    }

    /// The longest that a read may take there if another replica may serve it as well; `None` for no
    /// limit.
    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.0.read_timeout
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

/// A set of endpoints in one machine word, so that planning allocates nothing.
///
/// A set holds places, so it belongs to the topology from which it was made. That topology also
/// gives the set's members: [`Topology::members`](crate::Topology::members).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointSet(u64);

impl EndpointSet {
    /// The empty set.
    pub const EMPTY: EndpointSet = EndpointSet(0);
    /// The set of all possible endpoints, whether they exist or not.
    pub const ALL: EndpointSet = EndpointSet(u64::MAX);

    /// The endpoints at the places whose bits are set.
    pub(crate) fn of_places(places: u64) -> Self {
        EndpointSet(places)
    }

    /// A word with the bit of each endpoint's place set.
    pub(crate) fn to_places(self) -> u64 {
        self.0
    }

    /// Adds `id`.
    pub fn insert(&mut self, id: EndpointId) {
        self.0 |= 1 << id.place();
    }

    /// Removes `id`.
    pub fn remove(&mut self, id: EndpointId) {
        self.0 &= !(1 << id.place());
    }

    /// Whether `id` is in the set.
    #[must_use]
    pub fn contains(self, id: EndpointId) -> bool {
        self.0 & (1 << id.place()) != 0
    }

    /// The members of either set.
    #[must_use]
    pub fn or(self, other: EndpointSet) -> EndpointSet {
        EndpointSet(self.0 | other.0)
    }

    /// The members that are not in `other`.
    #[must_use]
    pub fn without(self, other: EndpointSet) -> EndpointSet {
        EndpointSet(self.0 & !other.0)
    }

    /// The members that are in both sets.
    #[must_use]
    pub fn and(self, other: EndpointSet) -> EndpointSet {
        EndpointSet(self.0 & other.0)
    }

    /// How many endpoints are in the set.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The places of the members, in ascending order.
    pub fn places(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let place = rest.trailing_zeros() as usize;
            // 64 trailing zeros mean that nothing is left.
            (place < MAX_ENDPOINTS).then(|| {
                rest &= rest - 1;
                place
            })
        })
    }
}

impl FromIterator<EndpointId> for EndpointSet {
    fn from_iter<I: IntoIterator<Item = EndpointId>>(ids: I) -> Self {
        let mut set = EndpointSet::EMPTY;
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}

impl fmt::Debug for EndpointSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.places()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    #[test]
    fn reads_have_a_time_limit_where_one_was_set() {
        let endpoint = Endpoint::new("db", "db:5432");
        assert_eq!(endpoint.read_timeout(), None);
        let limit = Duration::from_secs(2);
        assert_eq!(endpoint.with_read_timeout(limit).read_timeout(), Some(limit));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let parts = |address: &str| {
            let endpoint = Endpoint::new("db", address);
            let (host, port) = endpoint.host_and_port();
            (host.to_owned(), port)
        };
        assert_eq!(parts("db-1:5432"), ("db-1".to_owned(), Some(5432)));
        assert_eq!(parts("[::1]:3306"), ("[::1]".to_owned(), Some(3306)));
        assert_eq!(parts("here"), ("here".to_owned(), None));
    }

    #[test]
    fn a_set_holds_the_first_and_the_last_place() {
        let set: EndpointSet = [id(63), id(0)].into_iter().collect();
        assert_eq!(set.places().collect::<Vec<_>>(), [0, 63]);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn removing_empties_the_set() {
        let mut set: EndpointSet = [id(5)].into_iter().collect();
        set.remove(id(5));
        assert!(set.is_empty());
        assert_eq!(set.places().count(), 0);
    }

    #[test]
    fn no_endpoint_is_configured_past_the_last_place() {
        assert_eq!(EndpointId::from_index(MAX_ENDPOINTS), None);
    }

    #[test]
    fn the_number_after_the_last_place_has_the_first_place_and_is_another_endpoint() {
        let next = id(63).next().unwrap();
        assert_eq!(next.place(), 0);
        assert_ne!(next, EndpointId::FIRST);
        assert_eq!(EndpointId(u32::MAX).next(), None);
    }
}
