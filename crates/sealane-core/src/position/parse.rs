//! The text forms of GTID sets and lists.

use super::{
    gtid_list::{Gtid, GtidList},
    gtid_set::{GtidSet, Part, Source},
    intervals::{Interval, Intervals},
};

/// The longest text that is read, in bytes. Servers of many years show a few
/// kilobytes; a set torn into a hundred thousand intervals still fits.
pub const MAX_GTID_TEXT_BYTES: usize = 1024 * 1024;

/// How much of a faulty text an error repeats, in characters.
const EXCERPT_CHARS: usize = 60;

/// The largest number of a MySQL transaction (`GNO_END` is 2^63 − 1 and
/// belongs to none).
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// The longest tag, in characters (MySQL 8.4 reference manual, section 19.1.3.1).
const MAX_TAG_CHARS: usize = 32;

/// A text that is no GTID set or list. Long texts are told in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseGtidError {
    /// The text is longer than [`MAX_GTID_TEXT_BYTES`].
    #[error("a GTID text of {bytes} bytes is longer than the {MAX_GTID_TEXT_BYTES} that are read")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A source is not named by a UUID.
    #[error("{0:?} is not a UUID such as 3e11fa47-71ca-11e1-9e33-c80aa9429562")]
    Uuid(String),
    /// Behind a UUID there is something that is neither a tag nor an interval.
    #[error("{0:?} is neither a tag nor an interval of numbers such as 1-5")]
    Interval(String),
    /// A UUID or a tag is not followed by an interval.
    #[error("no interval follows in {0:?}")]
    NoInterval(String),
    /// A member of a MariaDB list is not made of three numbers.
    #[error("{0:?} is not domain-server-sequence such as 0-1-100")]
    Gtid(String),
    /// A MariaDB list names a domain twice, as `gtid_binlog_state` does; a
    /// position is in `gtid_current_pos`, `gtid_slave_pos` or `gtid_binlog_pos`.
    #[error("domain {0} appears twice")]
    DuplicateDomain(u32),
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

fn bounded(text: &str) -> Result<&str, ParseGtidError> {
    match text.len() {
        0..=MAX_GTID_TEXT_BYTES => Ok(text),
        bytes => Err(ParseGtidError::TooLong { bytes }),
    }
}

pub(super) fn parse_gtid_set(text: &str) -> Result<GtidSet, ParseGtidError> {
    let mut parts = Vec::new();
    // The server itself skips commas without a set between them.
    for set in bounded(text)?.split(',').map(str::trim).filter(|set| !set.is_empty()) {
        uuid_set(set, &mut parts)?;
    }
    Ok(GtidSet::from_unsorted(parts))
}

/// One UUID with its tags and intervals. A tag holds until the next one.
fn uuid_set(text: &str, parts: &mut Vec<Part>) -> Result<(), ParseGtidError> {
    let mut pieces = text.split(':').map(str::trim);
    let name = pieces.next().unwrap_or_default();
    let uuid = parse_uuid(name).ok_or_else(|| ParseGtidError::Uuid(excerpt(name)))?;
    let mut tag: Box<str> = "".into();
    let mut intervals = Vec::new();
    let mut tagged = false;
    let mut finish = |tag: &str, intervals: Vec<Interval>| {
        if intervals.is_empty() {
            return Err(ParseGtidError::NoInterval(excerpt(text)));
        }
        let source = Source { uuid, tag: tag.into() };
        parts.push(Part { source, numbers: Intervals::from_unsorted(intervals) });
        Ok(())
    };
    for piece in pieces {
        if let Some(interval) = parse_interval(piece) {
            intervals.push(interval);
        } else if let Some(next) = parse_tag(piece) {
            if tagged || !intervals.is_empty() {
                finish(&tag, std::mem::take(&mut intervals))?;
            }
            (tag, tagged) = (next, true);
        } else {
            return Err(ParseGtidError::Interval(excerpt(piece)));
        }
    }
    finish(&tag, intervals)
}

