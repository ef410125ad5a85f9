//! One process: the product, assembled over simulated servers.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use sealane::{
    Config, PrimaryReads, RoutedConnection,
    assembly::{OpenLenders, OpenServers, Parts, assemble_with, assemble_with_catalog},
};
use sealane_core::{
    Endpoint as Address, EndpointId, Engine, Event, HealthPolicy, TimedEvent, Topology,
};
use sealane_monitor::{BoxProbe, Entropy, TopologyStore};
use sealane_sql::Dialect;
use tokio::sync::{Semaphore, broadcast};

use crate::{
    catalog::SimCatalog,
    coverage::variant,
    draw::Draw,
    lender::{Endpoint, address_of, endpoint_name, incarnation},
    probe::SimProbe,
    scenario::{Kind, Scenario},
    server::Server,
    world::World,
};

/// The group of a subscriber, which serves only what is sent there.
pub(crate) const GROUP: &str = "costly";

/// The product, in one process.
pub(crate) async fn process_of(
    scenario: &Scenario,
    world: &Arc<World>,
    process: usize,
    lent: &Arc<Semaphore>,
) -> RoutedConnection {
    let (count, kind) = {
        let state = world.lock();
        (state.servers.len(), state.kind)
    };
    let (engine, dialect) = match kind {
        Kind::Timelines => (Engine::Postgres, Dialect::PostgreSql),
        Kind::GtidSets | Kind::GtidLists => (Engine::MySql, Dialect::MySql),
    };
    let is_subscriber = |number: usize| scenario.has_subscriber && number + 1 == count;
    let endpoints = (0..count).map(|number| {
        let address = Address::new(endpoint_name(number), endpoint_name(number));
        if is_subscriber(number) { address.as_subscriber().in_group(GROUP) } else { address }
    });
    let endpoints = endpoints.collect();
    let draw = Mutex::new(Draw::new(scenario.seed ^ (process as u64 + 1)));
    let entropy = Entropy::new(move || draw.lock().unwrap_or_else(PoisonError::into_inner).word());
    let topology = match (scenario.tables, kind) {
        (Some(_), Kind::GtidSets | Kind::GtidLists) => {
            Topology::new(endpoints).asking_for_filters()
        }
        _ => Topology::new(endpoints),
    };
    let store = TopologyStore::with_entropy(topology, health(scenario), entropy);
    let servers = Servers {
        world: Arc::clone(world),
        process,
        store: Arc::clone(&store),
        lent: Arc::clone(lent),
    };
    let opened = (0..count)
        .filter_map(|address| Some(servers.at(EndpointId::from_index(address)?, address)));
    let (probes, pools) = opened.unzip();
    let config = Config::new("postgres://app@server-0/shop")
        .token_key([7_u8; 32])
        .hedged_reads(scenario.is_hedged)
        .primary_wait(Duration::from_secs(5));
    let config = match scenario.only_intended {
        true => config.primary_reads(PrimaryReads::Intended),
        false => config,
    };
    let config = if scenario.any_lag { config.max_lag(None) } else { config };
    let config = if scenario.has_subscriber { config.heavy_reads(GROUP) } else { config };
    let events = (store.events(), Arc::downgrade(&store));
    tokio::spawn(tell(Arc::clone(world), process, events.0, events.1));
    let catalog = SimCatalog::new(Arc::clone(world), process, Arc::clone(&store));
    let parts = Parts { config, engine, dialect, probes, pools, store };
    match scenario.tables {
        Some(_) => assemble_with_catalog(parts, Box::new(servers), catalog).await,
        None => assemble_with(parts, Box::new(servers)).await,
    }
}

fn health(scenario: &Scenario) -> HealthPolicy {
    let mut policy = HealthPolicy::default();
    if scenario.lags_soon {
        (policy.lagging_above, policy.lagging_until) =
            (Duration::from_millis(400), Duration::from_millis(150));
    }
    policy
}

/// What a process opens at an address.
struct Servers {
    world: Arc<World>,
    process: usize,
    store: Arc<TopologyStore>,
    lent: Arc<Semaphore>,
}

impl Servers {
    fn at(&self, id: EndpointId, address: usize) -> (BoxProbe, Box<dyn OpenLenders>) {
        let (world, process, lent) =
            (Arc::clone(&self.world), self.process, Arc::clone(&self.lent));
        let probe = BoxProbe::new(SimProbe::new(Arc::clone(&world), process, address));
        let store = Arc::clone(&self.store);
        (probe, Box::new(Endpoint { world, process, id, address, store, lent }))
    }
}

impl OpenServers for Servers {
    fn open(&self, id: EndpointId, name: &str) -> (BoxProbe, Box<dyn OpenLenders>) {
        self.at(id, address_of(name).unwrap_or_default())
    }
}

/// Writes down what a process learns, as long as it lives.
async fn tell(
    world: Arc<World>,
    process: usize,
    mut events: broadcast::Receiver<TimedEvent>,
    store: Weak<TopologyStore>,
) {
    while let Ok(told) = events.recv().await {
        let event = told.event;
        let Some(store) = store.upgrade() else { return };
        let topology = store.topology();
        let mut state = world.lock();
        if let Event::PrimaryChanged { to, .. } = &event {
            // Not by its address, which may lead elsewhere by now.
            let primary = to.and_then(|primary| topology.get(primary));
            let run = primary.and_then(|it| it.incarnation.clone());
            let plant = state.plant;
            let is_it = |it: &&Server| Some(incarnation(it.number, it.run, plant)) == run;
            let server = state.servers.iter().find(is_it).map(|it| (it.number, it.branch));
            state.primary_of[process] = server.map(|(number, _)| number);
            if let Some((_, branch)) = server {
                let timeline = state.history.branches[branch].timeline;
                state.elect(process, timeline);
            }
        }
        state.trace.note(format_args!("  process {process}: {}", event.named(&topology)));
        state.count(&format!("event: {}", variant(&event)));
        for (id, _) in topology.iter() {
            state.count(&format!("condition: {:?}", topology.condition(id)));
        }
    }
}
