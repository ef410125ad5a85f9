//! Keeps the sessions of a read pool from writing.
//!
//! A write may be taken for a read, and a replica may become the primary under its sessions;
//! so each of them is begun with `default_transaction_read_only`. A pooler may refuse that or
//! drop it, which a probe finds out before anybody reads there. Then a physical replica does
//! without: it refuses writes itself. Each new session is looked at once more.
//!
//! What is left behind such a pooler: a session that goes on while its replica is promoted
//! could write there, if a write was taken for a read in that moment.

use sea_orm::sqlx::{Error, postgres::PgConnectOptions};
use sealane_core::ReadOnly;
use sealane_monitor::postgres::{Greeting, read_only};

/// What a server is that reads go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replica {
    /// It refuses writes while it is one.
    Physical,
    /// A subscriber, which takes writes.
    Logical,
}

/// How to connect for reading, by what is known now: `connect` alone, if something in between
/// would refuse the setting or drop it.
pub(crate) fn options(connect: &PgConnectOptions, known: Option<ReadOnly>) -> PgConnectOptions {
    match known {
        Some(ReadOnly::Server) => connect.clone(),
        // Not known yet: whoever refuses or drops it is found out below.
        _ => read_only(connect),
    }
}

/// Whether a session that greets so may be used for reading.
///
/// # Errors
/// It could write.
pub(crate) fn check(greeting: &Greeting, replica: Replica) -> Result<(), Error> {
    match (greeting.read_only, greeting.in_recovery, replica) {
        (true, _, _) | (false, true, Replica::Physical) => Ok(()),
        (false, false, _) | (false, true, Replica::Logical) => Err(Error::Protocol(
            "something in between drops the read-only setting of sessions".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::Incarnation;

    use super::*;

    fn is_used(read_only: bool, in_recovery: bool, replica: Replica) -> bool {
        let incarnation = Incarnation::new("now");
        check(&Greeting { incarnation, read_only, in_recovery }, replica).is_ok()
    }

    #[test]
    fn only_a_physical_replica_does_without_the_setting() {
        assert!(is_used(true, true, Replica::Physical) && is_used(true, false, Replica::Physical));
        assert!(is_used(true, false, Replica::Logical));
        assert!(is_used(false, true, Replica::Physical));
        assert!(!is_used(false, false, Replica::Physical), "it was promoted");
        assert!(!is_used(false, false, Replica::Logical));
    }
}
