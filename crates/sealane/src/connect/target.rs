//! The endpoints of a configuration, for tools that look at the servers themselves.

use std::fmt;

use sea_orm::ConnectOptions;
use sealane_core::Engine;

use super::{DRIVERS_CONNECTIONS, check};
use crate::{Config, ConnectError};

/// One endpoint of a [`Config`], with its name and address as [`connect`](crate::connect) would use
/// them.
#[derive(Clone)]
#[non_exhaustive]
pub struct Target {
    /// The endpoint's name.
    pub name: String,
    /// Its address, without credentials: `host:port`, a socket, or the path of a file.
    pub address: String,
    /// What its URL says about the server's software. MariaDB counts as MySQL.
    pub engine: Engine,
    /// How the application connects to it. The URL may contain a password.
    pub options: ConnectOptions,
    /// The subscription, if the endpoint is declared a logical subscriber.
    pub subscription: Option<String>,
}

impl Target {
    /// How many connections a pool of this endpoint may hold.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.options.get_max_connections().unwrap_or(DRIVERS_CONNECTIONS)
    }
}

impl fmt::Debug for Target {
    /// Shows no options, because they contain the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// All endpoints, the one configured as the primary first. Nothing is connected to. This is for
    /// tools that ask the servers what sealane does not ask, such as the command `sealane check`.
    ///
    /// # Errors
    /// The configuration is not valid.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")]
    /// # fn main() -> Result<(), sealane::ConnectError> {
    /// let config = sealane::Config::new("postgres://app:tide@db-1/shop");
    /// let targets = config.targets()?;
    /// assert_eq!((&*targets[0].name, &*targets[0].address), ("db-1", "db-1:5432"));
    /// assert!(!format!("{targets:?}").contains("tide"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "postgres"))]
    /// # fn main() {}
    /// ```
    pub fn targets(&self) -> Result<Vec<Target>, ConnectError> {
        let addresses = check(self)?;
        let endpoints = self.endpoints().zip(&addresses.endpoints);
        let target = |(replica, endpoint): (&crate::Replica, &sealane_core::Endpoint)| Target {
            name: endpoint.name().to_owned(),
            address: endpoint.address().to_owned(),
            engine: addresses.engine,
            options: replica.options.clone(),
            subscription: replica.subscription.clone(),
        };
        Ok(endpoints.map(target).collect())
    }
}
