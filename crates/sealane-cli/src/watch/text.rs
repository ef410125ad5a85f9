//! Text in cells of a terminal.

use ratatui::text::Span;

/// What stands where text was cut off.
const CUT: char = '…';

/// How many cells a text takes. Characters of East Asia take two.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in at most `most` cells. What is cut ends with an ellipsis. Names and the messages of
/// servers may contain characters that a terminal would obey; a sign for the unknown replaces them.
pub(super) fn cut(text: &str, most: usize) -> String {
    let text: String = text.chars().map(harmless).collect();
    if width(&text) <= most {
        return text;
    }
    let mut kept = String::new();
    for character in text.chars() {
        let before = kept.len();
        kept.push(character);
        // One cell is for the ellipsis.
        if width(&kept) >= most {
            kept.truncate(before);
            break;
        }
    }
    if most > 0 {
        kept.push(CUT);
    }
    kept
}

/// `text` in exactly `cells` cells.
pub(super) fn fitted(text: &str, cells: usize) -> String {
    let mut text = cut(text, cells);
    let blanks = cells.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', blanks));
    text
}

/// Replaces control characters, and those that change the direction of writing.
pub(super) fn harmless(character: char) -> char {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if turns || character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
}

/// The time of day in UTC, of milliseconds since 1970.
pub(super) fn time_of_day(unix_ms: u64) -> String {
    let seconds = unix_ms / 1_000;
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("db-1", 4, "db-1")]
    #[case("db-1", 6, "db-1  ")]
    #[case("replica-1", 5, "repl…")]
    #[case("replica-1", 1, "…")]
    #[case("replica-1", 0, "")]
    #[case::two_cells_each("港港港", 5, "港港…")]
    #[case::half_a_character_is_a_blank("港港港", 4, "港… ")]
    #[case::obeyed_by_terminals("a\u{1b}[2J\u{202e}", 9, "a\u{fffd}[2J\u{fffd}   ")]
    fn text_fits_its_cells(#[case] text: &str, #[case] cells: usize, #[case] shown: &str) {
        let fitted = fitted(text, cells);
        assert_eq!(fitted, shown);
        assert_eq!(width(&fitted), cells);
    }

    #[test]
    fn a_time_is_the_time_of_day() {
        assert_eq!(time_of_day(86_400_000 + 3_723_004), "01:02:03");
    }
}
