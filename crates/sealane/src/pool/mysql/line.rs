//! One connection of a MySQL or MariaDB pool, while a statement uses it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{Stream, StreamExt, stream};
use sea_orm::{DbErr, QueryResult, QueryStream, Statement, sqlx::MySql};

use super::{
    badge::{self, Mark},
    canceller::{Canceller, Recall},
};
use crate::pool::lent::Lent;

/// A connection whose reads are cancelled on the server when they are abandoned.
#[derive(Debug)]
pub(crate) struct MySqlLine {
    lent: Lent<MySql>,
    /// `None` if what runs here cannot be cancelled.
    recall: Option<Recall>,
    /// Whether what runs here is a read. Nothing else is ever cancelled.
    is_read: bool,
}

impl MySqlLine {
    /// For a lent connection, whose reads `canceller` cancels.
    pub(crate) async fn of(mut lent: Lent<MySql>, canceller: Option<&Arc<Canceller>>) -> Self {
        let recall = match canceller.filter(|canceller| canceller.gives_badges()) {
            Some(canceller) => {
                let statement = lent.prepared(badge::TEXT).await;
                let mark = statement.map(Mark::new);
                mark.map(|mark| Recall::new(Arc::clone(canceller), mark))
            }
            None => None,
        };
        MySqlLine { lent, recall, is_read: false }
    }

    /// What runs here from now on is a read.
    pub(crate) fn of_read(&mut self) {
        self.is_read = true;
    }

    /// Whether it is one.
    pub(crate) fn is_of_read(&self) -> bool {
        self.is_read
    }

    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        self.lent.ping().await
    }

    /// The connection, for a statement. Until [`answered`](Self::answered) is called, dropping the
    /// line cancels the statement if it is a read.
    pub(crate) fn send(&mut self) -> &mut Lent<MySql> {
        if self.is_read {
            self.recall.iter_mut().for_each(Recall::sent);
        }
        &mut self.lent
    }

    /// Records that the statement is over.
    pub(crate) fn answered(&mut self) {
        self.recall.iter_mut().for_each(Recall::answered);
    }

    /// The rows of a statement that runs to its end even if nobody fetches them.
    pub(crate) fn stream(self, statement: Statement) -> QueryStream {
        QueryStream::from((self.lent.into_inner(), statement, None))
    }

    /// The rows of a read.
    pub(crate) fn rows(
        self,
        statement: Statement,
    ) -> impl Stream<Item = Result<QueryResult, DbErr>> + Send + 'static {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let mut rows = self.lent.rows(statement, move || over.store(true, Ordering::Relaxed));
        let mut recall = self.recall;
        stream::poll_fn(move |context| {
            if !is_over.load(Ordering::Relaxed) {
                recall.iter_mut().for_each(Recall::sent);
            }
            let item = rows.poll_next_unpin(context);
            // The connection may be somebody else's from now on, also if rows are left to be taken.
            if is_over.load(Ordering::Relaxed) {
                recall.iter_mut().for_each(Recall::answered);
            }
            item
        })
    }
}
