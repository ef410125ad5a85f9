//! Row streams that keep the session's promises until they end.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt};
use sea_orm::{DbErr, QueryResult, Statement};
use sealane_core::{Moment, RetryDecision};
use sealane_monitor::Stage;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::{
    BoxFuture, Error,
    caller::Caller,
    error::{self, SILENT},
    execute::{Attempt, Ended, Next, PrimaryWait, ReadExecution, TakeLine, Writing},
    observe::{Measured, Metric, span},
    pool::{RowStream, TRUSTED_FOR},
};

/// A stream of rows from one endpoint.
///
/// The stream counts as a running statement until it ends or is dropped. A read that fails before
/// its first row is opened again on another endpoint; after the first row, an error goes to the
/// caller.
pub struct RoutedStream {
    state: State,
    measured: Option<Measured>,
    /// Until the stream is over.
    span: Span,
}

enum State {
    /// A read that was not sent.
    Unsent(Box<Read>),
    /// A read that waits for its first row, or a statement that looks for an endpoint again. A
    /// write in this state has not been sent.
    Opening(BoxFuture<'static, Result<Opened, DbErr>>),
    /// A stream whose errors go to the caller.
    Flowing(Box<Flow>),
    /// The stream is over.
    Ended,
}

/// The next state, and what the stream shows already.
type Opened = (State, Option<Item>);

/// A row, an error, or the end.
type Item = Option<Result<QueryResult, DbErr>>;

struct Read {
    statement: Statement,
    read: ReadExecution,
    attempt: Attempt,
    rows: RowStream,
    /// Since then the caller has not asked for a row.
    idle_since: (Moment, Instant),
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
    let span = span::open(caller.cluster(), &statement.sql);
    let opened = open_somewhere(caller, statement).instrument(span.clone()).await;
    Measured::note(&mut measured, &opened);
    span::ended(&span, &opened);
    opened.map(|state| RoutedStream { state, measured, span })
}

async fn open_somewhere(caller: Caller, statement: Statement) -> Result<State, DbErr> {
    match caller.route_to_run(&statement.sql) {
        Some(route) => {
            caller.shadow_stream(&route, &statement);
            caller.try_ejected(&route, &statement);
            let opened = match ReadExecution::plan(&caller, route).await {
                Ok(read) => open_read(read.of_stream(), statement).await,
                Err(error) => Err(error),
            };
            opened.inspect_err(|error| caller.cluster().counts.failed(error))
        }
        None => open_write(caller, statement, PrimaryWait::default()).await,
    }
}

async fn open_write(
    caller: Caller,
    statement: Statement,
    mut wait: PrimaryWait,
) -> Result<State, DbErr> {
    let (writing, line) = caller.start_write(&statement.sql, &mut wait).await?;
    // The statement is sent when the rows are first polled.
    let unsent = Some((caller, statement.clone()));
    let rows = line.stream(statement).await.inspect_err(|error| writing.note_error(error))?;
    let rows = Rows { rows, moved: writing.attempt().moved() };
    let flow = Flow { rows, running: Running::Write(writing), unsent, is_noted: false };
    Ok(State::Flowing(Box::new(flow)))
}

/// Opens a read with the remaining attempts.
async fn open_read(mut read: ReadExecution, statement: Statement) -> Result<State, DbErr> {
    loop {
        let (attempt, line) = read.open(&TakeLine, &statement.sql).await?;
        match line.stream_read(statement.clone()).await {
            Ok(rows) => {
                let idle_since = (attempt.cluster().store().now(), Instant::now());
                let read = Read { statement, read, attempt, rows, idle_since };
                return Ok(State::Unsent(Box::new(read)));
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
    open_write(read.caller().clone(), statement, PrimaryWait::after_refusal()).await
}

impl Rows {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Item, Ended>> {
        match Pin::new(&mut self.rows).poll_next(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Ended::Failed(error))),
            Poll::Ready(item) => Poll::Ready(Ok(item)),
            Poll::Pending => self.moved.as_mut().poll(cx).map(|()| Err(Ended::Moved)),
        }
    }
}

impl Read {
    /// Sends the statement and decides by the first answer of the server.
    async fn first(self) -> Result<Opened, DbErr> {
        let Read { statement, mut read, mut attempt, mut rows, idle_since } = self;
        attempt.skip_since(idle_since.0);
        read.skip_since(idle_since.1);
        // Time has passed since the plan, and the session may have written in the meantime.
        let came = match read.may_serve(&attempt) {
            true => {
                let row = attempt.race(Stage::Sent, async { rows.next().await.transpose() });
                read.watched(&attempt, Stage::Sent, row).await
            }
            false => Err(Ended::Moved),
        };
        let ended = match came {
            Ok(row) if read.served(&attempt) => {
                let state = match row {
                    Some(_) => {
                        let rows = Rows { rows, moved: attempt.moved() };
                        let running = Running::Read(attempt);
                        let flow = Flow { rows, running, unsent: None, is_noted: true };
                        State::Flowing(Box::new(flow))
                    }
                    None => State::Ended,
                };
                return Ok((state, Some(row.map(Ok))));
            }
            // The server was restarted during the read.
            Ok(_) => Ended::Moved,
            Err(ended) => ended,
        };
        drop(rows);
        let state = match read.ended(&attempt, ended).await {
            Next::GiveUp(error) => {
                attempt.cluster().counts.failed(&error);
                return Err(error);
            }
            Next::Retry => {
                drop(attempt);
                open_read(read, statement).await?
            }
            Next::Write => open_learned(read, statement).await?,
        };
        Ok((state, None))
    }
}

impl Flow {
    /// Returns an unsent write that must not be sent here any more, because time has passed since
    /// its connection was taken. From here on the statement counts as sent.
    fn send(&mut self) -> Option<(Caller, Statement)> {
        let unsent = self.unsent.take()?;
        match &self.running {
            Running::Write(writing) => {
                let attempt = writing.attempt();
                // What was checked then (that the server answers, and that it takes writes) may not
                // hold any more.
                let is_old = attempt.cluster().is_watched() && attempt.since_open() > TRUSTED_FOR;
                (is_old || !attempt.holds(Stage::Unsent)).then_some(unsent)
            }
            Running::Read(_) => None,
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
        let item = {
            let _entered = this.span.enter();
            ready!(this.state.poll(cx))
        };
        if let Some(item) = &item {
            Measured::note(&mut this.measured, item);
            span::ended(&this.span, item);
        }
        if matches!(this.state, State::Ended) {
            (this.measured, this.span) = (None, Span::none());
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
                        let wait = PrimaryWait::default();
                        let opening =
                            async { Ok((open_write(caller, statement, wait).await?, None)) };
                        *state = State::Opening(Box::pin(opening));
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
                    Ok((opened, item)) => {
                        *state = opened;
                        if let Some(item) = item {
                            return Poll::Ready(item);
                        }
                    }
                    Err(error) => {
                        *state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                State::Unsent(_) => {
                    if let State::Unsent(read) = std::mem::replace(state, State::Ended) {
                        *state = State::Opening(Box::pin(read.first()));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for RoutedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Unsent(_) => "unsent",
            State::Opening(_) => "opening",
            State::Flowing(_) => "flowing",
            State::Ended => "ended",
        };
        f.debug_tuple("RoutedStream").field(&state).finish()
    }
}
