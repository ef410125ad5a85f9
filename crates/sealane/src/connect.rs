//! From a configuration to a connection.

mod address;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod start;
mod target;

#[cfg(any(feature = "mysql", feature = "postgres"))]
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, DatabaseConnection};
#[cfg(any(feature = "mysql", feature = "postgres"))]
use sealane_core::EndpointId;
use sealane_core::{Endpoint, Engine, MAX_ENDPOINTS, PrimaryReads, Rule, Topology};
use sealane_monitor::ProbeSchedule;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use sealane_monitor::{Monitor, TopologyStore};
use sealane_sql::is_group_name;

#[cfg(any(feature = "mysql", feature = "postgres"))]
use crate::cluster::{PoolTable, membership::OpenEndpoint};
use crate::{
    Config, ConnectError, RoutedConnection,
    cluster::Cluster,
    config::Replica,
    error::{is_name, safe},
};

use start::Start;
pub use target::Target;

/// Connects to the primary and observes all endpoints once.
///
/// A replica that is down is not an error: it joins when it comes up. The primary must answer.
///
/// # Errors
/// The configuration is not valid, or no primary can be used; see
/// [`ConnectError`]. It turns into SeaORM's `DbErr` with `?`.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn connect(config: impl Into<Config>) -> Result<RoutedConnection, ConnectError> {
    let mut config = config.into();
    config.endpoints_mut().for_each(|endpoint| bound_waits(&mut endpoint.options));
    let mut start = Start::of(&config);
    let (reading, signer) = (config.reading, config.signer.clone());
    let addresses = check(&config)?;
    // Boxed: the compiler computes the layout of a future together with everything it waits for, to
    // a limited depth, and applications nest this future in theirs.
    let cluster = Box::pin(open(config, addresses, &mut start)).await?;
    let cluster = Cluster { reading, signer, ..cluster };
    start.tell(&cluster)?;
    cluster.fill_pools();
    let db = RoutedConnection::new(cluster);
    #[cfg(feature = "metrics")]
    crate::observe::pools::publish(db.cluster());
    Ok(db)
}

async fn open(
    config: Config,
    addresses: Addresses,
    start: &mut Start,
) -> Result<Cluster, ConnectError> {
    match addresses.engine {
        Engine::Postgres | Engine::MySql if config.replicas.is_empty() => {
            alone(&config, &addresses, start).await
        }
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres::replicated(&config, &addresses).await,
        #[cfg(feature = "mysql")]
        Engine::MySql => mysql::replicated(&config, &addresses).await,
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => sqlite(&config, &addresses).await,
        // `check` has refused engines without a driver.
        _ => alone(&config, &addresses, start).await,
    }
}

/// The checked endpoints of a configuration.
struct Addresses {
    engine: Engine,
    endpoints: Vec<Endpoint>,
}

impl Addresses {
    /// The endpoint that was configured as the primary.
    fn first(&self) -> &Endpoint {
        &self.endpoints[0]
    }
}

fn check(config: &Config) -> Result<Addresses, ConnectError> {
    let count = 1 + config.replicas.len();
    if count > MAX_ENDPOINTS {
        return Err(ConnectError::TooManyEndpoints { count });
    }
    // This comes first, because all other errors mention names.
    for (index, endpoint) in config.endpoints().enumerate() {
        check_names(endpoint, index + 1)?;
        if index == 0 && (endpoint.group.is_some() || endpoint.subscription.is_some()) {
            return Err(ConnectError::PrimaryApart);
        }
    }
    if config.name.as_ref().is_some_and(|name| !is_name(name)) {
        return Err(ConnectError::InvalidName { place: 1, what: "name of the database" });
    }
    check_schedule(config.schedule)?;
    check_wait("primary_wait", config.primary_wait)?;
    config.signer.check()?;
    config.endpoints().try_for_each(check_sizes)?;
    let engine = address::read(&config.primary)?.0;
    let mut addresses = Vec::with_capacity(count);
    for endpoint in config.endpoints() {
        addresses.push(check_endpoint(endpoint, engine)?);
    }
    let chosen = config.endpoints().map(|endpoint| match engine {
        // A file has no host, and its role does not move.
        Engine::Sqlite => Some(&*endpoint.name),
        _ => endpoint.chosen_name(),
    });
    let names = address::names(chosen, &addresses);
    if let Some(name) = twice(&names) {
        return Err(ConnectError::DuplicateName { name: name.to_owned() });
    }
    let endpoints = config.endpoints().zip(names).zip(addresses);
    let endpoints: Vec<_> =
        endpoints.map(|((it, name), address)| it.endpoint(&name, address)).collect();
    Rule::check_all(&config.rules, &endpoints).map_err(ConnectError::Rule)?;
    match engine {
        Engine::Sqlite if count > 1 => Err(ConnectError::SqliteReplicas),
        Engine::Sqlite if config.reading.primary_reads != PrimaryReads::Fallback => {
            Err(ConnectError::SqlitePrimaryReads)
        }
        _ => Ok(Addresses { engine, endpoints }),
    }
}

