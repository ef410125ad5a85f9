//! What the texts of GTID sets and lists have in common: limits, numbers, errors.

/// The longest text that is parsed, in bytes. After years of operation, servers show a few
/// kilobytes. A set fragmented into a hundred thousand intervals still fits.
pub const MAX_GTID_TEXT_BYTES: usize = 1024 * 1024;

/// How much of a faulty text an error repeats, in characters.
const EXCERPT_CHARS: usize = 60;

/// A text that is not a GTID set or list. Only the beginning of a long text is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseGtidError {
    /// The text is longer than [`MAX_GTID_TEXT_BYTES`].
    #[error("a GTID text of {bytes} bytes is longer than the {MAX_GTID_TEXT_BYTES} that are read")]
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// A source is not named by a UUID.
    #[error("{0:?} is not a UUID such as 3e11fa47-71ca-11e1-9e33-c80aa9429562")]
    Uuid(String),
    /// A UUID is followed by something that is neither a tag nor an interval.
    #[error("{0:?} is neither a tag nor an interval of numbers such as 1-5")]
    Interval(String),
    /// A UUID or a tag is not followed by an interval.
    #[error("no interval follows in {0:?}")]
    NoInterval(String),
    /// A member of a MariaDB list is not made of three numbers.
    #[error("{0:?} is not domain-server-sequence such as 0-1-100")]
    Gtid(String),
    /// A MariaDB list names a domain twice, as `gtid_binlog_state` does. The position is in
    /// `gtid_current_pos`, `gtid_slave_pos` or `gtid_binlog_pos` instead.
    #[error("domain {0} appears twice")]
    DuplicateDomain(u32),
}

pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

pub(super) fn bounded(text: &str) -> Result<&str, ParseGtidError> {
    match text.len() {
        0..=MAX_GTID_TEXT_BYTES => Ok(text),
        bytes => Err(ParseGtidError::TooLong { bytes }),
    }
}

pub(super) fn parse_uuid(text: &str) -> Option<u128> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    bytes.iter().enumerate().try_fold(0_u128, |uuid, (index, &byte)| {
        if HYPHENS.contains(&index) {
            return (byte == b'-').then_some(uuid);
        }
        Some(uuid << 4 | u128::from(char::from(byte).to_digit(16)?))
    })
}

/// Digits only: `parse` alone would also read a sign.
pub(super) fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GtidList, GtidSet};

    #[test]
    fn a_huge_text_is_refused_unread() {
        let huge = "x".repeat(MAX_GTID_TEXT_BYTES + 1);
        let expected = ParseGtidError::TooLong { bytes: huge.len() };
        assert_eq!(bounded(&huge), Err(expected.clone()));
        assert_eq!(huge.parse::<GtidSet>(), Err(expected.clone()));
        assert_eq!(huge.parse::<GtidList>(), Err(expected));
    }

    #[test]
    fn an_error_repeats_only_the_beginning() {
        assert_eq!(excerpt(&"é".repeat(10_000)).chars().count(), EXCERPT_CHARS);
    }
}
