//! The transactions that a MySQL server is about to commit.

use sealane_core::{GtidSet, ParseGtidError};

/// The length of a UUID, and the place of its first dash.
const UUID: usize = 36;
const FIRST_DASH: usize = 8;

/// Reads the set in a text of `@@global.gtid_owned`: `uuid:7#12:8#15uuid:tag:3#9`. After each
/// number comes the thread that owns it, and *nothing* separates a thread from the next UUID
/// (`Owned_gtids::to_string`; observed with 9.7). So UUIDs are found by their dashes, which nothing
/// else contains.
pub(super) fn set(text: &str) -> Result<GtidSet, ParseGtidError> {
    let mut starts = Vec::new();
    let mut from = 0;
    while let Some(dash) = text.get(from..).and_then(|rest| rest.find('-')) {
        let start = (from + dash).saturating_sub(FIRST_DASH);
        starts.push(start);
        from = start + UUID;
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let sources = starts.iter().zip(ends).map(|(start, end)| {
        let words = text.get(*start..end).unwrap_or(text).split(':');
        let words = words.map(|word| word.split('#').next().unwrap_or_default());
        words.collect::<Vec<_>>().join(":")
    });
    match starts.is_empty() {
        // Any other text is not a set, and parsing fails.
        true => text.parse(),
        false => sources.collect::<Vec<_>>().join(",").parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn threads_are_left_out() {
        assert_eq!(set("").unwrap().to_string(), "");
        assert_eq!(set(&format!("{A}:7#18")).unwrap().to_string(), format!("{A}:7"));
        assert_eq!(set(&format!("{A}:17#18:5#17")).unwrap().to_string(), format!("{A}:5:17"));
    }

    /// As written by MySQL 9.7: the second UUID follows thread 17.
    #[test]
    fn nothing_stands_between_a_thread_and_the_next_uuid() {
        let text = format!("{A}:17#18:5#17{B}:19#16{B}:tag:17#15");
        assert_eq!(set(&text).unwrap().to_string(), format!("{A}:5:17,{B}:19:tag:17"));
    }

    #[test]
    fn what_is_no_set_is_told() {
        for text in ["soon", "-", "0-1-5", &format!("{A}:#7")] {
            assert!(set(text).is_err(), "{text}");
        }
    }
}
