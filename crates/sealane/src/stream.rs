//! Row streams that keep the session's promises until they end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use sea_orm::{DbErr, QueryResult, Statement};
use sealane_core::RetryDecision;
use sealane_monitor::Stage;

use crate::{
    BoxFuture, Error,
    caller::Caller,
    error::{self, SILENT},
    execute::{Attempt, Ended, Next, PrimaryWait, ReadExecution, TakeLine, Writing},
    observe::{Measured, Metric},
    pool::RowStream,
};

/// A stream of rows from one endpoint.
///
/// The stream counts as a running statement until it ends or is dropped. A read that fails before
/// its first row is opened again on another endpoint; after the first row, an error goes to the
/// caller.
pub struct RoutedStream {
    state: State,
    measured: Option<Measured>,
}

enum State {
    /// A read without a row so far.
    Unproved(Box<Read>),
    /// Looking for an endpoint, perhaps once more. A write in this state has not been sent.
    Opening(BoxFuture<'static, Result<State, DbErr>>),
    /// A stream whose errors go to the caller.
    Flowing(Box<Flow>),
    /// The stream is over.
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
    /// A write that was not sent yet, with its connection: it can still go to another endpoint.
    unsent: Option<(Caller, Statement)>,
    /// Whether the session has recorded that rows were seen.
    is_noted: bool,
}

/// The rows, and the event that ends the wait for them.
struct Rows {
    rows: RowStream,
    moved: BoxFuture<'static, ()>,
    /// Whether the rows were polled, which sends the statement.
    is_sent: bool,
}

/// What the stream holds until it is over.
enum Running {
    Read(Attempt),
    Write(Writing),
}

/// Opens a stream on the right endpoint for the statement.
pub(crate) async fn open(
    caller: Caller,
    metric: &Metric,
    statement: Statement,
) -> Result<RoutedStream, DbErr> {
    let mut measured = metric.begin(caller.cluster(), &statement);
    let opened = open_somewhere(caller, statement).await;
    Measured::note(&mut measured, &opened);
    opened.map(|state| RoutedStream { state, measured })
}

async fn open_somewhere(caller: Caller, statement: Statement) -> Result<State, DbErr> {
    match caller.route(&statement.sql) {
        Some(route) => open_read(ReadExecution::plan(&caller, route).await?, statement).await,
        None => open_write(caller, statement).await,
    }
}

async fn open_write(caller: Caller, statement: Statement) -> Result<State, DbErr> {
    let mut wait = PrimaryWait::default();
    let (writing, line) = caller.start_write(&statement.sql, &mut wait).await?;
    // The statement is sent when the rows are first polled.
    let unsent = Some((caller, statement.clone()));
    let rows = line.stream(statement).await.inspect_err(|error| writing.note_error(error))?;
    let rows = Rows { rows, moved: writing.attempt().moved(), is_sent: false };
    let flow = Flow { rows, running: Running::Write(writing), unsent, is_noted: false };
    Ok(State::Flowing(Box::new(flow)))
}

/// Opens a read with the remaining attempts.
async fn open_read(mut read: ReadExecution, statement: Statement) -> Result<State, DbErr> {
    loop {
        let (attempt, line) = read.open(&TakeLine, &statement.sql).await?;
        match line.stream(statement.clone()).await {
            Ok(rows) => {
                let rows = Rows { rows, moved: attempt.moved(), is_sent: false };
                let read = Read { statement, read, attempt, rows };
                return Ok(State::Unproved(Box::new(read)));
            }
            Err(error) => match read.ended(&attempt, Ended::Failed(error)).await {
                Next::GiveUp(error) => return Err(error),
                Next::Retry => {}
                Next::Write => return open_learned(read, statement).await,
            },
        }
    }
}

/// The statement was classified as a read, but a server refused it as a write.
async fn open_learned(read: ReadExecution, statement: Statement) -> Result<State, DbErr> {
    read.caller().cluster().learn_write(&statement.sql);
    open_write(read.caller().clone(), statement).await
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
    /// Decides by the first answer of the server.
    fn first(self, came: Result<Item, Ended>) -> (State, Option<Item>) {
        let Read { statement, mut read, attempt, rows } = self;
        let ended = match came {
            Ok(item) if read.served(&attempt) => {
                let state = match item {
                    Some(_) => {
                        let running = Running::Read(attempt);
                        let flow = Flow { rows, running, unsent: None, is_noted: true };
                        State::Flowing(Box::new(flow))
                    }
                    None => State::Ended,
                };
                return (state, Some(item));
            }
            // The server was restarted during the read.
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
    /// Returns an unsent write that must not be sent here any more, because time has passed since
    /// its connection was taken. From here on the statement counts as sent.
    fn send(&mut self) -> Option<(Caller, Statement)> {
        let unsent = self.unsent.take()?;
        match &self.running {
            Running::Write(writing) if !writing.attempt().holds(Stage::Unsent) => Some(unsent),
            Running::Write(_) | Running::Read(_) => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
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

/// A connection that breaks in the middle of a stream makes its endpoint suspect, like any other
/// broken connection.
fn note_loss(attempt: &Attempt, error: &DbErr) {
    let engine = attempt.cluster().engine;
    if error::with_code(error, |code| RetryDecision::for_read(engine, attempt.role(), code))
        == RetryDecision::Suspect
    {
        attempt.suspect(error);
    }
}

impl Stream for RoutedStream {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let this = self.get_mut();
        let item = ready!(this.state.poll(cx));
        if let Some(item) = &item {
            Measured::note(&mut this.measured, item);
        }
        if matches!(this.state, State::Ended) {
            this.measured = None;
        }
        Poll::Ready(item)
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let state = self;
        loop {
            match state {
                State::Ended => return Poll::Ready(None),
                State::Flowing(flow) => {
                    if let Some((caller, statement)) = flow.send() {
                        *state = State::Opening(Box::pin(open_write(caller, statement)));
                        continue;
                    }
                    let item = ready!(flow.poll(cx));
                    if !matches!(item, Some(Ok(_))) {
                        // This stamps the session before the caller learns of the end.
                        *state = State::Ended;
                    }
                    return Poll::Ready(item);
                }
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => *state = opened,
                    Err(error) => {
                        *state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                State::Unproved(read) => {
                    // Time has passed since the plan, and the session may have written in the
                    // meantime.
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
        let state = match &self.state {
            State::Unproved(_) => "unproved",
            State::Opening(_) => "opening",
            State::Flowing(_) => "flowing",
            State::Ended => "ended",
        };
        f.debug_tuple("RoutedStream").field(&state).finish()
    }
}
