//! The judge itself: a server that refuses to write.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use sealane_sql::Dialect;
use sealane_tests::{Engine, Server};
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::time::timeout;

/// Longer than the limit that the server itself sets to a statement.
const PATIENCE: Duration = Duration::from_secs(4);
/// Of which the columns of the cases' tables are, in a schema each.
pub const SHAPES: [(&str, &str); 3] = [("int", "int"), ("text", "text"), ("json", "jsonb")];

/// What the server said to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Because it is a replica; the code.
    RefusedAsWrite(String),
    OtherError(String),
    /// No answer, or none that the driver understands.
    Lost,
}

/// A replica, asked one statement at a time over one connection.
pub struct Standby<'a> {
    server: &'a Server,
    session: Option<Session>,
    /// The schema that the session looks into.
    shape: usize,
}

enum Session {
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

impl<'a> Standby<'a> {
    pub fn new(server: &'a Server) -> Self {
        Standby { server, session: None, shape: 0 }
    }

    pub fn dialect(&self) -> Dialect {
        match self.server.engine {
            Engine::Postgres => Dialect::PostgreSql,
            _ => Dialect::MySql,
        }
    }

    /// How many schemas there are to run a statement in.
    pub fn shapes(&self) -> usize {
        if self.dialect() == Dialect::PostgreSql { SHAPES.len() } else { 1 }
    }

    /// The next statement gets a session of its own.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// Runs `sql` as one text, all results thrown away.
    pub async fn judge(&mut self, sql: &str, shape: usize) -> anyhow::Result<Verdict> {
        if self.session.is_some() && self.shape != shape {
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some(self.open(shape).await?);
            self.shape = shape;
        }
        let session = self.session.as_mut().context("a session")?;
        let verdict = match timeout(PATIENCE, session.run(sql)).await {
            Ok(Ok(())) => Verdict::Accepted,
            Ok(Err(error)) if is_copy(&error) => self.judge_copy(sql, shape).await?,
            Ok(Err(error)) => verdict(&error),
            Err(_) => Verdict::Lost,
        };
        if verdict == Verdict::Lost {
            self.session = None;
        }
        Ok(verdict)
    }

    /// The driver has another call for what a COPY sends, and is lost without it.
    async fn judge_copy(&mut self, sql: &str, shape: usize) -> anyhow::Result<Verdict> {
        let mut session = self.open(shape).await?;
        let copied = async {
            if let Session::Postgres(connection) = &mut session {
                let mut rows = connection.copy_out_raw(sql).await?;
                while rows.try_next().await?.is_some() {}
            }
            Ok(())
        };
        let verdict = match timeout(PATIENCE, copied).await {
            Ok(Ok(())) => Verdict::Accepted,
            Ok(Err(error)) => verdict(&error),
            Err(_) => Verdict::Lost,
        };
        self.session = Some(session);
        Ok(verdict)
    }

    /// What a statement has left behind in its session; a read leaves nothing.
    pub async fn residue(&mut self) -> anyhow::Result<Option<String>> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let residue = match timeout(PATIENCE, session.residue()).await {
            Ok(Ok(residue)) => residue,
            // Also when a transaction was left that has failed.
            Ok(Err(error)) if matches!(verdict(&error), Verdict::Lost) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a session that does not answer".to_owned(),
        };
        Ok((!residue.is_empty()).then_some(residue))
    }

    async fn open(&self, shape: usize) -> anyhow::Result<Session> {
        let url = &self.server.url;
        let (mut session, settings) = if self.dialect() == Dialect::PostgreSql {
            let path = SHAPES[shape].0;
            let settings =
                format!("SET search_path TO judge_{path}, public; SET statement_timeout TO '2s'");
            (Session::Postgres(bounded(PgConnection::connect(url)).await?), settings)
        } else {
            let limit = match self.server.engine {
                Engine::Mariadb => "max_statement_time = 2",
                _ => "max_execution_time = 2000",
            };
            let settings = format!("USE judge; SET SESSION {limit}, lock_wait_timeout = 1");
            (Session::Mysql(bounded(MySqlConnection::connect(url)).await?), settings)
        };
        session.run(&settings).await.context("settings of a session")?;
        Ok(session)
    }

    /// Whether this is a replica still: or else its verdicts mean nothing.
    pub async fn ensure_replica(&self) -> anyhow::Result<()> {
        ensure!(self.server.in_recovery().await?, "{} is no replica any more", self.server.name);
        Ok(())
    }
}

async fn bounded<T>(connecting: impl Future<Output = sqlx::Result<T>>) -> anyhow::Result<T> {
    timeout(PATIENCE, connecting).await.context("no connection in time")?.context("no connection")
}

impl Session {
    async fn run(&mut self, sql: &str) -> sqlx::Result<()> {
        let text = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Session::Postgres(connection) => {
                let mut results = text.fetch_many(connection);
                while results.try_next().await?.is_some() {}
            }
            Session::Mysql(connection) => {
                let mut results = text.fetch_many(connection);
                while results.try_next().await?.is_some() {}
            }
        }
        Ok(())
    }

    async fn residue(&mut self) -> sqlx::Result<String> {
        match self {
            Session::Postgres(connection) => {
                let row = sqlx::raw_sql(include_str!("residue_postgres.sql"));
                row.fetch_one(connection).await?.try_get(0)
            }
            Session::Mysql(connection) => {
                let row = sqlx::raw_sql(include_str!("residue_mysql.sql"));
                row.fetch_one(connection).await?.try_get(0)
            }
        }
    }
}

fn is_copy(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Protocol(text) if text.contains("CopyOutResponse"))
}

fn verdict(error: &sqlx::Error) -> Verdict {
    let sqlx::Error::Database(error) = error else { return Verdict::Lost };
    let says = |words: &[&str]| words.iter().any(|word| error.message().contains(word));
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        let code = error.code().to_owned();
        let is_refusal =
            code == "25006" || matches!(&*code, "0A000" | "55000" | "XX000") && says(&["recovery"]);
        return if is_refusal { Verdict::RefusedAsWrite(code) } else { Verdict::OtherError(code) };
    }
    let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() else { return Verdict::Lost };
    let code = error.number().to_string();
    match error.number() {
        1792 | 1836 => Verdict::RefusedAsWrite(code),
        1290 if says(&["read-only", "read_only"]) => Verdict::RefusedAsWrite(code),
        _ => Verdict::OtherError(code),
    }
}
