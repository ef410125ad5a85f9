//! Sessions in scopes, forks, and as tokens, over one SQLite file each.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use sea_orm::{
    ConnectionTrait, DatabaseExecutor, DbBackend, IntoDatabaseExecutor, Statement, TransactionTrait,
};
use sealane::{Config, Consistency, RoutedConnection, TokenRefusal, in_current_scope, scope};
use tempfile::TempDir;

struct Harbour {
    db: RoutedConnection,
    // Removed when the test ends.
    _folder: TempDir,
}

impl std::ops::Deref for Harbour {
    type Target = RoutedConnection;

    fn deref(&self) -> &RoutedConnection {
        &self.db
    }
}

async fn harbour_with(configure: impl FnOnce(Config) -> Config) -> Harbour {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(Config::sqlite(folder.path().join("harbour.db")));
    let db = sealane::connect(config).await.unwrap();
    // Not by a session that a test looks at.
    db.session().execute_unprepared("CREATE TABLE boat (name TEXT)").await.unwrap();
    Harbour { db, _folder: folder }
}

async fn harbour() -> Harbour {
    harbour_with(|config| config.token_key("k".repeat(32))).await
}

async fn launch(db: &impl ConnectionTrait) {
    db.execute_unprepared("INSERT INTO boat (name) VALUES ('Ida')").await.unwrap();
}

#[tokio::test]
async fn the_shared_handle_obeys_the_scope_that_it_is_used_in() {
    let db = harbour().await;
    let (session, before) = (db.session(), db.progress());
    scope(session.clone(), launch(&db.db)).await;
    assert_eq!(db.progress(), before, "the shared session has not written");
    assert_ne!(session.progress(), before, "the one of the scope has");
}

#[tokio::test]
async fn a_transaction_and_a_noted_write_belong_to_the_scope_too() {
    let db = harbour().await;
    let before = db.progress();
    for by_hand in [true, false] {
        let session = db.session();
        let work = async {
            match by_hand {
                true => db.note_write(),
                false => db.begin().await.unwrap().commit().await.unwrap(),
            }
        };
        scope(session.clone(), work).await;
        assert_ne!(session.progress(), before);
    }
    assert_eq!(db.progress(), before);
}

#[tokio::test]
async fn a_transaction_that_is_given_away_counts_as_a_write_of_its_session() {
    let db = harbour().await;
    let (session, before) = (db.session(), db.progress());
    let executor = session.begin().await.unwrap().into_database_executor();
    assert!(executor.is_transaction());
    launch(&executor).await;
    let DatabaseExecutor::OwnedTransaction(transaction) = executor else { panic!("{executor:?}") };
    transaction.commit().await.unwrap();
    let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) AS n FROM boat");
    let row = session.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get::<i64>("", "n").unwrap(), 1);
    assert_ne!(session.progress(), before);
}

#[tokio::test]
async fn a_handle_with_a_session_of_its_own_keeps_it_in_a_scope() {
    let db = harbour().await;
    let (scoped, own) = (db.session(), db.session());
    let before = own.progress();
    scope(scoped.clone(), launch(&own)).await;
    assert_ne!(own.progress(), before);
    assert_eq!(scoped.progress(), before);
}

#[tokio::test]
async fn a_call_asks_before_its_scope_and_that_before_the_configuration() {
    let db = harbour_with(|config| config.consistency(Consistency::Eventual)).await;
    let seen = async || (db.consistency(), db.on_primary().consistency());
    assert_eq!(seen().await, (Consistency::Eventual, Consistency::Strong));
    let bounded = Consistency::BoundedStaleness(std::time::Duration::from_secs(1));
    let session = db.session().with_consistency(bounded);
    assert_eq!(scope(session, seen()).await, (bounded, Consistency::Strong));
    // What a call does not ask for comes from the scope all the same.
    let (session, before) = (db.session(), db.progress());
    scope(session.clone(), async { launch(&db.on_primary()).await }).await;
    assert_ne!(session.progress(), before);
}

