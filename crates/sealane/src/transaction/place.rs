//! Where a transaction runs, and what its statements mean to its session.

use std::sync::Arc;

use sea_orm::{DatabaseTransaction, DbErr};
use sealane_core::Lent;
use sealane_monitor::Stage;

use crate::{
    BoxFuture, Error,
    error::{REPLACED, SILENT},
    execute::{Attempt, Ended, Notes, ReadExecution, Writing},
};

/// Of the outermost transaction.
pub(super) enum Place {
    /// The primary: the session has written when it is over.
    Write { writing: Writing, notes: Arc<Notes> },
    /// A replica, or the primary as one: the session has seen what it has.
    Read { read: Box<ReadExecution>, attempt: Attempt },
}

impl Place {
    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Place::Write { .. } => "primary",
            Place::Read { .. } => "read-only",
        }
    }

    /// Takes note of a statement that is about to be sent.
    pub(super) fn note(&self, sql: &str) {
        if let Place::Write { notes, .. } = self {
            notes.statement(sql);
        }
        tracing::debug!(target: "sealane::route", place = self.name(), why = "in a transaction", sql);
    }

    /// Takes note that statements may be sent which nobody sees, until the guard is dropped.
    pub(super) fn lend(&self) -> Lent {
        match self {
            Place::Write { writing, notes } => {
                notes.unseen();
                writing.lend()
            }
            Place::Read { read, attempt } => read.lend(attempt),
        }
    }

    /// Takes note that a transaction begins inside.
    pub(super) fn nest(&self) {
        if let Place::Write { notes, .. } = self {
            notes.nest();
        }
    }

    /// The end of `running`, a statement of the transaction.
    ///
    /// # Errors
    /// Its own; or the server is not what it was when the transaction was begun.
    pub(super) async fn within<T>(
        &self,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        if !self.attempt().holds(Stage::Sent) {
            return Err(self.lost());
        }
        let ended = self.attempt().race(Stage::Sent, running).await;
        self.judged(ended)
    }

    /// What the end of a statement comes to.
    pub(super) fn judged<T>(&self, ended: Result<T, Ended>) -> Result<T, DbErr> {
        match ended {
            Ok(value) => self.note_seen().map(|()| value),
            Err(Ended::Moved) => Err(self.lost()),
            Err(Ended::Failed(error)) => {
                if let Place::Write { writing, .. } = self {
                    writing.note_error(&error);
                }
                Err(error)
            }
        }
    }

    /// What it has shown by now, the session has seen.
    ///
    /// # Errors
    /// The server is not what it was when the transaction was begun.
    pub(super) fn note_seen(&self) -> Result<(), DbErr> {
        let holds = match self {
            Place::Write { writing, .. } => {
                writing.note_seen();
                writing.attempt().holds(Stage::Sent)
            }
            Place::Read { read, attempt } => read.served_again(attempt),
        };
        if holds { Ok(()) } else { Err(self.lost()) }
    }

    /// Ends the outermost transaction.
    pub(super) async fn commit(&self, inner: DatabaseTransaction) -> Result<(), DbErr> {
        let Place::Write { writing, .. } = self else {
            return self.within(inner.commit()).await;
        };
        if !writing.attempt().holds(Stage::Sent) {
            return Err(self.lost());
        }
        let result = writing.run(inner.commit()).await;
        // Transactions inside may outlive it, and keep its place.
        writing.stamp();
        result
    }

    /// Ready when the server is not what it was, to be polled beside a stream.
    pub(super) fn moved(&self) -> BoxFuture<'static, ()> {
        self.attempt().moved()
    }

    fn attempt(&self) -> &Attempt {
        match self {
            Place::Write { writing, .. } => writing.attempt(),
            Place::Read { attempt, .. } => attempt,
        }
    }

    fn lost(&self) -> DbErr {
        let why = match self {
            Place::Write { .. } => REPLACED,
            Place::Read { .. } => SILENT,
        };
        Error::TransactionLost { endpoint: self.attempt().place(), why }.into()
    }
}

impl Drop for Place {
    /// What was read through SeaORM's own type was seen, too.
    fn drop(&mut self) {
        // That the server was replaced meanwhile is of no interest any more.
        let _ = self.note_seen();
    }
}
