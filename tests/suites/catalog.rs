//! What the catalog knows and no text shows, over a routed connection: what hides something
//! stays on the primary, and what the catalog proves to be pure leaves it.

#[path = "catalog/place.rs"]
mod place;

use anyhow::ensure;
use place::Place::{Primary, Replica};
use place::{SOON, answer, check, clear, connected, larder, stocked};
use sea_orm::{ConnectionTrait, TransactionTrait};
use sealane_tests::{eventually, fleet};

#[tokio::test]
async fn functions_go_where_their_volatility_says() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    let expected = [
        (", larder.tasted('a')", Replica),
        (", larder.tasted(name) FROM larder.jam", Replica),
        (", larder.opened(1)", Primary("opened")),
        (" FROM larder.jam WHERE larder.opened(id) = 1", Primary("opened")),
        (", cellar.dusted(1)", Replica),
        (", cellar.corked(1)", Primary("corked")),
        // One that is volatile may be meant wherever the name is.
        (", initcap('plum')", Primary("initcap")),
        (", larder.initcap(1)", Primary("initcap")),
        (", reverse('plum')", Replica),
        (", larder.reverse(1)", Replica),
        (", upper('plum')", Replica),
        (", larder.unheard_of() WHERE false", Primary("unheard_of")),
    ];
    // The last one does not exist: its explanation is all there is.
    check(&db, &expected[..expected.len() - 1]).await?;
    let unheard = db.explain("SELECT larder.unheard_of()");
    ensure!(unheard.first_choice() == Some("primary"), "{unheard}");
    clear(&cluster).await
}

#[tokio::test]
async fn a_function_written_like_a_column_is_found() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    db.execute_unprepared("ALTER ROLE sealane SET search_path = public, larder").await?;
    let outcome = async {
        let db = connected(fleet::config(&cluster)).await?;
        fleet::ready(&db).await?;
        let expected = [
            (", jam.smell FROM larder.jam", Primary("smell")),
            (", (jam).smell FROM larder.jam", Primary("smell")),
            (", j.smell FROM larder.jam AS j", Primary("smell")),
            (", jam.colour FROM larder.jam", Replica),
            (", jam.name FROM larder.jam", Replica),
        ];
        check(&db, &expected).await
    }
    .await;
    db.execute_unprepared("ALTER ROLE sealane RESET search_path").await?;
    outcome?;
    clear(&cluster).await
}

#[tokio::test]
async fn aggregates_and_operators_are_as_pure_as_their_functions() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    let expected = [
        (", larder.weighed(id) FROM larder.jam", Replica),
        (", larder.poured(id) FROM larder.jam", Primary("poured")),
        (", larder.poured(id) OVER () FROM larder.jam", Primary("poured")),
        (", 1 OPERATOR(larder.|+|) 2", Replica),
        (", 1 OPERATOR(larder.|!|) 2", Primary("|!|")),
    ];
    check(&db, &expected).await?;
    clear(&cluster).await
}

#[tokio::test]
async fn conversions_are_as_pure_as_what_they_run() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    let expected = [
        (", 5::larder.grams", Replica),
        (", 5::larder.fresh", Primary("fresh")),
        (", CAST('5' AS larder.fresh)", Primary("fresh")),
        (", larder.fresh '5'", Primary("fresh")),
        (", ROW('a')::larder.label::text", Primary("label")),
        // Through the type of a column, without a word of it.
        (", upper(label) FROM larder.labelled", Primary("labelled")),
        (", concat(label) FROM larder.labelled", Primary("labelled")),
    ];
    check(&db, &expected).await?;
    clear(&cluster).await
}

