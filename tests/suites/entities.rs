//! What SeaORM offers, over a routed connection: right, and where it belongs.

use anyhow::ensure;
use futures_util::TryStreamExt;
use sea_orm::{
    AccessMode, ActiveValue::Set, ConnectOptions, ConnectionTrait, DatabaseTransaction, DbErr,
    IsolationLevel, LoaderTrait, PaginatorTrait, QueryOrder, StreamTrait, TransactionTrait,
    entity::prelude::*, sea_query::Query,
};
use sealane::{Consistency, Intent, Random, Replica, RoutedConnection};
use sealane_tests::{
    BROKEN_PROMISE, Cluster, Engine,
    fleet::{self, boat, harbour, raw, reads_on_replica, statements},
};

use sqlx::Executor;

/// Statements on boats and harbours that the primary has run since the last
/// reset: (SELECT, others).
async fn on_primary(cluster: &Cluster) -> anyhow::Result<(i64, i64)> {
    let mut selects = 0;
    let mut all = 0;
    for table in ["boat", "harbour"] {
        selects += statements(cluster.primary(), &format!("SELECT%FROM \"{table}\"%")).await?;
        all += statements(cluster.primary(), &format!("%\"{table}\"%")).await?;
    }
    Ok((selects, all - selects))
}

async fn in_recovery(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let row = db.query_one_raw(raw(db, "SELECT in_recovery AS here FROM whereabouts")).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("here".into()))?.try_get("", "here")
}

#[tokio::test]
async fn a_handle_that_wrote_nothing_reads_on_replicas_only() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    // The default balancer prefers the replica that is quicker just now.
    let config = fleet::patient(fleet::config(&cluster)).balancer(Random);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    for _ in 0..100 {
        ensure!(reads_on_replica(&db).await?);
        ensure!(in_recovery(&db).await?);
    }
    let status = db.status();
    ensure!(status.replica_read_ratio == Some(1.0), "{status:?}");
    let spread: Vec<_> = status.endpoints.iter().map(|e| e.reads).collect();
    ensure!(spread[1] > 20 && spread[2] > 20, "one replica does all the work: {spread:?}");
    Ok(())
}

#[tokio::test]
async fn create_read_update_delete_with_and_without_returning() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    fleet::forget_statements(&cluster).await?;

    let ida = fleet::boat("Ida").insert(&db).await?;
    let jolle = fleet::boat("Jolle").save(&db).await?;
    let mut changed: boat::ActiveModel = ida.clone().into();
    changed.voyages = Set(7);
    ensure!(changed.update(&db).await?.voyages == 7);
    let updated = boat::Entity::update_many()
        .col_expr(boat::Column::Voyages, Expr::value(9))
        .exec(&db)
        .await?;
    ensure!(updated.rows_affected == 2);
    let again = boat::Entity::update_many().col_expr(boat::Column::Voyages, Expr::value(10));
    match cluster.engine() {
        Engine::Postgres => ensure!(again.exec_with_returning(&db).await?.len() == 2),
        _ => ensure!(again.exec(&db).await?.rows_affected == 2),
    }
    let without = boat::Entity::insert(fleet::boat("Kutter")).exec_without_returning(&db).await?;
    ensure!(without == 1);
    let read = boat::Entity::find_by_id(ida.id).one(&db).await?;
    ensure!(read.is_some_and(|boat| boat.voyages == 10), "{BROKEN_PROMISE}: a stale read");
    jolle.delete(&db).await?;
    ensure!(boat::Entity::delete_many().exec(&db).await?.rows_affected == 2);
    ensure!(boat::Entity::find().count(&db).await? == 0);

    let (_, writes) = on_primary(&cluster).await?;
    ensure!(writes == 8, "{writes} writes on the primary");
    for replica in cluster.replicas() {
        ensure!(statements(replica, "INSERT%").await? == 0);
        ensure!(statements(replica, "UPDATE%").await? == 0);
        ensure!(statements(replica, "DELETE%").await? == 0);
    }
    Ok(())
}

