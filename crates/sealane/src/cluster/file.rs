//! What statements ask of a split SQLite file. For every other cluster the answer is no.

#[cfg(feature = "sqlite")]
use sea_orm::{AccessMode, DbErr, SqliteTransactionMode};
use sea_orm::{DatabaseTransaction, TransactionOptions};

use super::Cluster;

#[cfg(feature = "sqlite")]
impl Cluster {
    /// Whether the cluster is a split SQLite file.
    pub(crate) fn is_split_file(&self) -> bool {
        self.file.is_some()
    }

    /// The options with which a transaction begins. A transaction that may write takes the write
    /// lock at once. If it read first, it would fail when another connection has written in the
    /// meantime, and waiting would not help.
    pub(crate) fn begins(&self, options: TransactionOptions) -> TransactionOptions {
        let is_open = self.is_split_file()
            && options.sqlite_transaction_mode.is_none()
            && options.access_mode != Some(AccessMode::ReadOnly);
        match is_open {
            true => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..options
            },
            false => options,
        }
    }

    /// Whether reads must run on the writer now: because of objects in its session, or because the
    /// readers' prepared statements are about to become outdated.
    pub(crate) fn reads_with_writer(&self) -> bool {
        use std::sync::atomic::Ordering;
        self.file.as_ref().is_some_and(|file| {
            file.reads_with_writer() || self.schema_changes.load(Ordering::Acquire) > 0
        })
    }

    /// Closes the readers and then the writer, which leaves nothing in the log.
    pub(crate) async fn close_file(&self) -> Result<(), DbErr> {
        let writer = self.primary_or_first().clone();
        let entries = self.pools.all();
        let Some((first, others)) = entries.split_first() else { return Ok(()) };
        for other in others {
            other.pools.close().await?;
        }
        crate::pool::sqlite::checkpoint(&writer).await;
        first.pools.close().await
    }

    /// The number of changes of the file's schema.
    pub(crate) fn file_schema(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.schema())
    }

    /// Whether the file's schema has not changed since it had this count.
    pub(crate) fn is_file_schema(&self, count: u64) -> bool {
        use std::sync::atomic::Ordering;
        self.file.as_ref().is_none_or(|file| {
            // The running changes are read first: a change raises the count before it ends.
            self.schema_changes.load(Ordering::Acquire) == 0 && file.schema() == count
        })
    }

    /// Whether the readers show all written rows that were shown.
    pub(crate) fn is_settled(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.is_settled())
    }

    /// Whether a text in a transaction may leave objects that only its connection sees.
    pub(crate) fn may_keep(&self, sql: &str) -> bool {
        self.file.as_ref().is_some_and(|file| file.note_in_transaction(sql))
    }

    /// Before a commit, asks the transaction's connection for objects that only this connection
    /// sees. Returns whether it could matter.
    pub(crate) async fn ask_what_is_kept(&self, inner: &DatabaseTransaction) -> bool {
        let Some(file) = &self.file else { return false };
        if file.ask(inner).await.is_err() {
            // The next user of the writer asks again.
            file.unsure();
        }
        true
    }

    /// Records that a transaction that may keep something ended without being asked.
    pub(crate) fn may_have_kept(&self) {
        if let Some(file) = &self.file {
            file.unsure();
        }
    }
}

#[cfg(not(feature = "sqlite"))]
impl Cluster {
    pub(crate) fn is_split_file(&self) -> bool {
        false
    }

    pub(crate) fn begins(&self, options: TransactionOptions) -> TransactionOptions {
        options
    }

    pub(crate) fn reads_with_writer(&self) -> bool {
        false
    }

    pub(crate) fn file_schema(&self) -> u64 {
        0
    }

    pub(crate) fn is_file_schema(&self, _: u64) -> bool {
        true
    }

    pub(crate) fn is_settled(&self) -> bool {
        true
    }

    pub(crate) fn may_keep(&self, _: &str) -> bool {
        false
    }

    pub(crate) async fn ask_what_is_kept(&self, _: &DatabaseTransaction) -> bool {
        false
    }

    pub(crate) fn may_have_kept(&self) {}
}
