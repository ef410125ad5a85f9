//! An sqlx connection that is lent to one statement.

use std::time::Duration;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use futures_util::TryStreamExt;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use futures_util::{Stream, StreamExt, stream};
#[cfg(feature = "mysql")]
use sea_orm::sqlx::SqlSafeStr;
use sea_orm::{
    ConnAcquireErr, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    sqlx::{
        self, AssertSqlSafe, Connection, Database, Error, Executor, IntoArguments, Pool,
        pool::PoolConnection, query::Query,
    },
};
use sea_query_sqlx::SqlxValues;
#[cfg(any(feature = "mysql", feature = "postgres"))]
use tokio::sync::mpsc;
use tokio::{runtime::Handle, time::timeout};

const HELD: &str = "the connection is held until it is dropped or passed on";

/// How long an abandoned connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(100);

/// The lent connection. It returns to its pool when dropped, unless a statement is under way on it.
///
/// # Abandoned connections
/// If a statement is cancelled, its connection leaves the pool and is closed: the driver would ping it
/// and wait for the answer without limit. Closing is limited, too. With TLS (rustls in sqlx 0.9) it
/// waits until the server says something; but a server that is busy learns only by the end of the
/// connection that nobody waits for its answer. (sqlx's `close_on_drop` waits for five seconds, which is
/// too long.) An SQLite connection is returned: it always answers, and the writer's session may hold
/// objects that the application needs.
#[derive(Debug)]
pub(crate) struct Lent<DB: Database> {
    /// `None` once it is dropped or passed on.
    connection: Option<PoolConnection<DB>>,
    is_abandoned: bool,
}

impl<DB: Database> Lent<DB> {
    pub(crate) async fn of(pool: &Pool<DB>) -> Result<Self, DbErr> {
        match pool.acquire().await {
            Ok(connection) => Ok(Lent { connection: Some(connection), is_abandoned: false }),
            Err(Error::PoolTimedOut) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
            Err(Error::PoolClosed) => {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))
            }
            Err(error) => Err(DbErr::Conn(RuntimeErr::SqlxError(error.into()))),
        }
    }

    /// Passes the connection on to an owner who takes care of it from now on.
    pub(crate) fn into_inner(mut self) -> PoolConnection<DB> {
        let mut connection = self.connection.take().expect(HELD);
        if self.is_abandoned {
            connection.close_on_drop();
        }
        connection
    }

    fn held(&mut self) -> &mut PoolConnection<DB> {
        self.connection.as_mut().expect(HELD)
    }

    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        let mut usage = Usage::of(self);
        let answer = usage.connection.ping().await;
        usage.ended(answer).map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }

    /// Clears the cache of prepared statements, so that each statement is prepared again.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn forget_prepared(&mut self) -> Result<(), DbErr>
    where
        DB: sqlx::database::HasStatementCache,
    {
        let mut usage = Usage::of(self);
        let answer = usage.connection.clear_cached_statements().await;
        usage.ended(answer).map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }
}

impl<DB> Lent<DB>
where
    DB: Database,
    SqlxValues: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    QueryResult: From<DB::Row>,
    ExecResult: From<DB::QueryResult>,
{
    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DbErr> {
        if DB::NAME != "SQLite" && begins_transaction(&statement.sql) {
            self.held().close_on_drop();
        }
        let mut usage = Usage::of(self);
        let result = query(statement).execute(&mut **usage.connection).await;
        usage.ended(result).map(Into::into).map_err(exec_error)
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        if DB::NAME != "SQLite" && may_stay_open(sql) {
            self.held().close_on_drop();
        }
        let mut usage = Usage::of(self);
        let result = (&mut **usage.connection).execute(AssertSqlSafe(sql.to_owned())).await;
        usage.ended(result).map(Into::into).map_err(exec_error)
    }

    pub(crate) async fn query_one(
        &mut self,
        statement: &Statement,
    ) -> Result<Option<QueryResult>, DbErr> {
        let mut usage = Usage::of(self);
        let result = query(statement).fetch_optional(&mut **usage.connection).await;
        usage.ended(result).map(|row| row.map(Into::into)).map_err(query_error)
    }

    /// The first row of a statement that may write, once the statement has ended. SQLite commits at the
    /// end, and a procedure of MySQL may go on and commit, or fail, after its first row.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(crate) async fn query_one_to_the_end(
        &mut self,
        statement: &Statement,
    ) -> Result<Option<QueryResult>, DbErr> {
        let mut usage = Usage::of(self);
        let mut rows = query(statement).fetch(&mut **usage.connection);
        let first = rows.try_next().await;
        let mut rest = Ok(first.as_ref().ok().and_then(Option::as_ref).map(drop));
        while let Ok(Some(())) = rest {
            rest = rows.try_next().await.map(|row| row.map(drop));
        }
        drop(rows);
        let result = rest.and(first);
        usage.ended(result).map(|row| row.map(Into::into)).map_err(query_error)
    }

    pub(crate) async fn query_all(
        &mut self,
        statement: &Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let mut usage = Usage::of(self);
        let result = query(statement).fetch_all(&mut **usage.connection).await;
        let rows = usage.ended(result).map_err(query_error)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// The rows of `statement`, which is sent at the first poll. A stream that is dropped half-way
    /// closes its connection. `is_over` is called before the connection goes back to its pool.
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    pub(crate) fn rows(
        mut self,
        statement: Statement,
        is_over: impl FnOnce() + Send + 'static,
    ) -> impl Stream<Item = Result<QueryResult, DbErr>> + Send + Unpin + 'static {
        let (shown, mut rows) = mpsc::channel(1);
        let mut fetching = Some(Box::pin(async move {
            let mut usage = Usage::of(&mut self);
            let mut came = query(&statement).fetch(&mut **usage.connection);
            let end = loop {
                match came.next().await {
                    // The receiver lives as long as this future.
                    Some(Ok(row)) => drop(shown.send(Ok(row.into())).await),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            };
            drop(came);
            is_over();
            if let Err(error) = usage.ended(end) {
                drop(shown.send(Err(query_error(error))).await);
            }
        }));
        stream::poll_fn(move |context| {
            if fetching.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready()) {
                fetching = None;
            }
            rows.poll_recv(context)
        })
    }
}