#[tokio::test]
async fn relations_loaders_paginators_streams_and_raw_sql_read_on_replicas() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    boat::Entity::insert_many(["Ida", "Jolle", "Kutter"].map(fleet::boat)).exec(&db).await?;
    fleet::replayed(&cluster).await?;
    fleet::forget_statements(&cluster).await?;

    // Another user, who has written nothing.
    let db = db.session();
    let husum = harbour::Entity::find_by_id(1).one(&db).await?.expect("the schema has it");
    ensure!(husum.find_related(boat::Entity).all(&db).await?.len() == 3);
    let joined = boat::Entity::find().find_also_related(harbour::Entity).all(&db).await?;
    ensure!(joined.len() == 3 && joined.iter().all(|(_, harbour)| harbour.is_some()));
    let harbours = harbour::Entity::find().order_by_asc(harbour::Column::Id).all(&db).await?;
    let loaded = harbours.load_many(boat::Entity, &db).await?;
    ensure!(loaded.iter().map(Vec::len).collect::<Vec<_>>() == [3, 0]);
    let nested = harbour::Entity::load().with(boat::Entity).all(&db).await?;
    ensure!(nested.len() == 2);

    let pages = boat::Entity::find().order_by_asc(boat::Column::Id).paginate(&db, 2);
    ensure!(pages.num_items_and_pages().await?.number_of_pages == 2);
    ensure!(pages.fetch_page(1).await?.len() == 1);
    let streamed: Vec<_> = boat::Entity::find().stream(&db).await?.try_collect().await?;
    ensure!(streamed.len() == 3);
    let rows = db.query_all_raw(raw(&db, "SELECT id FROM \"boat\" WHERE voyages = 0")).await?;
    ensure!(rows.len() == 3);
    let builder = Query::select().column(boat::Column::Id).from(boat::Entity).to_owned();
    ensure!(db.query_all(&builder).await?.len() == 3);

    let (selects, others) = on_primary(&cluster).await?;
    ensure!((selects, others) == (0, 0), "{selects} reads and {others} writes on the primary");
    Ok(())
}

