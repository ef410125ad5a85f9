//! Tests whether an endpoint accepts read-only sessions.
//!
//! A startup option requests a read-only session. A pooler in between may pass the option on
//! (PgBouncer with `track_extra_parameters`), refuse it (PgBouncer's default), or drop it silently
//! (`ignore_startup_parameters`). So the probe tries the option and reads the setting back. A later
//! `SET` would not be enough: a pooler that assigns a connection for each transaction would leave
//! the setting to another client.
//!
//! The trial has a separate connection, and comes before the first answer is believed. So read
//! pools know its result before they connect (`pool/guard.rs` in `sealane`). Each of their
//! connections is checked once more.

use std::time::Duration;

use sealane_core::{Failure, ReadOnly};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::{failure, greet};

/// The error codes of poolers that refuse an option in the startup message: PgBouncer's, and that of
/// Amazon's RDS Proxy, which calls it not supported (told in go-spatial/tegola#966).
const REFUSALS: [&str; 2] = ["08P01", "0A000"];

/// How long a result is valid. A pooler may be added or configured differently; the next new
/// connection after this time finds out.
const VALID_FOR: Duration = Duration::from_secs(60);

/// `options` for read-only sessions.
#[must_use]
pub fn read_only(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("default_transaction_read_only", "on")])
}

/// The last result for one endpoint.
#[derive(Debug, Default)]
pub(super) struct Trial {
    found: Option<(ReadOnly, Instant)>,
}

impl Trial {
    /// Runs the test on a separate connection, unless the last result is still valid.
    pub(super) async fn make(&mut self, options: &PgConnectOptions) -> Result<(), Failure> {
        if self.found.is_some_and(|(_, at)| at.elapsed() < VALID_FOR) {
            return Ok(());
        }
        let found = match attempt(options).await {
            Ok(found) => found,
            // The last result stays. Without one, the error is reported: no session could connect
            // for reading anyway.
            Err(_) if self.found.is_some() => return Ok(()),
            Err(error) => return Err(failure(&error)),
        };
        if found == ReadOnly::Server && self.outcome() != Some(found) {
            tracing::warn!(
                target: "sealane::topology",
                "{}:{}: a pooler in between drops or refuses the startup option \
                 default_transaction_read_only, so that only the server keeps reads from writing, \
                 while it is a standby (PgBouncer passes the option on if it is listed in \
                 track_extra_parameters)",
                options.get_host(),
                options.get_port(),
            );
        }
        self.found = Some((found, Instant::now()));
        Ok(())
    }

    pub(super) fn outcome(&self) -> Option<ReadOnly> {
        self.found.map(|(found, _)| found)
    }

    /// The check for a server that would accept writes.
    pub(super) fn must_hold(&self) -> Result<(), Failure> {
        match self.outcome() {
            Some(ReadOnly::Session) => Ok(()),
            Some(_) | None => Err(Failure::Misconfigured(
                "a pooler in between drops or refuses the startup option \
                 default_transaction_read_only, and a subscriber would take writes"
                    .to_owned(),
            )),
        }
    }
}

async fn attempt(options: &PgConnectOptions) -> Result<ReadOnly, sqlx::Error> {
    let mut connection = match PgConnection::connect_with(&read_only(options)).await {
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| REFUSALS.contains(&&*code)) =>
        {
            return Ok(ReadOnly::Server);
        }
        other => other?,
    };
    let holds = greet(&mut connection).await?.read_only;
    // The connection has served its purpose, so an error at closing does not matter.
    let _ = connection.close().await;
    Ok(if holds { ReadOnly::Session } else { ReadOnly::Server })
}
