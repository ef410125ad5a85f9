//! sealane's own leading comment, for raw SQL.
//!
//! `/* sealane: primary */` sends a statement to the primary. `/* sealane: group=analytics */`
//! sends a proved read to the replicas of that group. A hint can never turn an unproved statement
//! into a read. A hint that sealane does not understand sends the statement to the primary, because
//! its author meant something by it.

use crate::place::Place;

/// What a leading hint asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Run the statement on the primary, even if it is a read.
    Primary,
    /// If the statement is a read, run it on a replica of this group.
    Group(Box<str>),
}

/// The hint at the start of `sql`, if there is one. The error is the place of a hint that sealane
/// does not understand.
pub(crate) fn leading(sql: &str) -> Result<Option<(Hint, Place)>, Place> {
    let text = sql.trim_start_matches([' ', '\t', '\r', '\n']);
    let start = sql.len() - text.len();
    let Some(comment) = text.strip_prefix("/*") else {
        return Ok(None);
    };
    let Some((comment, _)) = comment.split_once("*/") else {
        return Ok(None);
    };
    let Some(hint) = comment.trim_start().strip_prefix("sealane:") else {
        return Ok(None);
    };
    let place = Place { start, end: start + comment.len() + 4 };
    let hint = hint.trim();
    if hint == "primary" {
        return Ok(Some((Hint::Primary, place)));
    }
    match hint.strip_prefix("group=").map(str::trim) {
        Some(group) if is_group_name(group) => Ok(Some((Hint::Group(group.into()), place))),
        _ => Err(place),
    }
}

/// Whether a hint can name a group `name`: letters, digits, `-` and `_`.
#[must_use]
pub fn is_group_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_the_first_comment_and_says_sealane() {
        let hint = |sql| leading(sql).map(|found| found.map(|(hint, _)| hint));
        assert_eq!(hint("/* sealane: primary */ SELECT 1"), Ok(Some(Hint::Primary)));
        assert_eq!(hint(" \n/*sealane:primary*/SELECT 1"), Ok(Some(Hint::Primary)));
        let group = Hint::Group("analytics".into());
        assert_eq!(hint("/* sealane: group=analytics */ SELECT 1"), Ok(Some(group)));
        for sql in [
            "SELECT 1 /* sealane: primary */",
            "/* sealane */ SELECT 1",
            "/* a */ /* sealane: primary */ SELECT 1",
            "-- sealane: primary\nSELECT 1",
            "/* sealane: primary SELECT 1",
        ] {
            assert_eq!(hint(sql), Ok(None), "{sql}");
        }
    }

    #[test]
    fn a_hint_that_is_not_understood_has_a_place() {
        for sql in [
            "/* sealane: replica */ SELECT 1",
            "/* sealane: */ SELECT 1",
            "/* sealane: group= */ SELECT 1",
            "/* sealane: group=a b */ SELECT 1",
            "/* sealane: primary, group=a */ SELECT 1",
        ] {
            let place = leading(sql).expect_err(sql);
            assert!(sql[place.range()].starts_with("/*") && sql[place.range()].ends_with("*/"));
        }
    }
}
