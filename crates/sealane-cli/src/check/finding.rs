//! What is wrong or risky, with its remedy.

use std::fmt;

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Nothing is wrong, but somebody should know it.
    Note,
    /// Something may go wrong later, or goes wrong now without a caller noticing.
    Warning,
    /// Something is wrong now.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// The stable name of a kind of finding, and how bad the kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// The name, such as `replica-without-slot`. It never changes its meaning.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// One thing that is wrong or risky.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// The endpoint's name; `None` if it concerns the whole configuration.
    pub endpoint: Option<String>,
    /// What was found, in words.
    pub found: String,
    /// The setting, statement or change that remedies it.
    pub remedy: String,
}

impl Finding {
    /// A finding about the endpoint called `endpoint`.
    pub(crate) fn at(
        code: Code,
        endpoint: &str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { endpoint: Some(endpoint.to_owned()), ..Finding::overall(code, found, remedy) }
    }

    /// A finding about the whole configuration.
    pub(crate) fn overall(code: Code, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (found, remedy) = (found.into(), remedy.into());
        Finding { severity: code.severity, code, endpoint: None, found, remedy }
    }
}
