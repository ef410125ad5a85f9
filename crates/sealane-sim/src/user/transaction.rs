//! What a user does in transactions.

use std::time::Duration;

use sea_orm::{AccessMode, ConnectionTrait, DbErr, Statement, TransactionTrait};
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
        let begun = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await;
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return drop(self.shown(Err(error))),
        };
        let mut at = None;
        for _ in 0..reads {
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
