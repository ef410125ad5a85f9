//! One addressable server, and small sets of them.

use std::fmt;

use serde::Serialize;

/// The most endpoints that one topology can hold: a set of them is one word.
pub const MAX_ENDPOINTS: usize = 64;

/// The place of an endpoint in the configuration, the first being 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EndpointId(u8);

impl EndpointId {
    /// The endpoint configured first: the primary, until observed otherwise.
    pub const FIRST: EndpointId = EndpointId(0);

    /// The endpoint at this place, or `None` at [`MAX_ENDPOINTS`] and beyond.
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        u8::try_from(index).ok().filter(|&i| usize::from(i) < MAX_ENDPOINTS).map(EndpointId)
    }

    /// The place as an index into tables kept per endpoint.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One addressable server, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    name: String,
    address: String,
}

impl Endpoint {
    /// An endpoint called `name` in everything that people read, at `address`
    /// (`host:port` or a file; never with credentials).
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Endpoint { name: name.into(), address: address.into() }
    }

    /// The name that plans, events and logs use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, without credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A set of endpoints in one machine word, so that planning allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointSet(u64);

impl EndpointSet {
    /// The set of none.
    pub const EMPTY: EndpointSet = EndpointSet(0);
    /// The set of all, whether they exist or not.
    pub const ALL: EndpointSet = EndpointSet(u64::MAX);

    /// Adds `id`.
    pub fn insert(&mut self, id: EndpointId) {
        self.0 |= 1 << id.0;
    }

    /// Takes `id` out.
    pub fn remove(&mut self, id: EndpointId) {
        self.0 &= !(1 << id.0);
    }

    /// Whether `id` is in the set.
    #[must_use]
    pub fn contains(self, id: EndpointId) -> bool {
        self.0 & (1 << id.0) != 0
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

    /// The member that `n` others precede, or `None` past the end.
    #[must_use]
    pub fn nth(self, n: usize) -> Option<EndpointId> {
        self.iter().nth(n)
    }

    /// The members in the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = EndpointId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros();
            // 64 trailing zeros: nothing is left.
            let id = EndpointId::from_index(index as usize)?;
            rest &= rest - 1;
            Some(id)
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
        f.debug_set().entries(self.iter().map(EndpointId::index)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    #[test]
    fn a_set_holds_the_first_and_the_last_place() {
        let set: EndpointSet = [id(63), id(0)].into_iter().collect();
        assert_eq!(set.iter().map(EndpointId::index).collect::<Vec<_>>(), [0, 63]);
        assert_eq!(set.nth(1), Some(id(63)));
        assert_eq!(set.nth(2), None);
    }

    #[test]
    fn removing_empties_the_set() {
        let mut set: EndpointSet = [id(5)].into_iter().collect();
        set.remove(id(5));
        assert!(set.is_empty());
        assert_eq!(set.iter().count(), 0);
    }

    #[test]
    fn there_is_no_endpoint_past_the_last_place() {
        assert_eq!(EndpointId::from_index(MAX_ENDPOINTS), None);
    }
}
