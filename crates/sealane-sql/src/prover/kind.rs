//! Kinds of statements: which may be reads, and the intents of the others.

use sealane_core::Intent;
use sqlparser::ast::{
    CopySource, CopyTarget, CreateTable, CreateView, Query, Set, Statement, UtilityOption,
};

use crate::dialect::Dialect;
use crate::finding::Reason;

use super::Prover;

/// Options of PostgreSQL's EXPLAIN (18). None of them changes what the statement does.
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
    pub(super) fn statement(&mut self, statement: &'a Statement) {
        match statement {
            Statement::Query(query) => self.outermost_query(query),
            // EXPLAIN may execute its statement (ANALYZE, in one of several spellings), so it gets
            // the same intent as the statement.
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
                self.explain_options(options.as_deref().unwrap_or_default());
                match &**statement {
                    Statement::Query(query) => self.outermost_query(query),
                    other => self.not_a_read(other),
                }
            }
            Statement::ExplainTable {
                describe_alias: _,
                hive_format,
                has_table_keyword: _,
                table_name,
            } => {
                let is_known = self.dialect == Dialect::MySql && hive_format.is_none();
                self.require(is_known, "a description of a table");
                self.relation(table_name);
            }
            Statement::Copy {
                source,
                to: true,
                target: CopyTarget::Stdout,
                options: _,
                legacy_options: _,
                values: _,
            } if self.dialect == Dialect::PostgreSql => match source {
                CopySource::Table { table_name, columns: _ } => self.relation(table_name),
                CopySource::Query(query) => self.outermost_query(query),
            },
            other => {
                if !self.show(other) {
                    self.not_a_read(other);
                }
            }
        }
    }

    fn explain_options(&mut self, options: &'a [UtilityOption]) {
        for UtilityOption { name, arg } in options {
            let listed = EXPLAIN_OPTIONS.iter().any(|it| it.eq_ignore_ascii_case(&name.value));
            self.require(listed, "an option of EXPLAIN");
            self.push_all(arg);
        }
    }

    /// Records the intent and the tables of a statement that cannot be a read.
    fn not_a_read(&mut self, statement: &'a Statement) {
        match statement {
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_) => return self.change(statement),
            _ => {}
        }
        let is_temporary = matches!(
            statement,
            Statement::CreateTable(CreateTable { temporary: true, .. })
                | Statement::CreateView(CreateView { temporary: true, .. })
                | Statement::Drop { temporary: true, .. }
        );
        if is_temporary {
            self.session("a temporary table", None);
        } else if self.is(Dialect::MySql) && matches!(statement, Statement::Reset(_)) {
            // In MySQL, RESET changes logs or settings of the server, not of the session.
            self.writes("RESET", None);
        } else if let Some(name) = transaction(statement) {
            self.refuse(Intent::Transaction, Reason::TransactionControl(name), None);
        } else if let Some(name) = session(statement) {
            self.session(name, None);
        } else if let Some(name) = writing(statement) {
            self.writes(name, None);
        } else {
            self.not_listed("this kind of statement");
        }
        self.tables_of(statement);
    }

    /// The tables whose definition or data a statement changes.
    fn tables_of(&mut self, statement: &'a Statement) {
        match statement {
            Statement::CreateTable(create) => {
                self.written(&create.name);
                self.reads_query(create.query.as_deref());
            }
            Statement::CreateView(create) => {
                self.written(&create.name);
                self.reads_query(Some(&create.query));
            }
            Statement::CreateIndex(create) => self.written(&create.table_name),
            Statement::AlterTable(alter) => self.written(&alter.name),
            Statement::Truncate(truncate) => {
                truncate.table_names.iter().for_each(|table| self.written(&table.name));
            }
            Statement::Drop { names, table, .. } => {
                names.iter().chain(table).for_each(|name| self.written(name));
            }
            Statement::RenameTable(renames) => {
                for rename in renames {
                    self.written(&rename.old_name);
                    self.written(&rename.new_name);
                }
            }
            Statement::Copy { source: CopySource::Table { table_name, .. }, to: false, .. }
            | Statement::LoadData { table_name, .. } => self.written(table_name),
            Statement::Copy { source: CopySource::Query(query), .. } => {
                self.reads_query(Some(query));
            }
            Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. } => {}
            _ => self.outcome.tables.complete = false,
        }
    }

    fn reads_query(&mut self, query: Option<&'a Query>) {
        if let Some(query) = query {
            self.later(super::Node::Query(query));
        }
    }
}

/// The name of a statement that begins, ends or configures a transaction.
fn transaction(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::StartTransaction { .. } => "BEGIN",
        Statement::Commit { .. } => "COMMIT",
        Statement::Rollback { .. } => "ROLLBACK",
        Statement::Savepoint { .. } => "SAVEPOINT",
        Statement::ReleaseSavepoint { .. } => "RELEASE SAVEPOINT",
        Statement::Set(Set::SetTransaction { .. }) => "SET TRANSACTION",
        _ => return None,
    })
}

/// The name of a statement that changes the state of its database session.
fn session(statement: &Statement) -> Option<&'static str> {
    Some(match statement {
        Statement::Set(_) => "SET",
        Statement::Reset(_) => "RESET",
        Statement::Use(_) => "USE",
        Statement::Prepare { .. } => "PREPARE",
        Statement::Execute { .. } => "EXECUTE",
        Statement::Deallocate { .. } => "DEALLOCATE",
        Statement::Declare { .. } => "DECLARE",
        Statement::Open(_) => "OPEN",
        Statement::Fetch { .. } => "FETCH",
        Statement::Close { .. } => "CLOSE",
        Statement::Discard { .. } => "DISCARD",
        Statement::LISTEN { .. } => "LISTEN",
        Statement::UNLISTEN { .. } => "UNLISTEN",
        Statement::LockTables { .. } => "LOCK TABLES",
        Statement::UnlockTables => "UNLOCK TABLES",
        Statement::AttachDatabase { .. } => "ATTACH",
        Statement::Load { .. } => "LOAD",
        // Pragmas that read are recognised before parsing.
        Statement::Pragma { .. } => "PRAGMA",
        _ => return None,
    })
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
        // `statement` has already handled COPY TO STDOUT.
        Statement::Copy { to: true, .. } => "COPY TO",
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
