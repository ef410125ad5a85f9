//! The driver of attempts: statements, streams and the beginnings of transactions.
//!
//! Each attempt has two steps. It *opens*: it takes a connection, or begins a transaction. Opening
//! writes nothing, so a failed opening may be repeated on another endpoint, or on the next primary.
//! Then the statement is *sent*. Either wait ends early when what it was planned on no longer holds ([`sealane_monitor::Footing`]): the replica hangs, the server was restarted or is
//! no longer the primary, or its address leads to another one.
//!
//! What was not sent is planned again. What was sent and only reads runs elsewhere. What was sent
//! and writes is *outcome unknown*: it is never sent twice, and an answer from a server that was
//! replaced meanwhile is no success. What an attempt saw or wrote is noted where it ends.
//!
//! (Rejected: to end writes, too, when the primary is silent, without another one in sight. A
//! primary that builds an index may miss a probe.)
//!
//! The two waits of an attempt end when its `Footing` no longer holds:
//!
//! | | not sent | sent |
//! |---|---|---|
//! | on a replica | another run answers there, or none | the same |
//! | on the primary | another server is the primary, another run answers there, or it answers again after an outage | another server is the primary, or another run answers there |
//! | then | it is planned again | a read runs elsewhere; a write is *outcome unknown* |
//!
//! An answer counts only if the footing still holds when it comes. So a write is acknowledged only
//! by a run that was the primary, as far as is known, at the moment of its answer. What remains is
//! the time before anybody knows: a primary that was cut off, and that the probes have not been
//! told of, acknowledges writes that a promotion loses. Synchronous replication prevents the loss,
//! and fencing the acknowledgement; a client cannot.
//!
//! Without a primary that answers, what is not sent waits (`primary_wait`), and all endpoints are
//! asked ten times a second. SeaORM takes a connection and sends in one step, so the driver takes
//! its connections from sqlx by itself (`pool/line`), and makes SeaORM's rows and streams of what
//! comes.

pub(crate) mod ahead;
mod attempt;
pub(crate) mod failover;
mod opening;
mod primary;
mod read;
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
    observe::explain,
    pool::{Line, Verb},
};

impl Caller {
    /// Runs one autocommit statement where it belongs.
    pub(crate) async fn run<V: Verb>(&self, statement: &Statement) -> Result<V::Output, DbErr> {
        match self.route(&statement.sql) {
            Some(route) => self.run_read::<V>(&route, statement).await,
            None => self.run_write::<V>(statement).await,
        }
    }

    /// Runs on the primary whatever is not a proved read.
    pub(crate) async fn run_write<V: Verb>(
        &self,
        statement: &Statement,
    ) -> Result<V::Output, DbErr> {
        let mut wait = PrimaryWait::default();
        loop {
            let (writing, mut line) = self.start_write(&statement.sql, &mut wait).await?;
            let error = match writing.run(V::send(&mut line, statement)).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_undone = V::IS_ONE_STATEMENT && self.cluster().is_undone(&statement.sql);
            if !is_undone || !wait.is_worth_again(&writing, &error).await {
                return Err(error);
            }
        }
    }

    /// A connection to the primary of this moment, or of a later one, and the note that something
    /// is written there.
    pub(crate) async fn start_write(
        &self,
        sql: &str,
        wait: &mut PrimaryWait,
    ) -> Result<(Writing, Line), DbErr> {
        failover::seen(self).await;
        let cluster = self.cluster();
        ahead::overtaken(self, None).await;
        let begun = |attempt: &Attempt| explain::trace(self, attempt.endpoint(), sql);
        let (attempt, line) = loop {
            let (attempt, mut line) = wait.open(cluster, &TakeLine, begun).await?;
            if !cluster.is_watched() || attempt.is_in_use() {
                break (attempt, line);
            }
            // Its connections may be as dead as it seems to be, and nothing is sent yet.
            let ping = attempt.race(Stage::Unsent, line.ping());
            match wait.bounded(&attempt, ping).await? {
                Ok(()) => break (attempt, line),
                Err(ended) => wait.unopened(&attempt, ended).await?,
            }
        };
        Ok((Writing::new(self, attempt, What::statement(self, sql)), line))
    }

    async fn run_read<V: Verb>(
        &self,
        route: &ReadRoute,
        statement: &Statement,
    ) -> Result<V::Output, DbErr> {
        let mut read = ReadExecution::plan(self, route).await?;
        loop {
            let (attempt, mut line) = read.open(&TakeLine, &statement.sql).await?;
            match attempt.race(Stage::Sent, V::send(&mut line, statement)).await {
                Ok(value) if read.served(&attempt) => return Ok(value),
                Ok(_) => {}
                Err(ended) => match read.ended(&attempt, ended).await {
                    Next::GiveUp(error) => return Err(error),
                    Next::Retry => {}
                    Next::Write => {
                        drop((attempt, line));
                        self.cluster().learn_write(&statement.sql);
                        return self.run_write::<V>(statement).await;
                    }
                },
            }
        }
    }
}
