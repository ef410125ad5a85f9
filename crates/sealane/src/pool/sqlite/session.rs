//! Guesses from the words of a text whether it gives the writer's session objects or settings of
//! its own.
//!
//! Only one connection sees a temporary table, an attached database or a setting. With one
//! connection for everything, which is SeaORM's default, each later statement sees them too. So
//! reads run on the writer as long as its session has any of these.

/// The effect of a text on the session of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Touches {
    /// No effect that a read could see.
    Nothing,
    /// The text may create, attach or detach objects with names.
    Names,
    /// The text may drop such an object.
    Drops,
    /// The text may permanently change a setting that affects the results of reads.
    Reads,
}

/// Settings that do not affect the results of reads, and commands (sqlite.org/pragma.html).
const HARMLESS: &[&str] = &[
    "analysis_limit",
    "application_id",
    "auto_vacuum",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "checkpoint_fullfsync",
    "defer_foreign_keys",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "fullfsync",
    "hard_heap_limit",
    "hexkey",
    "hexrekey",
    "ignore_check_constraints",
    "incremental_vacuum",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "journal_mode",
    "journal_size_limit",
    "key",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "optimize",
    "page_size",
    "query_only",
    "quick_check",
    "recursive_triggers",
    "rekey",
    "schema_version",
    "secure_delete",
    "shrink_memory",
    "soft_heap_limit",
    "synchronous",
    "table_info",
    "table_list",
    "table_xinfo",
    "temp_store",
    "threads",
    "user_version",
    "wal_autocheckpoint",
    "wal_checkpoint",
];

/// The possible effect of `sql` on the session, judged by its words wherever they stand. A wrong
/// guess costs one question to the writer.
pub(super) fn touches(sql: &str) -> Touches {
    // Nearly all texts are one statement that changes rows.
    let is_plain = ["INSERT", "UPDATE", "DELETE", "REPLACE"]
        .iter()
        .any(|word| sql.get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word)));
    if is_plain && !sql.contains(';') {
        return Touches::Nothing;
    }
    let words = sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty());
    let mut found = Touches::Nothing;
    for word in words {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if is("PRAGMA") {
            if begins_statement(sql, word) && sets_reads(sql, word) {
                return Touches::Reads;
            }
        } else if ["TEMP", "TEMPORARY", "ATTACH", "DETACH"].iter().any(|it| is(it)) {
            found = Touches::Names;
        } else if is("DROP") && found == Touches::Nothing {
            found = Touches::Drops;
        }
    }
    found
}

/// Whether `sql` may open a transaction by itself and leave it open. (A trigger's body also
/// contains BEGIN; this costs one unnecessary check.)
pub(super) fn may_stay_open(sql: &str) -> bool {
    sql.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| ["BEGIN", "SAVEPOINT"].iter().any(|it| word.eq_ignore_ascii_case(it)))
}

/// Whether a statement may begin at `word`, which is a part of `sql`.
fn begins_statement(sql: &str, word: &str) -> bool {
    let before = sql[..offset(sql, word)].trim_end();
    let last_line = before.lines().last().unwrap_or_default();
    before.is_empty()
        || before.ends_with(';')
        || before.ends_with("*/")
        || last_line.contains("--")
        || before.to_ascii_uppercase().ends_with("EXPLAIN")
        || before.to_ascii_uppercase().ends_with("PLAN")
}

/// The offset of `word`, which is a part of `sql`.
fn offset(sql: &str, word: &str) -> usize {
    word.as_ptr() as usize - sql.as_ptr() as usize
}

/// Whether the text after `pragma`, a word of `sql`, changes a setting that reads depend on.
fn sets_reads(sql: &str, pragma: &str) -> bool {
    let rest = &sql[offset(sql, pragma) + pragma.len()..];
    let rest = rest.split(';').next().unwrap_or(rest);
    let Some(end) = rest.find(['=', '(']) else {
        // Without a value, the pragma only asks.
        return false;
    };
    let name = rest[..end].rsplit('.').next().unwrap_or_default().trim();
    !HARMLESS.iter().any(|harmless| harmless.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("INSERT INTO temperature VALUES (1)", Touches::Nothing)]
    #[case("INSERT INTO t VALUES ('ATTACH TEMP PRAGMA x = 1')", Touches::Nothing)]
    #[case("CREATE TABLE template (id)", Touches::Nothing)]
    #[case("CREATE TEMP TABLE t (id)", Touches::Names)]
    #[case("create temporary view v as select 1", Touches::Names)]
    #[case("CREATE TABLE temp.t (id)", Touches::Names)]
    #[case("INSERT INTO t VALUES (1); ATTACH 'x' AS y", Touches::Names)]
    #[case("DETACH y", Touches::Names)]
    #[case("DROP TABLE t", Touches::Drops)]
    #[case("DROP TABLE temp.t", Touches::Names)]
    #[case("PRAGMA foreign_keys = ON; PRAGMA synchronous=NORMAL", Touches::Nothing)]
    #[case("PRAGMA main.journal_mode(WAL)", Touches::Nothing)]
    #[case("PRAGMA case_sensitive_like", Touches::Nothing)]
    #[case("PRAGMA foreign_keys = ON; pragma Case_Sensitive_Like = on", Touches::Reads)]
    #[case("INSERT INTO t VALUES ('#pragma omp (x)'); SELECT 1", Touches::Nothing)]
    #[case("-- first\nPRAGMA case_sensitive_like = 1", Touches::Reads)]
    #[case("/* first */ PRAGMA case_sensitive_like = 1", Touches::Reads)]
    #[case("PRAGMA key = 'tide'", Touches::Nothing)]
    #[case("PRAGMA reverse_unordered_selects(1)", Touches::Reads)]
    fn the_words_of_a_text_show_its_effect_on_the_session(
        #[case] sql: &str,
        #[case] touches: Touches,
    ) {
        assert_eq!(super::touches(sql), touches, "{sql}");
    }
}
