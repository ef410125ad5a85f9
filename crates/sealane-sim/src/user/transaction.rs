//! What a user does in transactions.

use std::time::Duration;

use sea_orm::{AccessMode, ConnectionTrait, DbErr, IsolationLevel, Statement, TransactionTrait};
use sealane::{RoutedConnection, RoutedTransaction};

use super::{Company, insert, select};
use crate::{history::WriteId, oracle, scenario::Ends, violation::Violation};

impl Company {
    /// Reads so many times what `statement` reads.
    pub(super) async fn read_transaction(
        &self,
        user: usize,
        db: &RoutedConnection,
        reads: usize,
        statement: fn() -> Statement,
    ) {
        self.slow_read_transaction(user, db, (reads, Duration::ZERO), statement).await;
    }

    /// The same, with a pause before each read but the first.
    pub(super) async fn slow_read_transaction(
        &self,
        user: usize,
        db: &RoutedConnection,
        (reads, pause): (usize, Duration),
        statement: fn() -> Statement,
    ) {
        let begun = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await;
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return drop(self.shown(Err(error))),
        };
        let mut at = None;
        for number in 0..reads {
            if number > 0 && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let Some(snapshot) = self.shown(transaction.query_one_raw(statement()).await) else {
                return;
            };
            self.check_read(user, &snapshot);
            if at.replace(snapshot.server).is_some_and(|it| it != snapshot.server) {
                let moved = Violation::TransactionMoved { session: user };
                oracle::note(&mut self.world.lock(), moved, None);
            }
        }
        // What it showed is noted; how it ends is of no interest.
        let _ = transaction.commit().await;
    }

    pub(super) async fn transact(
        &self,
        user: usize,
        db: &RoutedConnection,
        writes: usize,
        ends: Ends,
    ) {
        let transaction = match db.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return self.wrote(user, &[], Err(error)),
        };
        let ids: Vec<_> = (0..writes).map(|_| self.new_id()).collect();
        if let Err(error) = self.write_in(&transaction, &ids).await {
            drop(transaction);
            self.refuse(&ids, "never committed");
            return self.wrote(user, &[], Err(error));
        }
        match ends {
            Ends::Commit => {
                let result = transaction.commit().await;
                self.wrote(user, &ids, result);
            }
            Ends::Rollback => {
                let _ = transaction.rollback().await;
                self.refuse(&ids, "rolled back");
            }
            Ends::Dropped => {
                drop(transaction);
                self.refuse(&ids, "dropped");
            }
        }
    }

    async fn write_in(
        &self,
        transaction: &RoutedTransaction,
        ids: &[WriteId],
    ) -> Result<(), DbErr> {
        for id in ids {
            transaction.execute_raw(insert(*id, "")).await?;
            transaction.query_one_raw(select()).await?;
        }
        Ok(())
    }

    /// Such a transaction needs locks that only the primary has.
    pub(super) async fn read_serializable(&self, user: usize, db: &RoutedConnection) {
        let (level, mode) = (Some(IsolationLevel::Serializable), Some(AccessMode::ReadOnly));
        let transaction = match db.begin_with_config(level, mode).await {
            Ok(transaction) => transaction,
            Err(error) => return drop(self.shown(Err(error))),
        };
        let has_heard = self.has_heard(self.person(user).process);
        let Some(snapshot) = self.shown(transaction.query_one_raw(select()).await) else { return };
        self.check_read(user, &snapshot);
        if !snapshot.by_primary && has_heard {
            let (session, server) = (user, snapshot.server);
            let violation = Violation::SerializableOnReplica { session, server };
            oracle::note(&mut self.world.lock(), violation, None);
        }
        let _ = transaction.commit().await;
    }

    /// A transaction in which the session sees what others have written meanwhile. It must not go back
    /// beside it.
    pub(super) async fn talking_transaction(&self, user: usize, db: &RoutedConnection, ms: u64) {
        let transaction = match db.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return self.wrote(user, &[], Err(error)),
        };
        let ids = [self.new_id()];
        let talk = async {
            self.write_in(&transaction, &ids).await?;
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let row = transaction.query_one_raw(select()).await?;
            if let Some(snapshot) = self.shown(Ok(row)) {
                self.check_read(user, &snapshot);
            }
            Ok(())
        };
        if let Err(error) = talk.await {
            drop(transaction);
            self.refuse(&ids, "never committed");
            return self.wrote(user, &[], Err(error));
        }
        self.read(user, db).await;
        let result = transaction.commit().await;
        self.wrote(user, &ids, result);
        self.read(user, db).await;
    }

    /// A transaction that takes its time, beside which the same session reads. Not what only the
    /// transaction has written: nobody else may see that.
    pub(super) async fn long_transaction(&self, user: usize, db: &RoutedConnection, ms: u64) {
        let transaction = match db.begin().await {
            Ok(transaction) => transaction,
            Err(error) => return self.wrote(user, &[], Err(error)),
        };
        let ids = [self.new_id()];
        let written = self.write_in(&transaction, &ids).await;
        if written.is_ok() {
            tokio::time::sleep(Duration::from_millis(ms / 2)).await;
            self.read(user, db).await;
            tokio::time::sleep(Duration::from_millis(ms / 2)).await;
        }
        let result = match written {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                drop(transaction);
                self.refuse(&ids, "never committed");
                return self.wrote(user, &[], Err(error));
            }
        };
        self.wrote(user, &ids, result);
        self.read(user, db).await;
    }
}
