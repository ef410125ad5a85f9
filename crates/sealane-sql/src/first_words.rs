//! What the first words of a text show.
//!
//! The first words have two uses. First, a text that begins with `INSERT`, `UPDATE` or `DELETE` is
//! a write whatever follows, so it needs no parsing: this is the fast path of writes. Second, a
//! statement without a tree still gets its true intent and name. It has no tree if the parser does
//! not know it, or if the text was refused.
//!
//! The first words never make a statement a read: a read needs a proof.

use sealane_core::Intent;

use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::place::Place;

/// The words that a statement begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstWords {
    /// The statement's name in upper case.
    pub(crate) name: &'static str,
    kind: Kind,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Changes data whatever follows, in every dialect that has this word.
    Data,
    /// Changes the schema or the server, or locks.
    Writes,
    Session,
    Transaction,
}

impl FirstWords {
    /// The first words of `sql`, if they are known.
    pub(crate) fn of(sql: &str, dialect: Dialect) -> Option<Self> {
        let rest = skip_blanks(sql, dialect);
        let start = sql.len() - rest.len();
        let (words, kind) = data(rest, dialect).or_else(|| listed(rest, dialect))?;
        // Blanks may separate the words in the text, so the place covers the first word only.
        let first = words.split(' ').next().unwrap_or_default();
        Some(Self { name: words, kind, place: Place { start, end: start + first.len() } })
    }

    /// Whether the text is certainly a write, so that parsing it would be a waste.
    pub(crate) fn is_certain_write(sql: &str, dialect: Dialect) -> bool {
        data(skip_blanks(sql, dialect), dialect).is_some()
    }

    pub(crate) fn intent(self) -> Intent {
        match self.kind {
            Kind::Data | Kind::Writes => Intent::Write,
            Kind::Session => Intent::Session,
            Kind::Transaction => Intent::Transaction,
        }
    }

    pub(crate) fn is_transaction_control(self) -> bool {
        self.kind == Kind::Transaction
    }

    pub(crate) fn reason(self) -> Reason {
        match self.kind {
            Kind::Data | Kind::Writes => Reason::Writes(self.name),
            Kind::Session => Reason::SessionState(self.name),
            Kind::Transaction => Reason::TransactionControl(self.name),
        }
    }
}

/// Whether `sql` is an INSERT, UPDATE or DELETE. The caller knows that `sql` is a single statement,
/// because it was prepared. If a server refuses such a statement as read-only, it has executed no
/// part of the statement. A refused procedure, in contrast, may have executed a part.
#[must_use]
pub fn is_single_write(sql: &str, dialect: Dialect) -> bool {
    FirstWords::is_certain_write(sql, dialect)
}

/// Whether `sql` may change what a catalog says: definitions of tables, views, functions and the
/// like. The words of the text decide, without parsing; a wrong yes only costs one load of the
/// catalog. Temporary objects do not count, because only their own connection sees them; see also
/// [`TemporaryTables`](crate::TemporaryTables).
///
/// `CALL` and `DO` do not count as changes, although a procedure may change the schema: some
/// applications call procedures all the time.
#[must_use]
pub fn may_change_schema(sql: &str, dialect: Dialect) -> bool {
    const WORDS: [&str; 6] = ["CREATE", "ALTER", "DROP", "RENAME", "IMPORT", "PREPARED"];
    let rest = skip_blanks(sql, dialect);
    let begins_otherwise = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "REPLACE"]
        .iter()
        .any(|word| begins_with(rest, word).is_some());
    let changes_nothing = begins_otherwise || is_temporary(rest);
    // The words are searched in the whole rest. A statement may also begin after a comment that was
    // not skipped, or after a semicolon.
    let suspects = match (changes_nothing, rest.split_once(';')) {
        (true, None) => return false,
        (true, Some((_, others))) => others,
        (false, _) => rest,
    };
    let mut words = suspects.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.any(|word| WORDS.iter().any(|listed| listed.eq_ignore_ascii_case(word)))
}

/// Skips blanks, and comments whose end is certain.
pub(crate) fn skip_blanks(sql: &str, dialect: Dialect) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ';']);
        let Some(comment) = rest.strip_prefix("/*") else {
            return rest;
        };
        let Some((comment, after)) = comment.split_once("*/") else {
            return rest;
        };
        // Such a comment is executed, or it nests and continues after its first `*/`.
        let is_code = dialect == Dialect::MySql && comment.starts_with(['!', 'M', 'm']);
        if is_code || comment.contains("/*") {
            return rest;
        }
        rest = after;
    }
}

