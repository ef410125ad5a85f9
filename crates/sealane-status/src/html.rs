//! Text inside HTML.

use std::fmt::{self, Write};

/// `text` for the inside of an element or of a quoted attribute. Characters that would end either,
/// control characters, and characters that change the direction of writing are replaced: names and
/// servers' messages come from elsewhere.
pub(crate) fn escaped(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| text.chars().try_for_each(|character| write_character(f, character)))
}

fn write_character(f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
    match character {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\'' => f.write_str("&#39;"),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            f.write_char('\u{fffd}')
        }
        _ if character.is_control() => f.write_char('\u{fffd}'),
        _ => f.write_char(character),
    }
}

/// `text` with at most `most` characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_taken_for_html() {
        let hostile = "<script>\"'&\n\u{202e}</script>";
        let told = escaped(hostile).to_string();
        assert_eq!(told, "&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}&lt;/script&gt;");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened("höfnin", 6), "höfnin");
        assert_eq!(shortened("höfnin", 3), "hö…");
    }
}