#[tokio::test]
async fn a_transaction_runs_whole_on_the_primary() -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch().await?;
    let txn = db.begin().await?;
    ensure!(!reads_on_replica(&txn).await?);
    fleet::boat("Ida").insert(&txn).await?;
    let nested = txn.begin().await?;
    fleet::boat("Jolle").insert(&nested).await?;
    ensure!(boat::Entity::find().count(&nested).await? == 2);
    nested.rollback().await?;
    let mut stream = txn.stream_raw(raw(&txn, "SELECT id FROM boat")).await?;
    let mut rows = 0;
    while stream.try_next().await?.is_some() {
        rows += 1;
    }
    ensure!(rows == 1);
    drop(stream);
    txn.commit().await?;
    ensure!(
        boat::Entity::find().count(&db).await? == 1,
        "{BROKEN_PROMISE}: a stale read after a commit"
    );

    let dropped = db.begin().await?;
    fleet::boat("Kutter").insert(&dropped).await?;
    drop(dropped);
    let failed = db
        .transaction::<_, (), DbErr>(|txn| {
            Box::pin(async move {
                fleet::boat("Prahm").insert(txn).await?;
                Err(DbErr::Custom("no".into()))
            })
        })
        .await;
    ensure!(failed.is_err());
    ensure!(boat::Entity::find().count(&db).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_read_only_transaction_runs_on_one_replica() -> anyhow::Result<()> {
    let (_cluster, db) = fleet::launch().await?;
    for isolation in [None, Some(IsolationLevel::RepeatableRead)] {
        let txn = db.begin_with_config(isolation, Some(AccessMode::ReadOnly)).await?;
        ensure!(reads_on_replica(&txn).await?);
        ensure!(fleet::boat("Ida").insert(&txn).await.is_err());
        txn.rollback().await?;
    }
    // A standby refuses SERIALIZABLE.
    let serializable = Some(IsolationLevel::Serializable);
    let txn = db.begin_with_config(serializable, Some(AccessMode::ReadOnly)).await?;
    ensure!(!reads_on_replica(&txn).await?);
    txn.commit().await?;
    // Whoever just wrote is not sent to a replica that has not replayed it.
    let session = db.session();
    fleet::boat("Ida").insert(&session).await?;
    let txn = session.begin_with_config(None, Some(AccessMode::ReadOnly)).await?;
    ensure!(boat::Entity::find().count(&txn).await? == 1);
    txn.commit().await?;
    Ok(())
}

#[tokio::test]
async fn connections_made_beforehand_are_read_only_too() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let filled = |url: &str| {
        let mut options = sea_orm::ConnectOptions::new(url);
        options.min_connections(4).max_connections(4);
        options
    };
    for _ in 0..5 {
        let replicas = cluster.replicas().iter().map(|it| Replica::new(filled(&it.url)));
        let config = fleet::config_of(Replica::new(&*cluster.primary().url), replicas);
        let db = sealane::connect(fleet::patient(config)).await?;
        fleet::ready(&db).await?;
        let sql = match cluster.engine() {
            Engine::Postgres => {
                "SELECT reads_only() AS reads_only, in_recovery AS standby FROM whereabouts"
            }
            _ => "SELECT reads_only, in_recovery AS standby FROM whereabouts",
        };
        let show = || db.query_one_raw(raw(&db, sql));
        for row in futures_util::future::try_join_all((0..40).map(|_| show())).await? {
            let row = row.expect("one row");
            ensure!(row.try_get::<bool>("", "standby")?, "read on the primary");
            ensure!(row.try_get::<bool>("", "reads_only")?, "a replica's connection may write");
        }
        ensure!(db.status().replica_read_ratio == Some(1.0));
        db.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn code_for_seaorms_transaction_stamps_the_session_on_commit() -> anyhow::Result<()> {
    async fn add(txn: &DatabaseTransaction, name: &str) -> Result<boat::Model, DbErr> {
        fleet::boat(name).insert(txn).await
    }
    let (cluster, db) = fleet::launch().await?;
    for replica in cluster.replicas() {
        replica.pause_replay().await?;
    }
    for n in 1..=20 {
        let txn = db.begin().await?;
        add(&txn, "Ida").await?;
        txn.commit().await?;
        ensure!(boat::Entity::find().count(&db).await? == n, "{BROKEN_PROMISE}: a stale read");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_replica_refuses_is_run_on_the_primary_and_remembered() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let harmless = "DROP VIEW IF EXISTS ticket; CREATE VIEW ticket AS SELECT 1 AS number";
    cluster.primary().sql(harmless).await?;
    fleet::replayed(&cluster).await?;
    let db = sealane::connect(fleet::config(&cluster)).await?;
    fleet::ready(&db).await?;
    cluster.primary().sql(ticket(cluster.engine())).await?;
    fleet::replayed(&cluster).await?;

    // Neither the text nor the catalog, as it is known, shows that the view draws a number now.
    let sql = "SELECT number FROM ticket";
    ensure!(db.explain(sql).intent == Intent::Read);
    let number = async |db: &RoutedConnection| -> anyhow::Result<i64> {
        let row = db.query_one_raw(raw(db, sql)).await?.expect("one row");
        Ok(row.try_get("", "number")?)
    };
    ensure!(number(&db).await? == 1);
    ensure!(db.explain(sql).intent == Intent::Write, "not remembered");
    fleet::forget_statements(&cluster).await?;
    ensure!(number(&db).await? == 2);
    for replica in cluster.replicas() {
        ensure!(statements(replica, "%ticket%").await? == 0, "sent to a replica again");
    }
    Ok(())
}

/// A view that draws a number with each reading.
fn ticket(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => {
            "DROP VIEW IF EXISTS ticket; DROP SEQUENCE IF EXISTS counter; \
             CREATE SEQUENCE counter; CREATE VIEW ticket AS SELECT nextval('counter') AS number"
        }
        _ => {
            "DROP VIEW IF EXISTS ticket; DROP FUNCTION IF EXISTS draw; \
             DROP TABLE IF EXISTS counter; CREATE TABLE counter (number bigint NOT NULL); \
             INSERT INTO counter VALUES (0); \
             CREATE FUNCTION draw() RETURNS bigint DETERMINISTIC MODIFIES SQL DATA BEGIN \
             UPDATE counter SET number = number + 1; RETURN (SELECT number FROM counter); END; \
             CREATE VIEW ticket AS SELECT draw() AS number"
        }
    }
}

#[tokio::test]
async fn what_a_replica_has_not_replayed_yet_is_read_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    cluster.primary().sql("DROP TABLE IF EXISTS pier").await?;
    fleet::replayed(&cluster).await?;
    for replica in cluster.replicas() {
        replica.pause_replay().await?;
    }
    cluster.primary().sql("CREATE TABLE pier (id int); INSERT INTO pier VALUES (1)").await?;
    let eventual = db.with_consistency(Consistency::Eventual);
    ensure!(eventual.query_all_raw(raw(&db, "SELECT id FROM pier")).await?.len() == 1);
    let mut stream = eventual.stream_raw(raw(&db, "SELECT id FROM pier")).await?;
    ensure!(stream.try_next().await?.is_some());
    Ok(())
}

/// The driver's own hook, which SeaORM passes through.
fn hooked(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .map_sqlx_mysql_pool_opts(|pool| {
            pool.after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("SET SESSION group_concat_max_len = 4").await.map(drop)
                })
            })
        })
        .map_sqlx_postgres_pool_opts(|pool| {
            pool.after_connect(|connection, _| {
                Box::pin(async move {
                    // The last ones change how times are printed.
                    let settings = "SET intervalstyle = 'iso_8601'; SET datestyle = 'German'; \
                                    SET TIME ZONE 'Europe/Berlin'";
                    connection.execute(settings).await.map(drop)
                })
            })
        });
    options
}

