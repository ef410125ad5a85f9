//! What a session takes along to another process.
//!
//! After a write, or after a read on the primary, the token carries a position of the primary
//! sampled since then. After a read on a replica, the token carries only a mark of that run of that
//! server. The server never goes back in time, so a session resumed there may continue there, and
//! making the mark needs no query. Any other replica must cover a stamp drawn at the resumption.
//! The primary's next sample contains everything that had happened by then. The same rule holds for
//! every replica if the past is unknown.
//!
//! This one rule serves tokens that are forged, too old or from another system, tokens whose
//! position could not be learned in time, and positions that a failover has lost. In all these
//! cases the user stays on the primary no longer than one fence takes, and reads nothing old. The
//! primary is never marked as the server. A user sent back to the primary would renew the mark with
//! each request and never leave.
//!
//! Without replicas there are no positions. The token then says only that there is a past, and a
//! session resumed in a process with replicas begins anew. A token that cannot be believed is still
//! resumed, as a session that begins anew: the token may have been true, and dropping it could lose
//! a write.

use std::{fmt, time::Duration};

use crate::{GtidList, GtidSet, Incarnation, Lsn, Position};

/// What a session wrote and saw, in terms that other processes understand.
///
/// This is the content only. The code that hands it out must sign it. Otherwise, the client that
/// returns it may have made it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CausalToken {
    /// When the token was made, since the Unix epoch. Encoding keeps whole seconds only.
    pub issued: Duration,
    /// What happened before the token was made.
    pub past: Past,
}

/// What happened before a [`CausalToken`] was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// A server has all of this past if it covers `position`, and is either the marked `server` or
    /// covers what the primary has by now.
    Known {
        /// Covers what the session wrote, and what it saw on the primary.
        position: Option<Position>,
        /// The one replica that showed what the session saw. It never goes back in time.
        server: Option<ServerMark>,
    },
    /// Something happened, but its position is unknown. A server has it if the server covers what
    /// the primary has by now.
    Unknown,
}

/// Marks one run of one server. Every process that observes the run derives the same mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerMark(u64);

impl ServerMark {
    /// The mark of the run `incarnation`.
    ///
    /// The hash is FNV-1a. It must be the same in every process and version. It need not resist
    /// attackers, because tokens are signed.
    #[must_use]
    pub fn of(incarnation: &Incarnation) -> Self {
        let hash = incarnation.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        ServerMark(hash)
    }
}

/// Why bytes are not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeTokenError {
    /// Another version of sealane wrote the bytes, in the format with this number.
    Version(u8),
    /// The bytes are malformed.
    Malformed,
}

/// The format that [`CausalToken::encode`] writes.
const VERSION: u8 = 1;
/// A longer position is not written, because tokens travel in headers and cookies, and browsers
/// limit a cookie to 4096 bytes. Only GTID sets with many sources or many gaps are longer.
const MAX_POSITION_BYTES: usize = 1024;

const UNKNOWN: u8 = 0;
const NO_POSITION: u8 = 1;
const CURRENT: u8 = 2;
const WAL: u8 = 3;
const GTID_SET: u8 = 4;
const GTID_LIST: u8 = 5;
/// Added to the kind if a server follows.
const WITH_SERVER: u8 = 0x80;

impl CausalToken {
    /// A token for both pasts. If the two positions do not compare, or two different servers have
    /// shown something, only the fact that something happened is left ([`Past::Unknown`]).
    #[must_use]
    pub fn merge(&self, other: &CausalToken) -> CausalToken {
        let issued = self.issued.max(other.issued);
        CausalToken { issued, past: self.past.merge(&other.past).unwrap_or(Past::Unknown) }
    }

    /// The token whose position is on the later timeline or, on one timeline, covers the other
    /// position. Use it for two tokens that both know of a failover. Nothing else from the other
    /// token is kept.
    #[must_use]
    pub fn later<'t>(&'t self, other: &'t CausalToken) -> &'t CausalToken {
        let (Some(ours), Some(theirs)) = (self.past.position(), other.past.position()) else {
            return if self.past.position().is_some() { self } else { other };
        };
        let is_later = match ours.timeline().cmp(&theirs.timeline()) {
            std::cmp::Ordering::Equal => ours.covers(theirs),
            order => order.is_gt(),
        };
        if is_later { self } else { other }
    }

    /// Encodes the token as bytes: the version, the kind, the time, the server, the position.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, UNKNOWN];
        bytes.extend(self.issued.as_secs().to_be_bytes());
        if let Past::Known { position, server } = &self.past
            && let Some((kind, position)) = encode_position(position.as_ref())
        {
            bytes[1] = kind;
            if let Some(ServerMark(mark)) = server {
                bytes[1] |= WITH_SERVER;
                bytes.extend(mark.to_be_bytes());
            }
            bytes.extend(position);
        }
        bytes
    }

    /// The inverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// The bytes are not a token, or another version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<CausalToken, DecodeTokenError> {
        match bytes.first() {
            Some(&VERSION) => decode(&bytes[1..]).ok_or(DecodeTokenError::Malformed),
            Some(version) => Err(DecodeTokenError::Version(*version)),
            None => Err(DecodeTokenError::Malformed),
        }
    }
}

