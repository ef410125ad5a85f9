//! From a configuration to a connection.

mod error;
#[cfg(feature = "mysql")]
mod mysql;

use std::{sync::atomic::AtomicUsize, time::Duration};

use sea_orm::{DatabaseConnection, DbBackend, DbErr};
use sealane_core::{Endpoint, Engine, MAX_ENDPOINTS};
use sealane_monitor::Pace;
use sealane_sql::is_group_name;
use url::Url;

use crate::{Config, RoutedConnection, cluster::Cluster, config::EndpointConfig};

pub use error::ConnectError;

/// Connects to the primary and observes all endpoints once.
///
/// A replica that is down does not fail it: it joins when it comes up. The
/// primary must answer.
///
/// # Errors
/// The configuration is not valid, or no primary can be used; see
/// [`ConnectError`]. It turns into SeaORM's `DbErr` with `?`.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind.
pub async fn connect(config: impl Into<Config>) -> Result<RoutedConnection, ConnectError> {
    let config = config.into();
    let (reading, signer) = (config.reading, config.signer.clone());
    let addresses = check(&config)?;
    let cluster = match addresses.engine {
        Engine::Postgres if config.replicas.is_empty() => alone(&config, &addresses).await?,
        Engine::Postgres => postgres(config, addresses).await?,
        Engine::Sqlite => sqlite(&config, &addresses).await?,
        #[cfg(feature = "mysql")]
        Engine::MySql if !config.replicas.is_empty() => {
            mysql::replicated(config, addresses).await?
        }
        _ => alone(&config, &addresses).await?,
    };
    let cluster = Cluster { reading, signer, ..cluster };
    cluster.fill_pools();
    Ok(RoutedConnection::new(cluster))
}

/// The endpoints of a configuration that has been looked through.
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

pub(crate) fn engine_of(backend: DbBackend) -> Engine {
    match backend {
        DbBackend::Postgres => Engine::Postgres,
        DbBackend::MySql => Engine::MySql,
        // SQLite, and whatever SeaORM may learn to speak: alone on its endpoint.
        _ => Engine::Sqlite,
    }
}

fn check(config: &Config) -> Result<Addresses, ConnectError> {
    let count = 1 + config.replicas.len();
    if count > MAX_ENDPOINTS {
        return Err(ConnectError::TooManyEndpoints { count });
    }
    check_pace(config.pace)?;
    check_wait("primary_wait", config.primary_wait)?;
    config.signer.check()?;
    config.endpoints().try_for_each(check_sizes)?;
    let engine = read_url(&config.primary)?.0;
    let mut endpoints = Vec::with_capacity(count);
    for endpoint in config.endpoints() {
        let (its_engine, address) = read_url(endpoint)?;
        if its_engine != engine {
            return Err(ConnectError::MixedEngines { endpoint: endpoint.name.clone() });
        }
        if endpoints.iter().any(|other: &Endpoint| other.name() == endpoint.name) {
            return Err(ConnectError::DuplicateName { name: endpoint.name.clone() });
        }
        check_group(endpoint)?;
        check_subscription(endpoint, engine)?;
        endpoints.push(Endpoint::new(&endpoint.name, address));
    }
    match engine {
        Engine::Sqlite if count > 1 => Err(ConnectError::SqliteReplicas),
        _ => Ok(Addresses { engine, endpoints }),
    }
}

fn check_group(endpoint: &EndpointConfig) -> Result<(), ConnectError> {
    match &endpoint.group {
        Some(group) if !is_group_name(group) => Err(ConnectError::InvalidGroup {
            endpoint: endpoint.name.clone(),
            group: group.clone(),
        }),
        _ => Ok(()),
    }
}

