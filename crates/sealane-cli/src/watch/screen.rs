//! The terminal while the picture is on it.

use std::{
    io::{self, Stdout, stdout},
    mem::ManuallyDrop,
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::{
    hold::Hold,
    keys::{Keys, Wish},
};
use crate::CommandError;

/// The terminal, in raw mode and with its alternate screen. Dropping it gives the terminal back as it
/// was.
#[derive(Debug)]
pub(super) struct Screen {
    /// Never dropped: when its terminal is gone, it would tell so on the standard error, and panic
    /// because that is gone, too. The hold does everything that has to be done.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    keys: Keys,
    hold: Hold,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is no terminal to read keys from, or it does not take what is written.
    pub(super) fn open() -> Result<Self, CommandError> {
        enable_raw_mode().map_err(|_| CommandError::NoTerminal)?;
        // From here on, every way out gives the terminal back.
        let hold = Hold::new(restore);
        execute!(stdout(), EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(Screen { terminal: ManuallyDrop::new(terminal), keys: Keys::read()?, hold })
    }

    /// Draws what has changed since the last picture.
    ///
    /// # Errors
    /// The terminal is gone, or a panic somewhere has given it back.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if self.hold.is_lost() {
            return Err(io::Error::other("the picture ended with a panic, which is a defect"));
        }
        self.terminal.draw(picture)?;
        Ok(())
    }

    /// What the user wants next. Cancel safe.
    ///
    /// # Errors
    /// The keys cannot be read.
    pub(super) async fn wish(&mut self) -> io::Result<Wish> {
        self.keys.wish().await
    }
}

/// Gives the terminal back. Every step is tried, because a part is better than nothing.
fn restore() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
