//! The parts of `FROM`: tables, subqueries, joins, table functions.

use sealane_core::Intent;
use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, JsonTableColumn, ObjectName, ObjectNamePart,
    TableAlias, TableAliasColumnDef, TableFactor, TableFunctionArgs, TableSample, TableSampleKind,
    TableWithJoins, XmlTableColumnOption,
};

use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::function::{self, Purity};
use crate::relation;
use crate::table_name::{is_same_name, table_name};

use super::call::span_of;
use super::{Node, Prover};

impl<'a> Prover<'a> {
    pub(super) fn joined(&mut self, table: &'a TableWithJoins) {
        let TableWithJoins { relation, joins } = table;
        self.later(Node::Table(relation));
        for Join { relation, global, join_operator } in joins {
            let count = &mut self.outcome.cost.joins;
            *count = count.saturating_add(1);
            self.require(!global, "GLOBAL JOIN");
            self.later(Node::Table(relation));
            match join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint)
                | JoinOperator::CrossJoin(constraint)
                | JoinOperator::StraightJoin(constraint) => match constraint {
                    JoinConstraint::On(condition) => self.push(condition),
                    JoinConstraint::Using(_) | JoinConstraint::Natural | JoinConstraint::None => {}
                },
                _ => self.not_listed("a join of another dialect"),
            }
        }
    }

    pub(super) fn table(&mut self, table: &'a TableFactor) {
        match table {
            TableFactor::Table { .. } => self.named_table(table),
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                self.require(sample.is_none(), "a sample of a subquery");
                self.push_subquery(subquery);
                self.alias(alias.as_ref());
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.later(Node::Joined(table_with_joins));
                self.alias(alias.as_ref());
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                self.callable(name);
                self.arguments(args);
                self.alias(alias.as_ref());
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias: _,
                with_ordinality: _,
            } => {
                self.only_in(Dialect::PostgreSql);
                self.require(!with_offset, "WITH OFFSET");
                self.push_all(array_exprs);
                self.alias(alias.as_ref());
            }
            TableFactor::JsonTable { json_expr, json_path: _, columns, alias } => {
                self.not_in_sqlite();
                self.push(json_expr);
                self.json_columns(columns);
                self.alias(alias.as_ref());
            }
            TableFactor::XmlTable { .. } => self.xml_table(table),
            _ => self.not_listed("a table expression of another dialect"),
        }
    }

    fn named_table(&mut self, table: &'a TableFactor) {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality: _,
            partitions: _,
            json_path,
            sample,
            index_hints: _,
        } = table
        else {
            return self.not_listed("a table expression");
        };
        self.require(with_hints.is_empty(), "a table hint");
        self.require(version.is_none(), "a version of a table");
        self.require(json_path.is_none(), "a path into a table");
        match args {
            Some(TableFunctionArgs { args, settings }) => {
                self.require(settings.is_none(), "SETTINGS");
                self.callable(name);
                self.arguments(args);
            }
            None => self.relation(name),
        }
        if let Some(
            TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample),
        ) = sample
        {
            let TableSample { modifier: _, name: _, quantity, seed: _, bucket, offset } = &**sample;
            self.require(bucket.is_none() && offset.is_none(), "a sample of another dialect");
            self.push_all(quantity.as_ref().map(|quantity| &quantity.value));
        }
        self.alias(alias.as_ref());
    }

    /// A plain name: a table, a view, or a common table expression.
    pub(super) fn relation(&mut self, name: &ObjectName) {
        let Some(table) = table_name(name, self.dialect) else {
            return self.not_listed("a computed or empty table name");
        };
        if let [ObjectNamePart::Identifier(word)] = name.0.as_slice()
            && self.word_call(word)
        {
            return;
        }
        if self.is_common_table(name) {
            return;
        }
        let span = span_of(name);
        if let Some(why) = relation::refusal(&table, self.dialect) {
            self.refuse(Intent::Session, Reason::SessionState(why), span);
        }
        if let Some(why) = self.catalog.refusal(&table) {
            let reason = Reason::Relation { name: table.to_string(), why: why.to_owned() };
            self.refuse(Intent::Unknown, reason, span);
        }
        // Reading the table `pragma_x` runs `PRAGMA x` in SQLite.
        if self.dialect == Dialect::Sqlite
            && table.name().starts_with("pragma_")
            && function::purity(name, self.dialect, self.catalog) == Purity::Unproved
        {
            self.session("PRAGMA", span);
        }
        if self.outcome.tables.read.contains(&table) {
            return;
        }
        self.outcome.tables.complete &= !self.catalog.hides_tables(&table);
        for below in self.catalog.reads_through(&table) {
            self.outcome.tables.add_read(below.clone());
        }
        self.outcome.tables.add_read(table);
    }

    /// Whether a surrounding `WITH` defines the name.
    fn is_common_table(&self, name: &ObjectName) -> bool {
        let [part] = name.0.as_slice() else { return false };
        part.as_ident().is_some_and(|ident| {
            let same = |known: &Ident| is_same_name(known, ident, self.dialect);
            self.scopes.sees(self.scope, same)
        })
    }

    pub(super) fn alias(&mut self, alias: Option<&'a TableAlias>) {
        let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else {
            return;
        };
        self.require(at.is_none(), "AT after an alias");
        for TableAliasColumnDef { name: _, data_type } in columns {
            if let Some(data_type) = data_type {
                self.data_type(data_type);
            }
        }
    }

    fn json_columns(&mut self, columns: &'a [JsonTableColumn]) {
        for column in columns {
            match column {
                // Path and defaults are literals.
                JsonTableColumn::Named(column) => self.data_type(&column.r#type),
                JsonTableColumn::ForOrdinality(_) => {}
                JsonTableColumn::Nested(_) => self.not_listed("NESTED in JSON_TABLE"),
            }
        }
    }

    fn xml_table(&mut self, table: &'a TableFactor) {
        let TableFactor::XmlTable { namespaces, row_expression, passing, columns, alias } = table
        else {
            return self.not_listed("a table expression");
        };
        self.only_in(Dialect::PostgreSql);
        self.push_all(namespaces.iter().map(|namespace| &namespace.uri));
        self.push(row_expression);
        self.push_all(passing.arguments.iter().map(|argument| &argument.expr));
        for column in columns {
            match &column.option {
                XmlTableColumnOption::NamedInfo { r#type, path, default, nullable: _ } => {
                    self.data_type(r#type);
                    self.push_all(path);
                    self.push_all(default);
                }
                XmlTableColumnOption::ForOrdinality => {}
            }
        }
        self.alias(alias.as_ref());
    }
}
