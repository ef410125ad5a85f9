//! Makes foreign text safe for terminals and logs.

use std::fmt::{self, Write};

/// `text` with escapes for characters that a terminal would obey: control characters, and
/// characters that change the writing direction. The names of endpoints and databases and the
/// messages of servers may contain such characters.
pub fn printable(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| text.chars().try_for_each(|character| write_character(f, character)))
}

fn write_character(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match character {
        _ if turns || character.is_control() => write!(f, "{}", character.escape_default()),
        character => f.write_char(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let told = printable("höfn \"1\"\n\u{1b}[2J\u{202e}\u{9b}").to_string();
        assert_eq!(told, "höfn \"1\"\\n\\u{1b}[2J\\u{202e}\\u{9b}");
    }
}
