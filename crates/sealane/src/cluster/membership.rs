//! Endpoints that are added, removed and drained while statements run.
//!
//! One change runs at a time. The order of an addition ensures that nothing is used before it
//! exists: first the pools, then the endpoint in the topology, where nobody may use it before a
//! probe has answered, then the probe. A removal goes the other way: a statement that was planned
//! on the endpoint finds this out before it sends anything (`sealane_monitor::Footing`).
//!
//! A drain checks at intervals whether a statement still runs on the endpoint. (Rejected: a signal
//! at the end of each statement. Every statement would pay for something that happens once a
//! month.)

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::{Endpoint, EndpointId, EndpointState, Health, MAX_ENDPOINTS};
use sealane_monitor::BoxProbe;

use super::Cluster;
use crate::{BoxFuture, ConnectError, EndpointError, Replica, pool::EndpointPools};

/// How often a drained endpoint is checked.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long the removal of an endpoint waits for what still runs there.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Opens the endpoints of one engine, at the start and later.
pub(crate) trait OpenEndpoint: Send + Sync {
    /// Creates what an endpoint needs. Nothing connects before its first use. `is_first`: whether
    /// the endpoint is configured as the primary.
    fn open<'a>(
        &'a self,
        replica: &'a Replica,
        id: EndpointId,
        is_first: bool,
    ) -> BoxFuture<'a, Result<Opened, DbErr>>;

    /// Forgets everything stored for an endpoint.
    fn forget(&self, id: EndpointId);
}

/// What an endpoint needs.
#[cfg_attr(
    not(any(feature = "mysql", feature = "postgres")),
    allow(dead_code, reason = "there is no engine whose endpoints can be added")
)]
pub(crate) struct Opened {
    pub(crate) pools: EndpointPools,
    pub(crate) probe: BoxProbe,
}

impl Cluster {
    /// Adds a replica that was checked, and waits until it has answered or failed once.
    pub(crate) async fn add(
        &self,
        replica: &Replica,
        endpoint: Endpoint,
    ) -> Result<(), ConnectError> {
        let opener = self.opener.as_ref().ok_or(ConnectError::FixedEndpoints)?;
        let id = {
            let _one_at_a_time = self.membership.lock().await;
            if self.endpoint(endpoint.name()).is_ok() {
                return Err(ConnectError::DuplicateName { name: endpoint.name().to_owned() });
            }
            let count = self.store().topology().len() + 1;
            let too_many = ConnectError::TooManyEndpoints { count: count.max(MAX_ENDPOINTS + 1) };
            let id = self.store().vacancy(self.loads.busy()).ok_or(too_many)?;
            let opened = opener.open(replica, id, false).await;
            let Opened { pools, probe } = opened.map_err(ConnectError::open(&endpoint))?;
            // From here on nothing waits, so the addition cannot be cancelled half-way.
            self.loads.begin_anew(id);
            self.ejections.begin_anew(id);
            self.pools.put(id, pools);
            self.store().add(id, endpoint);
            self.monitor.add(id, probe);
            id
        };
        // On MySQL and MariaDB, it is also asked for its filters.
        let is_observed = |state: &EndpointState| {
            state.health != Health::Unknown
                && !(state.is_usable() && state.filters_unknown.is_some())
        };
        let observed = self.store().until(|topology| topology.get(id).is_none_or(is_observed));
        // If it does not answer in time, it joins later.
        let _ = tokio::time::timeout(self.patience, observed).await;
        self.fill_pool(id);
        // After the limit, reads move there as soon as there is a proof.
        self.monitor.await_replication(self.quick * 10).await;
        Ok(())
    }

    /// The endpoint of this name.
    pub(crate) fn endpoint(&self, name: &str) -> Result<EndpointId, EndpointError> {
        if self.opener.is_none() {
            return Err(EndpointError::Fixed);
        }
        let topology = self.store().topology();
        let mut named = topology.iter().filter(|(_, state)| state.endpoint.name() == name);
        named.next().map(|(id, _)| id).ok_or(EndpointError::Unknown)
    }

    /// Sends no new statements to an endpoint, and waits until none runs there.
    pub(crate) async fn drain(&self, id: EndpointId) -> Result<(), EndpointError> {
        self.store().set_draining(id, true);
        loop {
            // The order matters: a statement is counted before it checks whether it may run there.
            match self.store().topology().get(id) {
                Some(state) if !state.draining => return Err(EndpointError::Undrained),
                Some(_) if self.loads.in_flight(id) > 0 => {}
                Some(_) | None => return Ok(()),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Drains an endpoint and removes it, with its pools and its probe.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), EndpointError> {
        let entry = {
            let _one_at_a_time = self.membership.lock().await;
            let id = self.endpoint(name)?;
            if self.store().topology().len() == 1 {
                return Err(EndpointError::Last);
            }
            // What still runs after the limit is cut off.
            if let Ok(drained) = tokio::time::timeout(DRAIN_LIMIT, self.drain(id)).await {
                drained?;
            }
            self.store().remove(id);
            self.monitor.remove(id);
            if let Some(opener) = &self.opener {
                opener.forget(id);
            }
            self.pools.take(id)
        };
        if let Some(entry) = entry {
            // In a task, so that the connections are closed even if the caller is cancelled.
            let closing = tokio::spawn(async move { entry.pools.close().await });
            // The servers' answers to closing do not matter.
            let _ = closing.await;
        }
        Ok(())
    }

    /// Opens the pools of an endpoint that answers. The pools then open as many connections as the
    /// configuration asks for.
    fn fill_pool(&self, id: EndpointId) {
        let store = self.store();
        if store.topology().get(id).is_some_and(|state| state.is_usable()) {
            self.pools.at(id, store.generation(id));
        }
    }

    /// Like [`fill_pool`](Self::fill_pool), for all endpoints that answer. The pools of the others
    /// are opened at their first use.
    pub(crate) fn fill_pools(&self) {
        let topology = Arc::clone(&self.store().topology());
        topology.iter().for_each(|(id, _)| self.fill_pool(id));
    }
}