fn data(rest: &str, dialect: Dialect) -> Option<(&'static str, Kind)> {
    let name = match rest.as_bytes().first()? | 0x20 {
        b'i' => "INSERT",
        b'u' => "UPDATE",
        b'd' => "DELETE",
        b'r' if dialect != Dialect::PostgreSql => "REPLACE",
        _ => return None,
    };
    begins_with(rest, name).map(|_| (name, Kind::Data))
}

fn listed<'a>(rest: &'a str, dialect: Dialect) -> Option<(&'static str, Kind)> {
    let own: &[(&str, Kind)] = match dialect {
        Dialect::PostgreSql => POSTGRES,
        Dialect::MySql => MYSQL,
        Dialect::Sqlite => SQLITE,
    };
    own.iter().copied().find(|(words, _)| {
        let mut words = words.split(' ');
        let first = words.next().and_then(|word| begins_with(rest, word));
        let next = |rest: &'a str, word| begins_with(rest.trim_ascii_start(), word);
        first.and_then(|rest| words.try_fold(rest, next)).is_some()
    })
}

/// The text after `word`, if `rest` begins with `word` as a whole word.
pub(crate) fn begins_with<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    let (first, after) = rest.split_at_checked(word.len())?;
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'));
    (first.eq_ignore_ascii_case(word) && ends).then_some(after)
}

/// PostgreSQL 18, "SQL Commands". Longer entries stand before their own prefixes.
const POSTGRES: &[(&str, Kind)] = &[
    ("ABORT", Kind::Transaction),
    ("BEGIN", Kind::Transaction),
    ("START TRANSACTION", Kind::Transaction),
    ("COMMIT", Kind::Transaction),
    ("END", Kind::Transaction),
    ("ROLLBACK", Kind::Transaction),
    ("SAVEPOINT", Kind::Transaction),
    ("RELEASE", Kind::Transaction),
    ("PREPARE TRANSACTION", Kind::Transaction),
    ("SET TRANSACTION", Kind::Transaction),
    ("SET LOCAL TRANSACTION", Kind::Transaction),
    ("SET SESSION CHARACTERISTICS", Kind::Transaction),
    ("SET CONSTRAINTS", Kind::Transaction),
    ("CREATE TEMP", Kind::Session),
    ("CREATE TEMPORARY", Kind::Session),
    ("SET", Kind::Session),
    ("RESET", Kind::Session),
    ("DISCARD", Kind::Session),
    ("PREPARE", Kind::Session),
    ("EXECUTE", Kind::Session),
    ("DEALLOCATE", Kind::Session),
    ("DECLARE", Kind::Session),
    ("FETCH", Kind::Session),
    ("MOVE", Kind::Session),
    ("CLOSE", Kind::Session),
    ("LISTEN", Kind::Session),
    ("UNLISTEN", Kind::Session),
    ("LOAD", Kind::Session),
    ("MERGE", Kind::Writes),
    ("TRUNCATE", Kind::Writes),
    ("CREATE", Kind::Writes),
    ("ALTER", Kind::Writes),
    ("DROP", Kind::Writes),
    ("COMMENT", Kind::Writes),
    ("GRANT", Kind::Writes),
    ("REVOKE", Kind::Writes),
    ("REASSIGN", Kind::Writes),
    ("SECURITY LABEL", Kind::Writes),
    ("IMPORT FOREIGN SCHEMA", Kind::Writes),
    ("REFRESH MATERIALIZED VIEW", Kind::Writes),
    ("ANALYZE", Kind::Writes),
    ("ANALYSE", Kind::Writes),
    ("VACUUM", Kind::Writes),
    ("REINDEX", Kind::Writes),
    ("REPACK", Kind::Writes),
    ("CLUSTER", Kind::Writes),
    ("CHECKPOINT", Kind::Writes),
    ("CALL", Kind::Writes),
    ("DO", Kind::Writes),
    ("LOCK", Kind::Writes),
    ("NOTIFY", Kind::Writes),
];

