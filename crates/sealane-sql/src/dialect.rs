//! The SQL dialects of statements.

use serde::{Deserialize, Serialize};
use sqlparser::dialect::{
    Dialect as ParserDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect,
};

/// The kind of server that reads the text.
///
/// MariaDB is [`Dialect::MySql`]: where the two differ, the cautious reading wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL and servers that speak its SQL.
    PostgreSql,
    /// MySQL and MariaDB.
    MySql,
    /// SQLite.
    Sqlite,
}

impl Dialect {
    /// The parser's own description of the dialect.
    pub(crate) fn parser(self) -> &'static dyn ParserDialect {
        match self {
            Dialect::PostgreSql => &PostgreSqlDialect {},
            Dialect::MySql => &MySqlDialect {},
            Dialect::Sqlite => &SQLiteDialect {},
        }
    }
}
