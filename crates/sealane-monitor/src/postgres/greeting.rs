//! What a new connection says of itself, before it is used for reading or writing.

use sealane_core::Incarnation;
use sqlx::{PgConnection, Row};

/// The start time changes with every start of the postmaster; the statistics are reset when it
/// restarts its children after one of them crashed, which a replica may survive with less
/// data too. Readable without privileges.
const GREETING: &str = "SELECT \
     (SELECT concat(pg_postmaster_start_time(), ' ', stats_reset) FROM pg_stat_bgwriter) \
       AS incarnation, \
     current_setting('default_transaction_read_only') = 'on' AS read_only, \
     pg_is_in_recovery() AS in_recovery";

/// What a new connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Which run of the server it leads to.
    pub incarnation: Incarnation,
    /// Whether the session itself does not write.
    pub read_only: bool,
    /// Whether the server is a physical replica, which does not write either.
    pub in_recovery: bool,
}

/// Asks a new connection what it leads to. One round trip, and nothing prepared: a pooler may
/// be in between.
///
/// # Errors
/// Whatever the server or the connection says.
pub async fn greet(connection: &mut PgConnection) -> Result<Greeting, sqlx::Error> {
    let row = sqlx::raw_sql(GREETING).fetch_one(connection).await?;
    Ok(Greeting {
        incarnation: Incarnation::new(row.try_get::<String, _>("incarnation")?),
        read_only: row.try_get("read_only")?,
        in_recovery: row.try_get("in_recovery")?,
    })
}
