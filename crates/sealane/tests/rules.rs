//! Routing rules behind the routed connection, on one SQLite file: its readers are the replica.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test may end there")]

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sealane::{
    Config, ConnectError, Consistency, CostClass, FallbackPolicy, Replica, RoutedConnection, Rule,
};
use tempfile::TempDir;

async fn harbour(configure: impl FnOnce(Config) -> Config) -> (RoutedConnection, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = configure(Config::sqlite(folder.path().join("harbour.db")));
    let db = sealane::connect(config).await.unwrap();
    db.execute_unprepared("CREATE TABLE boat (id INTEGER)").await.unwrap();
    db.execute_unprepared("CREATE TABLE balance (id INTEGER)").await.unwrap();
    (db, folder)
}

async fn read(db: &RoutedConnection, table: &str) -> Result<(), DbErr> {
    let sql = format!("SELECT id FROM {table}");
    db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.map(|_| ())
}

/// How many reads have run on the writer and on the readers.
fn reads(db: &RoutedConnection) -> (u64, u64) {
    let status = db.status();
    let of = |name| status.endpoints.iter().find(|it| it.name == name).unwrap().reads;
    (of("writer"), of("readers"))
}

#[tokio::test]
async fn reads_of_a_table_run_on_the_primary_if_a_rule_says_so_and_explain_names_the_rule() {
    let rule = || Rule::new("balances").table("balance").to_primary();
    let (db, _folder) = harbour(|config| config.rule(rule())).await;
    read(&db, "balance").await.unwrap();
    read(&db, "boat").await.unwrap();
    assert_eq!(reads(&db), (1, 1));

    let why = db.explain("SELECT id FROM balance");
    assert_eq!((why.rule.as_deref(), why.routing), (Some("balances"), "rules"));
    assert_eq!((why.first_choice(), why.consistency), (Some("writer"), Consistency::Strong));
    assert!(why.to_string().contains("rule: balances"), "{why}");
    let why = db.explain("SELECT id FROM boat");
    assert_eq!((why.rule.as_deref(), why.first_choice()), (None, Some("readers")));
    // A rule is for reads only.
    assert_eq!(db.explain("DELETE FROM balance").rule, None);
}

#[tokio::test]
async fn rules_change_while_statements_run() {
    let (db, _folder) = harbour(|config| config).await;
    read(&db, "boat").await.unwrap();
    db.rules().add(Rule::new("all").to_primary()).unwrap();
    read(&db, "boat").await.unwrap();
    assert_eq!(reads(&db), (1, 1));
    assert!(db.rules().remove("all") && !db.rules().remove("all"));
    read(&db, "boat").await.unwrap();
    assert_eq!(reads(&db), (1, 2));

    let two = [Rule::new("low").to_primary(), Rule::new("high").to_primary().priority(1)];
    db.rules().set(two).unwrap();
    let names: Vec<_> = db.rules().list().iter().map(|it| it.name().to_owned()).collect();
    assert_eq!(names, ["high", "low"]);
    let refused = db.rules().add(Rule::new("low").to_primary()).unwrap_err();
    assert!(refused.to_string().contains("two rules are called `low`"), "{refused}");
    assert_eq!(db.rules().list().len(), 2, "what was refused changes nothing");
}

#[tokio::test]
async fn reads_that_a_rule_sends_to_the_primary_run_there_although_replicas_are_asked_for() {
    let (db, _folder) = harbour(|config| config.rule(Rule::new("all").to_primary())).await;
    read(&db.on_replicas(), "boat").await.unwrap();
    assert_eq!(reads(&db), (1, 0));
}

#[tokio::test]
async fn the_fallback_of_a_rule_holds_where_the_handle_chose_none() {
    let rule = Rule::new("all").fallback(FallbackPolicy::Fail);
    let (db, _folder) = harbour(|config| config.rule(rule)).await;
    assert_eq!(db.explain("SELECT 1").fallback, FallbackPolicy::Fail);
    let own = db.fallback(FallbackPolicy::Primary);
    assert_eq!(own.explain("SELECT 1").fallback, FallbackPolicy::Primary);
}

#[tokio::test]
async fn a_rule_that_leads_nowhere_is_refused_before_anything_is_opened() {
    let config = || Config::new("postgres://app:tide@nowhere/shop");
    let near = || Replica::new("postgres://app:tide@nowhere-2/shop").name("near");
    for (config, says) in [
        (config().replica(near()).heavy_reads("analytics"), "the group `analytics`"),
        (config().rule(Rule::new("a").to_replicas(["typo"])), "`typo`, and no endpoint"),
        (config().rule(Rule::new("a").cost(CostClass::Heavy)), "`a` changes nothing"),
        (config().rule(Rule::new("postgres://a:tide@b").to_group("x")), "the rule"),
    ] {
        let error = sealane::connect(config).await.unwrap_err();
        assert!(matches!(error, ConnectError::Rule(_)), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(says) && !text.contains("tide"), "{text}");
    }
}
