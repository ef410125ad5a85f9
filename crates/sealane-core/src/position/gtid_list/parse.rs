//! The text form of GTID lists.

use super::{Gtid, GtidList};
use crate::position::gtid_text::{ParseGtidError, bounded, excerpt, parse_digits};

pub(super) fn parse_gtid_list(text: &str) -> Result<GtidList, ParseGtidError> {
    GtidList::from_unsorted(parse_gtids(text)?)
}

/// Accepts several transactions of one domain, too, as in `gtid_binlog_state`.
pub(in crate::position) fn parse_gtids(text: &str) -> Result<Vec<Gtid>, ParseGtidError> {
    let text = bounded(text)?;
    let mut gtids = Vec::new();
    if !text.trim().is_empty() {
        for piece in text.split(',').map(str::trim) {
            gtids.push(parse_gtid(piece).ok_or_else(|| ParseGtidError::Gtid(excerpt(piece)))?);
        }
    }
    Ok(gtids)
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
}
