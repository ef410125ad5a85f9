//! `sealane status`: every server as the library sees it, in a table.

use std::{
    io::{self, Write},
    time::Duration,
};

use sealane::{Condition, Config, EndpointStatus, RoutedConnection, Status};
use tokio::time::{Instant, sleep};

use crate::{
    CommandError,
    output::{Output, Table, UNKNOWN, millis},
    style,
};

/// The longest wait for the lags: two idle probes and some. After them a lag is known if there is
/// one to know.
pub(crate) const SETTLED: Duration = Duration::from_secs(4);
/// The pace of probes while a command looks: an application may be content with a slower one, but
/// [`SETTLED`] must contain several probes.
pub(crate) const PACE: Duration = Duration::from_secs(1);
/// How often the state is looked at meanwhile. This asks no server.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

pub(crate) async fn run(config: Config, output: &mut Output<'_>) -> Result<bool, CommandError> {
    let db = open(config).await?;
    let status = db.status();
    output.show(&status, |out| write(&status, out))?;
    close(db).await;
    Ok(is_well(&status))
}

/// Connects, and waits until the lag of every serving endpoint is known, or a moment.
pub(crate) async fn open(config: Config) -> Result<RoutedConnection, CommandError> {
    // What the user must correct is told apart from servers that cannot be used.
    config.targets().map_err(CommandError::Configuration)?;
    let config = config.probe_interval(PACE);
    let db = sealane::connect(config).await.map_err(CommandError::Connect)?;
    let until = Instant::now() + SETTLED;
    while !is_known(&db.status()) && Instant::now() < until {
        sleep(LOOK).await;
    }
    Ok(db)
}

/// Ends all connections. What goes wrong then is of no interest to anybody.
pub(crate) async fn close(db: RoutedConnection) {
    let _ = db.close().await;
}

/// Whether every endpoint has been observed, and the lag of every serving one is known.
pub(crate) fn is_known(status: &Status) -> bool {
    status.endpoints.len() < 2
        || status.endpoints.iter().all(|it| match it.condition {
            Condition::Serving => it.lag_ms.is_some(),
            Condition::Unobserved | Condition::Probation | Condition::FiltersUnknown => false,
            _ => true,
        })
}

/// Whether there is a primary, and every endpoint serves and keeps up.
pub(crate) fn is_well(status: &Status) -> bool {
    let is_well = |it: &EndpointStatus| it.condition == Condition::Serving && keeps_up(it);
    status.primary.is_some() && (status.endpoints.len() < 2 || status.endpoints.iter().all(is_well))
}

/// Whether an endpoint is proved to have what the primary had at some moment since the connection
/// was made. A replica that was far behind before proves nothing for a long time, so its lag is
/// unknown. Where positions do not compare (Aurora, MySQL without GTIDs), nothing is proved of any
/// replica, and its lag says nothing.
pub(crate) fn keeps_up(endpoint: &EndpointStatus) -> bool {
    endpoint.lag_ms.is_some() || endpoint.behind.is_none()
}

/// The version without what the packager added, and how the server replicates if that is unusual.
fn version(endpoint: &EndpointStatus) -> String {
    let text = endpoint.version.as_deref().unwrap_or(UNKNOWN);
    let text = text.split(" (").next().unwrap_or_default();
    let version = text.split("-MariaDB").next().unwrap_or_default();
    match endpoint.replication_notes() {
        notes if notes.is_empty() => version.to_owned(),
        notes => format!("{version} ({notes})"),
    }
}

fn write(status: &Status, out: &mut dyn Write) -> io::Result<()> {
    let heading = ["name", "role", "condition", "lag", "staleness", "probe", "version", "address"];
    let mut table = Table::new(&heading);
    for it in &status.endpoints {
        let is_alone = status.endpoints.len() < 2;
        let is_primary = status.primary.as_ref() == Some(&it.name);
        table.row(vec![
            it.name.clone(),
            if is_primary { "primary".to_owned() } else { format!("{:?}", it.role).to_lowercase() },
            if is_alone { "not probed".to_owned() } else { it.condition.to_string() },
            millis(it.lag_ms),
            millis(it.staleness_ms),
            millis(it.probe_ms),
            version(it),
            it.address.clone(),
        ]);
    }
    table.write(out)?;
    for it in &status.endpoints {
        if let sealane::Health::Down { failure } = &it.health {
            let style = style::WRONG;
            writeln!(out, "{style}{}{style:#}", failure.told_of(&it.name))?;
        } else if let Some(behind) = it.behind.filter(|_| !keeps_up(it)) {
            let (style, name) = (style::RISKY, &it.name);
            writeln!(
                out,
                "{style}{name} is {behind} behind, and has not got to where the primary was at the \
                 start of this command{style:#}"
            )?;
        }
    }
    match &status.primary {
        Some(_) if is_well(status) => {
            writeln!(out, "{0}all serve{0:#}", style::FINE)
        }
        Some(_) => writeln!(
            out,
            "{0}not all serve and keep up; `sealane check` says more{0:#}",
            style::RISKY
        ),
        None => writeln!(out, "{0}there is no primary{0:#}", style::WRONG),
    }
}

#[cfg(test)]
mod tests {
    use sealane::Distance;

    use super::*;

    #[tokio::test]
    async fn a_replica_that_proves_nothing_is_not_well() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(Config::sqlite(folder.path().join("boats.db"))).await.unwrap();
        let mut status = db.status();
        close(db).await;
        assert!(is_well(&status) && is_known(&status));
        // The readers of a file are a replica that is never behind.
        let replica = &mut status.endpoints[1];
        (replica.lag_ms, replica.behind) = (None, Some(Distance::Bytes(1 << 30)));
        assert!(!is_well(&status));
        let mut text = Vec::new();
        write(&status, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("readers is 1073741824 bytes behind, and has not got"), "{text}");
        // Aurora: positions do not compare, so nothing is proved of any replica.
        status.endpoints[1].behind = None;
        assert!(is_well(&status));
        let primary = &mut status.endpoints[0];
        primary.version = Some("11.8.2-MariaDB-log (Debian)".to_owned());
        assert_eq!(version(primary), "11.8.2");
        (primary.group, primary.semi_sync) = (Some("Galera: Synced".to_owned()), Some(false));
        assert_eq!(
            version(primary),
            "11.8.2 (Galera: Synced; semi-synchronous, but not at present)"
        );
    }
}
