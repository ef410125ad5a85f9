//! Row streams, which keep their promises until they end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use sea_orm::{DbErr, QueryResult, QueryStream, Statement};
use sealane_core::Remedy;
use sealane_monitor::Stage;

use crate::{
    BoxFuture, Error, RoutedConnection,
    error::{self, SILENT},
    execute::{Attempt, Ended, Next, PrimaryWait, ReadExecution, TakeLine, Writing},
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
    Flowing(Box<Flow>),
    /// Over.
    Ended,
}

/// A row, an error, or the end.
type Item = Option<Result<QueryResult, DbErr>>;

struct Read {
    statement: Statement,
    read: ReadExecution,
    attempt: Attempt,
    rows: Rows,
}

struct Flow {
    rows: Rows,
    running: Running,
    /// Whether what it shows is noted.
    is_noted: bool,
}

/// Rows, and what ends the wait for them.
struct Rows {
    rows: QueryStream,
    moved: BoxFuture<'static, ()>,
    /// Whether they were asked for, and the statement was sent with that.
    is_sent: bool,
}

/// Let go when the stream is over.
enum Running {
    Read(Attempt),
    Write(Writing),
}

/// Opens a stream where the statement belongs.
pub(crate) async fn open(
    connection: RoutedConnection,
    statement: Statement,
) -> Result<RoutedStream, DbErr> {
    match connection.cluster().reach(&statement.sql) {
        Some(reach) => open_read(ReadExecution::plan(&connection, &reach).await?, statement).await,
        None => open_write(connection, statement).await,
    }
}

async fn open_write(
    connection: RoutedConnection,
    statement: Statement,
) -> Result<RoutedStream, DbErr> {
    let mut wait = PrimaryWait::default();
    let (writing, line) = connection.start_write(&statement.sql, &mut wait).await?;
    // It is sent with the first look at the rows.
    let rows = line.stream(statement).await.inspect_err(|error| writing.note_error(error))?;
    let rows = Rows { rows, moved: writing.attempt().moved(), is_sent: false };
    let flow = Flow { rows, running: Running::Write(writing), is_noted: false };
    Ok(RoutedStream(State::Flowing(Box::new(flow))))
}

/// Takes the attempts that are left.
async fn open_read(mut read: ReadExecution, statement: Statement) -> Result<RoutedStream, DbErr> {
    loop {
        let (attempt, line) = read.open(&TakeLine, &statement.sql).await?;
        match line.stream(statement.clone()).await {
            Ok(rows) => {
                let rows = Rows { rows, moved: attempt.moved(), is_sent: false };
                let read = Read { statement, read, attempt, rows };
                return Ok(RoutedStream(State::Unproved(Box::new(read))));
            }
            Err(error) => match read.ended(&attempt, Ended::Failed(error)).await {
                Next::GiveUp(error) => return Err(error),
                Next::Retry => {}
                Next::Write => return open_learned(read, statement).await,
            },
        }
    }
}

/// It was called a read, and a server knows better.
async fn open_learned(read: ReadExecution, statement: Statement) -> Result<RoutedStream, DbErr> {
    read.connection().cluster().learn_write(&statement.sql);
    open_write(read.connection().clone(), statement).await
}

impl Rows {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, Ended>> {
        self.is_sent = true;
        match Pin::new(&mut self.rows).poll_next(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Ended::Failed(error))),
            Poll::Ready(item) => Poll::Ready(Ok(item)),
            Poll::Pending => self.moved.as_mut().poll(cx).map(|()| Err(Ended::Moved)),
        }
    }
}

impl Read {
    /// The first thing that came from the server decides.
    fn first(self, came: Result<Item, Ended>) -> (State, Option<Item>) {
        let Read { statement, mut read, attempt, rows } = self;
        let ended = match came {
            Ok(item) if read.served(&attempt) => {
                let state = match item {
                    Some(_) => {
                        let running = Running::Read(attempt);
                        State::Flowing(Box::new(Flow { rows, running, is_noted: true }))
                    }
                    None => State::Ended,
                };
                return (state, Some(item));
            }
            // Its server was restarted under it.
            Ok(_) => Ended::Moved,
            Err(ended) => ended,
        };
        let again = async move {
            drop(rows);
            match read.ended(&attempt, ended).await {
                Next::GiveUp(error) => return Err(error),
                Next::Retry => {}
                Next::Write => return open_learned(read, statement).await,
            }
            drop(attempt);
            open_read(read, statement).await
        };
        (State::Opening(Box::pin(again)), None)
    }
}

impl Flow {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Running::Write(writing) = &self.running
            && !self.rows.is_sent
            && !writing.attempt().holds(Stage::Unsent)
        {
            // Time has passed since it was opened. Nothing is sent.
            return Poll::Ready(Some(Err(writing.replaced_unsent())));
        }
        let came = ready!(self.rows.poll(cx));
        Poll::Ready(match &self.running {
            Running::Write(writing) => match came {
                Ok(Some(_)) if !writing.attempt().holds(Stage::Sent) => {
                    writing.judged::<()>(Err(Ended::Moved)).err().map(Err)
                }
                Ok(Some(row)) => {
                    if !std::mem::replace(&mut self.is_noted, true) {
                        writing.note_seen();
                    }
                    Some(row)
                }
                Ok(None) => writing.judged(Ok(())).err().map(Err),
                Err(ended) => writing.judged::<()>(Err(ended)).err().map(Err),
            },
            Running::Read(attempt) => match came {
                Ok(item) => item,
                Err(Ended::Failed(error)) => {
                    note_loss(attempt, &error);
                    Some(Err(error))
                }
                Err(Ended::Moved) => {
                    let lost = Error::StreamLost { endpoint: attempt.place(), why: SILENT };
                    Some(Err(lost.into()))
                }
            },
        })
    }
}

/// A connection that breaks in the middle of a stream says the same as any other.
fn note_loss(attempt: &Attempt, error: &DbErr) {
    let engine = attempt.cluster().engine;
    if error::with_code(error, |code| Remedy::for_read(engine, attempt.role(), code))
        == Remedy::Suspect
    {
        attempt.suspect(error);
    }
}

impl Stream for RoutedStream {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let state = &mut self.get_mut().0;
        loop {
            match state {
                State::Ended => return Poll::Ready(None),
                State::Flowing(flow) => {
                    let item = ready!(flow.poll(cx));
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
                    // Time has passed since it was planned: its session may have written since.
                    let came = match read.rows.is_sent || read.read.may_serve(&read.attempt) {
                        true => ready!(read.rows.poll(cx)),
                        false => Err(Ended::Moved),
                    };
                    if let State::Unproved(read) = std::mem::replace(state, State::Ended) {
                        let (next, given) = read.first(came);
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
            State::Flowing(_) => "flowing",
            State::Ended => "ended",
        };
        f.debug_tuple("RoutedStream").field(&state).finish()
    }
}
