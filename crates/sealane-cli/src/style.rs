//! Colours. The output strips them where no terminal shows them.

use anstyle::{AnsiColor, Style};

/// Text that is fine.
pub(crate) const FINE: Style = AnsiColor::Green.on_default();
/// Text about something that is wrong.
pub(crate) const WRONG: Style = AnsiColor::Red.on_default().bold();
/// Text about something that may go wrong.
pub(crate) const RISKY: Style = AnsiColor::Yellow.on_default().bold();
/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// Text that somebody should know.
pub(crate) const NOTE: Style = AnsiColor::Cyan.on_default();
