//! What stands after `FROM`: tables, subqueries, joins, table functions.

use sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, JsonTableColumn, ObjectName, ObjectNamePart, TableAlias,
    TableAliasColumnDef, TableFactor, TableFunctionArgs, TableSample, TableSampleKind,
    TableWithJoins, XmlTableColumnOption,
};

use crate::classification::Classification;
use crate::dialect::Dialect;
use crate::function;

use super::{Node, Proof, Prover, require};

impl<'a> Prover<'a> {
    pub(super) fn joined(&mut self, table: &'a TableWithJoins) -> Proof {
        let TableWithJoins { relation, joins } = table;
        self.pending.push(Node::Table(relation));
        for Join { relation, global, join_operator } in joins {
            require(!global, "GLOBAL JOIN")?;
            self.pending.push(Node::Table(relation));
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
                _ => return Err(Classification::not_listed("a join of another dialect")),
            }
        }
        Ok(())
    }

    pub(super) fn table(&mut self, table: &'a TableFactor) -> Proof {
        match table {
            TableFactor::Table { .. } => self.named_table(table),
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                require(sample.is_none(), "a sample of a subquery")?;
                self.push_query(subquery);
                self.alias(alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                self.pending.push(Node::Joined(table_with_joins));
                self.alias(alias.as_ref())
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                self.callable(name)?;
                self.arguments(args)?;
                self.alias(alias.as_ref())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias: _,
                with_ordinality: _,
            } => {
                require(!with_offset, "WITH OFFSET")?;
                self.push_all(array_exprs);
                self.alias(alias.as_ref())
            }
            TableFactor::JsonTable { json_expr, json_path: _, columns, alias } => {
                self.push(json_expr);
                self.json_columns(columns)?;
                self.alias(alias.as_ref())
            }
            TableFactor::XmlTable { .. } => self.xml_table(table),
            _ => Err(Classification::not_listed("a table expression of another dialect")),
        }
    }

    fn named_table(&mut self, table: &'a TableFactor) -> Proof {
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
            return Err(Classification::not_listed("a table expression"));
        };
        require(with_hints.is_empty(), "a table hint")?;
        require(version.is_none(), "a version of a table")?;
        require(json_path.is_none(), "a path into a table")?;
        match args {
            Some(TableFunctionArgs { args, settings }) => {
                require(settings.is_none(), "SETTINGS")?;
                self.callable(name)?;
                self.arguments(args)?;
            }
            None => self.relation(name)?,
        }
        if let Some(
            TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample),
        ) = sample
        {
            let TableSample { modifier: _, name: _, quantity, seed: _, bucket, offset } = &**sample;
            require(bucket.is_none() && offset.is_none(), "a sample of another dialect")?;
            self.push_all(quantity.as_ref().map(|quantity| &quantity.value));
        }
        self.alias(alias.as_ref())
    }

    /// A plain name: a table, or a view, which the text cannot tell apart.
    pub(super) fn relation(&self, name: &ObjectName) -> Proof {
        let mut parts = Vec::with_capacity(name.0.len());
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => parts.push(ident.value.to_ascii_lowercase()),
                ObjectNamePart::Function(_) => {
                    return Err(Classification::not_listed("a computed table name"));
                }
            }
        }
        let (Some(relation), first) = (parts.last(), parts.first()) else {
            return Err(Classification::not_listed("a table without a name"));
        };
        let first = first.map(String::as_str).unwrap_or_default();
        let of_session = match self.dialect {
            Dialect::PostgreSql => {
                first.starts_with("pg_temp")
                    || matches!(relation.as_str(), "pg_prepared_statements" | "pg_cursors")
            }
            Dialect::Sqlite => {
                (parts.len() > 1 && first == "temp")
                    || matches!(relation.as_str(), "sqlite_temp_master" | "sqlite_temp_schema")
            }
            Dialect::MySql => false,
        };
        if of_session {
            return Err(Classification::session("a relation of the session's own"));
        }
        // SQLite runs a pragma when its table is read, listed or not.
        if self.dialect == Dialect::Sqlite
            && relation.starts_with("pragma_")
            && !function::is_pure(name, self.dialect)
        {
            return Err(Classification::session("PRAGMA"));
        }
        Ok(())
    }

    pub(super) fn alias(&mut self, alias: Option<&'a TableAlias>) -> Proof {
        let Some(TableAlias { explicit: _, name: _, columns, at }) = alias else {
            return Ok(());
        };
        require(at.is_none(), "AT after an alias")?;
        for TableAliasColumnDef { name: _, data_type } in columns {
            if let Some(data_type) = data_type {
                self.data_type(data_type)?;
            }
        }
        Ok(())
    }

    fn json_columns(&mut self, columns: &'a [JsonTableColumn]) -> Proof {
        for column in columns {
            match column {
                // Path and defaults are literals.
                JsonTableColumn::Named(column) => self.data_type(&column.r#type)?,
                JsonTableColumn::ForOrdinality(_) => {}
                JsonTableColumn::Nested(_) => {
                    return Err(Classification::not_listed("NESTED in JSON_TABLE"));
                }
            }
        }
        Ok(())
    }

    fn xml_table(&mut self, table: &'a TableFactor) -> Proof {
        let TableFactor::XmlTable { namespaces, row_expression, passing, columns, alias } = table
        else {
            return Err(Classification::not_listed("a table expression"));
        };
        self.push_all(namespaces.iter().map(|namespace| &namespace.uri));
        self.push(row_expression);
        self.push_all(passing.arguments.iter().map(|argument| &argument.expr));
        for column in columns {
            match &column.option {
                XmlTableColumnOption::NamedInfo { r#type, path, default, nullable: _ } => {
                    self.data_type(r#type)?;
                    self.push_all(path);
                    self.push_all(default);
                }
                XmlTableColumnOption::ForOrdinality => {}
            }
        }
        self.alias(alias.as_ref())
    }
}
