//! `SHOW` statements: some of them read the schema, the others are refused.

use sqlparser::ast::{
    Ident, ShowCharset, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions,
    Statement,
};

use crate::dialect::Dialect;

use super::Prover;

/// Settings of PostgreSQL that no session can change and that are equal on all servers of a cluster
/// ("Preset Options"). Other settings belong to a session.
const CONSTANTS: &[&str] = &[
    "block_size",
    "data_checksums",
    "integer_datetimes",
    "lc_collate",
    "lc_ctype",
    "max_function_args",
    "max_identifier_length",
    "max_index_keys",
    "segment_size",
    "server_encoding",
    "server_version",
    "server_version_num",
    "wal_block_size",
    "wal_segment_size",
];

impl<'a> Prover<'a> {
    /// `false` if the statement is not a `SHOW`.
    pub(super) fn show(&mut self, statement: &'a Statement) -> bool {
        match statement {
            Statement::ShowVariable { variable } => self.show_variable(variable),
            Statement::ShowCreate { obj_type: _, obj_name: _ } => self.mysql_only(),
            Statement::ShowColumns { extended: _, full: _, show_options }
            | Statement::ShowDatabases { terse: _, history: _, show_options }
            | Statement::ShowSchemas { terse: _, history: _, show_options }
            | Statement::ShowTables {
                terse: _,
                history: _,
                extended: _,
                full: _,
                external: _,
                show_options,
            } => self.show_options(show_options),
            Statement::ShowCharset(ShowCharset { is_shorthand: _, filter })
            | Statement::ShowCollation { filter } => {
                self.show_filter(filter.as_ref());
                self.mysql_only();
            }
            Statement::ShowProcessList { full: _ } => self.session("SHOW PROCESSLIST", None),
            Statement::ShowVariables { filter: _, global: _, session: _ }
            | Statement::ShowStatus { filter: _, global: _, session: _ } => {
                self.session("SHOW VARIABLES or STATUS", None);
            }
            _ => return false,
        }
        true
    }

    fn show_variable(&mut self, words: &[Ident]) {
        let word = |at: usize| words.get(at).map(|word| word.value.to_ascii_lowercase());
        let first = word(0).unwrap_or_default();
        let reads = match self.dialect {
            Dialect::PostgreSql => words.len() == 1 && CONSTANTS.contains(&first.as_str()),
            // The parser drops everything that is not a word, so exactly these words are allowed.
            Dialect::MySql => matches!(
                (first.as_str(), word(1).as_deref(), words.len()),
                // This list leaves out a server's build options, and its events, which a replica
                // disables.
                ("privileges" | "triggers", None, 1)
                    | ("triggers", Some("like"), 2)
                    | ("procedure" | "function", Some("status"), 2)
                    | ("index" | "indexes" | "keys", Some("from" | "in"), 3)
            ),
            Dialect::Sqlite => false,
        };
        if !reads {
            self.session("SHOW", None);
        }
    }

    fn show_options(&mut self, options: &'a ShowStatementOptions) {
        let ShowStatementOptions { show_in: _, starts_with, limit, limit_from, filter_position } =
            options;
        match filter_position {
            Some(
                ShowStatementFilterPosition::Infix(filter)
                | ShowStatementFilterPosition::Suffix(filter),
            ) => self.show_filter(Some(filter)),
            None => {}
        }
        self.require(
            starts_with.is_none() && limit.is_none() && limit_from.is_none(),
            "an option of SHOW",
        );
        self.mysql_only();
    }

    fn show_filter(&mut self, filter: Option<&'a ShowStatementFilter>) {
        match filter {
            Some(ShowStatementFilter::Where(condition)) => self.push(condition),
            Some(
                ShowStatementFilter::Like(_)
                | ShowStatementFilter::ILike(_)
                | ShowStatementFilter::NoKeyword(_),
            )
            | None => {}
        }
    }

    fn mysql_only(&mut self) {
        self.require(self.dialect == Dialect::MySql, "SHOW");
    }
}
