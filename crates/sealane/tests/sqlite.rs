//! One SQLite file behind the routed connection.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveValue::Set, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, PaginatorTrait, QueryOrder, Schema, Statement, StreamTrait, TransactionTrait,
    entity::prelude::*,
};
use sealane::{Config, Consistency, Error, Intent, RoutedConnection};
use tempfile::TempDir;

mod boat {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "boat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub name: String,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

struct Harbour {
    db: RoutedConnection,
    // Removed when the test ends.
    _folder: TempDir,
}

async fn harbour() -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    // A name that a URL would misread.
    let db =
        sealane::connect(Config::sqlite(folder.path().join("har bour%20#?.db"))).await.unwrap();
    let schema = Schema::new(db.get_database_backend());
    db.execute(&schema.create_table_from_entity(boat::Entity)).await.unwrap();
    Harbour { db, _folder: folder }
}

fn boat(name: &str) -> boat::ActiveModel {
    boat::ActiveModel { name: Set(name.to_owned()), ..Default::default() }
}

fn raw(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}

/// Statements that have run so far: (reads on the readers, reads on the
/// writer, writes on the writer).
fn counts(db: &RoutedConnection) -> (u64, u64, u64) {
    let status = db.status();
    let find = |name| status.endpoints.iter().find(|e| e.name == name).unwrap();
    let (writer, readers) = (find("writer"), find("readers"));
    assert_eq!(readers.writes, 0, "a write was sent to the readers");
    (readers.reads, writer.reads, writer.writes)
}

#[tokio::test]
async fn a_fresh_read_sees_every_committed_write() {
    let harbour = harbour().await;
    let session = harbour.db.session();
    for n in 0..500 {
        let saved = boat(&format!("boat {n}")).insert(&session).await.unwrap();
        let read = boat::Entity::find_by_id(saved.id).one(&session).await.unwrap();
        assert_eq!(read, Some(saved));
    }
    assert_eq!(counts(&harbour.db), (500, 0, 501));
}

#[tokio::test]
async fn what_returns_rows_and_writes_goes_to_the_writer() {
    let Harbour { db, _folder } = harbour().await;
    let before = counts(&db);
    let rows = db
        .query_all_raw(raw("INSERT INTO boat (name) VALUES ('Ida'), ('Jolle') RETURNING id"))
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    let mut stream = db.stream_raw(raw("DELETE FROM boat RETURNING id")).await.unwrap();
    let mut gone = 0;
    while stream.try_next().await.unwrap().is_some() {
        gone += 1;
    }
    assert_eq!(gone, 2);
    assert_eq!(counts(&db), (before.0, before.1, before.2 + 2));
}

#[tokio::test]
async fn streams_and_paginators_read_from_the_readers() {
    let Harbour { db, _folder } = harbour().await;
    boat::Entity::insert_many(["Ida", "Jolle", "Kutter"].map(boat)).exec(&db).await.unwrap();
    let before = counts(&db);
    let streamed: Vec<_> =
        boat::Entity::find().stream(&db).await.unwrap().try_collect().await.unwrap();
    assert_eq!(streamed.len(), 3);
    let pages = boat::Entity::find().order_by_asc(boat::Column::Id).paginate(&db, 2);
    assert_eq!(pages.num_pages().await.unwrap(), 2);
    assert_eq!(pages.fetch_page(1).await.unwrap()[0].name, "Kutter");
    assert_eq!(counts(&db), (before.0 + 3, before.1, before.2));
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_and_a_rollback_undoes_them() {
    let Harbour { db, _folder } = harbour().await;
    let txn = db.begin().await.unwrap();
    boat("Ida").insert(&txn).await.unwrap();
    assert_eq!(boat::Entity::find().count(&txn).await.unwrap(), 1);
    let nested = txn.begin().await.unwrap();
    boat("Jolle").insert(&nested).await.unwrap();
    nested.rollback().await.unwrap();
    assert_eq!(boat::Entity::find().count(&txn).await.unwrap(), 1);
    txn.commit().await.unwrap();

    let dropped = db.begin().await.unwrap();
    boat("Kutter").insert(&dropped).await.unwrap();
    drop(dropped);
    assert_eq!(boat::Entity::find().count(&db).await.unwrap(), 1);
}

#[tokio::test]
async fn a_closure_that_fails_rolls_back() {
    let Harbour { db, _folder } = harbour().await;
    let result = db
        .transaction::<_, (), DbErr>(|txn| {
            Box::pin(async move {
                boat("Ida").insert(txn).await?;
                Err(DbErr::Custom("no".into()))
            })
        })
        .await;
    assert!(result.is_err());
    assert_eq!(boat::Entity::find().count(&db).await.unwrap(), 0);
    db.transaction_async(async |txn| boat("Ida").insert(txn).await).await.unwrap();
    assert_eq!(boat::Entity::find().count(&db).await.unwrap(), 1);
}

#[tokio::test]
async fn a_read_only_transaction_runs_on_the_readers_and_cannot_write() {
    let Harbour { db, _folder } = harbour().await;
    let before = counts(&db);
    let txn = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    assert_eq!(boat::Entity::find().count(&txn).await.unwrap(), 0);
    assert!(boat("Ida").insert(&txn).await.is_err());
    txn.rollback().await.unwrap();
    assert_eq!(counts(&db), (before.0 + 1, before.1, before.2));
}

/// SQLite checks what is deferred, and commits, when a statement ends. Its first row comes before.
#[tokio::test]
async fn a_write_that_returns_a_row_and_is_not_committed_is_no_success() {
    let harbour = harbour().await;
    let run = async |sql: &str| harbour.db.execute_unprepared(sql).await.unwrap();
    run("CREATE TABLE sailor (id INTEGER PRIMARY KEY, boat INTEGER NOT NULL \
         REFERENCES boat (id) DEFERRABLE INITIALLY DEFERRED)")
    .await;
    let insert = raw("INSERT INTO sailor (boat) VALUES (77) RETURNING id");
    let inserted = harbour.db.query_one_raw(insert).await;
    assert!(inserted.is_err(), "it was rolled back");
    let count = raw("SELECT count(*) AS n FROM sailor");
    let row = harbour.db.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "n").unwrap(), 0);
}