#[cfg(feature = "mysql")]
impl Lent<sqlx::MySql> {
    /// The prepared statement `text`; `None` if the connection keeps no prepared statements.
    pub(crate) async fn prepared(
        &mut self,
        text: &'static str,
    ) -> Option<sqlx::mysql::MySqlStatement> {
        if self.held().cached_statements_size() == 0 {
            return None;
        }
        let mut usage = Usage::of(self);
        let answer = (&mut **usage.connection).prepare(text.into_sql_str()).await;
        usage.ended(answer).ok()
    }
}

pub(crate) fn query<DB: Database>(statement: &Statement) -> Query<'_, DB, SqlxValues>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.clone().unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}

/// Words with which a transaction begins.
const BEGINNINGS: [&str; 3] = ["BEGIN", "START", "AUTOCOMMIT"];

/// Whether `sql` may open a transaction by itself and leave it open: then nobody else may use its
/// connection. (A procedure's body also contains BEGIN; this costs one connection.)
fn may_stay_open(sql: &str) -> bool {
    words(sql).any(|word| BEGINNINGS.iter().any(|it| word.eq_ignore_ascii_case(it)))
}

/// The same for a single statement, which says so at its beginning.
fn begins_transaction(sql: &str) -> bool {
    let first = words(sql).find(|word| !word.is_empty()).unwrap_or_default();
    let sets = first.eq_ignore_ascii_case("SET");
    (sets || BEGINNINGS.iter().any(|it| first.eq_ignore_ascii_case(it))) && may_stay_open(sql)
}

fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn exec_error(error: Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

pub(crate) fn query_error(error: Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if self.is_abandoned
            && let Some(connection) = self.connection.take()
        {
            leave(connection.detach());
        }
    }
}

/// Closes a connection in the background, in bounded time.
pub(super) fn leave<C: Connection>(connection: C) {
    // Without a runtime, there is no goodbye.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(timeout(GOODBYE, connection.close()));
    }
}

/// Guards a running statement. If the statement is cancelled, its connection is abandoned.
struct Usage<'a, DB: Database> {
    connection: &'a mut PoolConnection<DB>,
    is_abandoned: &'a mut bool,
    is_under_way: bool,
}

impl<'a, DB: Database> Usage<'a, DB> {
    fn of(lent: &'a mut Lent<DB>) -> Self {
        let connection = lent.connection.as_mut().expect(HELD);
        let is_under_way = DB::NAME != "SQLite";
        Usage { connection, is_abandoned: &mut lent.is_abandoned, is_under_way }
    }

    /// Records the end of the statement and returns the result. The connection stays usable only
    /// after the server's answer, or if the driver refused to send.
    fn ended<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.is_under_way = matches!(
            result,
            Err(Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed)
        );
        result
    }
}

impl<DB: Database> Drop for Usage<'_, DB> {
    fn drop(&mut self) {
        *self.is_abandoned |= self.is_under_way;
    }
}

#[cfg(feature = "postgres")]
#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
        time::Duration,
    };

    use futures_util::FutureExt;
    use sea_orm::sqlx::postgres::PgPoolOptions;

    use super::*;

    /// Lets one client in, answers nothing, and ends when the client has closed its connection.
    fn serve(listener: &TcpListener) {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(client.read(&mut [0; 1024]).unwrap() > 0);
        // `AuthenticationOk` and `ReadyForQuery`.
        client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_that_owes_an_answer_is_closed() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(&listener));
        let url = format!("postgres://app@{address}/shop?sslmode=disable");
        let pool = PgPoolOptions::new().connect_lazy(&url).unwrap();
        let mut lent = Lent::of(&pool).await.unwrap();
        // It is sent, and not waited for.
        assert!(lent.ping().now_or_never().is_none());
        drop(lent);
        server.join().unwrap();
    }
}
