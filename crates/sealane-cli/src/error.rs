//! Why the command could not do its work.

use std::{io, path::PathBuf};

use sea_orm::DbErr;
use sealane::ConnectError;

/// Why the command could not do its work. The text is one line and contains no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The configuration is not valid, or there is none.
    #[error("{0}")]
    Configuration(ConnectError),
    /// The servers could not be used.
    #[error("{0}")]
    Connect(ConnectError),
    /// The statement could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    Statement {
        /// Where from.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The demonstration's own database failed.
    #[error("{0}")]
    Demo(#[from] DbErr),
    /// The demonstration's cluster could not be started.
    #[error("{0}")]
    Docker(String),
    /// The picture needs a terminal, and there is none.
    #[error(
        "the picture needs a terminal; `sealane watch --json` prints the state as lines of JSON instead"
    )]
    NoTerminal,
    /// The result could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// What a script gets: 2 if the user has to correct what he gave, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::Configuration(_)
            | CommandError::Statement { .. }
            | CommandError::NoTerminal => 2,
            CommandError::Connect(_)
            | CommandError::Demo(_)
            | CommandError::Docker(_)
            | CommandError::Output(_) => 1,
        }
    }
}
