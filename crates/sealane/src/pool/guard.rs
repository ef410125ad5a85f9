//! Keeps the sessions of a read pool from writing.
//!
//! A write may be mistaken for a read, and a replica may become the primary while sessions are
//! open. So each session starts with `default_transaction_read_only`. A pooler may refuse or drop
//! this setting; a probe finds this out before any read goes there. Then a physical replica works
//! without the setting, because it refuses writes itself. Each new session is checked once more.
//!
//! One risk remains behind such a pooler: a session that stays open while its replica is promoted
//! could write there, if a write were mistaken for a read at that moment.

use sea_orm::sqlx::{Error, postgres::PgConnectOptions};
use sealane_core::ReadOnly;
use sealane_monitor::postgres::{Greeting, read_only};

/// The kind of replica that serves reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replica {
    /// A physical replica: it refuses writes as long as it is a replica.
    Physical,
    /// A logical subscriber: it accepts writes.
    Logical,
}

/// How to connect for reading: with the read-only setting, or with `connect` unchanged if a pooler
/// is known to refuse or drop the setting.
pub(crate) fn options(connect: &PgConnectOptions, known: Option<ReadOnly>) -> PgConnectOptions {
    match known {
        Some(ReadOnly::Server) => connect.clone(),
        // Not known yet: a refusal fails the connection, and `check` notices a dropped setting.
        _ => read_only(connect),
    }
}

/// Whether a session with this greeting may be used for reading.
///
/// # Errors
/// The session could write.
pub(crate) fn check(greeting: &Greeting, replica: Replica) -> Result<(), Error> {
    match (greeting.read_only, greeting.in_recovery, replica) {
        (true, _, _) | (false, true, Replica::Physical) => Ok(()),
        (false, false, _) | (false, true, Replica::Logical) => Err(Error::Protocol(
            "a pooler in between drops the read-only setting of sessions".into(),
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