/// A name that occurs twice in `names`.
fn twice(names: &[String]) -> Option<&str> {
    let mut known = std::collections::HashSet::new();
    names.iter().map(String::as_str).find(|name| !known.insert(*name))
}

/// Checks a replica that is to be added to these endpoints of `engine`.
///
/// # Errors
/// The replica is not valid.
pub(crate) fn check_replica(
    replica: Replica,
    topology: &Topology,
    engine: Engine,
) -> Result<(Replica, Endpoint), ConnectError> {
    let place = topology.len() + 1;
    let mut replica = replica.at_place(|| format!("replica-{}", topology.len()));
    bound_waits(&mut replica.options);
    check_names(&replica, place)?;
    check_sizes(&replica)?;
    let address = check_endpoint(&replica, engine)?;
    let name = match replica.chosen_name() {
        Some(name) => name.to_owned(),
        None => {
            let is_taken = |name: &str| topology.iter().any(|(_, it)| it.endpoint.name() == name);
            address::free_name(&address, is_taken)
        }
    };
    let endpoint = replica.endpoint(&name, address);
    Ok((replica, endpoint))
}

/// The address of one endpoint, for people.
fn check_endpoint(replica: &Replica, engine: Engine) -> Result<String, ConnectError> {
    let (its_engine, address) = address::read(replica)?;
    if its_engine != engine {
        return Err(ConnectError::MixedEngines { endpoint: replica.name.clone() });
    }
    check_group(replica)?;
    check_subscription(replica, engine)?;
    Ok(safe(&address))
}

fn check_group(endpoint: &Replica) -> Result<(), ConnectError> {
    match &endpoint.group {
        Some(group) if !is_group_name(group) => {
            Err(ConnectError::InvalidGroup { endpoint: endpoint.name.clone() })
        }
        _ => Ok(()),
    }
}

fn check_subscription(endpoint: &Replica, engine: Engine) -> Result<(), ConnectError> {
    let name = || endpoint.name.clone();
    match (&endpoint.subscription, &endpoint.group) {
        (None, _) => Ok(()),
        (Some(_), _) if engine != Engine::Postgres => {
            Err(ConnectError::NoSubscriptions { endpoint: name() })
        }
        (Some(_), None) => Err(ConnectError::UngroupedSubscriber { endpoint: name() }),
        (Some(_), Some(_)) => Ok(()),
    }
}

/// Refuses names that people could not read, or that may contain secrets.
fn check_names(endpoint: &Replica, place: usize) -> Result<(), ConnectError> {
    let names = [
        ("name", Some(endpoint.name.as_str())),
        ("subscription", endpoint.subscription.as_deref()),
        ("zone", endpoint.zone.as_deref()),
    ];
    let tags = endpoint.tags.iter().map(|tag| ("tag", Some(tag.as_str())));
    let mut names = names.into_iter().chain(tags);
    match names.find(|(_, name)| name.is_some_and(|name| !is_name(name))) {
        Some((what, _)) => Err(ConnectError::InvalidName { place, what }),
        None => Ok(()),
    }
}

