//! What the user wants, from the keys.
//!
//! The keys are read on a thread of their own, which may be left behind when the process ends:
//! reading a terminal that is gone never returns (crossterm reads again after an error and after the
//! end of the input). On the thread of the picture, no signal would be noticed then.

use std::{io, thread, time::Duration};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// How soon the thread notices that nobody listens any more.
const LOOK: Duration = Duration::from_millis(100);

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The end.
    End,
    /// A new picture, because the terminal has another size.
    Draw,
    /// What the digit stands for, from 1 on.
    Press(usize),
}

/// The wishes of the user, as they come.
#[derive(Debug)]
pub(super) struct Keys {
    wishes: mpsc::UnboundedReceiver<io::Result<Wish>>,
}

impl Keys {
    /// Begins to read. The terminal must be in raw mode.
    ///
    /// # Errors
    /// There is no thread left.
    pub(super) fn read() -> io::Result<Self> {
        let (sender, wishes) = mpsc::unbounded_channel();
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while !sender.is_closed() {
                if let Some(wish) = next().transpose() {
                    let is_over = wish.is_err();
                    // Nobody listens at the end.
                    let _ = sender.send(wish);
                    if is_over {
                        return;
                    }
                }
            }
        })?;
        Ok(Keys { wishes })
    }

    /// The next wish. Cancel safe.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub(super) async fn wish(&mut self) -> io::Result<Wish> {
        // The thread ends only after an error, which it has told.
        self.wishes.recv().await.unwrap_or(Ok(Wish::End))
    }
}

fn next() -> io::Result<Option<Wish>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if is_end(&key) => Some(Wish::End),
        Event::Key(key) => digit(&key).map(Wish::Press),
        Event::Resize(..) => Some(Wish::Draw),
        _ => None,
    })
}

/// `q`, Esc and Ctrl-C.
fn is_end(key: &KeyEvent) -> bool {
    let is_plain = key.modifiers.difference(KeyModifiers::SHIFT).is_empty();
    // Some terminals also tell when a key is released.
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => is_plain,
            KeyCode::Char('c' | 'C') => key.modifiers.contains(KeyModifiers::CONTROL),
            _ => false,
        }
}

/// A digit but 0, when it goes down.
fn digit(key: &KeyEvent) -> Option<usize> {
    let KeyCode::Char(digit @ '1'..='9') = key.code else { return None };
    let is_plain = key.kind == KeyEventKind::Press && key.modifiers.is_empty();
    digit.to_digit(10).filter(|_| is_plain).and_then(|digit| usize::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(KeyCode::Char('q'), KeyModifiers::NONE, true)]
    #[case(KeyCode::Char('Q'), KeyModifiers::SHIFT, true)]
    #[case(KeyCode::Esc, KeyModifiers::NONE, true)]
    #[case(KeyCode::Char('c'), KeyModifiers::CONTROL, true)]
    #[case(KeyCode::Char('c'), KeyModifiers::NONE, false)]
    #[case(KeyCode::Char('q'), KeyModifiers::ALT, false)]
    #[case(KeyCode::Enter, KeyModifiers::NONE, false)]
    fn three_keys_end_the_picture(
        #[case] code: KeyCode,
        #[case] modifiers: KeyModifiers,
        #[case] ends: bool,
    ) {
        let mut key = KeyEvent::new(code, modifiers);
        assert_eq!(is_end(&key), ends);
        key.kind = KeyEventKind::Release;
        assert!(!is_end(&key), "a key counts once");
    }

    #[rstest]
    #[case(KeyCode::Char('1'), KeyModifiers::NONE, Some(1))]
    #[case(KeyCode::Char('9'), KeyModifiers::NONE, Some(9))]
    #[case(KeyCode::Char('0'), KeyModifiers::NONE, None)]
    #[case(KeyCode::Char('1'), KeyModifiers::ALT, None)]
    #[case(KeyCode::F(1), KeyModifiers::NONE, None)]
    fn a_digit_counts_once(
        #[case] code: KeyCode,
        #[case] modifiers: KeyModifiers,
        #[case] wanted: Option<usize>,
    ) {
        let mut key = KeyEvent::new(code, modifiers);
        assert_eq!(digit(&key), wanted);
        key.kind = KeyEventKind::Release;
        assert_eq!(digit(&key), None);
    }
}
