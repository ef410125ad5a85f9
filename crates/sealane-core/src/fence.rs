//! Write stamps: read-your-writes for the price of one integer comparison.
//!
//! A finished write draws a [`WriteStamp`] from the process's [`WriteClock`] and asks the database
//! nothing. When the monitor samples the primary's position, it reads the clock *before* it sends
//! the query. So the position contains every write that was stamped before this reading. A replica
//! that covers the position therefore covers the stamp.
//!
//! Rejected: asking the primary for its position after each write (one round
//! trip for each write), and a fixed window on the primary (wrong when the
//! replica is slower, wasteful when it is faster).

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The number of a write, in the order in which writes finished in this process.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WriteStamp(u64);

impl WriteStamp {
    /// The stamp before any write: every endpoint covers it.
    pub const NONE: WriteStamp = WriteStamp(0);

    /// The stamp with this number; the numbers of a clock begin at 1.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        WriteStamp(number)
    }

    /// The number of the stamp.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Counts the finished writes of a process.
#[derive(Debug, Default)]
pub struct WriteClock(AtomicU64);

impl WriteClock {
    /// Stamps a write that has just finished. Call it after the server's answer (or its loss) and
    /// before the caller gets the result.
    pub fn tick(&self) -> WriteStamp {
        // AcqRel: a reading that includes this stamp happens after the write.
        WriteStamp(self.0.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The newest stamp drawn so far. A position sampled after this call covers it.
    pub fn now(&self) -> WriteStamp {
        WriteStamp(self.0.load(Ordering::Acquire))
    }
}
