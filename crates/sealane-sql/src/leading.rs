//! What the first words of a text already tell.
//!
//! Two uses. A text that begins with `INSERT`, `UPDATE` or `DELETE` is a write
//! whatever follows, so nobody has to parse it: that is the fast path of writes.
//! And a statement that the parser does not know, or that no tree was built of,
//! still gets its true intent and name by these words.
//!
//! Words never make a read: that takes a proof.

use sealane_core::Intent;

use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::place::Place;
use crate::temporary;

/// The words that a statement begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leading {
    /// In upper case, as the statement is called.
    pub(crate) name: &'static str,
    kind: Kind,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Changes data, in every dialect that knows it, whatever follows.
    Data,
    /// Changes the schema or the server, or locks.
    Writes,
    Session,
    Transaction,
}

impl Leading {
    /// The first words of `sql`, if they tell.
    pub(crate) fn of(sql: &str, dialect: Dialect) -> Option<Self> {
        let rest = skip_blanks(sql, dialect);
        let start = sql.len() - rest.len();
        let (words, kind) = data(rest, dialect).or_else(|| listed(rest, dialect))?;
        // The listed words may be apart; their place is that of the first.
        let first = words.split(' ').next().unwrap_or_default();
        Some(Self { name: words, kind, place: Place { start, end: start + first.len() } })
    }

    /// Whether the text is a write without a doubt, so that parsing would be waste.
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

/// Whether a text that is prepared, and so is one statement, is an INSERT, UPDATE or DELETE. A
/// server that refuses one of these as read-only has done nothing of it; a procedure may have.
#[must_use]
pub fn is_single_write(sql: &str, dialect: Dialect) -> bool {
    Leading::is_certain_write(sql, dialect)
}

/// Whether `sql` may change what a catalog says: definitions of tables, views,
/// functions and the like. Told by its words, without parsing; a wrong yes costs
/// a look at the catalog. What is temporary only its own connection sees; see also
/// [`TemporaryTables`](crate::TemporaryTables).
///
/// `CALL` and `DO` are not taken for changes, though they may make some: there are
/// applications that call procedures all the time.
#[must_use]
pub fn may_change_schema(sql: &str, dialect: Dialect) -> bool {
    const WORDS: [&str; 5] = ["CREATE", "ALTER", "DROP", "IMPORT", "PREPARED"];
    let rest = skip_blanks(sql, dialect);
    let begins_otherwise = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "REPLACE"]
        .iter()
        .any(|word| begins_with(rest, word).is_some());
    let changes_nothing = begins_otherwise || temporary::is_temporary(rest);
    // Behind a comment that is not skipped, or in a later statement, a word may begin
    // anywhere.
    let suspects = match (changes_nothing, rest.split_once(';')) {
        (true, None) => return false,
        (true, Some((_, others))) => others,
        (false, _) => rest,
    };
    let mut words = suspects.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.any(|word| WORDS.iter().any(|listed| listed.eq_ignore_ascii_case(word)))
}

/// Blanks, and comments of which nobody doubts where they end.
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
        // One that is executed, or that goes on behind what looks like its end.
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

/// What follows `word` in `rest`, if that begins with it and it ends there.
pub(crate) fn begins_with<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    let (first, after) = rest.split_at_checked(word.len())?;
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'));
    (first.eq_ignore_ascii_case(word) && ends).then_some(after)
}

/// PostgreSQL 18, "SQL Commands". Longer beginnings before shorter ones.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sql: &str, dialect: Dialect) -> Option<&'static str> {
        Leading::of(sql, dialect).map(|leading| leading.name)
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
    fn words_that_only_look_alike_tell_nothing() {
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
    fn changes_of_the_schema_are_told_by_their_words() {
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
    fn longer_beginnings_stand_before_the_shorter_ones_that_hide_them() {
        for list in [POSTGRES, MYSQL, SQLITE] {
            for (at, (long, _)) in list.iter().enumerate() {
                let hidden = list[..at].iter().any(|(short, _)| begins_with(long, short).is_some());
                assert!(!hidden, "{long} is never reached");
            }
        }
    }
}
