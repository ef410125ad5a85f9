//! What is logged when a connection begins: one line about the setup, and one for each problem.

use std::time::Duration;

use sealane_core::{
    Condition, Consistency, Endpoint, EndpointId, EndpointState, Engine, Failure, Health, Role,
    Topology,
};
use sealane_monitor::ProbeSchedule;

use crate::{Config, ConnectError, cluster::Cluster, config::Warning, error::safe};

/// What the configuration requires of a start.
#[derive(Debug)]
pub(super) struct Start {
    required_replicas: usize,
    strict: bool,
    warnings: Vec<Warning>,
    /// The zone that this process is configured to be in.
    zone: Option<String>,
    /// The observed role of a server without replicas.
    only: Role,
}

/// A problem, in words.
struct Trouble {
    text: String,
    /// Whether an event has already reported it.
    is_told: bool,
}

impl Start {
    pub(super) fn of(config: &Config) -> Self {
        Start {
            required_replicas: config.required_replicas,
            strict: config.strict,
            warnings: config.warnings.clone(),
            zone: config.zone.clone(),
            only: Role::Unknown,
        }
    }

    /// Records the role of the only server.
    pub(super) fn note_only(&mut self, role: Role) {
        self.only = role;
    }

    /// Logs the setup of `cluster` and its problems, and decides whether it may start like this.
    ///
    /// # Errors
    /// There are too few replicas, or there is a problem and none is allowed.
    pub(super) fn tell(&self, cluster: &Cluster) -> Result<(), ConnectError> {
        let topology = cluster.store().topology();
        let troubles = self.troubles(&topology);
        let all: Vec<_> = troubles.iter().map(|it| it.text.as_str()).collect();
        let all = all.join("; ");
        let found = topology.iter().filter(|(id, state)| {
            state.role == Role::Replica && topology.condition(*id) == Condition::Serving
        });
        let (found, required) = (found.count(), self.required_replicas);
        if found < required {
            return Err(ConnectError::TooFewReplicas { required, found, troubles: all });
        }
        if self.strict && !troubles.is_empty() {
            return Err(ConnectError::NotAsConfigured { troubles: all });
        }
        for trouble in troubles.iter().filter(|it| !it.is_told) {
            tracing::warn!(target: "sealane::topology", "{}", safe(&trouble.text));
        }
        tracing::info!(target: "sealane::topology", "{}", summary(cluster, &topology));
        Ok(())
    }

    fn troubles(&self, topology: &Topology) -> Vec<Trouble> {
        let odd = self.warnings.iter().map(|it| Trouble { text: it.to_string(), is_told: false });
        let mut troubles: Vec<_> = odd.collect();
        if self.only == Role::Replica
            && let Some(state) = topology.get(EndpointId::FIRST)
        {
            let text = format!(
                "{} is a replica and refuses every write; the first URL should lead to the primary",
                of(&state.endpoint)
            );
            troubles.push(Trouble { text, is_told: false });
        }
        let is_here =
            |zone: &String| topology.iter().any(|(_, state)| state.endpoint.zone() == Some(zone));
        if let Some(zone) = self.zone.as_ref().filter(|zone| !is_here(zone)) {
            let text = format!("no endpoint is in our zone {zone}, so all reads leave it");
            troubles.push(Trouble { text, is_told: false });
        }
        for (_, state) in topology.iter().filter(|(_, it)| it.info.unbound == Some(true)) {
            let text = format!(
                "the user of {} may write where read_only is on (READ_ONLY ADMIN, CONNECTION_ADMIN \
                 or SUPER), so that a demoted primary does not refuse it; use one without",
                of(&state.endpoint)
            );
            troubles.push(Trouble { text, is_told: false });
        }
        for (_, state) in topology.iter() {
            let Some(group) = &state.info.group else { continue };
            let text = format!(
                "{} is a member of a group of primaries ({group}): set read_only on all of them \
                 but one; of Galera's members, those serve eventual reads only",
                of(&state.endpoint)
            );
            troubles.push(Trouble { text, is_told: false });
        }
        for (id, _) in topology.iter().filter(|(id, _)| topology.primary() != Some(*id)) {
            if let Some(text) = trouble(topology, id) {
                let is_told = topology.condition(id) != Condition::Unobserved;
                troubles.push(Trouble { text, is_told });
            }
        }
        troubles
    }
}

/// The problem of an endpoint, as far as is known.
fn trouble(topology: &Topology, id: EndpointId) -> Option<String> {
    let state = topology.get(id)?;
    let endpoint = of(&state.endpoint);
    Some(match (topology.condition(id), &state.health, &state.database) {
        (Condition::Serving, _, _) => return None,
        (Condition::Unobserved, _, _) => format!("{endpoint} has not answered yet"),
        (Condition::Down, Health::Down { failure }, _) => failure.told_of(&endpoint),
        (Condition::OtherDatabase, _, Some(database)) => {
            format!("{endpoint} leads to another database, {database}")
        }
        (condition, _, _) => format!("{endpoint} is {condition}"),
    })
}

fn of(endpoint: &Endpoint) -> String {
    match (endpoint.name(), endpoint.address()) {
        (name, "") => name.to_owned(),
        // The endpoint is named after its address.
        (name, address) if address.starts_with(name) => address.to_owned(),
        (name, address) => format!("{name} ({address})"),
    }
}