/// MySQL 9 Reference Manual, chapter 15, and MariaDB's own statements.
const MYSQL: &[(&str, Kind)] = &[
    ("BEGIN NOT ATOMIC", Kind::Writes),
    ("EXPLAIN FOR CONNECTION", Kind::Session),
    ("BEGIN", Kind::Transaction),
    ("START TRANSACTION", Kind::Transaction),
    ("COMMIT", Kind::Transaction),
    ("ROLLBACK", Kind::Transaction),
    ("SAVEPOINT", Kind::Transaction),
    ("RELEASE", Kind::Transaction),
    ("XA", Kind::Transaction),
    ("SET TRANSACTION", Kind::Transaction),
    ("SET SESSION TRANSACTION", Kind::Transaction),
    ("SET LOCAL TRANSACTION", Kind::Transaction),
    ("SET GLOBAL", Kind::Writes),
    ("SET PERSIST", Kind::Writes),
    ("SET PERSIST_ONLY", Kind::Writes),
    ("SET PASSWORD", Kind::Writes),
    ("SET DEFAULT ROLE", Kind::Writes),
    ("SET RESOURCE GROUP", Kind::Session),
    ("CREATE TEMPORARY", Kind::Session),
    ("CREATE OR REPLACE TEMPORARY", Kind::Session),
    ("DROP TEMPORARY", Kind::Session),
    ("DROP PREPARE", Kind::Session),
    ("SET", Kind::Session),
    ("USE", Kind::Session),
    ("PREPARE", Kind::Session),
    ("EXECUTE", Kind::Session),
    ("DEALLOCATE", Kind::Session),
    ("HANDLER", Kind::Session),
    ("LOCK", Kind::Session),
    ("UNLOCK", Kind::Session),
    ("GET", Kind::Session),
    ("CREATE", Kind::Writes),
    ("ALTER", Kind::Writes),
    ("DROP", Kind::Writes),
    ("RENAME", Kind::Writes),
    ("TRUNCATE", Kind::Writes),
    ("GRANT", Kind::Writes),
    ("REVOKE", Kind::Writes),
    ("LOAD", Kind::Writes),
    ("IMPORT", Kind::Writes),
    ("CALL", Kind::Writes),
    ("DO", Kind::Writes),
    ("ANALYZE DELETE", Kind::Writes),
    ("ANALYZE INSERT", Kind::Writes),
    ("ANALYZE REPLACE", Kind::Writes),
    ("ANALYZE UPDATE", Kind::Writes),
    ("ANALYZE TABLE", Kind::Writes),
    ("ANALYZE LOCAL TABLE", Kind::Writes),
    ("ANALYZE NO_WRITE_TO_BINLOG TABLE", Kind::Writes),
    ("OPTIMIZE", Kind::Writes),
    ("REPAIR", Kind::Writes),
    ("CHECK", Kind::Writes),
    ("CHECKSUM", Kind::Writes),
    ("CACHE", Kind::Writes),
    ("FLUSH", Kind::Writes),
    ("RESET", Kind::Writes),
    ("KILL", Kind::Writes),
    ("PURGE", Kind::Writes),
    ("INSTALL", Kind::Writes),
    ("UNINSTALL", Kind::Writes),
    ("CHANGE", Kind::Writes),
    ("START", Kind::Writes),
    ("STOP", Kind::Writes),
    ("BINLOG", Kind::Writes),
    ("BACKUP", Kind::Writes),
    ("CLONE", Kind::Writes),
    ("RESTART", Kind::Writes),
    ("SHUTDOWN", Kind::Writes),
    ("SIGNAL", Kind::Writes),
    ("RESIGNAL", Kind::Writes),
];

/// sqlite.org, "SQL As Understood By SQLite".
const SQLITE: &[(&str, Kind)] = &[
    ("BEGIN", Kind::Transaction),
    ("COMMIT", Kind::Transaction),
    ("END", Kind::Transaction),
    ("ROLLBACK", Kind::Transaction),
    ("SAVEPOINT", Kind::Transaction),
    ("RELEASE", Kind::Transaction),
    ("CREATE TEMP", Kind::Session),
    ("CREATE TEMPORARY", Kind::Session),
    ("ATTACH", Kind::Session),
    ("DETACH", Kind::Session),
    ("PRAGMA", Kind::Session),
    ("CREATE", Kind::Writes),
    ("ALTER", Kind::Writes),
    ("DROP", Kind::Writes),
    ("ANALYZE", Kind::Writes),
    ("REINDEX", Kind::Writes),
    ("VACUUM", Kind::Writes),
];

