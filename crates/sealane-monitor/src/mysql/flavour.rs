//! The differences between MySQL and MariaDB: the probe's statements, and the meaning of the
//! answers.

mod aurora;
mod mariadb;
mod mysql;

use sealane_core::{
    Ancestry, Failure, Incarnation, Position, Replication, Report, Role, ServerInfo, Source,
    Transactions,
};
use sqlx::mysql::MySqlRow;

use super::{channel::Channel, text};

/// MySQL and its relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// A position is the set of all transactions that a server has executed.
    MySql,
    /// A position is the last transaction of each domain.
    MariaDb,
    /// There are no positions.
    Aurora,
}

/// The answer of a server, in terms common to all flavours.
#[derive(Debug)]
struct Answer {
    is_replica: bool,
    incarnation: String,
    /// Its position in its present role; `None` if it reports none.
    position: Option<Position>,
    /// What a primary shows, if it reports this.
    transactions: Option<Transactions>,
    /// What it has received and possibly not applied; `None` if we may not see it.
    received: Option<Position>,
    /// The history that it writes, if the rows show it.
    ancestry: Option<Ancestry>,
    replication: Replication,
    /// The servers that it receives from, if we may see that.
    sources: Vec<Source>,
    info: ServerInfo,
}

impl Flavour {
    /// Determines the flavour from `@@version`, such as `9.7.4` or `11.8.6-MariaDB-log`.
    pub(super) fn of_version(version: &str) -> Self {
        match version.to_ascii_lowercase().contains("mariadb") {
            true => Flavour::MariaDb,
            false => Flavour::MySql,
        }
    }

    /// The flavour's usual name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Flavour::MySql => "MySQL",
            Flavour::MariaDb => "MariaDB",
            Flavour::Aurora => "Aurora MySQL",
        }
    }

    /// The probe's statement. `run`: an expression that tells which run this is. With `details`, there is
    /// one more row for each channel, which few roles may see.
    pub(super) fn question(self, run: &str, details: bool) -> String {
        match self {
            Flavour::MySql => mysql::question(run, details),
            Flavour::MariaDb => mariadb::question(run, details),
            // Every role may see all of it.
            Flavour::Aurora => aurora::question(run),
        }
    }

    /// Reads the answer, which was asked with or without `details`. A member of Galera needs no binary log, because
    /// what it writes there proves nothing.
    pub(super) fn report(
        self,
        rows: &[MySqlRow],
        details: bool,
        is_galera: bool,
    ) -> Result<Report, Failure> {
        let answer = match self {
            Flavour::MySql => mysql::Words::read(rows, details)?.logged(is_galera).answer()?,
            Flavour::MariaDb => mariadb::Words::read(rows, details)?.logged(is_galera).answer()?,
            Flavour::Aurora => aurora::Words::read(rows)?.answer(),
        };
        Ok(answer.report())
    }
}

impl Answer {
    fn report(self) -> Report {
        let (role, replication, received) = match self.is_replica {
            true => (Role::Replica, self.replication, self.received),
            false => (Role::Primary, Replication::NotApplicable, None),
        };
        let info = ServerInfo { writable: Some(!self.is_replica), ..self.info };
        let (position, incarnation) = (self.position, Incarnation::new(self.incarnation));
        let (ancestry, transactions, sources) = (self.ancestry, self.transactions, self.sources);
        let report = Report::new(role, incarnation);
        Report { position, received, replication, transactions, ancestry, sources, info, ..report }
    }
}

/// `0` and `OFF` mean off; `1`, `ON` and MariaDB 12's kinds of read-only mean on.
fn is_on(setting: &str) -> bool {
    !matches!(setting, "0" | "OFF")
}

fn no_row() -> Failure {
    Failure::Unexpected("the server did not say what it was asked".to_owned())
}

fn unreadable(error: impl ToString) -> Failure {
    Failure::Unexpected(error.to_string())
}

/// The text of a column that may be NULL or empty, which means the same here.
fn text_or_empty(row: &MySqlRow, column: &str) -> String {
    text(row, column).unwrap_or_default()
}

fn channels_of(rows: &[MySqlRow]) -> Vec<Channel> {
    rows.iter().map(Channel::from_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_tells_the_flavour() {
        assert_eq!(Flavour::of_version("9.7.4-2"), Flavour::MySql);
        assert_eq!(Flavour::of_version("8.4.3"), Flavour::MySql);
        assert_eq!(Flavour::of_version("11.8.6-MariaDB-0+deb13u1 from Debian"), Flavour::MariaDb);
        assert_eq!(Flavour::of_version("5.5.5-10.11.6-MariaDB-log"), Flavour::MariaDb);
    }

    #[test]
    fn a_setting_is_off_in_two_words() {
        assert!(!is_on("0") && !is_on("OFF"));
        assert!(is_on("1") && is_on("ON") && is_on("NO_LOCK_NO_ADMIN"));
    }
}
