//! How many connections pools have open.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use sea_orm::DatabaseConnectionType;

use super::{EndpointPools, Pool, Pools};

/// Open connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) open: u32,
    pub(crate) idle: u32,
    /// So many may be open; 0 if that is unknown.
    most: u32,
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
        let (open, idle) = (reads.open + writes.open, reads.idle + writes.idle);
        Connections { open, idle, most: reads.most.saturating_add(writes.most) }
    }
}

impl Pool {
    /// Whether a connection is idle, or another one may be opened, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        let Connections { open, idle, most } = self.connections();
        most == 0 || idle > 0 || open < most
    }

    /// Whether a connection is idle, as far as is known.
    pub(crate) fn has_idle(&self) -> bool {
        self.idle() > 0
    }

    /// How many connections are idle, as far as is known.
    pub(crate) fn idle(&self) -> u32 {
        self.connections().idle
    }

    /// How many connections it may have; 0 if that is unknown.
    pub(crate) fn size(&self) -> u32 {
        #[cfg(feature = "assembly")]
        if let Some(lender) = &self.lender {
            return lender.size();
        }
        self.connections().most
    }

    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "sqlite")),
        allow(clippy::match_single_binding, reason = "without a driver there is no pool")
    )]
    fn connections(&self) -> Connections {
        match &self.connection.inner {
            #[cfg(feature = "postgres")]
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                Connections::of(self.connection.get_postgres_connection_pool())
            }
            #[cfg(feature = "mysql")]
            DatabaseConnectionType::SqlxMySqlPoolConnection(_) => {
                Connections::of(self.connection.get_mysql_connection_pool())
            }
            #[cfg(feature = "sqlite")]
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                Connections::of(self.connection.get_sqlite_connection_pool())
            }
            // A mock or a simulator has no pool.
            _ => Connections::default(),
        }
    }
}

impl Connections {
    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn of<DB: sea_orm::sqlx::Database>(pool: &sea_orm::sqlx::Pool<DB>) -> Self {
        // The driver reads the two numbers one after the other.
        let open = pool.size();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX).min(open);
        Connections { open, idle, most: pool.options().get_max_connections() }
    }
}
