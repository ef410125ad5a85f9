//! What a session has seen, in one word.

use super::Server;
use crate::WriteStamp;

/// In the low byte the endpoint plus one (0: no single server is known to hold
/// all that was seen), then the low byte of its run, then the stamp. 2^48 stamps
/// last for nine years at a million a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen(u64);

impl Seen {
    pub(super) fn new(server: Option<Server>, stamp: WriteStamp) -> Self {
        Seen::made_of(stamp, server.map_or(0, Seen::low_bits))
    }

    pub(super) fn from_word(word: u64) -> Self {
        Seen(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    fn made_of(stamp: WriteStamp, low_bits: u64) -> Self {
        Seen(stamp.number() << 16 | low_bits)
    }

    fn low_bits(server: Server) -> u64 {
        u64::from(server.run & 0xFF) << 8 | (server.endpoint.index() as u64 + 1)
    }

    /// A server holds all of it that covers this stamp.
    pub(super) fn stamp(self) -> WriteStamp {
        WriteStamp::from_number(self.0 >> 16)
    }

    /// So does this one, whatever it covers.
    pub(super) fn is_on(self, server: Server) -> bool {
        self.0 & 0xFFFF == Seen::low_bits(server)
    }

    /// What was seen by both. On one server, it holds both; on two, neither is proved
    /// to.
    pub(super) fn with(self, other: Seen) -> Seen {
        let nothing = Seen::default();
        if self == nothing || other == nothing {
            return self.max_stamp(other);
        }
        let same_server = self.0 & 0xFFFF == other.0 & 0xFFFF;
        let low_bits = if same_server { self.0 & 0xFFFF } else { 0 };
        Seen::made_of(self.stamp().max(other.stamp()), low_bits)
    }

    fn max_stamp(self, other: Seen) -> Seen {
        if other.stamp() > self.stamp() { other } else { self }
    }
}
