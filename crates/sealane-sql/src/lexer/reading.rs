//! How MySQL reads a backslash: it depends on the session's `sql_mode`.
//!
//! In `'it\'s'` the backslash escapes the quote. With `NO_BACKSLASH_ESCAPES` it is an ordinary
//! character, and the literal ends right after it. With `ANSI_QUOTES` it is an ordinary character
//! only in `"…"`, which is then a name. The mode is not known here, so a text must be a read in
//! every reading. Nearly always, only one reading is possible: in the others, a quote stays open,
//! or a backslash stands where none is allowed, and the server refuses the whole text. (Rejected:
//! asking the server for the mode. Any session may change it, and a pooler may lend out such a
//! session.)

use super::{Mark, Piece, Scan};
use crate::catalog::Catalog;
use crate::dialect::Dialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// A backslash escapes in both kinds of quotes.
    Escapes,
    /// In double quotes, a backslash is an ordinary character.
    EscapesInSingleQuotes,
    /// A backslash is an ordinary character everywhere.
    Letters,
}

/// The result of comparing a text's other readings with the first one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// In all other readings the server refuses the text or reads it as in the first one.
    None,
    /// The text has another reading. The contained text has exactly that reading.
    Text(String),
    /// The text has another reading that cannot be written as a text of its own.
    Unclear,
}

impl Reading {
    /// Whether a backslash escapes between quotes of this kind.
    pub(super) fn escapes_in(self, quote: char) -> bool {
        match self {
            Reading::Escapes => true,
            Reading::EscapesInSingleQuotes => quote == '\'',
            Reading::Letters => false,
        }
    }
}

/// Compares the other readings of `sql` with the first one, whose marks are `marks`.
pub(super) fn others(sql: &str, marks: &[Mark], catalog: &Catalog) -> Others {
    let differs = |reading| {
        let mut scan = Scan::new(sql, Dialect::MySql, catalog);
        scan.reading = reading;
        let outcome = scan.run();
        // The server executes earlier statements before it reads this one, so only a refusal in the
        // first statement refuses the whole text.
        let is_first = !scan.marks.iter().any(|mark| mark.piece == Piece::Semicolon);
        match outcome {
            Err(_) => !(scan.is_refused_here && is_first),
            Ok(()) => scan.marks != marks,
        }
    };
    if differs(Reading::EscapesInSingleQuotes) {
        Others::Unclear
    } else if differs(Reading::Letters) {
        // In this reading, a backslash is an ordinary character, so an underscore can replace it.
        Others::Text(sql.replace('\\', "_"))
    } else {
        Others::None
    }
}
