//! SeaORM's metric callback, as applications use it over its own connection.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, StreamTrait,
    TransactionTrait, metric::Info,
};
use sealane::{Config, RoutedConnection};

/// What the callback was told: each text, and whether it failed.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, bool)>>>);

impl Told {
    fn callback(&self) -> impl Fn(&Info<'_>) + Send + Sync + 'static {
        let told = self.clone();
        move |info| {
            told.0.lock().unwrap().push((info.statement.sql.clone(), info.failed));
        }
    }

    fn take(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn sql(text: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, text)
}

/// One statement of each kind, in and out of a transaction, and one of each that fails.
async fn use_all<C>(db: &C)
where
    C: ConnectionTrait + TransactionTrait + StreamTrait,
{
    db.execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    db.execute_raw(sql("INSERT INTO boat VALUES ('Ida')")).await.unwrap();
    assert!(db.execute_raw(sql("INSERT INTO none VALUES (1)")).await.is_err());
    assert!(db.query_one_raw(sql("SELECT name FROM boat")).await.unwrap().is_some());
    assert_eq!(db.query_all_raw(sql("SELECT 1 FROM boat")).await.unwrap().len(), 1);
    assert!(db.query_all_raw(sql("SELECT nothing FROM boat")).await.is_err());
    let rows = db.stream_raw(sql("SELECT 2 FROM boat")).await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    let transaction = db.begin().await.unwrap();
    transaction.execute_raw(sql("INSERT INTO boat VALUES ('Eva')")).await.unwrap();
    assert!(transaction.query_one_raw(sql("SELECT none FROM boat")).await.is_err());
    let nested = transaction.begin().await.unwrap();
    nested.query_all_raw(sql("SELECT 3 FROM boat")).await.unwrap();
    sea_orm::TransactionSession::commit(nested).await.unwrap();
    sea_orm::TransactionSession::commit(transaction).await.unwrap();
}

fn expected() -> Vec<(String, bool)> {
    let all = [
        ("INSERT INTO boat VALUES ('Ida')", false),
        ("INSERT INTO none VALUES (1)", true),
        ("SELECT name FROM boat", false),
        ("SELECT 1 FROM boat", false),
        ("SELECT nothing FROM boat", true),
        ("SELECT 2 FROM boat", false),
        ("INSERT INTO boat VALUES ('Eva')", false),
        ("SELECT none FROM boat", true),
        ("SELECT 3 FROM boat", false),
    ];
    all.map(|(text, failed)| (text.to_owned(), failed)).to_vec()
}

struct Harbour {
    db: RoutedConnection,
    // Removed when the test ends.
    _folder: tempfile::TempDir,
}

async fn harbour(told: &Told) -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db"));
    let mut db = sealane::connect(config).await.unwrap();
    db.set_metric_callback(told.callback());
    Harbour { db, _folder: folder }
}

#[tokio::test]
async fn each_statement_is_told_once_as_by_seaorm() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("plain.db").display());
    let told = Told::default();
    let mut plain: DatabaseConnection = Database::connect(url).await.unwrap();
    plain.set_metric_callback(told.callback());
    use_all(&plain).await;
    assert_eq!(told.take(), expected());

    let harbour = harbour(&told).await;
    use_all(&harbour.db).await;
    assert_eq!(told.take(), expected());
}

#[tokio::test]
async fn sessions_and_scopes_of_a_handle_keep_its_callback() {
    let told = Told::default();
    let harbour = harbour(&told).await;
    let one = "SELECT 1";
    harbour.db.session().query_one_raw(sql(one)).await.unwrap();
    harbour.db.on_primary().query_one_raw(sql(one)).await.unwrap();
    let scoped = harbour.db.query_one_raw(sql(one));
    sealane::scope(harbour.db.session(), scoped).await.unwrap();
    assert_eq!(told.take(), vec![(one.to_owned(), false); 3]);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_told_once() {
    let told = Told::default();
    let harbour = harbour(&told).await;
    let text = "SELECT 1 UNION SELECT 2";
    let mut rows = harbour.db.stream_raw(sql(text)).await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some());
    assert!(told.take().is_empty(), "it still runs");
    drop(rows);
    assert_eq!(told.take(), [(text.to_owned(), false)]);
    let transaction = harbour.db.begin().await.unwrap();
    drop(transaction.stream_raw(sql(text)).await.unwrap());
    assert_eq!(told.take(), [(text.to_owned(), false)]);
}