impl Past {
    /// The position, if it is known.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        match self {
            Past::Known { position, .. } => position.as_ref(),
            Past::Unknown => None,
        }
    }

    /// Joins both pasts. `None` if no known past covers both.
    fn merge(&self, other: &Past) -> Option<Past> {
        let (Past::Known { position, server }, Past::Known { position: other, server: mark }) =
            (self, other)
        else {
            return None;
        };
        let position = join(position.as_ref(), other.as_ref(), |a, b| a.union(b))?;
        let same = |a: &ServerMark, b: &ServerMark| (a == b).then_some(*a);
        let server = join(server.as_ref(), mark.as_ref(), same)?;
        Some(Past::Known { position, server })
    }
}

/// Joins two values if both are present. `None` if they cannot be joined.
fn join<T: Clone>(
    one: Option<&T>,
    other: Option<&T>,
    both: impl FnOnce(&T, &T) -> Option<T>,
) -> Option<Option<T>> {
    match (one, other) {
        (Some(one), Some(other)) => both(one, other).map(Some),
        (only, None) | (None, only) => Some(only.cloned()),
    }
}

/// `None` if the position cannot be carried in a token.
fn encode_position(position: Option<&Position>) -> Option<(u8, Vec<u8>)> {
    let (kind, bytes) = match position {
        None => (NO_POSITION, Vec::new()),
        Some(Position::Current) => (CURRENT, Vec::new()),
        Some(Position::Wal { system, timeline, lsn }) => {
            let mut bytes = system.to_be_bytes().to_vec();
            bytes.extend(timeline.to_be_bytes());
            bytes.extend(lsn.bytes().to_be_bytes());
            (WAL, bytes)
        }
        Some(Position::GtidSet(set)) => (GTID_SET, set.to_string().into_bytes()),
        Some(Position::GtidList(list)) => (GTID_LIST, list.to_string().into_bytes()),
        // An opaque position means nothing to another process.
        Some(Position::Opaque) => return None,
    };
    (bytes.len() <= MAX_POSITION_BYTES).then_some((kind, bytes))
}

/// Decodes the bytes after the version.
fn decode(bytes: &[u8]) -> Option<CausalToken> {
    let (kind, bytes) = bytes.split_first()?;
    let (issued, bytes) = number(bytes)?;
    let issued = Duration::from_secs(issued);
    if *kind == UNKNOWN {
        return bytes.is_empty().then_some(CausalToken { issued, past: Past::Unknown });
    }
    let (server, bytes) = match kind & WITH_SERVER {
        0 => (None, bytes),
        _ => number(bytes).map(|(mark, rest)| (Some(ServerMark(mark)), rest))?,
    };
    let position = decode_position(kind & !WITH_SERVER, bytes)?;
    Some(CausalToken { issued, past: Past::Known { position, server } })
}

fn decode_position(kind: u8, bytes: &[u8]) -> Option<Option<Position>> {
    let text = || std::str::from_utf8(bytes).ok();
    Some(match kind {
        NO_POSITION if bytes.is_empty() => None,
        CURRENT if bytes.is_empty() => Some(Position::Current),
        WAL => {
            let (system, rest) = number(bytes)?;
            let (timeline, rest) = rest.split_first_chunk()?;
            let lsn = Lsn::from_bytes(u64::from_be_bytes(rest.try_into().ok()?));
            Some(Position::Wal { system, timeline: u32::from_be_bytes(*timeline), lsn })
        }
        GTID_SET => Some(Position::GtidSet(text()?.parse::<GtidSet>().ok()?)),
        GTID_LIST => Some(Position::GtidList(text()?.parse::<GtidList>().ok()?)),
        _ => return None,
    })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

impl fmt::Display for DecodeTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeTokenError::Version(version) => {
                write!(f, "a token of version {version}, this is version {VERSION}")
            }
            DecodeTokenError::Malformed => f.write_str("not a token"),
        }
    }
}

