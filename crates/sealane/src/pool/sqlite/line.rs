//! One connection of a file, while a statement uses it.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{TryStreamExt, future::Either};
use sea_orm::{
    DatabaseConnection, DbErr, QueryResult, QueryStream, Statement,
    sqlx::{self, Connection, Sqlite},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::file::{self, File, Unsettled};
use crate::pool::lent::{Lent, query, query_error};

/// How many written rows are fetched ahead of the caller.
const AHEAD: usize = 32;

/// The purpose of a file's pool.
#[derive(Debug, Clone)]
pub(crate) enum Seat {
    Reads(Arc<File>),
    Writes(Arc<File>),
}

/// A connection to a file.
#[derive(Debug)]
pub(crate) struct FileLine {
    lent: Lent<Sqlite>,
    /// Set on the writer.
    file: Option<Arc<File>>,
    /// Set on a reader.
    _room: Option<OwnedSemaphorePermit>,
    is_read: bool,
}

impl Seat {
    /// Takes a connection from `pool`.
    ///
    /// # Errors
    /// No connection became free in time, or the file cannot be opened.
    pub(crate) async fn take(&self, pool: &DatabaseConnection) -> Result<FileLine, DbErr> {
        let pool = pool.get_sqlite_connection_pool();
        match self {
            Seat::Reads(file) => {
                file.settled().await?;
                let room = file.room().await?;
                Ok(FileLine {
                    lent: Lent::of(pool).await?,
                    file: None,
                    _room: Some(room),
                    is_read: false,
                })
            }
            Seat::Writes(file) => {
                let mut lent = Lent::of(pool).await?;
                tidy(file, &mut lent).await?;
                if file.is_unsure() {
                    let row = lent.query_one(&file::asks()).await?;
                    file.answered(row.map_or(Ok(0), |row| row.try_get_by_index(0))?);
                }
                Ok(FileLine { lent, file: Some(Arc::clone(file)), _room: None, is_read: false })
            }
        }
    }

    /// Prepares the pool for a transaction; the caller waits for this before it begins one.
    ///
    /// # Errors
    /// Like those of [`take`](Self::take).
    pub(crate) async fn ready(&self, pool: &DatabaseConnection) -> Result<(), DbErr> {
        match self {
            Seat::Reads(file) => file.settled().await,
            Seat::Writes(file) if file.is_untidy() => {
                tidy(file, &mut Lent::of(pool.get_sqlite_connection_pool()).await?).await
            }
            Seat::Writes(_) => Ok(()),
        }
    }

    /// Whether only reads run here.
    pub(crate) fn reads(&self) -> bool {
        matches!(self, Seat::Reads(_))
    }

    /// Whether a new transaction here found its connection tidy. While it has the writer, nothing
    /// changes this.
    pub(crate) fn is_tidy(&self) -> bool {
        match self {
            Seat::Reads(_) => true,
            Seat::Writes(file) => !file.is_untidy(),
        }
    }
}

/// Removes what earlier statements left in the writer's session. Only the current user of the
/// connection may reset the flags.
async fn tidy(file: &File, lent: &mut Lent<Sqlite>) -> Result<(), DbErr> {
    if file.take_open() {
        // Usually no transaction is open, and the error is ignored. An open one would swallow all
        // later writes and never be committed.
        let _ = lent.execute_unprepared("ROLLBACK").await;
    }
    if file.take_stale() {
        lent.forget_prepared().await?;
    }
    Ok(())
}

impl FileLine {
    /// Returns the connection for running `sql`, and records the effects of `sql`.
    pub(crate) fn running(&mut self, sql: &str) -> &mut Lent<Sqlite> {
        if let Some(file) = &self.file {
            file.note(sql);
        }
        &mut self.lent
    }

    /// What runs here from now on is a read.
    pub(crate) fn of_read(&mut self) {
        self.is_read = true;
    }

    /// Whether what runs here writes nothing.
    pub(crate) fn only_reads(&self) -> bool {
        self.is_read || self.file.is_none()
    }

    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        self.lent.ping().await
    }

    /// The rows of `statement`; those of one that may write are fetched by a task.
    pub(crate) fn stream(self, statement: Statement) -> Either<QueryStream, WrittenRows> {
        match self.file {
            // A stream gives its place to the next statement.
            None => Either::Left(QueryStream::from((self.lent.into_inner(), statement, None))),
            Some(file) => {
                file.note(&statement.sql);
                Either::Right(WrittenRows::Unsent(Some((self.lent, file, statement))))
            }
        }
    }
}

