//! Statements as a whole: which may be reads, and what the others are.

use sealane_core::Intent;
use sqlparser::ast::{CreateTable, CreateView, Set, Statement, UtilityOption};

use crate::classification::{Classification, Reason};
use crate::dialect::Dialect;

use super::{Proof, Prover, require};

/// Options of PostgreSQL's EXPLAIN (18): none changes what the statement does.
const EXPLAIN_OPTIONS: &[&str] = &[
    "analyze",
    "buffers",
    "costs",
    "format",
    "generic_plan",
    "memory",
    "serialize",
    "settings",
    "summary",
    "timing",
    "verbose",
    "wal",
];

impl<'a> Prover<'a> {
    pub(super) fn statement(&mut self, statement: &'a Statement) -> Proof {
        match statement {
            Statement::Query(query) => {
                self.push_query(query);
                Ok(())
            }
            // What is explained may be executed (ANALYZE, in one of several spellings),
            // so a plan is worth what its statement is worth.
            Statement::Explain {
                describe_alias: _,
                analyze: _,
                verbose: _,
                query_plan: _,
                estimate: _,
                statement,
                format: _,
                options,
            } => {
                self.explain_options(options.as_deref().unwrap_or_default())?;
                match &**statement {
                    Statement::Query(query) => {
                        self.push_query(query);
                        Ok(())
                    }
                    other => Err(not_a_read(other)),
                }
            }
            Statement::ExplainTable {
                describe_alias: _,
                hive_format,
                has_table_keyword: _,
                table_name: _,
            } => require(
                self.dialect == Dialect::MySql && hive_format.is_none(),
                "a description of a table",
            ),
            other => match self.show(other) {
                Some(proof) => proof,
                None => Err(not_a_read(other)),
            },
        }
    }

    fn explain_options(&mut self, options: &'a [UtilityOption]) -> Proof {
        for UtilityOption { name, arg } in options {
            let listed = EXPLAIN_OPTIONS.iter().any(|it| it.eq_ignore_ascii_case(&name.value));
            require(listed, "an option of EXPLAIN")?;
            self.push_all(arg);
        }
        Ok(())
    }
}

/// What a statement is that cannot be a read.
fn not_a_read(statement: &Statement) -> Classification {
    let session = |what: &str| Classification::session(what);
    let transaction =
        |what| Classification::new(Intent::Transaction, Reason::TransactionControl(what));
    match statement {
        Statement::StartTransaction { .. } => transaction("BEGIN"),
        Statement::Commit { .. } => transaction("COMMIT"),
        Statement::Rollback { .. } => transaction("ROLLBACK"),
        Statement::Savepoint { .. } => transaction("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => transaction("RELEASE SAVEPOINT"),
        Statement::Set(Set::SetTransaction { .. }) => transaction("SET TRANSACTION"),
        Statement::Set(_) => session("SET"),
        Statement::Reset(_) => session("RESET"),
        Statement::Use(_) => session("USE"),
        Statement::Prepare { .. } => session("PREPARE"),
        Statement::Execute { .. } => session("EXECUTE"),
        Statement::Deallocate { .. } => session("DEALLOCATE"),
        Statement::Declare { .. } => session("DECLARE"),
        Statement::Open(_) => session("OPEN"),
        Statement::Fetch { .. } => session("FETCH"),
        Statement::Close { .. } => session("CLOSE"),
        Statement::Discard { .. } => session("DISCARD"),
        Statement::LISTEN { .. } => session("LISTEN"),
        Statement::UNLISTEN { .. } => session("UNLISTEN"),
        Statement::LockTables { .. } => session("LOCK TABLES"),
        Statement::UnlockTables => session("UNLOCK TABLES"),
        Statement::AttachDatabase { .. } => session("ATTACH"),
        Statement::Load { .. } => session("LOAD"),
        // Those that read are told before there is a tree.
        Statement::Pragma { .. } => session("PRAGMA"),
        Statement::CreateTable(CreateTable { temporary: true, .. })
        | Statement::CreateView(CreateView { temporary: true, .. })
        | Statement::Drop { temporary: true, .. } => session("a temporary table"),
        other => match writing(other) {
            Some(name) => Classification::new(Intent::Write, Reason::Writes(name)),
            None => Classification::not_listed("the kind of statement"),
        },
    }
}

/// The name of a statement that writes.
fn writing(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::Insert(_) => "INSERT",
        Statement::Update(_) => "UPDATE",
        Statement::Delete(_) => "DELETE",
        Statement::Merge(_) => "MERGE",
        Statement::Truncate(_) => "TRUNCATE",
        Statement::Copy { to: false, .. } => "COPY FROM",
        Statement::LoadData { .. } => "LOAD DATA",
        Statement::Call(_) => "CALL",
        Statement::Lock(_) => "LOCK",
        Statement::NOTIFY { .. } => "NOTIFY",
        Statement::Kill { .. } => "KILL",
        Statement::Flush { .. } => "FLUSH",
        Statement::Analyze(_) => "ANALYZE",
        Statement::Vacuum(_) => "VACUUM",
        Statement::OptimizeTable { .. } => "OPTIMIZE TABLE",
        Statement::Comment { .. } => "COMMENT",
        Statement::Grant(_) => "GRANT",
        Statement::Revoke(_) => "REVOKE",
        Statement::RenameTable(_) => "RENAME TABLE",
        Statement::CreateTable(_) => "CREATE TABLE",
        Statement::CreateView(_) => "CREATE VIEW",
        Statement::CreateVirtualTable { .. } => "CREATE VIRTUAL TABLE",
        Statement::CreateIndex(_) => "CREATE INDEX",
        Statement::CreateSchema { .. } => "CREATE SCHEMA",
        Statement::CreateDatabase { .. } => "CREATE DATABASE",
        Statement::CreateSequence { .. } => "CREATE SEQUENCE",
        Statement::CreateDomain(_) => "CREATE DOMAIN",
        Statement::CreateType { .. } => "CREATE TYPE",
        Statement::CreateExtension(_) => "CREATE EXTENSION",
        Statement::CreateFunction(_) => "CREATE FUNCTION",
        Statement::CreateProcedure { .. } => "CREATE PROCEDURE",
        Statement::CreateTrigger(_) => "CREATE TRIGGER",
        Statement::CreateRole(_) => "CREATE ROLE",
        Statement::CreateUser(_) => "CREATE USER",
        Statement::CreatePolicy(_) => "CREATE POLICY",
        Statement::AlterTable(_) => "ALTER TABLE",
        Statement::AlterSchema(_) => "ALTER SCHEMA",
        Statement::AlterIndex { .. } => "ALTER INDEX",
        Statement::AlterView { .. } => "ALTER VIEW",
        Statement::AlterType(_) => "ALTER TYPE",
        Statement::AlterRole { .. } => "ALTER ROLE",
        Statement::AlterUser(_) => "ALTER USER",
        Statement::AlterPolicy(_) => "ALTER POLICY",
        Statement::Drop { .. } => "DROP",
        Statement::DropFunction(_) => "DROP FUNCTION",
        Statement::DropProcedure { .. } => "DROP PROCEDURE",
        Statement::DropTrigger(_) => "DROP TRIGGER",
        Statement::DropExtension(_) => "DROP EXTENSION",
        Statement::DropDomain(_) => "DROP DOMAIN",
        Statement::DropPolicy(_) => "DROP POLICY",
        _ => return None,
    })
}
