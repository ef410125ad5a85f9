//! What a session has seen, stored in one machine word.
//!
//! The word holds a stamp and a server, so that both change in one atomic step. This needs no lock,
//! and a reader never gets the server of one read with the stamp of another.
//!
//! The word has no room for both an endpoint and its run. But runs are numbered over all endpoints
//! together ([`EndpointState::run`](crate::EndpointState::run)), so a run's number alone identifies
//! the server. After 65,535 runs the numbers no longer fit. A session then remembers no server, and
//! every server must cover the session's stamp. This costs reads on the primary. Confusing two runs
//! would be worse: it would break the promise.
//!
//! Rejected: storing only some bits of the number. After 256 restarts, a crashed replica would
//! count as the same run again. Rejected: two words written one after the other with a version
//! number. That is a lock under another name.

use super::Server;
use crate::WriteStamp;

/// The low sixteen bits hold the run's number (0: no single server is known to hold everything
/// seen), the other bits hold the stamp. 2^48 stamps last for nine years at a million per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen(u64);

const SERVER_BITS: u32 = 16;
const SERVER: u64 = (1 << SERVER_BITS) - 1;

impl Seen {
    pub(super) fn new(server: Option<Server>, stamp: WriteStamp) -> Self {
        Seen::made_of(stamp, server.map_or(0, number))
    }

    pub(super) fn from_word(word: u64) -> Self {
        Seen(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    fn made_of(stamp: WriteStamp, server: u64) -> Self {
        Seen(stamp.number() << SERVER_BITS | server)
    }

    /// Every server that covers this stamp holds everything seen.
    pub(super) fn stamp(self) -> WriteStamp {
        WriteStamp::from_number(self.0 >> SERVER_BITS)
    }

    /// Whether `server` holds everything seen, whichever stamp it covers.
    pub(super) fn is_on(self, server: Server) -> bool {
        let number = number(server);
        number != 0 && self.0 & SERVER == number
    }

    /// What both have seen together. If both have seen it on one server, that server holds
    /// everything. If they have seen it on two servers, neither is proved to hold everything.
    pub(super) fn with(self, other: Seen) -> Seen {
        let nothing = Seen::default();
        if self == nothing || other == nothing {
            return self.max_stamp(other);
        }
        let same_server = self.0 & SERVER == other.0 & SERVER;
        let server = if same_server { self.0 & SERVER } else { 0 };
        Seen::made_of(self.stamp().max(other.stamp()), server)
    }

    fn max_stamp(self, other: Seen) -> Seen {
        if other.stamp() > self.stamp() { other } else { self }
    }
}

/// The run's number; 0 if it does not fit.
fn number(server: Server) -> u64 {
    Some(u64::from(server.run)).filter(|number| *number <= SERVER).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointId;

    fn seen_on(run: u32, stamp: u64) -> (Seen, Server) {
        let server = Server { endpoint: EndpointId::FIRST, run };
        (Seen::new(Some(server), WriteStamp::from_number(stamp)), server)
    }

    #[test]
    fn a_run_is_itself_and_no_other() {
        let (first, server) = seen_on(1, 7);
        assert!(first.is_on(server));
        for other in [2, 257, 65_535, 65_536, 65_537, u32::MAX] {
            assert!(!first.is_on(Server { run: other, ..server }), "{other}");
        }
    }

    #[test]
    fn a_run_whose_number_does_not_fit_counts_as_no_server() {
        for run in [65_536, 65_537, u32::MAX] {
            let (seen, server) = seen_on(run, 7);
            assert!(!seen.is_on(server), "{run}");
            assert_eq!(seen.stamp().number(), 7);
        }
        let (last, server) = seen_on(65_535, 7);
        assert!(last.is_on(server));
    }

    #[test]
    fn a_server_that_was_never_observed_holds_nothing() {
        let (seen, server) = seen_on(0, 7);
        assert!(!seen.is_on(server));
    }

    #[test]
    fn what_was_seen_on_two_servers_neither_of_them_is_proved_to_hold() {
        let ((first, one), (second, two)) = (seen_on(1, 7), seen_on(2, 9));
        for both in [first.with(second), second.with(first)] {
            assert!(!both.is_on(one) && !both.is_on(two));
            assert_eq!(both.stamp().number(), 9);
        }
        let (later, _) = seen_on(1, 9);
        for both in [first.with(later), later.with(first)] {
            assert!(both.is_on(one));
            assert_eq!(both.stamp().number(), 9);
        }
        let nothing = Seen::default();
        assert_eq!([first.with(nothing), nothing.with(first)], [first, first]);
    }
}
