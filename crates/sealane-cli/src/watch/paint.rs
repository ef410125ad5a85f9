//! How text looks: the same styles as in the other commands.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Color as Wanted, Effects};
use ratatui::style::{Color, Modifier, Style};

use crate::style;

/// What a text means for the person on call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Fine,
    Risky,
    Wrong,
}

/// Styles for a terminal, or none where the user does not want any (`NO_COLOR` and the like).
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    has_styles: bool,
}

impl Paint {
    /// As the other commands decide, which is what `anstream` finds out about the standard output.
    pub(super) fn of_terminal() -> Self {
        Paint { has_styles: AutoStream::choice(&std::io::stdout()) != ColorChoice::Never }
    }

    #[cfg(test)]
    pub(super) fn new(has_styles: bool) -> Self {
        Paint { has_styles }
    }

    pub(super) fn style(self, tone: Tone) -> Style {
        let wanted = match tone {
            _ if !self.has_styles => return Style::new(),
            Tone::Plain => return Style::new(),
            Tone::Heading => style::HEADING,
            Tone::Fine => style::FINE,
            Tone::Risky => style::RISKY,
            Tone::Wrong => style::WRONG,
        };
        let mut style = Style::new();
        if wanted.get_effects().contains(Effects::BOLD) {
            style = style.add_modifier(Modifier::BOLD);
        }
        match wanted.get_fg_color() {
            Some(Wanted::Ansi(color)) => style.fg(named(color)),
            _ => style,
        }
    }
}

/// The colours that the commands use.
fn named(color: AnsiColor) -> Color {
    match color {
        AnsiColor::Green => Color::Green,
        AnsiColor::Red => Color::Red,
        AnsiColor::Yellow => Color::Yellow,
        AnsiColor::Cyan => Color::Cyan,
        _ => Color::Reset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_styles_are_those_of_the_other_commands() {
        let paint = Paint::new(true);
        assert_eq!(paint.style(Tone::Wrong), Style::new().fg(Color::Red).bold());
        assert_eq!(paint.style(Tone::Risky), Style::new().fg(Color::Yellow).bold());
        assert_eq!(paint.style(Tone::Fine), Style::new().fg(Color::Green));
        assert_eq!(paint.style(Tone::Heading), Style::new().bold());
    }

    #[test]
    fn who_wants_no_styles_gets_none() {
        for tone in [Tone::Plain, Tone::Heading, Tone::Fine, Tone::Risky, Tone::Wrong] {
            assert_eq!(Paint::new(false).style(tone), Style::new());
        }
    }
}