fn parse_uuid(text: &str) -> Option<u128> {
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

fn parse_tag(text: &str) -> Option<Box<str>> {
    let begins = text.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let consists = text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    (begins && consists && text.len() <= MAX_TAG_CHARS).then(|| text.to_ascii_lowercase().into())
}

fn parse_interval(text: &str) -> Option<Interval> {
    let number = |text: &str| parse_digits(text.trim()).filter(|n| (1..=MAX_NUMBER).contains(n));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some(Interval { first, last })
}

/// Digits only: `parse` alone would also read a sign.
fn parse_digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

pub(super) fn parse_gtid_list(text: &str) -> Result<GtidList, ParseGtidError> {
    let text = bounded(text)?;
    let mut gtids = Vec::new();
    if !text.trim().is_empty() {
        for piece in text.split(',').map(str::trim) {
            gtids.push(parse_gtid(piece).ok_or_else(|| ParseGtidError::Gtid(excerpt(piece)))?);
        }
    }
    GtidList::from_unsorted(gtids)
}

fn parse_gtid(text: &str) -> Option<Gtid> {
    let mut numbers = text.split('-').map(parse_digits);
    let gtid = Gtid {
        domain: u32::try_from(numbers.next()??).ok()?,
        server: u32::try_from(numbers.next()??).ok()?,
        sequence: numbers.next()??,
    };
    numbers.next().is_none().then_some(gtid)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[rstest]
    #[case::no_colon("3e11fa47:1", ParseGtidError::Uuid("3e11fa47".into()))]
    #[case::no_uuid("1-5", ParseGtidError::Uuid("1-5".into()))]
    #[case::mariadb("0-1-100", ParseGtidError::Uuid("0-1-100".into()))]
    #[case::misplaced_hyphens(
        "3e11fa4-771ca-11e1-9e33-c80aa9429562:1",
        ParseGtidError::Uuid("3e11fa4-771ca-11e1-9e33-c80aa9429562".into())
    )]
    #[case::no_interval("A", ParseGtidError::NoInterval(A.into()))]
    #[case::an_empty_interval("A:", ParseGtidError::Interval(String::new()))]
    #[case::zero("A:0-5", ParseGtidError::Interval("0-5".into()))]
    #[case::backwards("A:5-3", ParseGtidError::Interval("5-3".into()))]
    #[case::too_large(
        "A:9223372036854775807",
        ParseGtidError::Interval("9223372036854775807".into())
    )]
    #[case::a_sign("A:+5", ParseGtidError::Interval("+5".into()))]
    #[case::half_an_interval("A:5-", ParseGtidError::Interval("5-".into()))]
    #[case::a_tag_of_digits("A:1x:5", ParseGtidError::Interval("1x".into()))]
    #[case::a_tag_too_long(
        "A:a23456789012345678901234567890123:5",
        ParseGtidError::Interval("a23456789012345678901234567890123".into())
    )]
    fn what_is_no_set_is_refused_with_the_reason(
        #[case] text: &str,
        #[case] expected: ParseGtidError,
    ) {
        assert_eq!(parse_gtid_set(&text.replace('A', A)), Err(expected));
    }

    #[rstest]
    #[case::at_the_end(":1:tag")]
    #[case::before_another(":tag:other:1")]
    fn a_tag_needs_an_interval(#[case] rest: &str) {
        let text = format!("{A}{rest}");
        let error = parse_gtid_set(&text).unwrap_err();
        assert!(matches!(error, ParseGtidError::NoInterval(_)), "{error}");
    }

    #[rstest]
    #[case::too_few("0-1", ParseGtidError::Gtid("0-1".into()))]
    #[case::too_many("0-1-2-3", ParseGtidError::Gtid("0-1-2-3".into()))]
    #[case::no_number("0-x-2", ParseGtidError::Gtid("0-x-2".into()))]
    #[case::an_empty_member("0-1-2,", ParseGtidError::Gtid(String::new()))]
    #[case::a_domain_too_large("4294967296-1-2", ParseGtidError::Gtid("4294967296-1-2".into()))]
    #[case::twice("0-1-2,0-2-3", ParseGtidError::DuplicateDomain(0))]
    fn what_is_no_list_is_refused_with_the_reason(
        #[case] text: &str,
        #[case] expected: ParseGtidError,
    ) {
        assert_eq!(parse_gtid_list(text), Err(expected));
    }

    #[test]
    fn a_huge_text_is_refused_unread() {
        let huge = "x".repeat(MAX_GTID_TEXT_BYTES + 1);
        let expected = ParseGtidError::TooLong { bytes: huge.len() };
        assert_eq!(parse_gtid_set(&huge), Err(expected.clone()));
        assert_eq!(parse_gtid_list(&huge), Err(expected));
    }

    #[test]
    fn the_largest_text_is_read_in_reasonable_time() {
        let mut text = A.to_owned();
        let mut number = 1_000_000;
        while text.len() < MAX_GTID_TEXT_BYTES - 10 {
            number += 2;
            text.push_str(&format!(":{number}"));
        }
        let set = parse_gtid_set(&text).unwrap();
        assert!(set.len() > 100_000 && set.covers(&set.union(&set)));
    }

    #[test]
    fn an_error_repeats_only_the_beginning() {
        let text = "é".repeat(10_000);
        let ParseGtidError::Uuid(told) = parse_gtid_set(&text).unwrap_err() else {
            panic!("no UUID")
        };
        assert_eq!(told.chars().count(), EXCERPT_CHARS);
    }
}