#[tokio::test]
async fn relations_that_hide_something_stay_on_the_primary() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    db.execute_unprepared("INSERT INTO larder.scratch VALUES (1)").await?;
    fleet::replayed(&cluster).await?;
    let expected = [
        (" FROM larder.jam", Replica),
        (" FROM larder.plain", Replica),
        (" FROM larder.tasting", Replica),
        (" FROM larder.kept", Replica),
        (" FROM larder.shared", Replica),
        (" FROM larder.locking", Primary("pg_try_advisory_lock")),
        (" FROM larder.above_locking", Primary("pg_try_advisory_lock")),
        (" FROM larder.counting", Primary("nextval")),
        (" FROM larder.opening", Primary("opened")),
        (" FROM larder.scratch", Primary("unlogged")),
        (" FROM larder.scratching", Primary("unlogged")),
        (" FROM ONLY larder.scratch", Primary("unlogged")),
        (" FROM larder.shelf", Primary("shelf_top")),
        (" FROM larder.jars", Primary("sequence")),
        (" FROM larder.watched", Primary("is_fresh")),
        (" FROM larder.tenants", Primary("current_setting")),
        (" WHERE EXISTS (SELECT FROM larder.scratch)", Primary("scratch")),
        (" FROM (TABLE larder.locking) AS x", Primary("locking")),
        (" FROM larder.jam JOIN larder.above_locking USING (id)", Primary("above_locking")),
    ];
    let rows = "INSERT INTO larder.shelf_top VALUES (2)";
    db.execute_unprepared(rows).await?;
    // The application is an administrator, whom no policy binds: rows come all the same.
    check(&db, &expected).await?;
    clear(&cluster).await
}

#[tokio::test]
async fn unlogged_partitions_and_temporary_and_foreign_tables_stay_on_the_primary()
-> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    db.execute_unprepared(
        "CREATE TABLE larder.crate (id int) PARTITION BY LIST (id);
         CREATE UNLOGGED TABLE larder.crate_1 PARTITION OF larder.crate FOR VALUES IN (1);
         INSERT INTO larder.crate VALUES (1);
         CREATE TABLE larder.rack (id int) PARTITION BY LIST (id);
         CREATE TABLE larder.rack_1 PARTITION OF larder.rack FOR VALUES IN (1);
         INSERT INTO larder.rack VALUES (1)",
    )
    .await?;
    let loaded = async || Ok(!db.session().explain("TABLE larder.crate").intent.is_read());
    eventually(SOON, "the partitions are known", loaded).await?;
    let expected =
        [(" FROM larder.crate", Primary("crate_1")), (" FROM larder.crate_1", Primary("unlogged"))];
    check(&db, &expected).await?;
    fleet::replayed(&cluster).await?;
    check(&db, &[(" FROM larder.rack", Replica)]).await?;

    let transaction = db.begin().await?;
    transaction.execute_unprepared("CREATE TEMP TABLE jotting (id int)").await?;
    transaction.execute_unprepared("INSERT INTO jotting VALUES (1)").await?;
    let here = "SELECT pg_is_in_recovery() AS here FROM jotting";
    ensure!(!answer::<bool>(&transaction, here, "here").await?);
    transaction.rollback().await?;
    let explanation = db.explain("SELECT * FROM pg_temp.jotting");
    ensure!(explanation.first_choice() == Some("primary"), "{explanation}");

    foreign_tables(&cluster, &db).await?;
    clear(&cluster).await
}

#[allow(clippy::print_stdout, reason = "what is not looked at is part of the result")]
async fn foreign_tables(
    cluster: &sealane_tests::Cluster,
    db: &sealane::RoutedConnection,
) -> anyhow::Result<()> {
    let available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'file_fdw')";
    if !cluster.primary().query_scalar::<bool>(available).await? {
        println!("no file_fdw in this image: foreign tables are not looked at");
        return Ok(());
    }
    db.execute_unprepared(
        "CREATE EXTENSION file_fdw SCHEMA larder;
         CREATE SERVER larder_files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE larder.distant (line text) SERVER larder_files OPTIONS (filename '/etc/hostname')",
    )
    .await?;
    let loaded = async || Ok(!db.session().explain("TABLE larder.distant").intent.is_read());
    eventually(SOON, "the foreign table is known", loaded).await?;
    check(db, &[(" FROM larder.distant", Primary("foreign"))]).await
}

