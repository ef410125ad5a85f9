//! The tables that data-changing statements read and write.
//!
//! Each of these statements is a write. If it stands alone, its first word already shows this; if
//! it stands after a WITH, only this walk finds it. Apart from that, the walk only collects tables,
//! so it skips parts without tables.

use sqlparser::ast::{
    Assignment, ConflictTarget, Delete, FromTable, Insert, Merge, MergeAction, MergeInsertKind,
    MergeUpdateKind, ObjectName, OnConflict, OnConflictAction, OnInsert, OutputClause, SelectItem,
    Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
};

use crate::table_name::table_name;

use super::{Node, Prover};

impl<'a> Prover<'a> {
    /// Records a statement that changes data, on its own or in a common table expression.
    pub(super) fn change(&mut self, statement: &'a Statement) {
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Merge(merge) => self.merge(merge),
            _ => self.writes("a changing statement", None),
        }
    }

    fn insert(&mut self, insert: &'a Insert) {
        let name = if insert.replace_into { "REPLACE" } else { "INSERT" };
        self.writes(name, Some(insert.insert_token.0.span));
        match &insert.table {
            TableObject::TableName(name) => self.written(name),
            _ => self.outcome.tables.complete = false,
        }
        // An upsert changes or replaces rows of this table only, so the statement writes no other
        // table.
        if let Some(query) = &insert.source {
            self.later(Node::Query(query));
        }
        self.assignments(&insert.assignments);
        match &insert.on {
            Some(OnInsert::DuplicateKeyUpdate(assignments)) => self.assignments(assignments),
            Some(OnInsert::OnConflict(OnConflict { conflict_target, action })) => {
                match conflict_target {
                    Some(ConflictTarget::Columns(_) | ConflictTarget::OnConstraint(_)) | None => {}
                }
                match action {
                    OnConflictAction::DoNothing => {}
                    OnConflictAction::DoUpdate(update) => {
                        self.assignments(&update.assignments);
                        self.push_all(&update.selection);
                    }
                }
            }
            Some(_) => self.outcome.tables.complete = false,
            None => {}
        }
        self.returning(insert.returning.as_deref(), insert.output.as_ref());
    }

    fn update(&mut self, update: &'a Update) {
        self.writes("UPDATE", Some(update.update_token.0.span));
        // MySQL may change each of the joined tables.
        self.written_tables(&update.table);
        self.assignments(&update.assignments);
        match &update.from {
            Some(
                UpdateTableFromKind::BeforeSet(tables) | UpdateTableFromKind::AfterSet(tables),
            ) => {
                tables.iter().for_each(|table| self.later(Node::Joined(table)));
            }
            None => {}
        }
        self.push_all(&update.selection);
        self.order_by(&update.order_by);
        self.push_all(&update.limit);
        self.returning(update.returning.as_deref(), update.output.as_ref());
    }

    fn delete(&mut self, delete: &'a Delete) {
        self.writes("DELETE", Some(delete.delete_token.0.span));
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        // The names before FROM may be aliases of the tables after it.
        from.iter().for_each(|table| self.written_tables(table));
        for table in delete.using.iter().flatten() {
            self.later(Node::Joined(table));
        }
        self.push_all(&delete.selection);
        self.order_by(&delete.order_by);
        self.push_all(&delete.limit);
        self.returning(delete.returning.as_deref(), delete.output.as_ref());
    }

    fn merge(&mut self, merge: &'a Merge) {
        self.writes("MERGE", Some(merge.merge_token.0.span));
        self.written_table(&merge.table);
        self.later(Node::Table(&merge.source));
        self.push(&merge.on);
        for clause in &merge.clauses {
            self.push_all(&clause.predicate);
            match &clause.action {
                MergeAction::Insert(insert) => match &insert.kind {
                    MergeInsertKind::Values(values) => self.values(values),
                    MergeInsertKind::Row | MergeInsertKind::Wildcard => {}
                },
                MergeAction::Update(update) => {
                    match &update.kind {
                        MergeUpdateKind::Set(assignments) => self.assignments(assignments),
                        MergeUpdateKind::Wildcard => {}
                    }
                    self.push_all(&update.update_predicate);
                    self.push_all(&update.delete_predicate);
                }
                MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => {}
            }
        }
        self.returning(None, merge.output.as_ref());
    }

    fn assignments(&mut self, assignments: &'a [Assignment]) {
        self.push_all(assignments.iter().map(|assignment| &assignment.value));
    }

    fn returning(&mut self, items: Option<&'a [SelectItem]>, output: Option<&'a OutputClause>) {
        items.unwrap_or_default().iter().for_each(|item| self.select_item(item));
        self.outcome.tables.complete &= output.is_none();
    }

    fn written_tables(&mut self, table: &'a TableWithJoins) {
        self.written_table(&table.relation);
        for join in &table.joins {
            self.written_table(&join.relation);
        }
        // Reads the join conditions, and subqueries among the tables.
        self.later(Node::Joined(table));
    }

    fn written_table(&mut self, table: &'a TableFactor) {
        match table {
            TableFactor::Table { name, .. } => self.written(name),
            // A subquery cannot be written; the walk reads it as part of the join.
            TableFactor::Derived { .. } => {}
            _ => self.outcome.tables.complete = false,
        }
    }

    pub(super) fn written(&mut self, name: &ObjectName) {
        match table_name(name, self.dialect) {
            Some(name) => self.outcome.tables.add_written(name),
            None => self.outcome.tables.complete = false,
        }
    }
}
