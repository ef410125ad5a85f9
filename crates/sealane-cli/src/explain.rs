//! `sealane explain`: where a statement would run, and why.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use sealane::Config;
use sealane_sql::{Classification, Dialect, classify};

use crate::{
    CommandError,
    arguments::{Explain, Language},
    output::Output,
    status,
};

/// Judges the text on the live topology.
pub(crate) async fn run(
    config: Config,
    wanted: &Explain,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let sql = statement(wanted)?;
    let db = status::open(config).await?;
    let explanation = db.explain(&sql);
    output.show(&explanation, |out| write!(out, "{explanation}"))?;
    status::close(db).await;
    // A statement that nobody may serve now is worth an exit code.
    Ok(explanation.first_choice().is_some())
}

/// Judges the text alone: what only a catalog knows is unknown.
pub(crate) fn offline(wanted: &Explain, output: &mut Output<'_>) -> Result<bool, CommandError> {
    let sql = statement(wanted)?;
    let dialect = match wanted.dialect {
        Language::Postgres => Dialect::PostgreSql,
        Language::Mysql => Dialect::MySql,
        Language::Sqlite => Dialect::Sqlite,
    };
    let found = classify(&sql, dialect);
    let annotated = found.annotate(&sql).to_string();
    let value = serde_json::json!({
        "intent": found.intent,
        "reason": reason(&found),
        "findings": found.findings,
        "annotated": annotated,
        "tables": found.tables,
        "cost": found.cost,
    });
    output.show(&value, |out| {
        writeln!(out, "intent: {:?} ({})", found.intent, reason(&found))?;
        if !annotated.is_empty() {
            writeln!(out, "{annotated}")?;
        }
        let names = |names: &[sealane::TableName]| {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        for (what, tables) in [("reads", &found.tables.read), ("writes", &found.tables.written)] {
            if !tables.is_empty() {
                writeln!(out, "{what}: {}", names(tables))?;
            }
        }
        match found.intent.is_read() {
            true => writeln!(out, "a replica may serve it, if the catalog agrees"),
            false => writeln!(out, "it runs on the primary"),
        }
    })?;
    Ok(true)
}

fn reason(found: &Classification) -> String {
    found.decisive().map_or_else(|| "proved read".to_owned(), |finding| finding.reason.to_string())
}

fn statement(wanted: &Explain) -> Result<String, CommandError> {
    match (&wanted.sql, &wanted.file) {
        (Some(sql), _) if sql != "-" => Ok(sql.clone()),
        (None, Some(path)) if path != Path::new("-") => std::fs::read_to_string(path)
            .map_err(|cause| CommandError::Statement { path: path.clone(), cause }),
        _ => {
            let mut sql = String::new();
            let path = || PathBuf::from("standard input");
            io::stdin()
                .read_to_string(&mut sql)
                .map_err(|cause| CommandError::Statement { path: path(), cause })?;
            Ok(sql)
        }
    }
}