impl std::error::Error for DecodeTokenError {}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn any_position() -> impl Strategy<Value = Position> {
        prop_oneof![
            Just(Position::Current),
            (1..3_u64, 1..3_u32, 0..99_u64).prop_map(|(system, timeline, lsn)| Position::Wal {
                system,
                timeline,
                lsn: Lsn::from_bytes(lsn),
            }),
            vec((1..4_u32, 1..9_u32), 0..5).prop_map(|parts| {
                let uuid = |n: u32| format!("00000000-0000-0000-0000-{n:012}");
                let text: Vec<_> = parts.iter().map(|(s, n)| format!("{}:{n}", uuid(*s))).collect();
                Position::GtidSet(text.join(",").parse().unwrap())
            }),
            vec(1..9_u32, 0..3).prop_map(|numbers| {
                let gtid = |(domain, n): (usize, &u32)| format!("{domain}-1-{n}");
                let text: Vec<_> = numbers.iter().enumerate().map(gtid).collect();
                Position::GtidList(text.join(",").parse().unwrap())
            }),
        ]
    }

    fn any_token() -> impl Strategy<Value = CausalToken> {
        let known = (option::of(any_position()), option::of((0..3_u64).prop_map(ServerMark)))
            .prop_map(|(position, server)| Past::Known { position, server });
        let past = prop_oneof![9 => known, 1 => Just(Past::Unknown)];
        (past, 0..9_u64)
            .prop_map(|(past, issued)| CausalToken { issued: Duration::from_secs(issued), past })
    }

    /// Whether every server that may serve `later` may also serve `earlier`.
    fn asks_for_no_less(later: &Past, earlier: &Past) -> bool {
        let (
            Past::Known { position: new, server: new_mark },
            Past::Known { position: old, server: old_mark },
        ) = (later, earlier)
        else {
            return *later == Past::Unknown;
        };
        let covers = match (new, old) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(new), Some(old)) => new.covers(old),
        };
        covers && (old_mark.is_none() || old_mark == new_mark)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_token_comes_back_as_it_was(token in any_token()) {
            prop_assert_eq!(CausalToken::decode(&token.encode()), Ok(token));
        }

        #[test]
        fn merging_is_commutative(a in any_token(), b in any_token()) {
            prop_assert_eq!(a.merge(&b), b.merge(&a));
        }

        #[test]
        fn merging_is_idempotent(a in any_token(), b in any_token()) {
            prop_assert_eq!(a.merge(&a), a.clone());
            prop_assert_eq!(a.merge(&b).merge(&b), a.merge(&b));
        }

        #[test]
        fn a_merged_token_asks_for_no_less(a in any_token(), b in any_token()) {
            let merged = a.merge(&b);
            prop_assert!(asks_for_no_less(&merged.past, &a.past), "{merged:?} of {a:?}");
            prop_assert!(asks_for_no_less(&merged.past, &b.past), "{merged:?} of {b:?}");
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..64)) {
            if let Ok(token) = CausalToken::decode(&bytes) {
                prop_assert_eq!(CausalToken::decode(&token.encode()), Ok(token));
            }
        }
    }

    #[test]
    fn a_position_that_is_too_long_is_left_out() {
        let gaps: Vec<_> = (1..400).map(|n| (n * 2).to_string()).collect();
        let text = format!("00000000-0000-0000-0000-000000000001:{}", gaps.join(":"));
        let position = Some(Position::GtidSet(text.parse().unwrap()));
        let issued = Duration::from_secs(7);
        let token = CausalToken { issued, past: Past::Known { position, server: None } };
        let read = CausalToken::decode(&token.encode());
        assert_eq!(read, Ok(CausalToken { issued, past: Past::Unknown }));
    }

    #[test]
    fn another_version_is_told_from_rubbish() {
        let issued = Duration::ZERO;
        let mut bytes = CausalToken { issued, past: Past::Unknown }.encode();
        bytes[0] = 2;
        assert_eq!(CausalToken::decode(&bytes), Err(DecodeTokenError::Version(2)));
        assert_eq!(CausalToken::decode(b""), Err(DecodeTokenError::Malformed));
        bytes[0] = VERSION;
        bytes.push(0);
        assert_eq!(CausalToken::decode(&bytes), Err(DecodeTokenError::Malformed));
    }

    #[test]
    fn a_mark_is_the_same_for_ever() {
        // Fixed in the test, because the next version must read the tokens of this one.
        assert_eq!(ServerMark::of(&Incarnation::new("a")), ServerMark(0xaf63_dc4c_8601_ec8c));
    }

    #[test]
    fn the_later_of_two_tokens_is_on_the_later_timeline_or_covers_the_other() {
        let wal =
            |timeline, lsn| Some(Position::Wal { system: 1, timeline, lsn: Lsn::from_bytes(lsn) });
        for (earlier, later) in
            [(wal(1, 900), wal(2, 100)), (wal(2, 100), wal(2, 101)), (None, wal(1, 1))]
        {
            let token = |position| {
                let past = Past::Known { position, server: None };
                CausalToken { issued: Duration::ZERO, past }
            };
            let (earlier, later) = (token(earlier), token(later));
            assert_eq!((earlier.later(&later), later.later(&earlier)), (&later, &later));
        }
    }
}