/// An endpoint with its problem, if any.
fn marked(topology: &Topology, id: EndpointId, state: &EndpointState) -> String {
    match topology.condition(id) {
        Condition::Serving => of(&state.endpoint),
        condition => format!("{} [{condition}]", of(&state.endpoint)),
    }
}

/// The whole setup, in one line.
fn summary(cluster: &Cluster, topology: &Topology) -> String {
    let is_primary = |id: EndpointId| topology.primary() == Some(id);
    let listed = |which: &dyn Fn(EndpointId) -> bool| {
        let listed = topology.iter().filter(|(id, _)| which(*id));
        listed.map(|(id, state)| marked(topology, id, state)).collect::<Vec<_>>()
    };
    let (primaries, others) = (listed(&is_primary), listed(&|id| !is_primary(id)));
    let others = match (cluster.engine, others.as_slice()) {
        (Engine::Sqlite, others) => others.join(", "),
        (_, []) => "no replicas".to_owned(),
        (_, [one]) => format!("1 replica {one}"),
        (_, others) => format!("{} replicas {}", others.len(), others.join(", ")),
    };
    let others = if others.is_empty() { others } else { format!(", {others}") };
    let level = match cluster.reading.consistency {
        Consistency::Eventual => "eventual reads".to_owned(),
        Consistency::BoundedStaleness(bound) => format!("reads at most {bound:?} old"),
        Consistency::ReadYourWrites => "read-your-writes".to_owned(),
        Consistency::Strong => "strong reads".to_owned(),
        other => format!("{other:?}"),
    };
    let tokens = if cluster.signer.max_age().is_some() { "tokens signed" } else { "no tokens" };
    let kind = if cluster.engine == Engine::Sqlite { "file" } else { "primary" };
    format!("1 {kind} {}{others}; {level}; {tokens}", primaries.join(", "))
}

/// How long the driver waits for a connection by default (sqlx 0.9, `PoolOptions::new`).
const DRIVERS_PATIENCE: Duration = Duration::from_secs(30);

/// Checks once whether a server without replicas answers, and which role it has. The driver would
/// retry for half a minute if the server refuses us, and would not report why it failed. A server
/// that does not answer may be starting: it gets as much time as the driver gives it.
///
/// # Errors
/// The server does not answer, or refuses us.
pub(super) async fn answers(
    engine: Engine,
    options: &sea_orm::ConnectOptions,
    endpoint: &Endpoint,
    schedule: ProbeSchedule,
) -> Result<Role, ConnectError> {
    let asking = async {
        match engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => postgres_answers(options, endpoint).await,
            #[cfg(feature = "mysql")]
            Engine::MySql => mysql_answers(options, endpoint).await,
            _ => {
                let _ = options;
                Ok(Ok(Role::Unknown))
            }
        }
    };
    let given = options.get_connect_timeout().or(options.get_acquire_timeout());
    let limit = given.unwrap_or(DRIVERS_PATIENCE).max(schedule.timeout_with_connect());
    let failure = match tokio::time::timeout(limit, asking).await {
        Ok(Ok(Ok(role))) => return Ok(role),
        Ok(Ok(Err(failure))) => failure,
        Ok(Err(error)) => return Err(error),
        Err(_elapsed) => Failure::Timeout,
    };
    let (endpoint, address) = (endpoint.name().to_owned(), endpoint.address().to_owned());
    Err(ConnectError::PrimaryUnreachable { endpoint, address, failure })
}

#[cfg(feature = "postgres")]
async fn postgres_answers(
    options: &sea_orm::ConnectOptions,
    endpoint: &Endpoint,
) -> Result<Result<Role, Failure>, ConnectError> {
    use sealane_monitor::{Probe, postgres::PostgresProbe};

    let connect = crate::pool::postgres::connect_options(options);
    let mut probe = PostgresProbe::new(connect.await.map_err(ConnectError::open(endpoint))?);
    Ok(match probe.ask().await {
        Ok(report) => Ok(report.role),
        // Any answer shows that the server is there; the application's own role may have fewer
        // rights.
        Err(Failure::Unexpected(_)) => Ok(Role::Unknown),
        Err(failure) => Err(failure),
    })
}

/// This is not a probe, which would refuse a server without GTIDs. Without replicas, such a server
/// is sufficient.
#[cfg(feature = "mysql")]
async fn mysql_answers(
    options: &sea_orm::ConnectOptions,
    endpoint: &Endpoint,
) -> Result<Result<Role, Failure>, ConnectError> {
    use sea_orm::sqlx::{self, Connection, Row};
    use sealane_monitor::mysql::failure;

    let connect = crate::pool::mysql::connect_options(options);
    let connect = connect.await.map_err(ConnectError::open(endpoint))?;
    let mut connection = match sqlx::MySqlConnection::connect_with(&connect).await {
        Ok(connection) => connection,
        Err(error) => return Ok(Err(failure(&error))),
    };
    // Not prepared, as in probes, because of poolers. A proxy may not know the variable.
    let asked = sqlx::raw_sql("SELECT @@global.read_only").fetch_one(&mut connection).await;
    let role = match asked.and_then(|row| row.try_get_unchecked::<String, _>(0)).as_deref() {
        Ok("0" | "OFF") => Role::Primary,
        Ok(_) => Role::Replica,
        Err(_) => Role::Unknown,
    };
    // The server has answered; its answer to closing does not matter.
    let _ = connection.close().await;
    Ok(Ok(role))
}