fn check_subscription(endpoint: &EndpointConfig, engine: Engine) -> Result<(), ConnectError> {
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

/// Refuses sizes that the pool would panic at, or quietly not keep.
fn check_sizes(endpoint: &EndpointConfig) -> Result<(), ConnectError> {
    let most = endpoint.options.get_max_connections();
    let least = endpoint.options.get_min_connections().unwrap_or(0);
    match most {
        Some(most) if most == 0 || least > most => {
            Err(ConnectError::PoolSize { endpoint: endpoint.name.clone(), least, most })
        }
        _ => Ok(()),
    }
}

fn check_pace(pace: Pace) -> Result<(), ConnectError> {
    let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
    let settings = [
        ("the probe interval", pace.idle),
        ("the quick probe interval", pace.quick),
        ("the probe timeout", pace.timeout),
    ];
    match settings.into_iter().find(|(_, value)| *value < least || *value > most) {
        Some((name, value)) => Err(ConnectError::OutOfRange { name, value, least, most }),
        None => Ok(()),
    }
}

/// Refuses a wait that no clock can count to.
fn check_wait(name: &'static str, value: Duration) -> Result<(), ConnectError> {
    let (least, most) = (Duration::ZERO, Duration::from_secs(3600));
    match value > most {
        true => Err(ConnectError::OutOfRange { name, value, least, most }),
        false => Ok(()),
    }
}

/// The engine that a URL names, and its address without credentials.
fn read_url(endpoint: &EndpointConfig) -> Result<(Engine, String), ConnectError> {
    let name = || endpoint.name.clone();
    let text = endpoint.options.get_url();
    let invalid = |reason: String| ConnectError::InvalidUrl { endpoint: name(), reason };
    let url = Url::parse(text).map_err(|error| {
        invalid(match error {
            url::ParseError::RelativeUrlWithoutBase => {
                "it must begin with postgres:, mysql: or sqlite:".to_owned()
            }
            error => format!(
                "{error} (in a password, characters such as # / ? @ must be percent-encoded)"
            ),
        })
    })?;
    let (engine, feature, enabled, port) = match url.scheme() {
        "postgres" | "postgresql" => {
            (Engine::Postgres, "postgres", cfg!(feature = "postgres"), 5432)
        }
        "mysql" => (Engine::MySql, "mysql", cfg!(feature = "mysql"), 3306),
        "sqlite" => (Engine::Sqlite, "sqlite", cfg!(feature = "sqlite"), 0),
        scheme => {
            let scheme = scheme.to_owned();
            return Err(ConnectError::UnknownScheme { endpoint: name(), scheme });
        }
    };
    if !enabled {
        return Err(ConnectError::DriverMissing { endpoint: name(), feature });
    }
    let address = match engine {
        Engine::Sqlite => {
            let path = text.trim_start_matches("sqlite:").trim_start_matches("//");
            path.split('?').next().unwrap_or_default().to_owned()
        }
        _ => {
            let host = url.host_str().filter(|host| !host.is_empty()).unwrap_or("localhost");
            format!("{host}:{}", url.port().unwrap_or(port))
        }
    };
    Ok((engine, address))
}

/// Names the endpoint that the driver could not open.
fn open_error(endpoint: &Endpoint) -> impl FnOnce(DbErr) -> ConnectError {
    let (endpoint, address) = (endpoint.name().to_owned(), endpoint.address().to_owned());
    move |cause| ConnectError::Open { endpoint, address, cause }
}

/// One endpoint without replicas: as SeaORM, with our defaults.
async fn alone(config: &Config, addresses: &Addresses) -> Result<Cluster, ConnectError> {
    let options = crate::pool::routed(&config.primary.options);
    let endpoint = addresses.first();
    #[cfg(feature = "postgres")]
    if addresses.engine == Engine::Postgres && !options.get_connect_lazy() {
        answers(&options, endpoint, config.pace).await?;
    }
    let only = sea_orm::Database::connect(options).await.map_err(open_error(endpoint))?;
    Ok(cluster_alone(addresses, only))
}

/// Asks a server once. The driver would try for half a minute, and then not
/// tell why it failed.
#[cfg(feature = "postgres")]
async fn answers(
    options: &sea_orm::ConnectOptions,
    endpoint: &Endpoint,
    pace: Pace,
) -> Result<(), ConnectError> {
    use sealane_core::Failure;
    use sealane_monitor::{Probe, postgres::PostgresProbe};

    let connect_options =
        crate::pool::postgres::connect_options(options).await.map_err(open_error(endpoint))?;
    let mut probe = PostgresProbe::new(connect_options);
    let failure = match tokio::time::timeout(pace.timeout_with_connect(), probe.ask()).await {
        // Whatever a server answers, it is there; the application's own role may do less.
        Ok(Ok(_) | Err(Failure::Unexpected(_))) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Timeout,
    };
    let (endpoint, address) = (endpoint.name().to_owned(), endpoint.address().to_owned());
    Err(ConnectError::PrimaryUnreachable { endpoint, address, failure })
}

fn cluster_alone(addresses: &Addresses, only: DatabaseConnection) -> Cluster {
    let endpoint = addresses.first();
    Cluster::alone(endpoint.name(), endpoint.address(), addresses.engine, only)
}

#[cfg(feature = "postgres")]
async fn postgres(config: Config, addresses: Addresses) -> Result<Cluster, ConnectError> {
    use std::sync::Arc;

    use sealane_core::{EndpointId, Loads, Topology};
    use sealane_monitor::{
        Board, CatalogWatch, Monitor,
        postgres::{PostgresCatalog, PostgresProbe},
    };
    use sealane_sql::{Classifier, Dialect};

    use crate::{failover::Resignation, group::Groups, pool::guard::Replica};

    let board = Board::with_policy(Topology::new(addresses.endpoints.clone()), config.health);
    let groups = Groups::new(config.endpoints().map(|endpoint| endpoint.group.as_deref()));
    let has_subscribers = config.replicas.iter().any(|replica| replica.subscription.is_some());
    let (mut pools, mut probes, mut sources) = (Vec::new(), Vec::new(), Vec::new());
    for (index, endpoint) in config.endpoints().enumerate() {
        // `check` has counted them.
        let id = EndpointId::from_index(index).unwrap_or(EndpointId::FIRST);
        let replica = match endpoint.subscription {
            Some(_) => Replica::Logical,
            None => Replica::Physical,
        };
        let (its_pools, connect_options) =
            crate::pool::postgres::open(&endpoint.options, &board, id, index == 0, replica)
                .await
                .map_err(open_error(&addresses.endpoints[index]))?;
        pools.push(its_pools);
        sources.push(connect_options.clone());
        probes.push(match &endpoint.subscription {
            Some(name) => PostgresProbe::subscriber(connect_options, name),
            None if has_subscribers => PostgresProbe::with_feeds(connect_options),
            None => PostgresProbe::new(connect_options),
        });
    }
    let monitor = Monitor::spawn(board, probes, config.pace);
    // Whoever has not answered by then joins later.
    monitor.first_round(config.pace.timeout_with_connect()).await;
    primary_answers(&monitor.board().topology())?;
    let classifier = Arc::new(Classifier::new(Dialect::PostgreSql));
    let catalog = CatalogWatch::spawn(
        Arc::clone(monitor.board()),
        Arc::clone(&classifier),
        PostgresCatalog::new(sources),
    );
    // Out of patience: reads begin on the primary, and move when there is proof.
    monitor.await_replication(config.pace.quick * 10).await;
    // Without it, functions of the user's run on the primary for a little longer.
    catalog.current(config.pace.timeout_with_connect()).await;
    Ok(Cluster {
        engine: Engine::Postgres,
        loads: Arc::new(Loads::new(pools.len())),
        monitor,
        pools: pools.into(),
        balancer: config.balancer,
        classifier: Some(classifier),
        catalog: Some(catalog),
        schema_changes: AtomicUsize::new(0),
        groups,
        reading: config.reading,
        signer: config.signer,
        resignation: Resignation::default(),
        primary_wait: config.primary_wait,
        quick: config.pace.quick,
    })
}

/// Whether some endpoint may take writes, or else why not.
#[cfg(any(feature = "mysql", feature = "postgres"))]
fn primary_answers(topology: &sealane_core::Topology) -> Result<(), ConnectError> {
    use sealane_core::{EndpointId, EndpointState, Failure, Health, Role};

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
        // Two addresses may lead to one server for a while, by a proxy's choice: then the
        // second is not used, and told. One address given twice is a mistake.
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
    let (endpoint, address) =
        (state.endpoint.name().to_owned(), state.endpoint.address().to_owned());
    match &state.health {
        Health::Up => Err(ConnectError::NoPrimary { endpoint, address }),
        Health::Down { failure } => {
            let failure = failure.clone();
            Err(ConnectError::PrimaryUnreachable { endpoint, address, failure })
        }
        _ => Err(ConnectError::PrimaryUnreachable { endpoint, address, failure: Failure::Timeout }),
    }
}

#[cfg(not(feature = "postgres"))]
async fn postgres(config: Config, addresses: Addresses) -> Result<Cluster, ConnectError> {
    // `check` has refused it.
    alone(&config, &addresses).await
}

#[cfg(feature = "sqlite")]
async fn sqlite(config: &Config, addresses: &Addresses) -> Result<Cluster, ConnectError> {
    use std::sync::Arc;

    use sealane_core::{Loads, Topology};
    use sealane_monitor::{Board, Monitor};
    use sealane_sql::{Classifier, Dialect};

    use crate::{failover::Resignation, group::Groups, pool::EndpointPools};

    let options = &config.primary.options;
    if crate::pool::sqlite::is_private(options.get_url()) {
        let only = crate::pool::sqlite::open_private(options).await;
        return Ok(cluster_alone(addresses, only.map_err(open_error(addresses.first()))?));
    }
    let (writer, readers) =
        crate::pool::sqlite::open(options).await.map_err(open_error(addresses.first()))?;
    let address = addresses.first().address();
    let topology = Topology::always_current(vec![
        Endpoint::new("writer", address),
        Endpoint::new("readers", address),
    ]);
    Ok(Cluster {
        engine: Engine::Sqlite,
        loads: Arc::new(Loads::new(topology.len())),
        monitor: Monitor::idle(Board::new(topology)),
        pools: Box::new([writer, readers].map(EndpointPools::fixed)),
        balancer: Arc::clone(&config.balancer),
        classifier: Some(Arc::new(Classifier::new(Dialect::Sqlite))),
        catalog: None,
        schema_changes: AtomicUsize::new(0),
        groups: Groups::new([None, None]),
        reading: config.reading,
        signer: config.signer.clone(),
        resignation: Resignation::default(),
        primary_wait: config.primary_wait,
        quick: config.pace.quick,
    })
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(config: &Config, addresses: &Addresses) -> Result<Cluster, ConnectError> {
    // `check` has refused it.
    alone(config, addresses).await
}
