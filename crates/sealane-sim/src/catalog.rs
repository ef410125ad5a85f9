//! What simulated servers tell of their tables, and loads of it over a connection of its own.
//!
//! There are three tables. Of `boat`, servers keep everything. A server may filter `pier`: then it has
//! nothing of it as a replica. `sight` is a view, and whoever changes it decides whether a replica may
//! read it.

use std::sync::Arc;

use sealane_core::{EndpointId, Failure};
use sealane_monitor::{CatalogSource, KnownFilters, Loaded, ServerFilters, Told, TopologyStore};
use sealane_sql::{Catalog, CatalogFacts, RelationFact, ReplicationFilter};

use crate::{
    error::Trouble,
    lender::{address_of, connect, in_words},
    plant::Plant,
    scenario::Kind,
    world::{Opened, State, Way, World},
};

/// Loads the catalog for one process.
pub(crate) struct SimCatalog {
    world: Arc<World>,
    process: usize,
    store: Arc<TopologyStore>,
    filters: KnownFilters,
}

impl SimCatalog {
    pub(crate) fn new(world: Arc<World>, process: usize, store: Arc<TopologyStore>) -> Self {
        let filters = KnownFilters::new(Arc::clone(&store));
        SimCatalog { world, process, store, filters }
    }

    fn address(&self, id: EndpointId) -> Option<usize> {
        let topology = self.store.topology();
        topology.get(id).and_then(|state| address_of(state.endpoint.name()))
    }

    /// One question to a server, on a new connection.
    async fn ask_at<T>(
        &self,
        address: usize,
        answer: impl FnOnce(&mut State, usize) -> T,
    ) -> Result<T, Trouble> {
        let link = connect(&self.world, self.process, address, true).await?;
        // It is closed at the end.
        let _opened = Opened::new(&self.world, link);
        let arrives = self.world.travel(link, Way::There).await;
        self.world.pass(0, 1).await;
        if !arrives || !self.world.served(link, false).await {
            return Err(Trouble::Lost);
        }
        let answer = {
            let state = &mut self.world.lock();
            let server = state.server_of(link).map(|it| it.number).ok_or(Trouble::Lost)?;
            answer(state, server)
        };
        if self.world.travel(link, Way::Back).await { Ok(answer) } else { Err(Trouble::Lost) }
    }

    /// What the server behind an endpoint says of its filters.
    async fn filters_of(&self, id: EndpointId) -> Result<ServerFilters, String> {
        let address = self.address(id).ok_or("it was removed")?;
        self.ask_at(address, filters).await.map_err(in_words)
    }
}

impl CatalogSource for SimCatalog {
    const HAS_FILTERS: bool = true;

    async fn load(&self, primary: EndpointId) -> Result<Loaded, Failure> {
        let address = self.address(primary).ok_or(Failure::Timeout)?;
        let facts = self.ask_at(address, |state, _| facts(state)).await;
        let (facts, kind) = facts.map_err(|trouble| Failure::Connection(in_words(trouble)))?;
        self.world.lock().count("catalogs loaded");
        if kind == Kind::Timelines {
            return Ok(Loaded { catalog: Catalog::new(&facts), ..Loaded::default() });
        }
        let servers = || {
            let topology = self.store.topology();
            topology.iter().map(|(id, _)| (id, self.filters_of(id))).collect()
        };
        let judge = |filters| {
            let mut facts = facts.clone();
            facts.filters = filters;
            std::future::ready(Ok(Catalog::of_mysql(&facts)))
        };
        self.filters.load(servers, judge).await
    }

    async fn ask(&self, server: EndpointId, question: u32) -> Told {
        self.filters.ask(server, question, self.filters_of(server)).await
    }
}

/// What a server says of its filters.
fn filters(state: &mut State, server: usize) -> ServerFilters {
    let is_told = state.servers[server].filters_pier && state.plant != Plant::UntoldFilters;
    let filter = ReplicationFilter {
        ignore_tables: vec!["shop.pier".to_owned()],
        ..ReplicationFilter::default()
    };
    ServerFilters { filters: is_told.then_some(filter).into_iter().collect(), is_hidden: false }
}

/// What the primary says of its tables.
fn facts(state: &mut State) -> (CatalogFacts, Kind) {
    let kind = state.kind;
    let schema = match kind {
        Kind::Timelines => "public",
        Kind::GtidSets | Kind::GtidLists => "shop",
    };
    let locks = kind.locks();
    let named = |name: &str| RelationFact {
        schema: schema.to_owned(),
        name: name.to_owned(),
        ..RelationFact::default()
    };
    let does = match state.sight.locks && state.plant != Plant::OldViews {
        true => format!("SELECT boat.shown, {locks} FROM {schema}.boat"),
        false => format!("SELECT boat.shown FROM {schema}.boat"),
    };
    let mut facts = CatalogFacts::default();
    facts.relations = vec![RelationFact { definitions: vec![does], ..named("sight") }];
    if kind != Kind::Timelines {
        facts.has_all_relations = true;
        facts.default_schema = Some(schema.to_owned());
        facts.relations.extend(["boat", "crew", "pier"].map(named));
    }
    (facts, kind)
}
