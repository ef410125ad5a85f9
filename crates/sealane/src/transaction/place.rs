//! Where a transaction runs, and what its statements mean for its session.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::{DbBackend, DbErr, Statement, TransactionOptions};
#[cfg(feature = "mysql")]
use sea_orm::{RuntimeErr, sqlx};
use sealane_core::{Engine, Lent, Session};
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
pub(super) struct Place {
    kind: Kind,
    /// Why the driver has ended the transaction by itself. Then nothing may follow: it would be
    /// committed at once, or never be answered.
    undone: OnceLock<&'static str>,
    /// Whether an error has aborted the transaction on PostgreSQL, as far as is known. The answer to its
    /// COMMIT is then that it was rolled back, which is no error for the driver.
    is_aborted: AtomicBool,
}

/// What it is for.
pub(super) enum Kind {
    /// On the primary: when the transaction is over, the session has written.
    Write { writing: Writing, notes: Arc<Notes> },
    /// On a replica, or on the primary in the role of one: the session has seen what that server
    /// has.
    Read { read: Box<ReadExecution>, attempt: Attempt },
}

/// Why a transaction is over before its end.
const NOT_NESTED: &str =
    "a nested transaction could not begin, so the driver rolled back all of it";
#[cfg(feature = "mysql")]
const OUT_OF_STEP: &str = "the driver could not send a statement, and uses the connection no more";

impl From<Kind> for Place {
    fn from(kind: Kind) -> Self {
        Place { kind, undone: OnceLock::new(), is_aborted: AtomicBool::new(false) }
    }
}

/// Records that the whole transaction is undone, unless the nested one has begun: the driver counts it
/// only once its beginning is answered, and until then takes its end for the end of the whole
/// transaction.
struct Nesting<'a>(Option<&'a Place>);

impl Drop for Nesting<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            let _ = place.undone.set(NOT_NESTED);
        }
    }
}

impl Place {
    /// A name for people.
    pub(super) fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Write { .. } => "primary",
            Kind::Read { .. } => "read-only",
        }
    }

    /// Records a statement that is about to be sent.
    pub(super) fn note(&self, sql: &str) {
        if let Kind::Write { notes, .. } = &self.kind {
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
        match &self.kind {
            Kind::Write { writing, notes } => {
                notes.unseen();
                writing.lend()
            }
            Kind::Read { read, attempt } => read.lend(attempt),
        }
    }

    /// Records that unobserved statements may be sent for the next `time`, and the commit, too.
    pub(super) fn expect_writes(&self, time: Duration) {
        match &self.kind {
            Kind::Write { writing, notes } => {
                notes.unseen();
                // The write that may end at any moment counts for more than what it shows.
                writing.expect(time);
            }
            Kind::Read { read, attempt } => read.lend_for(attempt, time),
        }
    }

    /// Begins a transaction nested in `outer`.
    ///
    /// # Errors
    /// The driver's, which end the whole transaction, or as those of [`within`](Self::within).
    pub(super) async fn nest(
        &self,
        outer: &Begun,
        options: TransactionOptions,
    ) -> Result<Begun, DbErr> {
        if let Kind::Write { notes, .. } = &self.kind {
            notes.nest();
        }
        self.unless_undone()?;
        let mut nesting = Nesting(Some(self));
        let begun = self.within(outer.begin(options)).await?;
        nesting.0 = None;
        Ok(begun)
    }

    /// Ends a nested transaction with a rollback, which undoes errors, too.
    pub(super) async fn undo(&self, nested: Begun) -> Result<(), DbErr> {
        self.within(nested.rollback()).await?;
        self.is_aborted.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the outermost transaction with a rollback.
    pub(super) async fn rollback(&self, inner: Begun) -> Result<(), DbErr> {
        // Nothing is left to undo, or the end of the connection undoes it.
        if self.undone.get().is_some() {
            return Ok(());
        }
        self.within(inner.rollback()).await
    }

    fn unless_undone(&self) -> Result<(), DbErr> {
        self.undone.get().map_or(Ok(()), |why| {
            Err(Error::TransactionLost { endpoint: self.attempt().place(), why }.into())
        })
    }

    /// Fails if an error has aborted the transaction on PostgreSQL. Only a statement tells for sure: a
    /// savepoint of the caller's own may have undone the error.
    async fn unless_aborted(&self, inner: &Begun) -> Result<(), DbErr> {
        if !self.is_aborted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let asks = Statement::from_string(DbBackend::Postgres, "SELECT 1");
        self.within(inner.query_one_raw(asks)).await.map(drop)
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
        self.unless_undone()?;
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
                if let Kind::Write { writing, .. } = &self.kind {
                    writing.note_error(&error);
                }
                match self.cluster().engine {
                    Engine::Postgres => self.is_aborted.store(true, Ordering::Relaxed),
                    #[cfg(feature = "mysql")]
                    Engine::MySql if is_unsent(&error) => {
                        let _ = self.undone.set(OUT_OF_STEP);
                    }
                    _ => {}
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
        let holds = match &self.kind {
            Kind::Write { writing, .. } => {
                writing.note_seen();
                writing.attempt().holds(Stage::Sent)
            }
            Kind::Read { read, attempt } => read.served_again(attempt),
        };
        if holds { Ok(()) } else { Err(self.lost()) }
    }

    /// Ends the outermost transaction.
    pub(super) async fn commit(&self, inner: Begun) -> Result<(), DbErr> {
        let Kind::Write { writing, notes } = &self.kind else {
            return self.within(inner.commit()).await;
        };
        self.unless_undone()?;
        if !writing.attempt().holds(Stage::Sent) {
            return Err(self.lost());
        }
        self.unless_aborted(&inner).await?;
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
        match &self.kind {
            Kind::Write { writing, .. } => writing.session(),
            Kind::Read { read, .. } => read.caller().session_ref(),
        }
    }

    fn attempt(&self) -> &Attempt {
        match &self.kind {
            Kind::Write { writing, .. } => writing.attempt(),
            Kind::Read { attempt, .. } => attempt,
        }
    }

    fn lost(&self) -> DbErr {
        let why = match &self.kind {
            // MySQL and MariaDB commit a schema change at once, and what was written before it.
            Kind::Write { writing, notes }
                if self.cluster().engine == Engine::MySql && notes.may_be_kept() =>
            {
                return writing.unknown(REPLACED, None);
            }
            Kind::Write { .. } => REPLACED,
            Kind::Read { .. } => SILENT,
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

/// Whether the driver itself refused to send a statement. MySQL's driver waits for the answer from then
/// on, which never comes.
#[cfg(feature = "mysql")]
fn is_unsent(error: &DbErr) -> bool {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            matches!(&**error, sqlx::Error::Protocol(_))
        }
        _ => false,
    }
}
