//! `sealane wait`: until a primary and enough replicas can be used.

use std::time::Duration;

use sealane::{Condition, Config, EndpointStatus, Role, RoutedConnection, Status};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    CommandError,
    arguments::Wait,
    output::Output,
    status::{LOOK, close, keeps_up},
    style,
};

/// The time between two starts while there is no primary.
const AGAIN: Duration = Duration::from_millis(250);

/// How the wait ended.
#[derive(Debug, Serialize)]
struct Waited {
    is_ready: bool,
    waited_ms: u64,
    primary: Option<String>,
    replicas: usize,
    replicas_wanted: usize,
    /// Why there is no connection yet.
    error: Option<String>,
}

pub(crate) async fn run(
    config: Config,
    wanted: &Wait,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    // A configuration that is not valid does not become valid.
    let endpoints = config.targets().map_err(CommandError::Configuration)?.len();
    let replicas = wanted.replicas.unwrap_or(endpoints - 1);
    let began = Instant::now();
    let mut waited = Waited {
        is_ready: false,
        waited_ms: 0,
        primary: None,
        replicas: 0,
        replicas_wanted: replicas,
        error: None,
    };
    // When the time is over, the state before is what is told.
    let _ = timeout_at(began + wanted.limit, until_ready(config, &mut waited)).await;
    waited.waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    output.show(&waited, |out| {
        let Waited { is_ready, waited_ms, primary, replicas, replicas_wanted, error } = &waited;
        let style = if *is_ready { style::FINE } else { style::WRONG };
        let word = if *is_ready { "ready" } else { "not ready" };
        let primary = primary.as_deref().unwrap_or("none");
        write!(
            out,
            "{style}{word}{style:#} after {waited_ms} ms: primary {primary}, {replicas} of \
             {replicas_wanted} replicas"
        )?;
        match error {
            Some(error) => writeln!(out, "; {error}"),
            None => writeln!(out),
        }
    })?;
    Ok(waited.is_ready)
}

async fn until_ready(config: Config, waited: &mut Waited) {
    let db = loop {
        match sealane::connect(config.clone()).await {
            Ok(db) => break db,
            Err(error) => waited.error = Some(error.to_string()),
        }
        sleep(AGAIN).await;
    };
    waited.error = None;
    while !waited.note(&db) {
        sleep(LOOK).await;
    }
    close(db).await;
}

impl Waited {
    /// Records the state. Returns whether it is good enough.
    fn note(&mut self, db: &RoutedConnection) -> bool {
        let status = db.status();
        self.replicas = usable(&status);
        let is_primary_ready = has_primary(&status);
        self.primary = status.primary;
        self.is_ready = is_primary_ready && self.replicas >= self.replicas_wanted;
        self.is_ready
    }
}

/// Whether the primary takes statements now. A primary that does not answer stays the primary until
/// there is another one. An endpoint that is not probed serves.
fn has_primary(status: &Status) -> bool {
    let is_primary = |it: &&EndpointStatus| status.primary.as_ref() == Some(&it.name);
    let primary = status.endpoints.iter().find(is_primary);
    primary.is_some_and(|it| it.condition == Condition::Serving)
}

/// How many replicas serve, and are proved to be at some distance from the primary where this can be
/// proved: others get no reads of sessions that wrote.
fn usable(status: &Status) -> usize {
    let is_usable = |it: &&EndpointStatus| {
        it.role == Role::Replica && it.condition == Condition::Serving && keeps_up(it)
    };
    status.endpoints.iter().filter(is_usable).count()
}

#[cfg(test)]
mod tests {
    use sealane::Distance;

    use super::*;

    #[tokio::test]
    async fn a_primary_is_there_only_while_it_serves() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::sqlite(folder.path().join("boats.db"));
        let db = sealane::connect(config).await.unwrap();
        let mut status = db.status();
        assert!(has_primary(&status), "what is not probed serves");
        for it in &mut status.endpoints {
            it.condition = Condition::Down;
        }
        assert!(!has_primary(&status));
        status.primary = None;
        assert!(!has_primary(&status));
        close(db).await;
    }

    #[tokio::test]
    async fn a_replica_that_proves_nothing_is_not_usable() {
        let folder = tempfile::tempdir().unwrap();
        let db = sealane::connect(Config::sqlite(folder.path().join("boats.db"))).await.unwrap();
        let mut status = db.status();
        close(db).await;
        assert_eq!(usable(&status), 1, "the readers of a file");
        let replica = &mut status.endpoints[1];
        (replica.lag_ms, replica.behind) = (None, Some(Distance::Bytes(1 << 30)));
        assert_eq!(usable(&status), 0);
        // Aurora: positions do not compare.
        status.endpoints[1].behind = None;
        assert_eq!(usable(&status), 1);
    }
}
