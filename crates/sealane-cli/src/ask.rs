//! Own connections to one server, for what the library does not ask.
//!
//! Everything is read as text over the simple protocols: they need no prepared statements, which a
//! pooler may lose, and the two engines then differ only in their statements.

mod last_error;
mod text_row;
mod trouble;

use std::{fmt, time::Duration};

use sealane::{Engine, Target};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

pub(crate) use last_error::last_error;
pub(crate) use text_row::{TextRow, truth};
pub(crate) use trouble::{Trouble, TroubleKind};

/// Limit for one connection with all that is asked over it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The statement that shows what a server of MySQL or MariaDB follows: a row for each source.
/// MariaDB's `SHOW REPLICA STATUS` shows the connection without a name only.
pub(crate) fn replica_status(is_mariadb: bool) -> &'static str {
    if is_mariadb { "SHOW ALL SLAVES STATUS" } else { "SHOW REPLICA STATUS" }
}

/// One connection.
pub(crate) enum Line {
    Postgres(Box<PgConnection>),
    MySql(Box<MySqlConnection>),
}

impl Line {
    /// Connects to `target` in the way in which the application does.
    pub(crate) async fn open(target: &Target) -> sqlx::Result<Line> {
        let url = target.options.get_url();
        match target.engine {
            Engine::MySql => {
                MySqlConnection::connect(url).await.map(|line| Line::MySql(Box::new(line)))
            }
            _ => PgConnection::connect(url).await.map(|line| Line::Postgres(Box::new(line))),
        }
    }

    /// The rows of all statements in `sql`.
    pub(crate) async fn rows(&mut self, sql: &str) -> sqlx::Result<Vec<TextRow>> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(match self {
            Line::Postgres(line) => {
                query.fetch_all(&mut **line).await?.iter().map(TextRow::of).collect()
            }
            Line::MySql(line) => {
                query.fetch_all(&mut **line).await?.iter().map(TextRow::of).collect()
            }
        })
    }

    /// The rows, or `None` if the server refuses the statement: what it would have told is unknown.
    pub(crate) async fn told(&mut self, sql: &str) -> Option<Vec<TextRow>> {
        self.rows(sql).await.ok()
    }

    /// The first row, if any.
    pub(crate) async fn first(&mut self, sql: &str) -> Option<TextRow> {
        self.told(sql).await?.into_iter().next()
    }

    /// Says goodbye. What goes wrong here is of no interest to anybody.
    pub(crate) async fn close(self) {
        let _ = match self {
            Line::Postgres(line) => line.close().await,
            Line::MySql(line) => line.close().await,
        };
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Line::Postgres(_) => "Postgres",
            Line::MySql(_) => "MySql",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mariadb_is_asked_for_all_of_its_connections() {
        assert_eq!(replica_status(true), "SHOW ALL SLAVES STATUS");
        assert_eq!(replica_status(false), "SHOW REPLICA STATUS");
    }
}
