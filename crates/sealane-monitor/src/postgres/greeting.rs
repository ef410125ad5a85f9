//! Asks a new connection about its server before the connection is used.

use sealane_core::Incarnation;
use sqlx::{PgConnection, Row};

/// The run of the server, as an expression. The start time changes with every start of the postmaster.
/// The statistics are reset when the postmaster restarts its children after a crash of one of them;
/// after that, too, a replica may have less data. Both are readable without privileges. As numbers,
/// because times are printed as the session wants them.
macro_rules! incarnation_sql {
    () => {
        "(SELECT concat((extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8, ' ', \
                        (extract(epoch FROM stats_reset) * 1000000)::int8) FROM pg_stat_bgwriter)"
    };
}
pub(super) use incarnation_sql;

const GREETING: &str = concat!(
    "SELECT ",
    incarnation_sql!(),
    " AS incarnation, \
     current_setting('default_transaction_read_only') = 'on' AS read_only, \
     pg_is_in_recovery() AS in_recovery"
);

/// What a new connection says about its server and session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The run of the server.
    pub incarnation: Incarnation,
    /// Whether the session is read-only.
    pub read_only: bool,
    /// Whether the server is a physical replica, which is read-only too.
    pub in_recovery: bool,
}

/// Asks a new connection about its server. Takes one round trip and prepares nothing, because a
/// pooler may be in between.
///
/// # Errors
/// Errors of the server or the connection.
pub async fn greet(connection: &mut PgConnection) -> Result<Greeting, sqlx::Error> {
    let row = sqlx::raw_sql(GREETING).fetch_one(connection).await?;
    Ok(Greeting {
        incarnation: Incarnation::new(row.try_get::<String, _>("incarnation")?),
        read_only: row.try_get("read_only")?,
        in_recovery: row.try_get("in_recovery")?,
    })
}
