//! How many connections pools have open.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use sea_orm::DatabaseConnectionType;

use super::{EndpointPools, Pool, Pools};

/// Open connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) open: u32,
    pub(crate) idle: u32,
}

impl EndpointPools {
    /// The open connections of the pools that statements use now.
    pub(crate) fn connections(&self) -> Connections {
        self.current.load().as_ref().map(|pools| pools.connections()).unwrap_or_default()
    }
}

impl Pools {
    fn connections(&self) -> Connections {
        let writes = self.writes.connections();
        if self.is_one {
            return writes;
        }
        let reads = self.reads.connections();
        Connections { open: reads.open + writes.open, idle: reads.idle + writes.idle }
    }
}

impl Pool {
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        allow(clippy::match_single_binding, reason = "without a driver there is no pool")
    )]
    fn connections(&self) -> Connections {
        match &self.connection.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = self.connection.get_postgres_connection_pool();
                Connections::of(pool.size(), pool.num_idle())
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                let pool = self.connection.get_mysql_connection_pool();
                Connections::of(pool.size(), pool.num_idle())
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let pool = self.connection.get_sqlite_connection_pool();
                Connections::of(pool.size(), pool.num_idle())
            }
            // A mock or a simulator has no pool.
            _ => Connections::default(),
        }
    }
}

impl Connections {
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn of(open: u32, idle: usize) -> Self {
        // The driver reads the two numbers one after the other.
        Connections { open, idle: u32::try_from(idle).unwrap_or(u32::MAX).min(open) }
    }
}
