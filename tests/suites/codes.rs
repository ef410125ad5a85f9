//! What follows from the servers' error codes, provoked on real servers: where the read ends, and
//! that no server is taken out of use by an error that is not its own.

#[path = "codes/case.rs"]
mod case;
#[path = "codes/cases.rs"]
mod cases;
#[path = "codes/commit.rs"]
mod commit;
#[path = "codes/conditions.rs"]
mod conditions;
#[path = "codes/damage.rs"]
mod damage;
#[path = "codes/disk.rs"]
mod disk;
#[path = "codes/idle.rs"]
mod idle;
#[path = "codes/start.rs"]
mod start;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::{Config, Consistency, RoundRobin, RoutedConnection};
use sealane_tests::{Cluster, Engine, Log, Server, eventually, fleet};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    case::{Ends, nobody_went},
    conditions::{Condition, Shows},
};

const SOON: Duration = Duration::from_secs(20);
/// How many codes the statements provoke at least.
const FLOOR: usize = 42;
/// How many conditions are provoked at least.
const CONDITIONS_FLOOR: usize = 23;
/// How many codes a replica answers with on both engines together, so that another server is asked.
const LISTED_FLOOR: usize = 53;

/// The codes that `sealane-core` lists, as reads show: another server is asked after a replica. Those of
/// `disk.rs` and of the single tests below come on top.
fn listed(engine: Engine) -> BTreeSet<u16> {
    let conditions = conditions::all(engine).into_iter().map(|condition| condition.code);
    let next = cases::all(engine).into_iter().filter(|case| case.ends == Ends::Next);
    // A case with several codes may bring any of them.
    let next = next.filter_map(|case| (case.codes.len() == 1).then(|| case.codes[0]));
    conditions.chain(next).chain(damage::codes(engine)).chain(start::codes(engine)).collect()
}

/// Each row is a code that its test has to bring about, so the rows are counted.
#[test]
fn many_codes_that_are_listed_are_provoked() -> anyhow::Result<()> {
    let (mysql, mariadb) = (listed(Engine::Mysql), listed(Engine::Mariadb));
    println!("{} listed codes on MySQL: {mysql:?}", mysql.len());
    println!("{} listed codes on MariaDB: {mariadb:?}", mariadb.len());
    let both = mysql.union(&mariadb).count();
    println!("{both} on both together");
    ensure!(both >= LISTED_FLOOR, "only {both} codes");
    Ok(())
}

/// Reads that take whichever replica there is.
fn eventual(db: &RoutedConnection) -> RoutedConnection {
    db.with_consistency(Consistency::Eventual)
}

async fn serve(db: &RoutedConnection) -> anyhow::Result<()> {
    let all = async || {
        let status = db.status();
        let mut replicas = status.endpoints.iter().skip(1);
        Ok(replicas.all(|it| it.condition == sealane::Condition::Serving))
    };
    eventually(SOON, "all replicas serve", all).await
}

/// Statements with errors of their own, and such that the primary decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_takes_a_server_out_of_use_by_its_own_error() -> anyhow::Result<()> {
    let cluster = fleet::moor().await?;
    cluster.primary().sql(cases::FIXTURES).await?;
    fleet::replayed(&cluster).await?;
    // Ejection stays as it is: no error of a statement's own may cause one.
    let db = sealane::connect(fleet::config(&cluster).probe_timeout(fleet::PATIENCE)).await?;
    serve(&db).await?;
    let (mut provoked, mut wrong) = (BTreeSet::new(), Vec::new());
    for case in cases::all(cluster.engine()) {
        match case.run(&eventual(&db)).await {
            Ok(code) => {
                provoked.insert(code);
            }
            Err(error) => wrong.push(format!("{case:?}: {error:#}")),
        }
    }
    println!("{} codes provoked: {provoked:?}", provoked.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(provoked.len() >= FLOOR, "only {} codes", provoked.len());
    Ok(())
}

fn config(cluster: &Cluster) -> Config {
    let url = |server: &Server| {
        let url = fleet::url_as(&server.url, "coder");
        url.rsplit_once('/').map_or(url.clone(), |(server, _)| format!("{server}/code_db"))
    };
    // A read must reach the error of its server, also one that comes after a second.
    fleet::config_as(cluster, url).balancer(RoundRobin::default()).ejection(fleet::never_ejected())
}

/// A connection of an administrator that nothing of is replicated.
async fn admin(server: &Server) -> anyhow::Result<MySqlConnection> {
    let mut admin = MySqlConnection::connect(&server.admin_url).await?;
    if server.engine == Engine::Mysql {
        sqlx::raw_sql("SET GLOBAL super_read_only = OFF").execute(&mut admin).await?;
    }
    sqlx::raw_sql("SET sql_log_bin = 0").execute(&mut admin).await?;
    Ok(admin)
}

