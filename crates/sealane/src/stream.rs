//! Row streams, which keep their promises until they end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use sea_orm::{DbErr, QueryResult, QueryStream, Statement, StreamTrait};
use sealane_core::InFlight;

use crate::{
    RoutedConnection, error, explain,
    lane::{Attempt, BoxFuture, Lane, Next},
    writing::Writing,
};

/// A stream of rows from one endpoint.
///
/// It counts as a running statement until it ends or is dropped. A read that
/// fails before its first row is opened again elsewhere; after the first row an
/// error goes to the caller.
pub struct RoutedStream(State);

enum State {
    /// A read without a row so far.
    Unproved(Box<Read>),
    /// A read that has not found its endpoint (again) yet.
    Opening(BoxFuture<'static, Result<RoutedStream, DbErr>>),
    /// A stream whose errors go to the caller.
    Flowing { rows: QueryStream, running: Running },
    /// Over.
    Ended,
}

/// Let go when the stream is over.
enum Running {
    Read { _until: InFlight },
    Write(Writing),
}

impl Running {
    /// Looks at what came of it.
    fn note(&self, item: Option<&Result<QueryResult, DbErr>>) {
        match (self, item) {
            (Running::Read { .. }, _) | (_, Some(Ok(_))) => {}
            (Running::Write(writing), Some(Err(error))) => writing.failed(error),
            (Running::Write(writing), None) => writing.ended(),
        }
    }
}

struct Read {
    connection: RoutedConnection,
    statement: Statement,
    lane: Lane,
    attempt: Attempt,
    rows: QueryStream,
    /// Ready when the endpoint does not even answer probes.
    hung: BoxFuture<'static, DbErr>,
}

/// Opens a stream where the statement belongs.
pub(crate) async fn open(
    connection: RoutedConnection,
    statement: Statement,
) -> Result<RoutedStream, DbErr> {
    match connection.cluster().reach(&statement.sql) {
        Some(reach) => {
            let lane = Lane::plan(&connection, &reach).await?;
            open_read(connection, statement, lane, None).await
        }
        None => open_write(connection, statement).await,
    }
}

async fn open_write(
    connection: RoutedConnection,
    statement: Statement,
) -> Result<RoutedStream, DbErr> {
    let (writing, primary) = Writing::start(&connection, &statement.sql).await?;
    // It is sent with the first look at the rows; this only finds a connection.
    let rows = primary.stream_raw(statement).await.inspect_err(|error| writing.failed(error))?;
    Ok(RoutedStream(State::Flowing { rows, running: Running::Write(writing) }))
}

/// Takes the attempts that are left in `lane`; `last_error` is that of the one
/// before.
async fn open_read(
    connection: RoutedConnection,
    statement: Statement,
    mut lane: Lane,
    mut last_error: Option<DbErr>,
) -> Result<RoutedStream, DbErr> {
    let cluster = connection.cluster().clone();
    while let Some(attempt) = lane.next(&cluster) {
        let id = attempt.guard.endpoint();
        let Some(pool) = cluster.pool(id, attempt.role) else {
            break;
        };
        explain::trace(&connection, id, &statement.sql);
        match pool.stream_raw(statement.clone()).await {
            Ok(rows) => {
                let hung = attempt.hung(&cluster);
                let read = Read { connection, statement, lane, attempt, rows, hung };
                return Ok(RoutedStream(State::Unproved(Box::new(read))));
            }
            Err(error) => match lane.failed(&cluster, &attempt, &error) {
                Next::GiveUp => return Err(error),
                Next::Write => {
                    cluster.learn_write(&statement.sql);
                    return open_write(connection, statement).await;
                }
                Next::Retry => last_error = Some(error),
            },
        }
    }
    Err(last_error.unwrap_or_else(error::no_primary))
}

impl Read {
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<QueryResult, DbErr>>> {
        match Pin::new(&mut self.rows).poll_next(cx) {
            Poll::Ready(item) => Poll::Ready(item),
            Poll::Pending => self.hung.as_mut().poll(cx).map(|error| Some(Err(error))),
        }
    }

    /// The first thing that came from the server decides.
    fn first(mut self, item: Option<Result<QueryResult, DbErr>>) -> (State, First) {
        let error = match item {
            Some(Err(error)) => {
                let next = self.lane.failed(self.connection.cluster(), &self.attempt, &error);
                match next {
                    Next::GiveUp => return (State::Ended, Some(Some(Err(error)))),
                    Next::Write => {
                        self.connection.cluster().learn_write(&self.statement.sql);
                        let again = open_write(self.connection, self.statement);
                        return (State::Opening(Box::pin(again)), None);
                    }
                    Next::Retry => Some(error),
                }
            }
            item if self.lane.served(&self.connection, &self.attempt) => {
                let (rows, running) = (self.rows, Running::Read { _until: self.attempt.guard });
                let state = match item {
                    Some(_) => State::Flowing { rows, running },
                    None => State::Ended,
                };
                return (state, Some(item));
            }
            // Its server was restarted under it.
            _ => None,
        };
        let again = open_read(self.connection, self.statement, self.lane, error);
        (State::Opening(Box::pin(again)), None)
    }
}

/// What the caller gets of the first thing that came; `None`: nothing yet.
type First = Option<Option<Result<QueryResult, DbErr>>>;

impl Stream for RoutedStream {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let state = &mut self.get_mut().0;
        loop {
            match state {
                State::Ended => return Poll::Ready(None),
                State::Flowing { rows, running } => {
                    let item = ready!(Pin::new(rows).poll_next(cx));
                    running.note(item.as_ref());
                    if !matches!(item, Some(Ok(_))) {
                        // The session is stamped before the caller learns of the end.
                        *state = State::Ended;
                    }
                    return Poll::Ready(item);
                }
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(stream) => *state = stream.0,
                    Err(error) => {
                        *state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                State::Unproved(read) => {
                    let item = ready!(read.poll_first(cx));
                    if let State::Unproved(read) = std::mem::replace(state, State::Ended) {
                        let (next, given) = read.first(item);
                        *state = next;
                        if let Some(item) = given {
                            return Poll::Ready(item);
                        }
                    }
                }
            }
        }
    }
}

impl fmt::Debug for RoutedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Unproved(_) => "unproved",
            State::Opening(_) => "opening",
            State::Flowing { .. } => "flowing",
            State::Ended => "ended",
        };
        f.debug_tuple("RoutedStream").field(&state).finish()
    }
}