/// Whether `rest` (the text without leading blanks) creates or drops a temporary object.
fn is_temporary(rest: &str) -> bool {
    words(rest, &["DROP", "TEMPORARY"]).is_some() || behind_temporary(rest).is_some()
}

/// The text after `CREATE TEMPORARY`.
pub(crate) fn behind_temporary(rest: &str) -> Option<&str> {
    let rest = words(rest, &["CREATE"])?;
    let rest = words(rest, &["OR", "REPLACE"]).unwrap_or(rest);
    let rest = words(rest, &["LOCAL"]).or_else(|| words(rest, &["GLOBAL"])).unwrap_or(rest);
    words(rest, &["TEMPORARY"]).or_else(|| words(rest, &["TEMP"]))
}

/// The text after these words, which may be in any case and separated by blanks.
pub(crate) fn words<'a>(rest: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().try_fold(rest, |rest, word| begins_with(rest.trim_ascii_start(), word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sql: &str, dialect: Dialect) -> Option<&'static str> {
        FirstWords::of(sql, dialect).map(|words| words.name)
    }

    #[test]
    fn the_first_words_are_found_behind_blanks_and_comments() {
        let pg = |sql| name(sql, Dialect::PostgreSql);
        assert_eq!(pg("insert into t values (1)"), Some("INSERT"));
        assert_eq!(pg(" ;/* a */ \n/* b */UPDATE t SET a = 1"), Some("UPDATE"));
        assert_eq!(pg("PREPARE TRANSACTION 'a'"), Some("PREPARE TRANSACTION"));
        assert_eq!(pg("PREPARE\n a AS SELECT 1"), Some("PREPARE"));
        assert_eq!(pg("DELETE"), Some("DELETE"));
        assert_eq!(name("REPLACE INTO t VALUES (1)", Dialect::Sqlite), Some("REPLACE"));
    }

    #[test]
    fn words_that_only_look_like_a_statement_do_not_count() {
        for sql in [
            "inserted.x",
            "\"INSERT\" x",
            "insert_all()",
            "delete$1",
            "update.x",
            "(INSERT INTO t VALUES (1))",
            "/* /* */ INSERT */ SELECT 1",
            "/* INSERT",
            "\u{2028}DO $$ $$",
            "-- a\nINSERT",
            "REPLACE INTO t VALUES (1)",
            "SELECT 1",
            "ï",
            "",
        ] {
            assert_eq!(name(sql, Dialect::PostgreSql), None, "{sql}");
        }
        assert_eq!(name("/*! SELECT */ INSERT INTO t VALUES (1)", Dialect::MySql), None);
    }

    #[test]
    fn the_words_of_a_text_show_whether_it_may_change_the_schema() {
        for sql in [
            "create table t (a int)",
            "/* a */ ALTER TABLE t ADD b int",
            "DROP VIEW v",
            "-- 0001_init.sql\nCREATE FUNCTION f() RETURNS int",
            "/* a /* b */ c */ CREATE VIEW v AS SELECT 1",
            "\u{c}CREATE TABLE t (a int)",
            "COMMIT PREPARED 'x'",
            "SELECT 1; DROP TABLE t",
            "INSERT INTO t VALUES (1);CREATE VIEW v AS SELECT 1",
        ] {
            assert!(may_change_schema(sql, Dialect::PostgreSql), "{sql}");
        }
        for sql in [
            "INSERT INTO t VALUES ('CREATE')",
            "SELECT 1;",
            "UPDATE t SET a = 1; SELECT creates",
            "BEGIN",
            "CALL f()",
        ] {
            assert!(!may_change_schema(sql, Dialect::PostgreSql), "{sql}");
        }
    }

    #[test]
    fn longer_entries_stand_before_their_own_prefixes() {
        for list in [POSTGRES, MYSQL, SQLITE] {
            for (at, (long, _)) in list.iter().enumerate() {
                let hidden = list[..at].iter().any(|(short, _)| begins_with(long, short).is_some());
                assert!(!hidden, "{long} is never reached");
            }
        }
    }
}
