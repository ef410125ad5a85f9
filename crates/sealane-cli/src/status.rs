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

/// The longest wait for the lags: two idle probes and some.
const SETTLED: Duration = Duration::from_secs(4);
/// How often the state is looked at meanwhile. This asks no server.
const LOOK: Duration = Duration::from_millis(50);

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

fn is_known(status: &Status) -> bool {
    status.endpoints.len() < 2
        || status.endpoints.iter().all(|it| match it.condition {
            Condition::Serving => it.lag_ms.is_some(),
            Condition::Unobserved | Condition::Probation => false,
            _ => true,
        })
}

/// Whether there is a primary, and every endpoint serves.
pub(crate) fn is_well(status: &Status) -> bool {
    let serves = |it: &EndpointStatus| it.condition == Condition::Serving;
    status.primary.is_some() && (status.endpoints.len() < 2 || status.endpoints.iter().all(serves))
}

/// The version without what the packager added.
fn version(endpoint: &EndpointStatus) -> String {
    let text = endpoint.version.as_deref().unwrap_or(UNKNOWN);
    let text = text.split(" (").next().unwrap_or_default();
    text.split("-MariaDB").next().unwrap_or_default().to_owned()
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
        }
    }
    match &status.primary {
        Some(_) if is_well(status) => {
            writeln!(out, "{0}all serve{0:#}", style::FINE)
        }
        Some(_) => writeln!(out, "{0}not all serve; `sealane check` says more{0:#}", style::RISKY),
        None => writeln!(out, "{0}there is no primary{0:#}", style::WRONG),
    }
}
