//! Whether sessions of an endpoint can be begun so that they do not write.
//!
//! A startup option asks for it. A pooler in between may pass that on (PgBouncer with
//! `track_extra_parameters`), refuse it (PgBouncer's default), or drop it without a word
//! (`ignore_startup_parameters`). So it is tried out, and the setting is looked at. A `SET`
//! afterwards would not do: where a connection is handed out for each transaction it is left
//! to another client.

use std::time::Duration;

use sealane_core::{Failure, ReadOnly};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::{failure, greet};

/// A server's refusal of what a client says first.
const PROTOCOL_VIOLATION: &str = "08P01";

/// A pooler may be put in between, or be told otherwise; whoever connects anew after this time
/// finds out.
const VALID_FOR: Duration = Duration::from_secs(60);

/// `options` for sessions that do not write.
#[must_use]
pub fn read_only(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([("default_transaction_read_only", "on")])
}

/// What was found out of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Trial {
    found: Option<(ReadOnly, Instant)>,
}

impl Trial {
    /// Finds out, on a connection of its own, if that was not done lately.
    pub(super) async fn make(&mut self, options: &PgConnectOptions) -> Result<(), Failure> {
        if self.found.is_some_and(|(_, at)| at.elapsed() < VALID_FOR) {
            return Ok(());
        }
        let found = match attempt(options).await {
            Ok(found) => found,
            // What was found last stays; and before that, nobody can connect to read.
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

    /// For a server that would take writes.
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
            if error.code().as_deref() == Some(PROTOCOL_VIOLATION) =>
        {
            return Ok(ReadOnly::Server);
        }
        other => other?,
    };
    let holds = greet(&mut connection).await?.read_only;
    // It has told what it was made for; how it ends does not matter.
    let _ = connection.close().await;
    Ok(if holds { ReadOnly::Session } else { ReadOnly::Server })
}
