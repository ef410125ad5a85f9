//! A place in a PostgreSQL write-ahead log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A place in a PostgreSQL write-ahead log, in bytes from its beginning.
///
/// Text form as in the manual: two hexadecimal halves, `16/B374D848`
/// (PostgreSQL manual, section 8.20).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(u64);

/// The size of a write-ahead log page (`XLOG_BLCKSZ`), fixed when PostgreSQL
/// is compiled and 8 KiB in every packaged build.
const WAL_PAGE_BYTES: u64 = 8192;
/// The header of a page (`SizeOfXLogShortPHD`).
const PAGE_HEADER_BYTES: u64 = 24;
/// The header of a segment's first page (`SizeOfXLogLongPHD`).
const SEGMENT_HEADER_BYTES: u64 = 40;

impl Lsn {
    /// The position this many bytes into the log.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Lsn(bytes)
    }

    /// Bytes from the beginning of the log.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The end of the last record at or before this insert position.
    ///
    /// Just past a page or segment boundary, `pg_current_wal_insert_lsn()` already counts the next
    /// page's header, and no record ends there. A replica cannot show such a position until another
    /// record is written, so an idle system would seem to lag forever.
    #[must_use]
    pub fn without_page_header(self, segment_bytes: u64) -> Self {
        let header = match segment_bytes {
            0 => None,
            size if self.0 % size == SEGMENT_HEADER_BYTES => Some(SEGMENT_HEADER_BYTES),
            // A segment's first page has the long header only. So 24 bytes into it is not a
            // boundary that the server reports, and rounding it down is still right.
            _ if self.0 % WAL_PAGE_BYTES == PAGE_HEADER_BYTES => Some(PAGE_HEADER_BYTES),
            _ => None,
        };
        Lsn(self.0 - header.unwrap_or(0))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not a log position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log position such as 16/B374D848")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| match digits.len() {
            1..=8 if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).ok()
            }
            _ => None,
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

impl TryFrom<String> for Lsn {
    type Error = ParseLsnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SEGMENT: u64 = 16 * 1024 * 1024;

    #[rstest]
    #[case::zero("0/0", 0)]
    #[case::both_halves("16/B374D848", 0x16_B374_D848)]
    #[case::lower_case("16/b374d848", 0x16_B374_D848)]
    #[case::largest("FFFFFFFF/FFFFFFFF", u64::MAX)]
    fn reads_and_writes_the_manuals_form(#[case] text: &str, #[case] bytes: u64) {
        let lsn: Lsn = text.parse().unwrap();
        assert_eq!(lsn.bytes(), bytes);
        assert_eq!(lsn.to_string(), text.to_uppercase());
        assert_eq!(String::from(lsn), text.to_uppercase());
    }

    #[rstest]
    #[case("")]
    #[case("16")]
    #[case("/")]
    #[case("16/")]
    #[case("+1/2")]
    #[case("1/123456789")]
    #[case("1/2/3")]
    #[case("g/0")]
    fn refuses_what_is_no_position(#[case] text: &str) {
        assert!(text.parse::<Lsn>().is_err());
    }

    #[rstest]
    #[case::after_a_segment_switch(0x500_0028, 0x500_0000)]
    #[case::after_a_page(0x500_2018, 0x500_2000)]
    #[case::within_a_page(0x500_2020, 0x500_2020)]
    #[case::on_a_page(0x500_2000, 0x500_2000)]
    fn a_page_header_is_no_record(#[case] insert: u64, #[case] end: u64) {
        assert_eq!(Lsn::from_bytes(insert).without_page_header(SEGMENT), Lsn::from_bytes(end));
    }
}
