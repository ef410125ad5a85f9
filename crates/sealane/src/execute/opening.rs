//! The first step of an attempt, which can be repeated elsewhere without risk.

#[cfg(feature = "mysql")]
use sea_orm::QueryResult;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use sea_orm::{ConnectionTrait, Statement};
use sea_orm::{DatabaseConnection, DbBackend, DbErr, TransactionOptions, TransactionTrait};

#[cfg(feature = "assembly")]
use crate::pool::simulated;
#[cfg(feature = "sqlite")]
use crate::pool::sqlite::Seat;
use crate::pool::{Begun, Line, Pool};
#[cfg(feature = "mysql")]
use crate::pool::{QueryOne, Verb};

/// The first step of an attempt. Whatever its result, nothing was written.
pub(crate) trait Opening: Sync {
    type Output: Send;
    /// Whether a statement follows. Otherwise the opening itself is what an attempt is for, and its
    /// time is the attempt's.
    const IS_FOLLOWED: bool;

    fn on(&self, pool: &Pool) -> impl Future<Output = Result<Self::Output, DbErr>> + Send;

    /// Whether the opened connection leads to a server that is set to be read-only. MySQL and
    /// MariaDB are asked this for a role that the setting does not bind.
    #[cfg(feature = "mysql")]
    fn is_read_only(opened: &mut Self::Output) -> impl Future<Output = Result<bool, DbErr>> + Send;
}

/// MySQL's `super_read_only` implies `read_only`. MariaDB 12 answers with a word.
#[cfg(feature = "mysql")]
fn asks() -> Statement {
    Statement::from_string(
        DbBackend::MySql,
        "SELECT CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF') AS is_read_only",
    )
}

#[cfg(feature = "mysql")]
fn says_so(row: Option<QueryResult>) -> Result<bool, DbErr> {
    row.map_or(Ok(false), |row| row.try_get("", "is_read_only"))
}

/// Whether `transaction` runs on a server that is set to be read-only.
#[cfg(feature = "mysql")]
pub(super) async fn is_read_only(transaction: &Begun) -> Result<bool, DbErr> {
    says_so(transaction.query_one_raw(asks()).await?)
}

/// A connection for a statement or a stream.
pub(crate) struct TakeLine;

/// A pool that lends connections, for code that needs SeaORM's own type.
pub(crate) struct TakePool;

/// The beginning of a transaction.
pub(crate) struct Begin(pub(crate) TransactionOptions);

impl Opening for TakeLine {
    type Output = Line;
    const IS_FOLLOWED: bool = true;

    async fn on(&self, pool: &Pool) -> Result<Line, DbErr> {
        Line::take(pool).await
    }

    #[cfg(feature = "mysql")]
    async fn is_read_only(line: &mut Line) -> Result<bool, DbErr> {
        says_so(QueryOne::send(line, &asks()).await?)
    }
}

impl Opening for TakePool {
    type Output = DatabaseConnection;
    const IS_FOLLOWED: bool = false;

    async fn on(&self, pool: &Pool) -> Result<DatabaseConnection, DbErr> {
        // The connection returns at once: it only shows that the server answers.
        Line::take(pool).await?.ping().await?;
        Ok(pool.connection.clone())
    }

    #[cfg(feature = "mysql")]
    async fn is_read_only(connection: &mut DatabaseConnection) -> Result<bool, DbErr> {
        says_so(connection.query_one_raw(asks()).await?)
    }
}

impl Opening for Begin {
    type Output = Begun;
    const IS_FOLLOWED: bool = false;

    /// Begins the transaction, and finishes doing so even if the caller is cancelled.
    ///
    /// sqlx counts a transaction of PostgreSQL and MySQL only once its BEGIN is answered. A
    /// transaction abandoned before that, because its server hangs or its future is dropped,
    /// returns to the pool and is begun later nevertheless. Then nobody ends it: writes on that
    /// connection would never be committed, and reads could see an old snapshot. (SQLite's driver
    /// handles this itself.)
    async fn on(&self, pool: &Pool) -> Result<Begun, DbErr> {
        let Begin(options) = *self;
        #[cfg(feature = "assembly")]
        if let Some(lender) = &pool.lender {
            let lender = std::sync::Arc::clone(lender);
            let begun =
                async move { simulated::begin(lender, options).await.map(Begun::Simulated) };
            return to_its_end(begun).await;
        }
        #[cfg(feature = "sqlite")]
        if let Some(seat) = &pool.seat {
            return begin_on_file(seat, &pool.connection, options).await.map(Begun::Driver);
        }
        let pool = &pool.connection;
        if pool.get_database_backend() == DbBackend::Sqlite {
            return pool.begin_with_options(options).await.map(Begun::Driver);
        }
        let pool = pool.clone();
        to_its_end(async move { pool.begin_with_options(options).await.map(Begun::Driver) }).await
    }

    #[cfg(feature = "mysql")]
    async fn is_read_only(transaction: &mut Begun) -> Result<bool, DbErr> {
        is_read_only(transaction).await
    }
}

/// The result of `beginning`, which runs to its end even if nobody waits for it.
async fn to_its_end(
    beginning: impl Future<Output = Result<Begun, DbErr>> + Send + 'static,
) -> Result<Begun, DbErr> {
    tokio::spawn(beginning)
        .await
        .unwrap_or_else(|ended| Err(DbErr::Custom(format!("BEGIN was not carried out: {ended}"))))
}

/// A read that pins the snapshot: BEGIN alone pins nothing until the first statement.
#[cfg(feature = "sqlite")]
fn pins() -> Statement {
    Statement::from_string(DbBackend::Sqlite, "SELECT 1 FROM sqlite_schema LIMIT 1")
}

/// Begins a transaction on a connection without leftovers of other users. The schema may change
/// while this waits for the writer.
#[cfg(feature = "sqlite")]
async fn begin_on_file(
    seat: &Seat,
    connection: &DatabaseConnection,
    options: TransactionOptions,
) -> Result<sea_orm::DatabaseTransaction, DbErr> {
    loop {
        seat.ready(connection).await?;
        let transaction = connection.begin_with_options(options).await?;
        if seat.reads() {
            // The schema may change before the transaction's first statement.
            transaction.query_one_raw(pins()).await?;
        }
        if seat.is_tidy() {
            return Ok(transaction);
        }
        transaction.rollback().await?;
    }
}
