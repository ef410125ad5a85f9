//! Where a transaction runs, and what its statements mean for its session.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::{Lent, Session};
use sealane_monitor::Stage;
use tracing::{Instrument, Span};

use crate::{
    BoxFuture, Error,
    cluster::Cluster,
    error::{REPLACED, SILENT},
    execute::{Attempt, Ended, Notes, ReadExecution, Writing},
    observe::span::{self, Why},
    pool::Begun,
    scope,
};

/// The place of the outermost transaction.
pub(super) enum Place {
    /// On the primary: when the transaction is over, the session has written.
    Write { writing: Writing, notes: Arc<Notes> },
    /// On a replica, or on the primary in the role of one: the session has seen what that server
    /// has.
    Read { read: Box<ReadExecution>, attempt: Attempt },
}

impl Place {
    /// A name for people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Place::Write { .. } => "primary",
            Place::Read { .. } => "read-only",
        }
    }

    /// Records a statement that is about to be sent.
    pub(super) fn note(&self, sql: &str) {
        if let Place::Write { notes, .. } = self {
            notes.statement(sql);
        }
        if tracing::enabled!(target: "sealane::route", tracing::Level::DEBUG) {
            let (endpoint, session) =
                (self.attempt().place(), scope::kind_of_session(self.session()));
            let why = "in a transaction";
            tracing::debug!(target: "sealane::route", endpoint, session, why, sql);
        }
    }

    /// The span of a statement that begins now.
    pub(super) fn span(&self, sql: &str) -> Span {
        let span = span::open(self.cluster(), sql);
        span::record(&span, self.cluster(), self.attempt().sent(Why::Transaction, 0));
        span
    }

    /// Runs `running`, which sends `sql`, in a span.
    pub(super) async fn traced<T>(
        &self,
        sql: &str,
        running: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        let span = self.span(sql);
        let result = running.instrument(span.clone()).await;
        span::ended(&span, &result);
        result
    }

    /// Records that unobserved statements may be sent until the guard is dropped.
    pub(super) fn lend(&self) -> Lent {
        match self {
            Place::Write { writing, notes } => {
                notes.unseen();
                writing.lend()
            }
            Place::Read { read, attempt } => read.lend(attempt),
        }
    }

    /// Records that unobserved statements may be sent for the next `time`, and the commit, too. A
    /// transaction that only reads is recorded as one that was seen here: what it shows later is
    /// not older.
    pub(super) fn expect_writes(&self, time: Duration) {
        drop(self.lend());
        if let Place::Write { writing, .. } = self {
            writing.expect(time);
        }
    }

    /// Records that a nested transaction begins.
    pub(super) fn nest(&self) {
        if let Place::Write { notes, .. } = self {
            notes.nest();
        }
    }

    /// Runs `running`, a statement of the transaction, to its end.
    ///
    /// # Errors
    /// The statement's own error; or the server is no longer the one on which the transaction
    /// began.
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

    /// Judges the end of a statement.
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

    /// Records that the session has seen everything that the transaction has shown so far.
    ///
    /// # Errors
    /// The server is no longer the one on which the transaction began.
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
    pub(super) async fn commit(&self, inner: Begun) -> Result<(), DbErr> {
        let Place::Write { writing, notes } = self else {
            return self.within(inner.commit()).await;
        };
        if !writing.attempt().holds(Stage::Sent) {
            return Err(self.lost());
        }
        #[cfg(feature = "mysql")]
        match writing.attempt().is_demoted_under(&inner).await {
            Ok(false) => {}
            Ok(true) => {
                let _ = self.within(inner.rollback()).await;
                return Err(self.lost());
            }
            ended => return self.judged(ended.map(drop)),
        }
        let cluster = writing.attempt().cluster();
        let was_asked = notes.take_keeps() && cluster.ask_what_is_kept(inner.driver()).await;
        if was_asked {
            // The reason to ask stays recorded until the commit succeeds, because a COMMIT can
            // fail.
            notes.note_keeps();
        }
        let result = writing.run(inner.commit()).await;
        if was_asked && result.is_ok() {
            let _ = notes.take_keeps();
        }
        // Stamped here, because nested transactions may outlive this one and keep its place.
        writing.stamp();
        result
    }

    /// Completes when the server is no longer the same; polled beside a stream.
    pub(super) fn moved(&self) -> BoxFuture<'static, ()> {
        self.attempt().moved()
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        self.attempt().cluster()
    }

    fn session(&self) -> &Arc<Session> {
        match self {
            Place::Write { writing, .. } => writing.session(),
            Place::Read { read, .. } => read.caller().session_ref(),
        }
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
    /// The session has also seen what was read through SeaORM's own type.
    fn drop(&mut self) {
        // An error means that the server was replaced, which no longer matters.
        let _ = self.note_seen();
    }
}
