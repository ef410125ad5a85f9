//! The pools of all endpoints, each at the place of its endpoint.
//!
//! Statements find pools without a lock, while endpoints are added and removed. A statement on a
//! removed endpoint finishes on the pools that it holds.
//!
//! SeaORM's own connection is handed out by reference, as SeaORM's types require, and this
//! reference lives as long as the cluster. So a list that only grows keeps the connections that
//! were handed out: one for each endpoint that was the primary when somebody asked. Added and
//! removed replicas leave nothing in the list, and a removed primary leaves a closed pool.
//! (Rejected: one connection for each endpoint, kept forever. Rejected: a copy in each handle,
//! which would not follow the primary.)

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use sea_orm::DatabaseConnection;
use sealane_core::{EndpointId, MAX_ENDPOINTS};

use crate::pool::{Connections, EndpointPools, Pools};

/// The pools of all endpoints.
pub(crate) struct PoolTable {
    places: Box<[ArcSwapOption<Entry>; MAX_ENDPOINTS]>,
    handed_out: OnceLock<Box<HandedOut>>,
    /// The answer if there was never any pool.
    nowhere: DatabaseConnection,
}

/// The pools of one endpoint.
#[derive(Debug)]
pub(crate) struct Entry {
    endpoint: EndpointId,
    pub(crate) pools: EndpointPools,
}

/// SeaORM's own connection to one endpoint, and the next entry of the list.
struct HandedOut {
    endpoint: EndpointId,
    connection: DatabaseConnection,
    next: OnceLock<Box<HandedOut>>,
}

impl PoolTable {
    /// The table of the configured endpoints, in their order.
    pub(crate) fn new(configured: impl IntoIterator<Item = EndpointPools>) -> Self {
        let table = PoolTable {
            places: Box::new(std::array::from_fn(|_| ArcSwapOption::empty())),
            handed_out: OnceLock::new(),
            nowhere: DatabaseConnection::default(),
        };
        for (index, pools) in configured.into_iter().enumerate() {
            if let Some(endpoint) = EndpointId::from_index(index) {
                table.put(endpoint, pools);
            }
        }
        table
    }

    /// Stores an endpoint's pools. Call this before the endpoint is in a topology.
    pub(crate) fn put(&self, endpoint: EndpointId, pools: EndpointPools) {
        self.places[endpoint.place()].store(Some(Arc::new(Entry { endpoint, pools })));
    }

    /// Removes and returns the pools of an endpoint that is no longer in a topology. They are not
    /// closed.
    pub(crate) fn take(&self, endpoint: EndpointId) -> Option<Arc<Entry>> {
        let place = &self.places[endpoint.place()];
        let entry = place.load_full().filter(|entry| entry.endpoint == endpoint)?;
        place.store(None);
        Some(entry)
    }

    /// The pools of `endpoint`, of this generation or a later one; `None` if the endpoint was
    /// removed.
    pub(crate) fn at(&self, endpoint: EndpointId, generation: u64) -> Option<Arc<Pools>> {
        let entry = self.places[endpoint.place()].load();
        let entry = entry.as_ref().filter(|entry| entry.endpoint == endpoint)?;
        Some(entry.pools.at(generation))
    }

    /// The open connections to `endpoint`; none if the endpoint was removed.
    pub(crate) fn connections(&self, endpoint: EndpointId) -> Connections {
        let entry = self.places[endpoint.place()].load();
        let entry = entry.as_ref().filter(|entry| entry.endpoint == endpoint);
        entry.map(|entry| entry.pools.connections()).unwrap_or_default()
    }

    /// Whether `endpoint`, of MySQL or MariaDB, ends reads that are abandoned.
    #[cfg(feature = "mysql")]
    pub(crate) fn cancels(&self, endpoint: EndpointId) -> bool {
        let entry = self.places[endpoint.place()].load();
        entry.as_ref().is_some_and(|entry| entry.endpoint == endpoint && entry.pools.cancels())
    }

    /// All pools, in the order of the places.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.places.iter().filter_map(ArcSwapOption::load_full).collect()
    }

    /// SeaORM's own connection to `endpoint`. If the endpoint was removed: to an endpoint that was
    /// asked for before.
    pub(crate) fn plain(&self, endpoint: EndpointId) -> &DatabaseConnection {
        let mut next = &self.handed_out;
        loop {
            match next.get() {
                Some(known) if known.endpoint == endpoint => return &known.connection,
                Some(known) => next = &known.next,
                None => {
                    let entry = self.places[endpoint.place()].load();
                    let Some(entry) = entry.as_ref().filter(|it| it.endpoint == endpoint) else {
                        break;
                    };
                    let connection = entry.pools.plain().clone();
                    // If another thread was faster, the loop continues with its entry.
                    let _ = next.set(Box::new(HandedOut {
                        endpoint,
                        connection,
                        next: OnceLock::new(),
                    }));
                }
            }
        }
        self.handed_out.get().map_or(&self.nowhere, |first| &first.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> EndpointPools {
        EndpointPools::fixed(Pools::same(DatabaseConnection::default()))
    }

    fn id(index: usize) -> EndpointId {
        EndpointId::from_index(index).unwrap()
    }

    /// How many connections are kept because they were handed out.
    fn kept(table: &PoolTable) -> usize {
        std::iter::successors(table.handed_out.get(), |it| it.next.get()).count()
    }

    #[test]
    fn only_the_endpoint_itself_finds_its_pools() {
        let table = PoolTable::new([pools(), pools()]);
        assert!(table.at(id(1), 0).is_some() && table.at(id(2), 0).is_none());
        assert_eq!(table.all().len(), 2);
    }

    #[test]
    fn a_connection_that_was_handed_out_stays_and_is_kept_once() {
        let table = PoolTable::new([pools(), pools(), pools()]);
        let first = table.plain(id(0));
        assert!(std::ptr::eq(first, table.plain(id(0))));
        assert!(!std::ptr::eq(first, table.plain(id(1))));
        assert_eq!(kept(&table), 2, "the third one was never asked for");
        assert!(std::ptr::eq(first, table.plain(id(9))), "there is no such endpoint");
        assert_eq!(kept(&table), 2);
    }

    #[test]
    fn an_endpoint_that_is_taken_out_leaves_what_was_handed_out() {
        let table = PoolTable::new([pools(), pools()]);
        let first = table.plain(id(0));
        assert!(table.take(id(0)).is_some() && table.take(id(0)).is_none());
        assert!(table.at(id(0), 0).is_none());
        assert!(std::ptr::eq(first, table.plain(id(0))));
    }

    #[test]
    fn threads_that_ask_at_once_get_one_connection() {
        let table = PoolTable::new((0..8).map(|_| pools()));
        let asked = std::thread::scope(|scope| {
            let ask = || (0..8).map(|n| std::ptr::from_ref(table.plain(id(n))) as usize).collect();
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|it| it.join().unwrap()).collect::<Vec<Vec<usize>>>()
        });
        assert!(asked.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(kept(&table), 8);
    }
}
