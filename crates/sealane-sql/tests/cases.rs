//! Checks the cases in `tests/cases/*/*.toml` and what follows from them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use sealane_sql::{Classifier, Dialect, Intent, classify};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    sql: String,
    intent: Intent,
    why: String,
    /// The true intent, if `intent` is a safe approximation.
    truth: Option<Intent>,
}

/// All cases of all files in the dialects' folders, sorted by name.
fn cases() -> Vec<(Dialect, Case)> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    [(Dialect::PostgreSql, "postgres"), (Dialect::MySql, "mysql"), (Dialect::Sqlite, "sqlite")]
        .into_iter()
        .flat_map(|(dialect, folder)| {
            files(&folders.join(folder)).into_iter().map(move |path| (dialect, path))
        })
        .flat_map(|(dialect, path)| {
            let text = fs::read_to_string(&path).expect("a readable file");
            let file: Result<File, _> =
                toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()));
            let file = file.expect("a file of cases");
            file.case.into_iter().map(move |case| (dialect, case))
        })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of cases");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_case_is_classified_as_its_file_says() {
    let cases = cases();
    assert!(cases.len() >= 750, "{} cases", cases.len());
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|(dialect, case)| {
            let found = classify(&case.sql, *dialect);
            (found.intent != case.intent).then(|| {
                format!(
                    "{dialect:?}: {:?}\n    expected {:?} ({}), found {found}",
                    case.sql, case.intent, case.why
                )
            })
        })
        .collect();
    report(&failures);
}

#[test]
fn every_case_appears_once_and_says_why() {
    let mut seen = HashSet::new();
    for (dialect, case) in cases() {
        assert!(!case.why.is_empty(), "{dialect:?}: {:?} does not say why", case.sql);
        let told_before = !seen.insert((dialect, case.sql.clone()));
        assert!(!told_before, "{dialect:?}: {:?} is told twice", case.sql);
    }
}

#[test]
fn decisions_without_a_tree_agree_with_the_tree() {
    let (mut failures, mut plain) = (Vec::new(), 0);
    for (dialect, case) in cases() {
        let (quick, full) =
            (Classifier::new(dialect).look_up(&case.sql), classify(&case.sql, dialect));
        let begins_a_write = quick.intent == Intent::Write && !quick.tables.complete;
        let same = if begins_a_write { quick.intent == full.intent } else { *quick == full };
        plain += usize::from(quick.tables == full.tables && quick.intent.is_read());
        if !same {
            failures.push(format!("{dialect:?}: {:?}\n    {quick:?}\n    {full:?}", case.sql));
        }
    }
    report(&failures);
    assert!(plain > 100);
}

#[test]
fn approximations_are_safe_and_few() {
    let cases = cases();
    let failures: Vec<String> = cases
        .iter()
        .filter(|(_, case)| {
            case.truth.is_some_and(|truth| truth == case.intent || case.intent.is_read())
        })
        .map(|(dialect, case)| format!("{dialect:?}: {:?}", case.sql))
        .collect();
    report(&failures);
    let reads = cases.iter().filter(|(_, case)| case.intent.is_read()).count();
    let cautious = cases.iter().filter(|(_, case)| case.truth.is_some_and(Intent::is_read)).count();
    println!("{} cases: {reads} reads, {cautious} more that are not proved", cases.len());
    assert!(cautious * 10 < reads, "{cautious} reads of {reads} are not proved");
}