#[tokio::test]
async fn a_nested_transaction_that_does_not_begin_ends_the_whole_one() {
    let harbour = harbour().await;
    let transaction = harbour.db.begin().await.unwrap();
    boat("Ida").insert(&transaction).await.unwrap();
    // SQLite may have answered by the first look; such a one is over at once.
    let mut was_given_up = false;
    for _ in 0..1_000 {
        let mut nested = Box::pin(transaction.begin());
        was_given_up = std::future::poll_fn(|context| {
            std::task::Poll::Ready(nested.as_mut().poll(context).is_pending())
        })
        .await;
        if was_given_up {
            break;
        }
    }
    assert!(was_given_up);
    let later = boat("Una").insert(&transaction).await.unwrap_err();
    assert!(matches!(Error::of(&later), Some(Error::TransactionLost { .. })), "{later}");
    transaction.commit().await.unwrap_err();
    assert_eq!(boat::Entity::find().count(&harbour.db).await.unwrap(), 0);
}

#[tokio::test]
async fn code_for_seaorms_transaction_takes_ours() {
    async fn add(txn: &DatabaseTransaction) -> Result<boat::Model, DbErr> {
        boat("Ida").insert(txn).await
    }
    let Harbour { db, _folder } = harbour().await;
    let txn = db.begin().await.unwrap();
    add(&txn).await.unwrap();
    txn.commit().await.unwrap();
    assert_eq!(boat::Entity::find().count(&db).await.unwrap(), 1);
}

#[tokio::test]
async fn a_table_that_only_the_writers_connection_has_is_found_there() {
    let Harbour { db, _folder } = harbour().await;
    db.execute_unprepared("CREATE TEMPORARY TABLE crew (name TEXT)").await.unwrap();
    let rows = db.query_all_raw(raw("SELECT name FROM crew")).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn every_handle_of_a_session_and_every_consistency_reads() {
    let Harbour { db, _folder } = harbour().await;
    boat("Ida").insert(&db).await.unwrap();
    for consistency in [
        Consistency::Eventual,
        Consistency::BoundedStaleness(std::time::Duration::ZERO),
        Consistency::ReadYourWrites,
    ] {
        let before = counts(&db);
        let handle = db.with_consistency(consistency);
        assert_eq!(boat::Entity::find().count(&handle).await.unwrap(), 1);
        assert_eq!(counts(&db).0, before.0 + 1, "{consistency}");
    }
    let before = counts(&db);
    assert_eq!(boat::Entity::find().count(&db.on_primary()).await.unwrap(), 1);
    assert_eq!(counts(&db), (before.0, before.1 + 1, before.2));
}

#[tokio::test]
async fn a_database_in_memory_works_without_a_split() {
    let db = sealane::connect("sqlite::memory:").await.unwrap();
    let schema = Schema::new(db.get_database_backend());
    db.execute(&schema.create_table_from_entity(boat::Entity)).await.unwrap();
    boat("Ida").insert(&db).await.unwrap();
    assert_eq!(boat::Entity::find().count(&db).await.unwrap(), 1);
    assert_eq!(db.status().endpoints.len(), 1);
}

#[tokio::test]
async fn explain_sends_nothing_and_says_why() {
    let Harbour { db, _folder } = harbour().await;
    let before = counts(&db);
    let read = db.explain("SELECT name FROM boat");
    assert_eq!((read.intent, read.first_choice()), (Intent::Read, Some("readers")));
    let write = db.explain("DELETE FROM boat RETURNING id");
    assert_eq!((write.intent, write.first_choice()), (Intent::Write, Some("writer")));
    assert!(write.to_string().contains("readers: no, it is not the primary"), "{write}");
    assert_eq!(counts(&db), before);
}

#[tokio::test]
async fn errors_of_a_statement_come_from_it() {
    let Harbour { db, _folder } = harbour().await;
    let error = db.query_one_raw(raw("SELECT absent FROM boat")).await.unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

#[tokio::test]
async fn a_disconnected_default_fails_without_panic() {
    let db = RoutedConnection::default();
    assert!(db.query_one_raw(raw("SELECT 1")).await.is_err());
    assert!(db.ping().await.is_err());
}

#[tokio::test]
async fn seaorms_mock_can_be_routed() {
    let mock = sea_orm::MockDatabase::new(DbBackend::Postgres)
        .append_query_results([[boat::Model { id: 1, name: "Ida".into() }]])
        .into_connection();
    let db = RoutedConnection::from(mock);
    assert!(db.is_mock_connection());
    let boats = boat::Entity::find().all(&db).await.unwrap();
    assert_eq!(boats.len(), 1);
}
