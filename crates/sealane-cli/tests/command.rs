//! The program as scripts run it: what it prints, and its exit codes. The servers are a file and
//! addresses where nobody listens; the suite `check` has real ones.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use rstest::rstest;

/// Planted wherever a configuration can hold one.
const PASSWORD: &str = "tidewater";

fn sealane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealane"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["DATABASE_URL", "DATABASE_REPLICA_URLS", "DATABASE_REPLICA_URL"] {
        command.env_remove(variable);
    }
    command
}

/// The exit code, and everything that is printed.
fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A file whose header says which journal it has.
fn database(path: &Path, version: u8) -> String {
    let mut header = b"SQLite format 3\0".to_vec();
    header.extend([16, 0, version, version]);
    header.resize(100, 0);
    fs::write(path, header).unwrap();
    format!("sqlite://{}", path.display())
}

#[rstest]
#[case::nothing(&[])]
#[case::unknown(&["chek"])]
#[case::no_time(&["wait", "--for", "soon"])]
#[case::two_statements(&["explain", "SELECT 1", "--file", "a.sql"])]
#[case::dialect_of_a_server(&["explain", "SELECT 1", "--dialect", "mysql"])]
#[case::no_time_for_anything_else(&["watch", "--json", "--every", "1ms"])]
#[case::no_configuration(&["check"])]
#[case::no_file(&["status", "--config", "no-such-file.toml"])]
#[case::no_statement(&["explain", "--offline", "--file", "no-such-file.sql"])]
fn what_the_user_must_correct_ends_with_two(#[case] arguments: &[&str]) {
    let (code, text) = run(&mut sealane(arguments));
    assert_eq!(code, 2, "{text}");
    assert!(!text.is_empty());
}

#[test]
fn a_good_file_is_met_with_one_line_and_zero() {
    let folder = tempfile::tempdir().unwrap();
    let url = database(&folder.path().join("shop.db"), 2);
    let (code, text) = run(sealane(&["check"]).env("DATABASE_URL", url));
    assert_eq!((code, &*text), (0, "all good: 1 endpoint\n"));
}

#[test]
fn a_file_without_wal_is_told_with_its_remedy_and_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = database(&folder.path().join("shop.db"), 1);
    let (code, text) = run(sealane(&["check"]).env("DATABASE_URL", &url));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("warning journal-not-wal"), "{text}");
    assert!(text.contains("remedy: PRAGMA journal_mode = WAL"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours where no terminal is");
    let errors = ["check", "--fail-on", "error"];
    assert_eq!(run(sealane(&errors).env("DATABASE_URL", &url)).0, 0);
}

#[test]
fn a_file_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    // Without `mode=rwc` the application does not start.
    for (mode, worst, status) in [("", "error", 1), ("?mode=rwc", "warning", 0)] {
        let url = format!("sqlite://{}{mode}", path.display());
        let (code, text) = run(sealane(&["check", "--json"]).env("DATABASE_URL", &url));
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &report["findings"][0]["code"]), (1, &"no-such-file".into()));
        assert_eq!(report["worst"], worst, "{text}");
        assert!(!path.exists());
        // What the check says is what the application does.
        let (code, text) = run(sealane(&["status"]).env("DATABASE_URL", &url));
        assert_eq!(code, status, "{text}");
    }
}

#[test]
fn a_folder_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().display());
    let (code, text) = run(sealane(&["check"]).env("DATABASE_URL", url));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("error file-unreadable"), "{text}");
}

#[test]
fn servers_that_are_away_are_told_without_their_passwords() {
    let url = |port: u16| format!("postgres://app:{PASSWORD}@127.0.0.1:{port}/shop");
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["status"],
        &["lag"],
        &["replication"],
        &["watch", "--json"],
        &["wait", "--for", "200ms"],
        &["explain", "SELECT 1"],
    ] {
        let mut command = sealane(arguments);
        command.env("DATABASE_URL", url(1)).env("DATABASE_REPLICA_URLS", url(2));
        let (code, text) = run(&mut command);
        assert_eq!(code, 1, "{arguments:?}: {text}");
        assert!(text.contains("127.0.0.1:1") || text.contains("not ready"), "{text}");
        assert!(!text.contains(PASSWORD), "{arguments:?}: {text}");
    }
}