#[test]
fn nothing_wrapped_around_a_statement_makes_it_a_read() {
    let mut failures = Vec::new();
    for (dialect, case) in cases() {
        // A part or an explanation of an unproved read may be a proved read.
        let is_read = case.intent.is_read() || case.truth.is_some_and(Intent::is_read);
        if is_read || case.sql.trim_end_matches([' ', ';', '\n']).is_empty() {
            continue;
        }
        let sql = case.sql.as_str();
        for wrapped in [
            format!("WITH w AS ({sql}) SELECT * FROM w"),
            format!("WITH w AS (SELECT 1) {sql}"),
            format!("SELECT * FROM ({sql}) AS w"),
            format!("SELECT 1 WHERE EXISTS ({sql})"),
            format!("SELECT ({sql})"),
            format!("EXPLAIN ANALYZE {sql}"),
            format!("EXPLAIN (ANALYZE, VERBOSE) {sql}"),
            format!("EXPLAIN {sql}"),
            format!("SELECT 1; {sql}"),
            format!("{sql}\n; SELECT 1"),
            format!("/* SELECT */ {sql}"),
            format!("-- SELECT\n{sql}"),
            format!("  \n\t{sql}"),
            format!("({sql})"),
        ] {
            let found = classify(&wrapped, dialect);
            // `SELECT (BEGIN)` reads a column called `BEGIN`, `(COMMIT AND CHAIN)` reads two
            // columns, and `EXPLAIN SHUTDOWN` describes a table.
            let is_name = !sql.contains([' ', '(']) || sql.ends_with(" AND CHAIN");
            let names = ["SELECT (", "EXPLAIN"].iter().any(|it| wrapped.starts_with(it));
            let is_column = is_name && names;
            if found.intent.is_read() && !is_column && !is_nothing_but_comment(sql) {
                failures.push(format!("{dialect:?}: {wrapped:?} is no read"));
            }
        }
    }
    report(&failures);
}

#[test]
fn a_lock_after_a_read_is_never_a_read() {
    let mut failures = Vec::new();
    for (dialect, case) in cases() {
        if !case.intent.is_read() || dialect == Dialect::Sqlite {
            continue;
        }
        let sql = case.sql.trim_end_matches([' ', ';', '\n']);
        // On a separate line, because a comment at the end would swallow it.
        for lock in ["FOR UPDATE", "FOR SHARE", "FOR NO KEY UPDATE", "LOCK IN SHARE MODE"] {
            let locked = format!("{sql}\n{lock}");
            if classify(&locked, dialect).intent.is_read() {
                failures.push(format!("{dialect:?}: {locked:?} locks"));
            }
        }
    }
    report(&failures);
}

#[test]
fn a_call_put_anywhere_into_a_read_is_seen() {
    let mut failures = Vec::new();
    for (dialect, case) in cases() {
        // Blanks inside literals and comments do not separate tokens. The argument is a sum,
        // because after a name a plain value could be a list of columns or the size of a type.
        let is_plain = !["'", "--", "/*", "#", "$$"].iter().any(|it| case.sql.contains(it));
        if !case.intent.is_read() || !is_plain {
            continue;
        }
        for (at, _) in case.sql.match_indices([' ', '(', ')', ',']) {
            for call in
                ["nextval(1 + 1)", ", nextval(1 + 1) ", "; DELETE FROM t ;", "INTO t", "FOR UPDATE"]
            {
                let (head, tail) = case.sql.split_at(at);
                let sql = format!("{head} {call} {tail}");
                if classify(&sql, dialect).intent.is_read() {
                    failures.push(format!("{dialect:?}: {sql:?}"));
                }
            }
        }
    }
    report(&failures);
}

#[test]
fn a_classification_explains_itself_without_literals() {
    let secret = "correct horse battery staple";
    for (dialect, _) in cases() {
        for sql in [
            format!("SELECT nextval('{secret}')"),
            format!("SELECT '{secret}' '{secret}' FROM"),
            format!("INSERT INTO t VALUES ('{secret}')"),
            format!("GRIBBLE '{secret}'"),
        ] {
            let found = classify(&sql, dialect);
            let json = serde_json::to_string(&found).unwrap();
            assert!(!json.contains(secret) && !found.to_string().contains(secret), "{json}");
        }
    }
}

fn is_nothing_but_comment(sql: &str) -> bool {
    sql.trim_start_matches([' ', ';', '-', '/', '*', '#']).starts_with("nothing")
}
