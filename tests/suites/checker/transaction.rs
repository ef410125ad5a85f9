//! What a client does in transactions, and beside them.

use sea_orm::{
    AccessMode, DbErr, EntityTrait, ExprTrait, IsolationLevel, QueryFilter, TransactionTrait,
    entity::prelude::*,
};
use sealane::{RoutedConnection, RoutedTransaction};

use crate::{
    client::{Client, Held, Way, looked, next},
    history::{
        Action, Author, Failed, Fate, Key, Moment, Promise, SessionId, Sight, Transaction, Version,
    },
    sea::{buoy, id, look},
};

impl Client {
    pub async fn read_in_transaction(&mut self, held: &Held, kind: Transaction) {
        let lists = [self.some_keys(), self.some_keys()];
        // The second list begins with what the first has, so that something is read twice.
        let second = [&lists[0][..], &lists[1][..]].concat();
        let begun = self.shared.clock.now();
        let result = look_in_transaction(&held.db, &[&lists[0], &second], kind).await;
        let action = match result {
            Ok(sights) => {
                Action::Read { promise: Promise::Session, sights, transaction: Some(kind) }
            }
            Err(error) => Action::Fail { what: Failed::Transaction, error: error.to_string() },
        };
        self.record(held.id, begun, action);
    }

    /// Keys that others write, too, in a transaction: who holds their locks knows the version.
    pub async fn write_shared(&mut self, held: &Held, keys: Vec<Key>, commits: bool) {
        let (number, begun) = self.begin_write(held.id, keys.clone(), None);
        let (version, fate) = count_up(&held.db, &keys, number, commits).await;
        self.record_numbered(number, held.id, begun, Action::Write { keys, version, fate });
    }

    /// While a transaction that may write is open its session reads, too, and misses nothing that
    /// was read there.
    pub async fn write_beside(&mut self, held: &Held) {
        let begun = self.shared.clock.now();
        let (isolation, access) = (IsolationLevel::ReadCommitted, AccessMode::ReadWrite);
        let transaction = held.db.begin_with_config(Some(isolation), Some(access)).await;
        let Some(transaction) = self.noted(held.id, begun, transaction) else { return };
        let keys = self.some_keys();
        self.look_within(held.id, &transaction, &keys).await;
        self.observe(held.id, Promise::Session, keys, &held.db, Way::Handle).await;
        let (key, version) = self.next_version();
        let (number, begun) = self.begin_write(held.id, vec![key], Some(version));
        let written = next(key, version, number).exec(&transaction).await;
        let keys = self.some_keys();
        let seen = (self.shared.clock.now(), look(&held.db, &keys).await);
        let commits = written.is_ok_and(|done| done.rows_affected == 1) && self.rng.u32(..5) > 0;
        let fate = match commits {
            true => transaction
                .commit()
                .await
                .map_or_else(|error| Fate::Unknown(error.to_string()), |()| Fate::Done),
            // Dropped, it is rolled back.
            false => Fate::Undone,
        };
        self.record(held.id, seen.0, looked(seen.1, Promise::Session));
        let action = Action::Write { keys: vec![key], version: Some(version), fate };
        self.record_numbered(number, held.id, begun, action);
        self.observe(held.id, Promise::Session, vec![key], &held.db, Way::Handle).await;
    }

    /// The same beside one that only reads, or beside one within it.
    pub async fn read_beside(&mut self, held: &Held) {
        let begun = self.shared.clock.now();
        let (isolation, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
        let transaction = held.db.begin_with_config(Some(isolation), Some(access)).await;
        let Some(transaction) = self.noted(held.id, begun, transaction) else { return };
        let keys = self.some_keys();
        if self.rng.bool() {
            let nested = transaction.begin().await;
            let Some(nested) = self.noted(held.id, begun, nested) else { return };
            self.look_within(held.id, &nested, &keys).await;
        } else {
            self.look_within(held.id, &transaction, &keys).await;
        }
        self.observe(held.id, Promise::Session, keys, &held.db, Way::Handle).await;
    }

    /// One statement of a transaction that is still open.
    async fn look_within(
        &mut self,
        session: SessionId,
        transaction: &RoutedTransaction,
        keys: &[Key],
    ) {
        let begun = self.shared.clock.now();
        let action = match look(transaction, keys).await {
            Ok(sight) => looked(Ok(sight), Promise::InTransaction),
            Err(error) => Action::Fail { what: Failed::Transaction, error: error.to_string() },
        };
        self.record(session, begun, action);
    }

    fn noted<T>(
        &mut self,
        session: SessionId,
        begun: Moment,
        result: Result<T, DbErr>,
    ) -> Option<T> {
        result
            .map_err(|error| {
                let error = error.to_string();
                self.record(session, begun, Action::Fail { what: Failed::Transaction, error });
            })
            .ok()
    }
}

async fn look_in_transaction(
    db: &RoutedConnection,
    lists: &[&[Key]],
    kind: Transaction,
) -> Result<Vec<Sight>, DbErr> {
    let isolation = match kind {
        Transaction::Snapshot => IsolationLevel::RepeatableRead,
        Transaction::Statements => IsolationLevel::ReadCommitted,
    };
    let transaction = db.begin_with_config(Some(isolation), Some(AccessMode::ReadOnly)).await?;
    let mut sights = Vec::new();
    for keys in lists {
        sights.push(look(&transaction, keys).await?);
    }
    transaction.commit().await?;
    Ok(sights)
}

/// Gives `keys`, the least first, the next version each, and reads it back before the end.
async fn count_up(
    db: &RoutedConnection,
    keys: &[Key],
    author: Author,
    commits: bool,
) -> (Option<Version>, Fate) {
    let counted = async {
        let transaction = db.begin().await?;
        for key in keys {
            buoy::Entity::update_many()
                .col_expr(buoy::Column::Version, Expr::col(buoy::Column::Version).add(1))
                .col_expr(buoy::Column::Author, Expr::value(author))
                .filter(buoy::Column::Id.eq(id(*key)))
                .exec(&transaction)
                .await?;
        }
        let first = keys.first().map_or(-1, |key| id(*key));
        let row = buoy::Entity::find_by_id(first).one(&transaction).await?;
        Ok::<_, DbErr>((transaction, row.map(|row| row.version)))
    };
    let Ok((transaction, version)) = counted.await else {
        // Dropped, it is rolled back; its commit was never sent.
        return (None, Fate::Undone);
    };
    if !commits {
        // Also if that fails.
        let _ = transaction.rollback().await;
        return (version, Fate::Undone);
    }
    match transaction.commit().await {
        Ok(()) => (version, Fate::Done),
        Err(error) => (version, Fate::Unknown(error.to_string())),
    }
}
