//! One statement, the code that servers answer with, and where it ends.

use anyhow::{Context, bail, ensure};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr, Statement, Value};
use sealane::{Event, Failure, RoutedConnection};
use sqlx::mysql::MySqlDatabaseError;

/// Where a read ends that fails everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// On the replica that was asked first.
    AtOnce,
    /// On the primary, which was asked after a replica.
    Next,
    /// On the primary, which was asked at once: the text is no proved read, or the catalog does not
    /// know a name in it.
    OnPrimary,
    /// Nowhere: no server could do it.
    Everywhere,
}

/// A statement that fails.
#[derive(Debug, Clone)]
pub struct Case {
    pub codes: &'static [u16],
    pub sql: String,
    pub values: Vec<Value>,
    pub ends: Ends,
}

impl Case {
    pub fn new(code: &'static [u16], ends: Ends, sql: impl Into<String>) -> Self {
        Case { codes: code, sql: sql.into(), values: Vec::new(), ends }
    }

    /// The code that came. Whatever is asked afterwards finds all servers in use.
    pub async fn run(&self, db: &RoutedConnection) -> anyhow::Result<u16> {
        let (before, mut events) = (statements(db), db.events());
        let statement = match self.values.is_empty() {
            true => Statement::from_string(DbBackend::MySql, &self.sql),
            false => {
                Statement::from_sql_and_values(DbBackend::MySql, &self.sql, self.values.clone())
            }
        };
        let Err(error) = db.query_all_raw(statement).await else { bail!("it succeeded") };
        let code = code_of(&error).with_context(|| format!("no code: {error}"))?;
        let visited: Vec<bool> = before.iter().zip(statements(db)).map(|(a, b)| *a != b).collect();
        ensure!(self.codes.contains(&code), "{code}: {error}");
        let replicas = visited.iter().skip(1).filter(|it| **it).count();
        let seen = match (replicas, visited[0]) {
            (1, false) => Ends::AtOnce,
            (1, true) => Ends::Next,
            (0, true) => Ends::OnPrimary,
            (2, true) => Ends::Everywhere,
            other => bail!("{code}: visited {other:?}"),
        };
        ensure!(seen == self.ends, "{code} ended {seen:?}");
        nobody_went(&mut events, db).await?;
        Ok(code)
    }
}

/// Nobody was taken out of use by a statement so far. Asked without a wait: a suspicion is an event
/// at once. A probe that takes too long on a busy machine says nothing about statements.
pub async fn nobody_went(
    events: &mut sealane::Events,
    db: &RoutedConnection,
) -> anyhow::Result<()> {
    while let Ok(event) = tokio::time::timeout(std::time::Duration::ZERO, events.next()).await {
        if let Some(Event::Down { endpoint, failure }) = event
            && failure != Failure::Timeout
        {
            let name = &db.status().endpoints[endpoint.place()].name;
            bail!("{name} was taken out of use: {failure}");
        }
    }
    Ok(())
}

/// How many statements each endpoint was asked for: what names an unknown table is no proved read.
pub fn statements(db: &RoutedConnection) -> Vec<u64> {
    db.status().endpoints.iter().map(|endpoint| endpoint.reads + endpoint.writes).collect()
}

/// The server's number for an error.
pub fn code_of(error: &DbErr) -> Option<u16> {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return None;
    };
    let RuntimeErr::SqlxError(error) = inner else { return None };
    let sqlx::Error::Database(answer) = &**error else { return None };
    answer.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}
