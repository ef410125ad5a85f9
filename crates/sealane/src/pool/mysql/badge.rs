//! Which connection of this process is which session of its server.
//!
//! The driver does not tell a connection's number, and its type has no room for a note of ours. But
//! each connection keeps the statements that it has prepared, and gives out a shared reference to
//! what the server said of them. So each new connection prepares the same text, and the address of
//! that answer is its *mark*: found again without a round trip, and different from all others for as
//! long as anybody holds it.
//!
//! On the server, the session takes a user-level lock with a random name, its *badge*. The lock ends
//! with the session. So the server itself knows which session a badge belongs to, and nobody has to
//! remember a number that another session, another run of the server, or a session of a proxy may
//! have: see `canceller`.
//!
//! (Rejected: asking for the number whenever a connection is lent, which doubles the round trips.
//! Rejected: telling connections apart by the time at which they were opened, which is not exact.)
//!
//! A connection forgets its mark if other statements fill its cache, which one statement at a time
//! does not do: each lending uses the mark. A transaction of a hundred different statements does;
//! the connection then has a mark without a badge, and what it runs is not cancelled.

use std::{
    collections::VecDeque,
    fmt::{self, Debug, Formatter},
    ptr,
    sync::{Mutex, PoisonError},
};

use sea_orm::sqlx::{
    self, AssertSqlSafe, Connection, Error, Executor, MySqlConnection, Row, SqlSafeStr, Statement,
    mysql::MySqlStatement,
};

/// Prepared on each connection.
pub(crate) const TEXT: &str = "SELECT 'sealane'";

/// More than the connections of a pool. Connections that are closed because they are old leave their
/// badges behind, and the oldest go first.
const MOST: usize = 1024;

/// Tells a connection from all others.
pub(crate) struct Mark(MySqlStatement);

/// The badges of the connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Badges(Mutex<VecDeque<(Mark, String)>>);

impl Mark {
    /// The mark of the connection that has prepared [`TEXT`] as `statement`.
    pub(crate) fn new(statement: MySqlStatement) -> Self {
        Mark(statement)
    }

    /// The mark of `connection`. Asks the server only if the connection has forgotten its mark.
    ///
    /// # Errors
    /// Whatever the server or the connection says.
    async fn of(connection: &mut MySqlConnection) -> Result<Mark, Error> {
        connection.prepare(TEXT.into_sql_str()).await.map(Mark)
    }

    fn is(&self, other: &Mark) -> bool {
        ptr::eq(self.0.columns(), other.0.columns())
    }
}

impl Badges {
    /// Gives a new connection the badge `name`. Returns `false` if the server allows no locks, or if
    /// the driver keeps no prepared statements.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) async fn give(
        &self,
        connection: &mut MySqlConnection,
        name: String,
    ) -> Result<bool, Error> {
        let given = match pin(connection, &name).await {
            Err(Error::Database(_)) => None,
            given => given?,
        };
        let Some(mark) = given else { return Ok(false) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.pop_front();
        }
        // The mark is held here, so no other connection gets its address.
        known.push_back((mark, name));
        Ok(true)
    }

    /// The badge of the connection with this mark, which is about to be closed.
    pub(crate) fn take(&self, mark: &Mark) -> Option<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|(other, _)| other.is(mark))?;
        known.remove(place).map(|(_, name)| name)
    }
}

/// Takes the lock `name` and returns the connection's mark, if both are possible.
async fn pin(connection: &mut MySqlConnection, name: &str) -> Result<Option<Mark>, Error> {
    let lock = AssertSqlSafe(format!("SELECT GET_LOCK('{name}', 0)"));
    let row = sqlx::raw_sql(lock).fetch_one(&mut *connection).await?;
    let is_taken: Option<String> = row.try_get_unchecked(0)?;
    let mark = Mark::of(connection).await?;
    let is_kept = connection.cached_statements_size() > 0;
    Ok((is_kept && is_taken.as_deref() == Some("1")).then_some(mark))
}

impl Debug for Mark {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}
