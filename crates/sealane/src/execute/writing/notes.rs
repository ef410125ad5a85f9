//! What a transaction did, for when it is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealane_core::TableSet;
use sealane_sql::TemporaryTables;

use crate::{
    caller::Caller,
    cluster::{Cluster, SchemaChange},
};

/// What the statements of a transaction do, and of those inside it, for when it
/// is over.
#[derive(Debug)]
pub(crate) struct Notes {
    cluster: Arc<Cluster>,
    /// Whether somebody asks which tables it writes.
    tells_tables: bool,
    /// Of the catalog, when it began.
    generation: u64,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    tables: TableSet,
    change: Option<SchemaChange>,
    temporary: Option<TemporaryTables>,
    /// Whether its connection to a file may keep something to itself.
    keeps: bool,
}

impl Notes {
    pub(crate) fn new(caller: &Caller) -> Arc<Self> {
        let cluster = Arc::clone(caller.cluster());
        let tells_tables = caller.session_ref().tells_tables();
        let tables = if tells_tables { TableSet::NONE } else { TableSet::WHOLE };
        Arc::new(Notes {
            tells_tables,
            generation: cluster.catalog_generation(),
            cluster,
            noted: Mutex::new(Noted {
                tables,
                change: None,
                temporary: Some(TemporaryTables::default()),
                keeps: false,
            }),
        })
    }

    /// The tables that it has written, as the catalog of this generation tells them apart.
    pub(crate) fn written(&self) -> (TableSet, u64) {
        (self.lock().tables, self.generation)
    }

    /// The change of the schema that is in it, to be ended.
    pub(super) fn take_change(&self) -> Option<SchemaChange> {
        self.lock().change.take()
    }

    /// A statement of the transaction.
    pub(crate) fn statement(&self, sql: &str) {
        let mut noted = self.lock();
        noted.keeps |= self.cluster.may_keep(sql);
        let Noted { change, temporary, .. } = &mut *noted;
        // Each statement is looked at: the names of temporary tables are in them.
        let mut none = TemporaryTables::default();
        let temporary = temporary.as_mut().unwrap_or(&mut none);
        if self.cluster.may_change_schema_in(sql, temporary) && change.is_none() {
            *change = Some(SchemaChange::begin_in_transaction(&self.cluster));
        }
        drop(noted);
        if self.tells_tables && !self.cluster.is_read(sql) {
            self.add(&self.cluster.written(sql));
        }
    }

    /// It is about to be committed.
    pub(super) fn commits(&self) {
        if let Some(change) = &mut self.lock().change {
            change.count();
        }
    }

    /// Its connection to a file may keep something to itself.
    pub(crate) fn note_keeps(&self) {
        self.lock().keeps = true;
    }

    /// Whether it may, which is then no longer noted.
    pub(crate) fn take_keeps(&self) -> bool {
        std::mem::take(&mut self.lock().keeps)
    }

    /// A transaction begins inside. Once it is rolled back, the name of a temporary table may mean
    /// another one again; so from now on no table is taken for a temporary one.
    pub(crate) fn nest(&self) {
        self.lock().temporary = None;
    }

    /// Statements that nobody can see.
    pub(crate) fn unseen(&self) {
        self.lock().keeps = true;
        if self.tells_tables {
            self.add(&TableSet::WHOLE);
        }
    }

    fn add(&self, written: &TableSet) {
        let mut noted = self.lock();
        noted.tables = noted.tables.with(written);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Each field is whole at any time.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