/// Refuses sizes that would make the pool panic, or that it would silently not keep.
fn check_sizes(endpoint: &Replica) -> Result<(), ConnectError> {
    let most = endpoint.options.get_max_connections().unwrap_or(DRIVERS_CONNECTIONS);
    let least = endpoint.options.get_min_connections().unwrap_or(0);
    match (1..=MOST_CONNECTIONS).contains(&most) && least <= most {
        true => Ok(()),
        false => Err(ConnectError::PoolSize { endpoint: endpoint.name.clone(), least, most }),
    }
}

/// The driver's default maximum of connections (sqlx 0.9, `PoolOptions::new`).
const DRIVERS_CONNECTIONS: u32 = 10;
/// PostgreSQL's own limit (`MAX_BACKENDS`), which is above MySQL's. The driver allocates memory for
/// all of them at once, and ends the process if there is not enough.
const MOST_CONNECTIONS: u32 = 262_143;

/// Limits waits to what the clock can represent: the driver adds them to the current time, and
/// panics if the sum is too large.
fn bound_waits(options: &mut ConnectOptions) {
    if options.get_acquire_timeout().is_some_and(|it| it > FOR_EVER) {
        options.acquire_timeout(FOR_EVER);
    }
    if options.get_connect_timeout().is_some_and(|it| it > FOR_EVER) {
        options.connect_timeout(FOR_EVER);
    }
}

/// Longer than anybody waits: ten years.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn check_schedule(schedule: ProbeSchedule) -> Result<(), ConnectError> {
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
    let settings = [
        ("the probe interval", schedule.idle),
        ("the quick probe interval", schedule.quick),
        ("the probe timeout", schedule.timeout),
    ];
    match settings.into_iter().find(|(_, value)| *value < least || *value > most) {
        Some((name, value)) => Err(ConnectError::OutOfRange { name, value, least, most }),
        None => Ok(()),
    }
}

/// Refuses a wait that is too long for a clock.
fn check_wait(name: &'static str, value: Duration) -> Result<(), ConnectError> {
    let (least, most) = (Duration::ZERO, Duration::from_secs(3600));
    match value > most {
        true => Err(ConnectError::OutOfRange { name, value, least, most }),
        false => Ok(()),
    }
}

/// One endpoint without replicas: like SeaORM, with our defaults.
async fn alone(
    config: &Config,
    addresses: &Addresses,
    start: &mut Start,
) -> Result<Cluster, ConnectError> {
    let options = crate::pool::routed(&config.primary.options);
    let endpoint = addresses.first();
    if !options.get_connect_lazy() {
        let asked = start::answers(addresses.engine, &options, endpoint, config.schedule);
        let role = Box::pin(asked).await?;
        start.note_only(role);
    }
    let only = sea_orm::Database::connect(options).await.map_err(ConnectError::open(endpoint))?;
    Ok(cluster_alone(addresses, only))
}

fn cluster_alone(addresses: &Addresses, only: DatabaseConnection) -> Cluster {
    let endpoint = addresses.first();
    Cluster::alone(endpoint.name(), endpoint.address(), addresses.engine, only)
}

/// Opens and probes all endpoints, and observes each once.
#[cfg(any(feature = "mysql", feature = "postgres"))]
async fn replicated(
    config: &Config,
    addresses: &Addresses,
    store: Arc<TopologyStore>,
    opener: Box<dyn OpenEndpoint>,
) -> Result<Cluster, ConnectError> {
    let (mut pools, mut probes) = (Vec::new(), Vec::new());
    for (index, (replica, endpoint)) in config.endpoints().zip(&addresses.endpoints).enumerate() {
        // `check` has counted them.
        let id = EndpointId::from_index(index).unwrap_or(EndpointId::FIRST);
        let opened =
            opener.open(replica, id, index == 0).await.map_err(ConnectError::open(endpoint))?;
        pools.push(opened.pools);
        probes.push(opened.probe);
    }
    let monitor = Monitor::spawn(store, probes, config.schedule);
    // Endpoints that have not answered in time join later.
    monitor.first_round(config.schedule.timeout_with_connect()).await;
    let cluster = Cluster::assemble(addresses.engine, monitor, PoolTable::new(pools));
    Ok(Cluster { opener: Some(opener), ..cluster.configured(config) })
}