#[tokio::test]
async fn scopes_of_two_databases_do_not_hide_each_other() {
    let (one, two) = (harbour().await, harbour().await);
    let (first, second) = (one.session(), two.session());
    let before = (one.progress(), two.progress());
    let work = async {
        launch(&one.db).await;
        launch(&two.db).await;
    };
    scope(first.clone(), scope(second.clone(), work)).await;
    assert_eq!((one.progress(), two.progress()), before);
    assert!(first.progress() != before.0 && second.progress() != before.1);
}

#[tokio::test]
async fn the_innermost_scope_of_a_database_counts() {
    let db = harbour().await;
    let (outer, inner) = (db.session(), db.session());
    let before = outer.progress();
    scope(outer.clone(), scope(inner.clone(), launch(&db.db))).await;
    assert_eq!(outer.progress(), before);
    assert_ne!(inner.progress(), before);
}

#[tokio::test]
async fn a_task_is_in_a_scope_only_if_it_takes_it_along() {
    let db = harbour().await;
    let before = db.progress();
    for taken_along in [false, true] {
        let session = db.session();
        let handle = db.db.clone();
        let work = async move { launch(&handle).await };
        scope(session.clone(), async move {
            match taken_along {
                true => tokio::spawn(in_current_scope(work)).await.unwrap(),
                false => tokio::spawn(work).await.unwrap(),
            }
        })
        .await;
        assert_eq!(session.progress() != before, taken_along);
    }
    // Without a scope it changes nothing.
    in_current_scope(launch(&db.db)).await;
}

#[tokio::test]
async fn a_handle_knows_whether_a_scope_speaks_for_it() {
    let (db, other) = (harbour().await, harbour().await);
    let own = db.session();
    let seen = || (db.is_scoped(), own.is_scoped(), other.is_scoped());
    assert_eq!(seen(), (false, false, false));
    assert_eq!(scope(db.session(), async { seen() }).await, (true, false, false));
}

#[tokio::test]
async fn a_fork_tells_its_parent_only_when_they_are_merged() {
    let db = harbour().await;
    let parent = db.session();
    launch(&parent).await;
    let (fork, before) = (parent.fork(), parent.progress());
    assert_eq!(fork.progress(), before);
    launch(&fork).await;
    assert_eq!(parent.progress(), before);
    parent.merge(&fork);
    assert_eq!(parent.progress(), fork.progress());
}

#[tokio::test]
async fn a_session_of_another_database_has_nothing_to_tell() {
    let (one, two) = (harbour().await, harbour().await);
    let (session, other) = (one.session(), two.session());
    launch(&other).await;
    let before = session.progress();
    session.merge(&other);
    assert_eq!(session.progress(), before);
}

#[tokio::test]
async fn a_token_is_made_when_there_is_something_to_tell_and_a_key() {
    let db = harbour().await;
    let session = db.session();
    assert_eq!(session.token().await, None);
    launch(&session).await;
    let token = session.token().await.unwrap();
    assert!(db.token_max_age().is_some());
    let resumed = db.resume(&token);
    assert_eq!(resumed.refused, None);
    assert!(resumed.session.token().await.is_some());
    let keyless = harbour_with(|config| config).await;
    launch(&keyless.db).await;
    assert_eq!(keyless.token().await, None);
    assert_eq!(keyless.token_max_age(), None);
    assert_eq!(keyless.resume(&token).refused, Some(TokenRefusal::NoKey));
}

#[tokio::test]
async fn a_refused_token_begins_anew_and_reads() {
    let db = harbour().await;
    launch(&db.db).await;
    let token = db.token().await.unwrap();
    let forged = token.replacen(|c| c != 'A', "A", 1);
    for text in ["", "nonsense", "%%%", &forged] {
        let resumed = db.resume(text);
        assert!(resumed.refused.is_some(), "{text}");
        assert!(resumed.session.query_one_raw(count()).await.unwrap().is_some());
    }
    assert_eq!(db.resume_all([&*token, "nonsense"]).refused, Some(TokenRefusal::Malformed));
    assert_eq!(db.resume_all([&*token, &*token]).refused, None);
    assert_eq!(db.resume_all([]).refused, None);
}

fn count() -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT count(*) FROM boat")
}

#[tokio::test]
async fn a_weak_key_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::sqlite(folder.path().join("harbour.db")).token_key("tide");
    let error = sealane::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("4 bytes") && !error.contains("tide"), "{error}");
}