/// A replica's own failures: every read is answered by another server, and people find out why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_one_replica_reaches_no_caller_and_is_named() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    cluster.primary().sql(conditions::SETUP).await?;
    fleet::replayed(&cluster).await?;
    let (mut provoked, mut wrong) = (BTreeSet::new(), Vec::new());
    for condition in conditions::all(cluster.engine()) {
        let mut admin = admin(cluster.server("replica-1")).await?;
        let outcome = meets(&cluster, &mut admin, condition, log).await;
        sqlx::raw_sql("UNLOCK TABLES").execute(&mut admin).await?;
        sqlx::raw_sql(AssertSqlSafe(condition.undo)).execute(&mut admin).await?;
        match outcome {
            Ok(()) => {
                provoked.insert(condition.code);
            }
            Err(error) => wrong.push(format!("{}: {error:#}", condition.code)),
        }
    }
    cluster.primary().sql(conditions::TEARDOWN).await?;
    println!("{} conditions provoked: {provoked:?}", provoked.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(provoked.len() >= CONDITIONS_FLOOR, "only {} conditions", provoked.len());
    Ok(())
}

/// What a condition needs beside its statements.
async fn further(replica: &Server, admin: &mut MySqlConnection, code: u16) -> anyhow::Result<()> {
    match code {
        1205 => {
            sqlx::raw_sql("LOCK TABLES code_db.harbour WRITE").execute(admin).await?;
        }
        1129 => {
            let (_, at) = replica.url.rsplit_once('@').context("a URL without a user")?;
            let address = at.split('/').next().unwrap_or(at);
            let mut stranger = TcpStream::connect(address).await?;
            // Not the answer that the server's greeting asks for.
            stranger.write_all(b"\x05\0\0\x01hello").await?;
            let mut told = Vec::new();
            stranger.read_to_end(&mut told).await?;
            ensure!(told.windows(13).any(|it| it == b"Bad handshake"), "it is a good handshake");
        }
        3955 | 4150 => {
            let url = fleet::url_as(&replica.url, "coder").replacen(":coder@", ":wrong@", 1);
            ensure!(MySqlConnection::connect(&url).await.is_err(), "a wrong password is right");
        }
        _ => {}
    }
    Ok(())
}

async fn meets(
    cluster: &Cluster,
    admin: &mut MySqlConnection,
    condition: Condition,
    log: &Log,
) -> anyhow::Result<()> {
    let db = sealane::connect(config(cluster)).await?;
    serve(&db).await.context("before")?;
    let eventual = eventual(&db);
    let text = condition.text();
    let read = || eventual.query_one_raw(Statement::from_string(DbBackend::MySql, &text));
    log.forget();
    sqlx::raw_sql(AssertSqlSafe(condition.apply)).execute(&mut *admin).await?;
    further(cluster.server("replica-1"), admin, condition.code).await?;
    let mut events = db.events();
    // Every second one begins there, unless the replica is out of use. Two at a time need two
    // connections.
    for round in 0..3 {
        let found = tokio::try_join!(read(), read(), read(), read());
        let (a, b, c, d) = found.with_context(|| format!("round {round}"))?;
        ensure!([a, b, c, d].iter().all(Option::is_some), "no row");
    }
    match condition.shows {
        Shows::InLog => {
            nobody_went(&mut events, &db).await?;
            let told = condition.told(log);
            ensure!(!told.is_empty(), "nobody met it");
            ensure!(told.iter().all(|line| line.contains("condition=")), "{told:?}");
        }
        Shows::InStatus => {
            let named = async || {
                let health = serde_json::to_string(&db.status().endpoints[1].health)?;
                ensure!(health.contains(&format!("({})", condition.code)), "{health}");
                Ok(true)
            };
            eventually(SOON, "its status names it", named).await?;
            for other in [0, 2] {
                let other = &db.status().endpoints[other];
                let health = serde_json::to_value(&other.health)?;
                ensure!(health["state"] == "up", "{} is {health}", other.name);
            }
        }
    }
    Ok(())
}

/// Takes long on every server, and locks nothing.
const LONG: &str = "SELECT COUNT(*) FROM (SELECT a.id FROM harbour a, harbour b, harbour c, \
    harbour d, harbour e, harbour f, harbour g, harbour h, harbour i, harbour j, harbour k, \
    harbour l, harbour m, harbour n, harbour o, harbour p, harbour q, harbour r, harbour s, \
    harbour t, harbour u, harbour v, harbour w, harbour x, harbour y, harbour z, harbour aa, \
    harbour bb WHERE a.name <> CONCAT(b.name, z.name, 'x')) AS long_read";

/// Where the long read runs, as which thread, and for how many seconds.
async fn running_on(cluster: &Cluster) -> anyhow::Result<Vec<(&Server, i64, i64)>> {
    let of =
        "FROM information_schema.processlist WHERE info LIKE '%AS long_read' AND user = 'sealane'";
    let mut found = Vec::new();
    for server in cluster.servers() {
        let newest = format!("SELECT CAST(COALESCE(MAX(id), 0) AS SIGNED) {of}");
        let oldest = format!("SELECT CAST(COALESCE(MAX(time), 0) AS SIGNED) {of}");
        let (thread, seconds): (i64, i64) =
            (server.query_scalar(&newest).await?, server.query_scalar(&oldest).await?);
        if thread != 0 {
            found.push((server, thread, seconds));
        }
    }
    Ok(found)
}

