//! Matches the text of a statement.

use std::fmt;

/// A pattern for the text of a statement: `*` stands for any text, also none, and everything else
/// for itself. Letters of ASCII match in both cases. The pattern must match the whole text.
///
/// Regular expressions were rejected: they bring a large dependency, and some of them take long on
/// some texts. This pattern takes time in proportion to both lengths at most.
///
/// ```
/// use sealane_core::Pattern;
///
/// let reports = Pattern::new("select * from report_*");
/// assert!(reports.matches("SELECT id, sum FROM report_2026"));
/// assert!(!reports.matches("SELECT id FROM customer"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The pattern that is written this way.
    pub fn new(pattern: impl Into<Box<str>>) -> Self {
        Pattern(pattern.into())
    }

    /// Whether `text` matches. Allocates nothing.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut here) = (0, 0);
        // Where to go on if what follows the last `*` does not match: the `*` takes one more byte.
        let mut again: Option<(usize, usize)> = None;
        while here < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    again = Some((at, here));
                    at += 1;
                }
                Some(expected) if expected.eq_ignore_ascii_case(&text[here]) => {
                    at += 1;
                    here += 1;
                }
                _ => {
                    let Some((star, from)) = again else { return false };
                    again = Some((star, from + 1));
                    (at, here) = (star + 1, from + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::same("SELECT 1", "select 1", true)]
    #[case::longer("SELECT 1", "SELECT 12", false)]
    #[case::prefix("SELECT*", "SELECT 12", true)]
    #[case::suffix("*LIMIT 1", "SELECT 1 LIMIT 1", true)]
    #[case::middle("*\"orders\"*", "SELECT * FROM \"orders\" WHERE id = $1", true)]
    #[case::in_order("*a*b*", "b a", false)]
    #[case::goes_back("*ab*abc", "abababc", true)]
    #[case::everything("*", "", true)]
    #[case::nothing("", "", true)]
    #[case::not_nothing("", "x", false)]
    #[case::other_letters("*Ä*", "SELECT 'Ä'", true)]
    #[case::other_letters_keep_their_case("*Ä*", "SELECT 'ä'", false)]
    fn a_star_stands_for_any_text(#[case] pattern: &str, #[case] text: &str, #[case] is: bool) {
        assert_eq!(Pattern::new(pattern).matches(text), is);
    }

    #[test]
    fn a_text_that_nearly_matches_everywhere_is_soon_refused() {
        let text = "a".repeat(50_000);
        assert!(!Pattern::new("*a*a*a*a*a*a*a*a*b").matches(&text));
    }
}
