//! What is shown while there is no connection yet.

use ratatui::{
    Frame,
    text::Line,
    widgets::{Paragraph, Wrap},
};

use super::{
    paint::{Paint, Tone},
    text::harmless,
};

/// The picture before the first snapshot.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
    pub(super) paint: Paint,
}

impl Waiting {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let text = self.lines();
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), frame.area());
    }

    fn lines(&self) -> Vec<Line<'static>> {
        let line = |text: String, tone| Line::styled(text, self.paint.style(tone));
        let Some(error) = &self.error else {
            return vec![line("connecting".to_owned(), Tone::Plain)];
        };
        vec![
            line("no connection yet; the next attempt follows".to_owned(), Tone::Risky),
            line(error.chars().map(harmless).collect(), Tone::Wrong),
            line("q, Esc or Ctrl-C ends.".to_owned(), Tone::Plain),
        ]
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn drawn(error: Option<&str>, width: u16, height: u16) -> String {
        let waiting = Waiting { error: error.map(str::to_owned), paint: Paint::new(true) };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| waiting.draw(frame)).unwrap();
        terminal.backend().buffer().content.iter().map(|cell| cell.symbol()).collect()
    }

    #[test]
    fn the_reason_is_told_in_as_many_lines_as_it_needs() {
        assert!(drawn(None, 40, 4).contains("connecting"));
        let text = drawn(Some("db-1 cannot be used:\u{1b}[2J the connection was refused"), 20, 9);
        for words in ["no connection yet", "db-1 cannot be", "refused", "q, Esc"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(0, 0), (1, 1), (20, 5), (3, 200)] {
            drawn(Some("db-1 cannot be used"), width, height);
        }
    }
}
