//! The database engines: how to run a server, how to reach it, and how to ask whether it is ready.
//!
//! This file holds data and no behaviour: all differences between engines are here and in the
//! scripts of `server/`, and the rest of this program treats engines alike.

use std::fmt;
use std::net::SocketAddrV4;

/// A database engine.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The name on the command line, in image names and for the suites.
    pub(crate) name: &'static str,
    /// The script that creates the data and runs the server, in the official image and in ours.
    pub(crate) start_script: &'static str,
    /// A script run beside the server. It succeeds once a primary answers or a replica replicates.
    pub(crate) ready_script: &'static str,
    /// The user in the image that runs the server.
    pub(crate) user: &'static str,
    /// The folder where this user keeps the data.
    pub(crate) home: &'static str,
    /// The port inside the container.
    pub(crate) port: u16,
    /// Debian packages that tests need in addition to the server.
    pub(crate) tools: &'static [&'static str],
    /// Shuts the server down without waiting for its clients to leave.
    pub(crate) stop_signal: &'static str,
    scheme: &'static str,
    administrator: &'static str,
}

pub(crate) const POSTGRES: Engine = Engine {
    name: "postgres",
    start_script: include_str!("server/postgres.sh"),
    ready_script: include_str!("server/postgres.ready.sh"),
    user: "postgres",
    home: "/var/lib/postgresql",
    port: 5432,
    // In some tests applications reach the servers through the last two.
    tools: &[CLOCK, "pgbouncer", "haproxy"],
    stop_signal: "SIGINT",
    scheme: "postgres",
    administrator: "sealane",
};

pub(crate) const MARIADB: Engine = Engine {
    name: "mariadb",
    start_script: include_str!("server/mariadb.sh"),
    ready_script: include_str!("server/mariadb.ready.sh"),
    user: "mysql",
    home: "/var/lib/mysql",
    port: 3306,
    tools: &[CLOCK],
    stop_signal: "SIGTERM",
    scheme: "mysql",
    administrator: "sealane_admin",
};

pub(crate) const MYSQL: Engine = Engine {
    name: "mysql",
    start_script: include_str!("server/mysql.sh"),
    ready_script: include_str!("server/mysql.ready.sh"),
    user: "mysql",
    home: "/var/lib/mysql",
    port: 3306,
    tools: &[CLOCK],
    stop_signal: "SIGTERM",
    scheme: "mysql",
    administrator: "sealane_admin",
};

/// For tests in which a server's clock is wrong.
const CLOCK: &str = "libfaketime";

/// All engines.
pub(crate) const ENGINES: [&Engine; 3] = [&POSTGRES, &MARIADB, &MYSQL];

impl Engine {
    /// The URL of the server at `address` for an application.
    pub(crate) fn url(&self, address: SocketAddrV4) -> String {
        self.url_as("sealane", address)
    }

    /// The URL of the same server for the suites' library, which inflicts faults.
    pub(crate) fn admin_url(&self, address: SocketAddrV4) -> String {
        self.url_as(self.administrator, address)
    }

    /// On these throw-away servers each user's password is the user's name.
    fn url_as(&self, user: &str, address: SocketAddrV4) -> String {
        format!("{}://{user}:{user}@{address}/sealane", self.scheme)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