/// Ends the long read with `how` wherever it is found to run for some time, until it is over.
async fn ended_everywhere(
    cluster: &Cluster,
    db: &RoutedConnection,
    how: &str,
) -> anyhow::Result<(Vec<String>, String)> {
    // What was ended before may still be on its way out.
    eventually(SOON, "nothing runs", async || Ok(running_on(cluster).await?.is_empty())).await?;
    let reader = eventual(db);
    let read = Statement::from_string(DbBackend::MySql, LONG);
    let running = tokio::spawn(async move { reader.query_one_raw(read).await });
    let mut visited = Vec::new();
    while !running.is_finished() {
        for (server, thread, seconds) in running_on(cluster).await? {
            if seconds >= 2 {
                visited.push(server.name.clone());
                // It may have ended by itself.
                let _ = server.sql(&format!("KILL {how} {thread}")).await;
            }
        }
        ensure!(visited.len() < 10, "visited {visited:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = running.await?.err().context("it succeeded")?;
    visited.dedup();
    Ok((visited, error.to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_ends_does_not_visit_the_primary_and_takes_nobody_out_of_use()
-> anyhow::Result<()> {
    let (cluster, two) = fleet::launch().await?;
    let one = fleet::config_of(&*cluster.primary().url, [&*cluster.server("replica-1").url]);
    let one = sealane::connect(one).await?;
    fleet::ready(&one).await?;
    for (db, how, most) in
        [(&two, "QUERY", 1), (&two, "CONNECTION", 2), (&one, "QUERY", 1), (&one, "CONNECTION", 1)]
    {
        let mut events = db.events();
        let (visited, error) = ended_everywhere(&cluster, db, how).await?;
        println!("KILL {how}: {visited:?}: {error}");
        ensure!(visited.iter().all(|name| name != "primary"), "{how}: {visited:?}");
        ensure!((1..=most).contains(&visited.len()), "{how}: {visited:?}");
        nobody_went(&mut events, db).await?;
    }
    Ok(())
}

/// Too few values, and too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_do_not_fit_take_nobody_out_of_use() -> anyhow::Result<()> {
    let (cluster, db) = fleet::launch().await?;
    let (reader, mut events) = (eventual(&db), db.events());
    for values in [vec![], vec![1.into()], vec![1.into(), 2.into(), 3.into()]] {
        let count = values.len();
        let sql = "SELECT id FROM harbour WHERE id = ? AND id <> ?";
        let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, values);
        let error = reader.query_one_raw(statement).await.err().context("it succeeded")?;
        println!("{count} values: {error}");
        nobody_went(&mut events, &db).await.with_context(|| format!("{count} values"))?;
    }
    drop(cluster);
    Ok(())
}

/// A replica that lags knows neither a table's privilege nor a column's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_not_replayed_is_asked_of_the_primary() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    let setup = "DROP USER IF EXISTS late@'%'; CREATE USER late@'%' IDENTIFIED BY 'late'; \
        GRANT SELECT ON sealane.boat TO late@'%'; GRANT SELECT (id) ON sealane.harbour TO late@'%'";
    cluster.primary().sql(setup).await?;
    fleet::replayed(&cluster).await?;
    let url = |server: &Server| fleet::url_as(&server.url, "late");
    let first = Config::new(url(cluster.primary()));
    let config = cluster.replicas().iter().fold(first, |config, it| config.replica(url(it)));
    let db = sealane::connect(config).await?;
    serve(&db).await?;
    for replica in cluster.replicas() {
        replica.pause_replay().await?;
    }
    cluster.primary().sql("GRANT SELECT ON sealane.harbour TO late@'%'").await?;
    let sent = |db: &RoutedConnection| -> u64 {
        db.status().endpoints.iter().skip(1).map(|endpoint| endpoint.reads).sum()
    };
    let (before, mut events) = (sent(&db), db.events());
    log.forget();
    for _ in 0..10 {
        let read = Statement::from_string(DbBackend::MySql, "SELECT name FROM harbour");
        let rows = eventual(&db).query_all_raw(read).await?;
        ensure!(rows.len() == 2, "{} rows", rows.len());
    }
    ensure!(sent(&db) > before, "no replica was asked, so this test shows nothing");
    let told = log.failures("error returned from database: 1143 (");
    ensure!(!told.is_empty(), "nobody met 1143");
    nobody_went(&mut events, &db).await?;
    for replica in cluster.replicas() {
        replica.resume_replay().await?;
    }
    cluster.primary().sql("DROP USER late@'%'").await
}
