//! `sealane replication`: what servers send, what replicas received and applied, what slots hold
//! back. The servers' own words, where `status` shows the library's.

mod mysql;
mod postgres;
mod text;

use std::time::Duration;

use futures_util::future::join_all;
use sealane::{Config, Engine, Target};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    CommandError,
    arguments::Replication,
    ask::{Line, PATIENCE, Trouble},
    output::Output,
};

/// One server.
#[derive(Debug, Serialize)]
struct Server {
    name: String,
    address: String,
    /// Why it could not be asked.
    error: Option<String>,
    #[serde(flatten)]
    told: Told,
}

/// What a server tells. Everything that it does not tell, or not to our role, is unknown.
#[derive(Debug, Default, Serialize)]
struct Told {
    /// The end of its log: written on a primary, received on a replica.
    position: Option<String>,
    /// How quickly its log grows.
    log_bytes_per_s: Option<u64>,
    /// The replicas that are connected to it; `None` if that cannot be seen.
    senders: Option<Vec<Sender>>,
    /// Its replication slots (PostgreSQL).
    slots: Vec<Slot>,
    /// What it receives from; `None` if that cannot be seen.
    receivers: Option<Vec<Receiver>>,
}

/// A replica that is connected to a server.
#[derive(Debug, Default, Serialize)]
struct Sender {
    /// Its `application_name` (MySQL: its host, as it reports it).
    name: String,
    client: Option<String>,
    state: Option<String>,
    /// `async`, `potential`, `sync` or `quorum`.
    sync_state: Option<String>,
    sent: Option<String>,
    written: Option<String>,
    flushed: Option<String>,
    replayed: Option<String>,
    /// How much of the log it has not replayed yet.
    behind_bytes: Option<u64>,
    /// How long the newest replayed commit took to be replayed.
    replay_lag_ms: Option<u64>,
}

/// A replication slot.
#[derive(Debug, Default, Serialize)]
struct Slot {
    name: String,
    kind: Option<String>,
    is_active: Option<bool>,
    wal_status: Option<String>,
    retained_bytes: Option<u64>,
}

/// What a replica says about one source.
#[derive(Debug, Default, Serialize)]
struct Receiver {
    source: Option<String>,
    receives: Option<bool>,
    applies: Option<bool>,
    received: Option<String>,
    applied: Option<String>,
    /// How far it believes itself to be behind.
    reported_lag_s: Option<u64>,
    receive_error: Option<String>,
    apply_error: Option<String>,
}

impl Server {
    /// Whether it answers, and nothing in it has stopped.
    fn is_well(&self) -> bool {
        let runs = |it: &Receiver| it.receives != Some(false) && it.applies != Some(false);
        let is_kept = |it: &Slot| it.wal_status.as_deref() != Some("lost");
        self.error.is_none()
            && self.told.receivers.iter().flatten().all(runs)
            && self.told.slots.iter().all(is_kept)
    }
}

pub(crate) async fn run(
    config: &Config,
    wanted: &Replication,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let targets = config.targets().map_err(CommandError::Configuration)?;
    let is_file = |target: &Target| target.engine == Engine::Sqlite;
    let asked = targets.iter().filter(|it| !is_file(it)).map(|it| ask(it, wanted.measure));
    let servers = join_all(asked).await;
    output.show(&servers, |out| text::write(&servers, out))?;
    Ok(servers.iter().all(Server::is_well))
}

async fn ask(target: &Target, measure: Duration) -> Server {
    let asked = timeout(PATIENCE.saturating_add(measure), async {
        let mut line = Line::open(target).await?;
        let told = match target.engine {
            Engine::MySql => mysql::ask(&mut line, measure).await,
            _ => postgres::ask(&mut line, target.subscription.as_deref(), measure).await,
        };
        line.close().await;
        Ok(told)
    });
    let (told, error) = match asked.await {
        Ok(Ok(told)) => (told, None),
        Ok(Err(error)) => (Told::default(), Some(Trouble::of(target.engine, &error).text)),
        Err(_) => (Told::default(), Some(Trouble::too_late().text)),
    };
    Server { name: target.name.clone(), address: target.address.clone(), error, told }
}

/// The growth from one number to another within a time.
fn rate(before: u64, after: u64, during: Duration) -> Option<u64> {
    let millis = u64::try_from(during.as_millis()).ok().filter(|millis| *millis > 0)?;
    after.checked_sub(before)?.checked_mul(1_000).map(|grown| grown / millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_per_second_and_unknown_when_the_log_went_back() {
        assert_eq!(rate(100, 600, Duration::from_millis(500)), Some(1_000));
        assert_eq!(rate(600, 100, Duration::from_secs(1)), None);
        assert_eq!(rate(1, 2, Duration::ZERO), None);
    }

    #[test]
    fn a_thread_that_stopped_or_a_lost_slot_is_not_well() {
        let server = |told| Server { name: "a".into(), address: "a:1".into(), error: None, told };
        assert!(server(Told::default()).is_well());
        let stopped = Receiver { applies: Some(false), ..Receiver::default() };
        assert!(!server(Told { receivers: Some(vec![stopped]), ..Told::default() }).is_well());
        let lost = Slot { wal_status: Some("lost".into()), ..Slot::default() };
        assert!(!server(Told { slots: vec![lost], ..Told::default() }).is_well());
    }
}
