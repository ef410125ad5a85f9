//! The replication filters that servers report.

use std::time::Duration;

use sealane_sql::ReplicationFilter;
use sqlx::{
    Connection, MySqlConnection,
    error::DatabaseError,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlRow},
};
use tokio::time::timeout;

use crate::{ServerFilters, mysql::text};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Statements for the replication status, oldest first: newer servers do not know the older
/// statements.
const OF_REPLICAS: &[&str] = &["SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS"];
const OF_LOGS: &[&str] = &["SHOW BINARY LOG STATUS", "SHOW BINLOG STATUS", "SHOW MASTER STATUS"];

/// The filters of what a server replicates, and those of its own binary log: replicas follow a
/// primary, and may follow another replica.
pub(super) async fn of_server(options: &MySqlConnectOptions) -> Result<ServerFilters, sqlx::Error> {
    let mut connection = MySqlConnection::connect_with(options).await?;
    let applied = told(&mut connection, OF_REPLICAS, of_channel).await?;
    let logged = told(&mut connection, OF_LOGS, of_log).await?;
    // Nobody waits for the goodbye of a server that is far away. (With TLS, even the driver's
    // `close_hard` waits for it: sqlx 0.9 reads if it has nothing left to send.) Without a goodbye of
    // ours, the server would log the connection as aborted.
    tokio::spawn(timeout(GOODBYE, connection.close()));
    Ok(ServerFilters {
        filters: applied.filters.into_iter().chain(logged.filters).collect(),
        is_hidden: applied.is_hidden || logged.is_hidden,
    })
}

/// Whether the server does not know the statement, or our role must not use it. After any other
/// error, it may know it and have filters.
fn is_refusal(error: &dyn DatabaseError) -> bool {
    const UNKNOWN: [u16; 3] = [1064, 1149, 1235];
    const FORBIDDEN: [u16; 6] = [1044, 1045, 1142, 1227, 1370, 1698];
    let error = error.try_downcast_ref::<MySqlDatabaseError>();
    error.is_some_and(|it| UNKNOWN.contains(&it.number()) || FORBIDDEN.contains(&it.number()))
}

/// The answer to the first statement that the server accepts; hidden if it refuses all of them. A
/// lost connection is an error.
async fn told(
    connection: &mut MySqlConnection,
    statements: &[&'static str],
    filter: fn(&MySqlRow) -> ReplicationFilter,
) -> Result<ServerFilters, sqlx::Error> {
    for statement in statements {
        match sqlx::raw_sql(*statement).fetch_all(&mut *connection).await {
            Ok(rows) => {
                let filters = rows.iter().map(filter).filter(|filter| !filter.is_empty());
                return Ok(ServerFilters { filters: filters.collect(), is_hidden: false });
            }
            Err(sqlx::Error::Database(error)) if is_refusal(&*error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ServerFilters { filters: Vec::new(), is_hidden: true })
}

fn of_channel(row: &MySqlRow) -> ReplicationFilter {
    let list = |column| names(&text(row, column).unwrap_or_default());
    let rewritten = text(row, "Replicate_Rewrite_DB").unwrap_or_default();
    ReplicationFilter {
        do_databases: list("Replicate_Do_DB"),
        ignore_databases: list("Replicate_Ignore_DB"),
        do_tables: list("Replicate_Do_Table"),
        ignore_tables: list("Replicate_Ignore_Table"),
        wild_do_tables: list("Replicate_Wild_Do_Table"),
        wild_ignore_tables: list("Replicate_Wild_Ignore_Table"),
        rewritten_databases: rewritten_names(&rewritten),
    }
}

fn of_log(row: &MySqlRow) -> ReplicationFilter {
    let list = |column| names(&text(row, column).unwrap_or_default());
    ReplicationFilter {
        do_databases: list("Binlog_Do_DB"),
        ignore_databases: list("Binlog_Ignore_DB"),
        ..ReplicationFilter::default()
    }
}

/// Names separated by commas.
fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// All names of `(from,to),…` in MySQL and `from->to,…` in MariaDB.
fn rewritten_names(list: &str) -> Vec<String> {
    names(&list.replace("->", ",").replace(['(', ')'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_servers_write_them() {
        assert_eq!(names("shop.audit, log.%"), ["shop.audit", "log.%"]);
        assert!(names("").is_empty());
        assert_eq!(rewritten_names("(a,b),(c,d)"), ["a", "b", "c", "d"]);
        assert_eq!(rewritten_names("a->b,c->d"), ["a", "b", "c", "d"]);
    }
}