#[tokio::test]
async fn a_hint_for_the_primary_or_for_a_group_is_followed() -> anyhow::Result<()> {
    let cluster = stocked().await?;
    let [first, second] = [0, 1].map(|index| &*cluster.replicas()[index].url);
    let config = fleet::config_of(
        sealane::Replica::new(&*cluster.primary().url),
        [sealane::Replica::new(first), sealane::Replica::new(second).group("analytics")],
    );
    let db = connected(config).await?;
    let ready = async || {
        let endpoints = db.status().endpoints;
        let up = endpoints.iter().filter(|endpoint| {
            let status = serde_json::to_value(endpoint).unwrap_or_default();
            status["health"]["state"] == "up"
        });
        Ok(up.count() == 3)
    };
    eventually(SOON, "all three are up", ready).await?;
    // Which of the three answers.
    let sql = "SELECT host(inet_server_addr()) AS address";
    let mut addresses = Vec::new();
    for server in cluster.servers() {
        addresses.push(server.query_scalar::<String>(sql).await?);
    }
    for _ in 0..20 {
        for (hint, server) in
            [("", 1), ("/* sealane: group=analytics */ ", 2), ("/* sealane: primary */ ", 0)]
        {
            let (session, sql) = (db.session(), format!("{hint}{sql}"));
            let name = &*cluster.servers()[server].name;
            let explanation = session.explain(&sql);
            ensure!(explanation.first_choice() == Some(name), "{sql}: {explanation}");
            let answer: String = answer(&session, &sql, "address").await?;
            ensure!(answer == addresses[server], "{sql}: {answer} of {addresses:?}");
        }
    }
    clear(&cluster).await
}

const STABLE: &str = "CREATE OR REPLACE FUNCTION larder.tasted(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1'";
const VOLATILE: &str = "CREATE OR REPLACE FUNCTION larder.tasted(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1'";
const TASTES: &str = "SELECT pg_is_in_recovery() AS here, larder.tasted('a')";

fn leaves(db: &sealane::RoutedConnection, sql: &str) -> bool {
    db.session().explain(sql).first_choice() != Some("primary")
}

async fn leaves_soon(db: &sealane::RoutedConnection, sql: &str) -> anyhow::Result<()> {
    let what = format!("a replica serves {sql}");
    eventually(SOON, &what, async || Ok(leaves(db, sql))).await?;
    ensure!(answer::<bool>(&db.session(), sql, "here").await?, "{sql}");
    Ok(())
}

#[tokio::test]
async fn a_changed_function_counts_at_once_also_from_within_transactions() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    leaves_soon(&db, TASTES).await?;
    for nesting in 0..3 {
        // The last level is that of a transaction within a transaction.
        match nesting {
            0 => {
                db.execute_unprepared(VOLATILE).await?;
            }
            1 => {
                let transaction = db.begin().await?;
                transaction.execute_unprepared(VOLATILE).await?;
                transaction.commit().await?;
            }
            _ => {
                let outer = db.begin().await?;
                let inner = outer.begin().await?;
                inner.execute_unprepared(VOLATILE).await?;
                inner.commit().await?;
                outer.commit().await?;
            }
        }
        ensure!(!leaves(&db, TASTES), "after a change, nesting {nesting}");
        ensure!(!answer::<bool>(&db.session(), TASTES, "here").await?);
        db.execute_unprepared(STABLE).await?;
        leaves_soon(&db, TASTES).await?;
    }
    clear(&cluster).await
}

#[tokio::test]
async fn a_change_by_others_counts_once_it_is_noted() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    cluster.primary().sql(VOLATILE).await?;
    db.note_schema_change();
    ensure!(!leaves(&db, TASTES));
    cluster.primary().sql(STABLE).await?;
    db.note_schema_change();
    leaves_soon(&db, TASTES).await?;
    clear(&cluster).await
}

#[tokio::test]
async fn a_view_that_comes_to_hide_a_lock_is_never_read_on_a_replica() -> anyhow::Result<()> {
    let (cluster, db) = larder().await?;
    let sql = "SELECT pg_is_in_recovery() AS here FROM larder.plain";
    leaves_soon(&db, sql).await?;
    db.execute_unprepared(
        "CREATE OR REPLACE VIEW larder.plain AS
         SELECT id, name FROM larder.jam WHERE pg_try_advisory_lock_shared(4712)",
    )
    .await?;
    ensure!(!leaves(&db, sql), "right after the change");
    ensure!(!answer::<bool>(&db.session(), sql, "here").await?);
    let known = async || Ok(db.explain(sql).reason.contains("pg_try_advisory_lock_shared"));
    eventually(SOON, "the new definition is known", known).await?;
    clear(&cluster).await
}