/// Checks that an endpoint accepts writes. The error says why none does.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn primary_answers(topology: &sealane_core::Topology) -> Result<(), ConnectError> {
    use sealane_core::{EndpointState, Failure, Health, Role};

    let claims: Vec<_> = topology
        .iter()
        .filter(|(_, state)| state.is_usable() && state.role == Role::Primary)
        .map(|(_, state)| state)
        .collect();
    let names = |states: &[&EndpointState]| {
        let names: Vec<_> = states.iter().map(|state| state.endpoint.name()).collect();
        names.join(", ")
    };
    for (_, state) in topology.iter().filter(|(_, state)| state.role == Role::Primary) {
        // A proxy may lead two addresses to one server for a while: then the second endpoint is not
        // used, and this is reported. The same address given twice is a mistake.
        let twin = state.same_as.and_then(|id| topology.get(id));
        if let Some(twin) = twin.filter(|it| it.endpoint.address() == state.endpoint.address()) {
            return Err(ConnectError::SamePrimary { endpoints: names(&[twin, state]) });
        }
    }
    if topology.has_usable_primary() {
        return Ok(());
    }
    if claims.len() > 1 {
        return Err(ConnectError::PrimaryConflict { endpoints: names(&claims) });
    }
    let id = topology.primary().unwrap_or(EndpointId::FIRST);
    let Some(state) = topology.get(id) else {
        return Ok(());
    };
    let odd = topology.iter().find(|(_, it)| it.other_database && it.role == Role::Primary);
    if let Some((_, odd)) = odd
        && let (Some(database), Some(ours)) = (&odd.database, &state.database)
    {
        let (database, ours) = (database.to_string(), ours.to_string());
        let endpoint = odd.endpoint.name().to_owned();
        return Err(ConnectError::OtherDatabase { endpoint, database, ours });
    }
    if let ([replaced], None) = (claims.as_slice(), topology.primary()) {
        let (endpoint, address) = named(replaced);
        return Err(ConnectError::PrimaryReplaced { endpoint, address });
    }
    let (endpoint, address) = named(state);
    match &state.health {
        Health::Up => Err(ConnectError::NoPrimary { endpoint, address }),
        Health::Down { failure } => {
            let failure = failure.clone();
            Err(ConnectError::PrimaryUnreachable { endpoint, address, failure })
        }
        _ => Err(ConnectError::PrimaryUnreachable { endpoint, address, failure: Failure::Timeout }),
    }
}

/// The endpoint's name and address.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn named(state: &sealane_core::EndpointState) -> (String, String) {
    (state.endpoint.name().to_owned(), state.endpoint.address().to_owned())
}

#[cfg(feature = "sqlite")]
async fn sqlite(config: &Config, addresses: &Addresses) -> Result<Cluster, ConnectError> {
    use std::sync::Arc;

    use sealane_core::Topology;
    use sealane_monitor::{Monitor, TopologyStore};
    use sealane_sql::{Classifier, Dialect};

    use crate::{cluster::PoolTable, pool::sqlite::Opened};

    let opened = crate::pool::sqlite::open(&config.primary.options, config.may_change_journal);
    let (file, writer, readers) =
        match opened.await.map_err(ConnectError::open(addresses.first()))? {
            Opened::Whole(only) => return Ok(cluster_alone(addresses, only)),
            Opened::Split { file, writer, readers } => (file, writer, readers),
        };
    let address = addresses.first().address();
    let topology = Topology::always_current(vec![
        Endpoint::new("writer", address),
        Endpoint::new("readers", address),
    ]);
    let monitor = Monitor::idle(TopologyStore::new(topology));
    let pools = PoolTable::new([writer, readers]);
    let cluster = Cluster::assemble(Engine::Sqlite, monitor, pools).configured(config);
    let classifier = Some(Arc::new(Classifier::new(Dialect::Sqlite)));
    Ok(Cluster { classifier, file: Some(file), ..cluster })
}