/// The rows of a statement that may write.
///
/// SQLite commits when the statement ends, not when it returns its first row. A caller who drops
/// the stream early has seen written rows and must find them again, so reads wait until they are
/// committed. (Rejected: fetching all rows before the first one is shown. A statement that only may
/// write can have very many rows.)
pub(crate) enum WrittenRows {
    /// Not sent yet: the statement is sent at the first poll.
    Unsent(Option<(Lent<Sqlite>, Arc<File>, Statement)>),
    Flowing {
        rows: mpsc::Receiver<Came>,
        /// Whether the caller has seen a row.
        has_shown: bool,
        file: Arc<File>,
        /// Takes a guard that the task drops when the statement is over.
        end: Option<oneshot::Sender<Unsettled>>,
    },
}

/// Messages from the task that has the connection. If the channel closes without `End`, the driver
/// has crashed.
pub(crate) enum Came {
    Row(Result<QueryResult, DbErr>),
    End,
}

impl WrittenRows {
    fn send((lent, file, statement): (Lent<Sqlite>, Arc<File>, Statement)) -> Self {
        let (row_sender, rows) = mpsc::channel(AHEAD);
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = lent.into_inner();
            let is_over = {
                let mut shown = query::<Sqlite>(&statement).fetch(&mut *connection);
                loop {
                    let row = tokio::select! {
                        biased;
                        () = row_sender.closed() => break false,
                        row = shown.try_next() => row,
                    };
                    let row = match row {
                        Ok(None) => break true,
                        Ok(Some(row)) => Ok(row.into()),
                        Err(error) => Err(query_error(error)),
                    };
                    let is_error = row.is_err();
                    if row_sender.send(Came::Row(row)).await.is_err() || is_error {
                        break false;
                    }
                }
            };
            // A live driver answers the ping once the statement is over.
            if connection.ping().await.is_ok() && is_over {
                let _ = row_sender.send(Came::End).await;
            }
            drop(row_sender);
            // Dropping the guard lets waiting reads go on.
            drop(ended.await);
        });
        WrittenRows::Flowing { rows, has_shown: false, file, end: Some(end) }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<QueryResult, DbErr>>> {
        if let WrittenRows::Unsent(unsent) = self
            && let Some(unsent) = unsent.take()
        {
            *self = WrittenRows::send(unsent);
        }
        let WrittenRows::Flowing { rows, has_shown, end, .. } = self else {
            return Poll::Ready(None);
        };
        let came = ready!(rows.poll_recv(cx));
        Poll::Ready(match came {
            Some(Came::Row(row)) => {
                *has_shown |= row.is_ok();
                Some(row)
            }
            Some(Came::End) => {
                // The statement is over and committed.
                drop(end.take());
                None
            }
            // The error is returned only once, because `end` is gone afterwards.
            None => end.take().map(|_| Err(query_error(sqlx::Error::WorkerCrashed))),
        })
    }
}

impl Drop for WrittenRows {
    fn drop(&mut self) {
        if let WrittenRows::Flowing { file, end, has_shown: true, .. } = self
            && let Some(end) = end.take()
        {
            // The send fails only if the runtime is gone.
            let _ = end.send(file.unsettled());
        }
    }
}
