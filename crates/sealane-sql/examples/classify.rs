//! What sealane takes a statement for, and why:
//!
//! `cargo run -p sealane-sql --example classify -- postgres "SELECT nextval('s')"`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;

use sealane_sql::{Dialect, classify};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let dialect = match args.next().as_deref() {
        Some("postgres") => Dialect::PostgreSql,
        Some("mysql") => Dialect::MySql,
        Some("sqlite") => Dialect::Sqlite,
        _ => return usage(),
    };
    let Some(sql) = args.next() else {
        return usage();
    };
    let found = classify(&sql, dialect);
    println!("{found}");
    if !found.findings.is_empty() {
        println!("{}", found.annotate(&sql));
    }
    for (what, names) in [("reads", &found.tables.read), ("writes", &found.tables.written)] {
        names.iter().for_each(|name| println!("{what} {name}"));
    }
    println!("{}", found.cost);
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: classify postgres|mysql|sqlite STATEMENT");
    ExitCode::FAILURE
}
