//! A record of what a transaction did, used when it is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealane_core::TableSet;
use sealane_sql::TemporaryTables;

use crate::{
    caller::Caller,
    cluster::{Cluster, SchemaChange},
};

/// What the statements of a transaction and of its nested transactions do, for when the transaction
/// is over.
#[derive(Debug)]
pub(crate) struct Notes {
    cluster: Arc<Cluster>,
    /// Whether the written tables are needed.
    tells_tables: bool,
    /// The generation of the catalog when the transaction began.
    generation: u64,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    tables: TableSet,
    change: Option<SchemaChange>,
    temporary: Option<TemporaryTables>,
    /// Whether its connection to a file may keep objects that only this connection sees.
    keeps: bool,
    /// Whether statements were sent that sealane cannot see.
    is_unseen: bool,
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
                is_unseen: false,
            }),
        })
    }

    /// The written tables, as the catalog of this generation distinguishes them.
    pub(crate) fn written(&self) -> (TableSet, u64) {
        (self.lock().tables, self.generation)
    }

    /// Takes the schema change of the transaction, to end it.
    pub(super) fn take_change(&self) -> Option<SchemaChange> {
        self.lock().change.take()
    }

    /// Records a statement of the transaction.
    pub(crate) fn statement(&self, sql: &str) {
        let mut noted = self.lock();
        noted.keeps |= self.cluster.may_keep(sql);
        let Noted { change, temporary, .. } = &mut *noted;
        // Each statement is looked at, because it may name temporary tables.
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

    /// Whether some of it may be committed already: it has changed a schema, or done what nobody saw.
    pub(crate) fn may_be_kept(&self) -> bool {
        let noted = self.lock();
        noted.change.is_some() || noted.is_unseen
    }

    /// Records that the transaction is about to be committed.
    pub(super) fn commits(&self) {
        if let Some(change) = &mut self.lock().change {
            change.count();
        }
    }

    /// Records that its connection to a file may keep objects that only this connection sees.
    pub(crate) fn note_keeps(&self) {
        self.lock().keeps = true;
    }

    /// Whether it may keep such objects. Resets the flag.
    pub(crate) fn take_keeps(&self) -> bool {
        std::mem::take(&mut self.lock().keeps)
    }

    /// Records that a nested transaction begins. Once that is rolled back, the name of a temporary
    /// table may mean another table again. So from now on no table is taken for a temporary one.
    pub(crate) fn nest(&self) {
        self.lock().temporary = None;
    }

    /// Records statements that sealane cannot see.
    pub(crate) fn unseen(&self) {
        let mut noted = self.lock();
        (noted.keeps, noted.is_unseen) = (true, true);
        drop(noted);
        if self.tells_tables {
            self.add(&TableSet::WHOLE);
        }
    }

    fn add(&self, written: &TableSet) {
        let mut noted = self.lock();
        noted.tables = noted.tables.with(written);
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Each field is consistent at any time.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
