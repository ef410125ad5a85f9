//! The driver of attempts: statements, streams and the beginnings of transactions.
//!
//! Each attempt has two steps. First it *opens*: it takes a connection, or begins a transaction.
//! Opening writes nothing, so a failed opening may be repeated on another endpoint, or on the next
//! primary. Then the statement is *sent*. Either wait ends early when the basis of its plan no
//! longer holds ([`sealane_monitor::Footing`]): the replica hangs, the server was restarted or is
//! no longer the primary, or its address leads to another server.
//!
//! A statement that was not sent is planned again. A read that was sent runs elsewhere. A write
//! that was sent is *outcome unknown*: it is never sent twice, and an answer from a server that was
//! replaced in the meantime is not a success. What an attempt saw or wrote is recorded where it
//! ends.
//!
//! (Rejected: ending the wait of writes also when the primary is only silent and no other primary
//! is in sight. A primary that builds an index may miss a probe.)
//!
//! The two waits of an attempt end when its `Footing` no longer holds:
//!
//! | | not sent | sent |
//! |---|---|---|
//! | on a replica | another run answers there, or none | the same |
//! | on the primary | another server is the primary, another run answers there, or it answers again after an outage | another server is the primary, or another run answers there |
//! | then | it is planned again | a read runs elsewhere; a write is *outcome unknown* |
//!
//! An answer counts only if the footing still holds when the answer comes. So a write is
//! acknowledged only by a run that was the primary, as far as is known, at the moment of its
//! answer. A gap remains before anybody knows: a primary that was cut off without the probes
//! noticing it yet acknowledges writes that a promotion loses. Synchronous replication prevents the
//! loss, and fencing prevents the acknowledgement; a client can do neither.
//!
//! While no primary answers, unsent statements wait (`primary_wait`), and all endpoints are probed
//! ten times a second. SeaORM takes a connection and sends in one step, so this driver takes its
//! connections from sqlx itself (`pool/line`), and converts the results to SeaORM's rows and
//! streams.

pub(crate) mod ahead;
mod arrival;
mod attempt;
mod deadline;
pub(crate) mod failover;
mod forgotten;
mod hedge;
mod opening;
mod overdue;
mod primary;
mod race;
mod read;
mod shadow;
mod trial;
pub(crate) mod turn;
mod writing;

use sea_orm::{DbErr, Statement};
use sealane_monitor::Stage;

pub(crate) use attempt::{Attempt, Ended};
pub(crate) use opening::{Begin, TakeLine, TakePool};
pub(crate) use primary::PrimaryWait;
pub(crate) use read::{Next, ReadExecution};
pub(crate) use writing::{Notes, What, Writing};

use crate::{
    caller::Caller,
    cluster::ReadRoute,
    error::REPLACED,
    observe::span::Why,
    pool::{Line, Verb},
};

impl Caller {
    /// Runs one autocommit statement where it belongs.
    pub(crate) async fn run<V: Verb>(&self, statement: &Statement) -> Result<V::Output, DbErr> {
        match self.route_to_run(&statement.sql) {
            Some(route) => {
                // In a box, so that other reads do not carry the space for it.
                let result = match self.is_shadowed(&route) {
                    true => Box::pin(self.run_shadowed::<V>(route, statement)).await,
                    false => self.run_read::<V>(route, statement).await,
                };
                result.inspect_err(|error| self.cluster().counts.failed(error))
            }
            None => self.run_write::<V>(statement, PrimaryWait::default()).await,
        }
    }

    /// Runs a statement that is not a proved read on the primary.
    pub(crate) async fn run_write<V: Verb>(
        &self,
        statement: &Statement,
        mut wait: PrimaryWait,
    ) -> Result<V::Output, DbErr> {
        loop {
            // The connection returns at the end: others may need it while this waits.
            let (writing, error) = {
                let (writing, mut line) = self.start_write(&statement.sql, &mut wait).await?;
                match writing.run(V::send(&mut line, statement)).await {
                    Ok(value) => return Ok(value),
                    Err(error) => (writing, error),
                }
            };
            let is_undone = V::IS_ONE_STATEMENT && self.cluster().is_undone(&statement.sql);
            if !is_undone || !wait.is_worth_again(&writing, &error).await {
                return Err(error);
            }
        }
    }

    /// A connection to the current primary or a later one, and the record that something is written
    /// there.
    pub(crate) async fn start_write(
        &self,
        sql: &str,
        wait: &mut PrimaryWait,
    ) -> Result<(Writing, Line), DbErr> {
        failover::seen(self).await;
        let cluster = self.cluster();
        let held = ahead::held_by_primary(self).await;
        let begun = |attempt: &Attempt, earlier| attempt.trace(self, sql, Why::Write, earlier);
        let (attempt, line) = loop {
            let (attempt, mut line) = wait.open(cluster, &TakeLine, begun).await?;
            if !cluster.is_watched() || attempt.is_in_use() {
                break (attempt, line);
            }
            // The primary's connections may be as dead as it seems to be, and nothing has been sent
            // yet.
            let ping = attempt.race(Stage::Unsent, line.ping());
            match wait.bounded(&attempt, ping, std::future::pending()).await? {
                Ok(()) => break (attempt, line),
                Err(ended) => wait.unopened(&attempt, ended).await?,
            }
        };
        Ok((Writing::new(self, attempt, What::statement(self, sql), held), line))
    }

    async fn run_read<V: Verb>(
        &self,
        route: ReadRoute,
        statement: &Statement,
    ) -> Result<V::Output, DbErr> {
        self.try_ejected(&route, statement);
        let found = match hedge::delay(self, &route) {
            // In a box, so that other reads do not carry the space for two.
            Some(delay) => Box::pin(self.run_hedged::<V>(route, statement, delay)).await?,
            None => {
                let read = ReadExecution::plan(self, route).await?;
                self.run_attempts::<V>(read, statement).await?
            }
        };
        match found {
            Some(value) => Ok(value),
            None => {
                self.cluster().learn_write(&statement.sql);
                self.run_write::<V>(statement, PrimaryWait::after_refusal()).await
            }
        }
    }

    /// Runs a read with the attempts that it has. `None`: it turned out to be a write, and nothing
    /// of it was executed.
    async fn run_attempts<V: Verb>(
        &self,
        mut read: ReadExecution,
        statement: &Statement,
    ) -> Result<Option<V::Output>, DbErr> {
        loop {
            let (attempt, mut line) = read.open(&TakeLine, &statement.sql).await?;
            line.of_read();
            let sent = self.cluster().store().now();
            let running = attempt.race(Stage::Sent, V::send(&mut line, statement));
            match read.watched(&attempt, Stage::Sent, running).await {
                Ok(value) if read.served(&attempt) => {
                    read.note_pace(sent);
                    return Ok(Some(value));
                }
                Ok(_) => read.leaves(&attempt, REPLACED),
                Err(ended) => match read.ended(&attempt, ended).await {
                    Next::GiveUp(error) => return Err(error),
                    Next::Retry => {}
                    Next::Write => return Ok(None),
                },
            }
        }
    }
}
