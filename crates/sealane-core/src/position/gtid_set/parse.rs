//! The text form of GTID sets.

use super::{GtidSet, Part, Source};
use crate::position::{
    gtid_text::{ParseGtidError, bounded, excerpt, parse_digits, parse_uuid},
    intervals::{Interval, Intervals},
};

/// The largest number of a MySQL transaction. (`GNO_END` is 2^63 − 1, and no transaction has that
/// number.)
const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// The longest tag, in characters (MySQL 8.4 reference manual, section 19.1.3.1).
const MAX_TAG_CHARS: usize = 32;

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::MAX_GTID_TEXT_BYTES;

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
}