#[tokio::test]
async fn the_drivers_own_hook_runs_on_each_connection() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    let replicas = cluster.replicas().iter().map(|it| hooked(&it.url));
    let config = fleet::config_of(hooked(&cluster.primary().url), replicas);
    let db = sealane::connect(config).await?;
    fleet::ready(&db).await?;
    let (sql, expected) = match cluster.engine() {
        Engine::Postgres => ("SELECT CAST(INTERVAL '1 day' AS text) AS shown", "P1D"),
        _ => ("SELECT GROUP_CONCAT(name ORDER BY id) AS shown FROM harbour", "Husu"),
    };
    for n in 0..8 {
        let on_primary = db.with_consistency(Consistency::Strong);
        for (place, handle) in [("replica", db.session()), ("primary", on_primary)] {
            ensure!(
                (handle.explain(sql).first_choice() == Some("primary")) == (place == "primary")
            );
            let row = handle.query_one_raw(raw(&handle, sql)).await?.expect("one row");
            let shown: String = row.try_get("", "shown")?;
            ensure!(shown == expected, "read {n} on the {place} shows {shown}");
        }
    }
    // SeaORM's own connection, too.
    let row = db.primary().query_one_raw(raw(&db, sql)).await?.expect("one row");
    ensure!(row.try_get::<String>("", "shown")? == expected);
    // A reading session does not write all the same.
    let reads_only = "SELECT reads_only, in_recovery AS standby FROM whereabouts";
    if cluster.engine() != Engine::Postgres {
        let row = db.session().query_one_raw(raw(&db, reads_only)).await?.expect("one row");
        ensure!(row.try_get::<bool>("", "reads_only")? && row.try_get::<bool>("", "standby")?);
    }
    Ok(())
}