#[test]
fn a_configuration_that_cannot_be_meant_is_told_without_its_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealane.toml");
    fs::write(&path, format!("[primary]\nurl = \"postgres://app:{PASSWORD}/1@db-1/shop\""))
        .unwrap();
    for command in ["check", "status", "lag", "replication", "wait", "explain"] {
        let mut arguments = vec![command, "--config", path.to_str().unwrap()];
        arguments.extend(Some("SELECT 1").filter(|_| command == "explain"));
        let (code, text) = run(&mut sealane(&arguments));
        assert_eq!(code, 2, "{command}: {text}");
        assert!(text.contains("percent-encoded") && !text.contains(PASSWORD), "{text}");
    }
}

#[rstest]
#[case(&["explain", "--offline", "SELECT name FROM boat"], "intent: Read")]
#[case(&["explain", "--offline", "--dialect", "mysql", "SELECT 1 FOR UPDATE"], "on the primary")]
#[case(&["explain", "--offline", "--json", "DELETE FROM boat"], "\"intent\": \"write\"")]
#[case(&["completions", "bash"], "_sealane")]
#[case(&["completions", "bash"], "watch")]
#[case(&["completions", "zsh"], "#compdef sealane")]
fn what_needs_no_server_works_without_one(#[case] arguments: &[&str], #[case] told: &str) {
    let (code, text) = run(&mut sealane(arguments));
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(told), "{text}");
}

#[test]
fn a_statement_is_read_from_a_file_or_from_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("read.sql");
    fs::write(&path, "SELECT name FROM boat").unwrap();
    let arguments = ["explain", "--offline", "--file", path.to_str().unwrap()];
    let (_, from_file) = run(&mut sealane(&arguments));
    for arguments in [&["explain", "--offline"][..], &["explain", "--offline", "-"]] {
        let mut command = sealane(arguments);
        let (_, from_input) = run(command.stdin(fs::File::open(&path).unwrap()));
        assert_eq!(from_file, from_input);
    }
    assert!(from_file.contains("reads: boat"), "{from_file}");
}

#[test]
fn a_file_of_one_s_own_has_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    for arguments in [&["status"][..], &["wait", "--for", "5s"], &["explain", "SELECT 1"]] {
        let (code, text) = run(sealane(arguments).env("DATABASE_URL", &url));
        assert_eq!(code, 0, "{arguments:?}: {text}");
        assert!(!text.is_empty());
    }
}

#[test]
fn a_picture_without_a_terminal_points_to_json() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    let (code, text) = run(sealane(&["watch"]).env("DATABASE_URL", url));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("needs a terminal") && text.contains("watch --json"), "{text}");
    assert!(!text.contains('\u{1b}'), "a terminal was drawn on: {text}");
}

#[test]
fn a_watching_program_gets_a_status_per_line_until_it_has_enough() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
    let mut command = sealane(&["watch", "--json", "--every", "50ms"]);
    let command = command.env("DATABASE_URL", url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        // A line that were not flushed would never come: the program does not end by itself.
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["endpoints"].as_array().unwrap().len(), 2, "{line}");
        assert!(status["primary"].is_string(), "{line}");
    }
    drop(lines);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), &*stderr), (Some(0), &[][..]), "a closed pipe is no error");
}

#[test]
fn the_demonstration_misses_no_write_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sealane(&["demo", "--for", "600ms", "--readers", "2", "--json"]);
    let (code, text) = run(command.env("TMPDIR", folder.path()));
    assert_eq!(code, 0, "{text}");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let ways = last.as_array().unwrap();
    assert_eq!(ways.len(), 2);
    for way in ways {
        assert!(way["reads_per_s"].as_u64() > Some(0), "{text}");
        assert_eq!(way["missed_writes"], 0, "{text}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
