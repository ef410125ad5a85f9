//! What is judged: the cases of sealane-sql, the facts, and what must not be run at all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sealane_sql::{Dialect, Intent};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    case: Vec<Case>,
}

/// One statement with what is known of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub sql: String,
    pub intent: Intent,
    /// What it is in truth, where the intent is a safe approximation.
    pub truth: Option<Intent>,
}

impl Case {
    /// Whether a replica may serve it, proved or not.
    pub fn is_read_in_truth(&self) -> bool {
        self.truth.unwrap_or(self.intent).is_read()
    }
}

/// All cases of a dialect, and the facts.
pub fn cases(dialect: Dialect) -> anyhow::Result<Vec<Case>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, facts) = match dialect {
        Dialect::PostgreSql => ("postgres", "facts_postgres.toml"),
        _ => ("mysql", "facts_mysql.toml"),
    };
    let folder = here.join("../crates/sealane-sql/tests/cases").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("no cases in {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    paths.sort();
    paths.push(here.join("suites/judge").join(facts));
    let mut cases = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        cases.extend(file.case);
    }
    Ok(cases)
}

/// What would harm the cluster rather than be judged by it, and how. PostgreSQL's application is
/// an administrator; on the others it may do none of this, and the list is a second fence.
const HARMFUL: &[(&str, &str)] = &[
    ("PG_PROMOTE", "ends being a standby"),
    ("PG_WAL_REPLAY", "pauses replication"),
    ("PG_TERMINATE_BACKEND", "ends replication or a session"),
    ("PG_CANCEL_BACKEND(PID", "cancels others' statements"),
    ("PG_RELOAD_CONF", "makes changed settings count"),
    ("PG_ROTATE_LOGFILE", "changes the server's log"),
    ("PG_BACKUP_START", "begins a backup"),
    ("REPLICATION_SLOT", "makes or drops a slot that outlives the session"),
    ("ALTER SYSTEM", "changes the server's configuration"),
    ("LO_EXPORT", "writes a file of the server"),
    ("PROGRAM", "runs a program on the server"),
    ("TO '", "may write a file of the server"),
    ("SHUTDOWN", "ends the server"),
    ("RESTART", "ends the server"),
    ("KILL", "ends sessions"),
    ("START REPLICA", "changes replication"),
    ("STOP REPLICA", "changes replication"),
    ("START SLAVE", "changes replication"),
    ("STOP SLAVE", "changes replication"),
    ("GROUP_REPLICATION", "changes replication"),
    ("CHANGE ", "changes replication"),
    ("RESET ", "throws logs and positions away"),
    ("PURGE ", "throws logs away"),
    ("CLONE ", "replaces the data"),
    ("READ LOCK", "stops replication"),
    ("FOR EXPORT", "stops replication"),
    ("LOCK INSTANCE", "stops replication"),
    ("BACKUP STAGE", "stops replication"),
    ("INSTALL ", "changes the server"),
];

/// Why `sql` must not be run, if it must not.
pub fn harm(sql: &str, dialect: Dialect) -> Option<&'static str> {
    let text = bare(sql, dialect).to_ascii_uppercase();
    HARMFUL.iter().find(|(words, _)| text.contains(words)).map(|(_, harm)| *harm)
}

/// `sql` with nothing in its literals and comments.
fn bare(sql: &str, dialect: Dialect) -> String {
    let mut bare = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        match opaque(rest, dialect) {
            Some(length) => {
                bare.push_str(match c {
                    '\'' | '$' => "''",
                    '"' | '`' => &rest[..length],
                    _ => " ",
                });
                rest = &rest[length..];
            }
            None => {
                bare.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    bare
}

/// `sql` with a value for each placeholder outside of literals, names and comments: NULL, or 1
/// where MySQL wants a number.
pub fn filled(sql: &str, dialect: Dialect) -> String {
    let mut filled = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let length = opaque(rest, dialect).unwrap_or_else(|| match c {
            '$' if dialect == Dialect::PostgreSql && !filled.ends_with(is_of_name) => {
                parameter(rest)
            }
            _ => 0,
        });
        let is_parameter = c == '$' && length > 0 && opaque(rest, dialect).is_none();
        if is_parameter {
            filled.push_str("NULL");
            rest = &rest[length..];
        } else if c == '?' && dialect != Dialect::PostgreSql {
            let before = filled.trim_end().to_ascii_uppercase();
            let is_number = before.ends_with("LIMIT") || before.ends_with("OFFSET");
            filled.push_str(if is_number { "1" } else { "NULL" });
            rest = &rest[1..];
        } else {
            let length = length.max(c.len_utf8());
            filled.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    filled
}

/// The length of `$1` at the start of `text`; 0 if there is none, or more than that.
fn parameter(text: &str) -> usize {
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count();
    let goes_on = text[digits + 1..].starts_with(is_of_name);
    if digits == 0 || goes_on { 0 } else { digits + 1 }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The length of the literal, quoted name or comment that `text` begins with.
fn opaque(text: &str, dialect: Dialect) -> Option<usize> {
    let until = |start: usize, end: &str| {
        let found = text[start..].find(end);
        found.map_or(text.len(), |at| start + at + end.len())
    };
    match text.as_bytes() {
        [b'\'' | b'"' | b'`', ..] => Some(until(1, &text[..1])),
        [b'-', b'-', ..] => Some(until(2, "\n")),
        [b'#', ..] if dialect != Dialect::PostgreSql => Some(until(1, "\n")),
        [b'/', b'*', ..] => Some(until(2, "*/")),
        [b'$', ..] if dialect == Dialect::PostgreSql => {
            let tag = text[1..].find('$').map(|at| &text[..at + 2])?;
            let is_tag = tag[1..tag.len() - 1].chars().all(|c| c.is_alphanumeric() || c == '_')
                && !tag[1..].starts_with(|c: char| c.is_ascii_digit());
            is_tag.then(|| until(tag.len(), tag))
        }
        _ => None,
    }
}
