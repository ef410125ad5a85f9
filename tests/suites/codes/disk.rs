//! A replica without room for temporary files: reads that need one move, others do not.

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::RoundRobin;
use sealane_tests::{Cluster, Engine, Log, fleet};

use crate::{case::nobody_went, eventual, serve};

/// About 3 MB, more than the replica sorts or groups in memory.
const CARGO: &str = "DROP TABLE IF EXISTS cargo; \
    CREATE TABLE cargo (id int AUTO_INCREMENT PRIMARY KEY, list varchar(4000) CHARACTER SET latin1); \
    INSERT INTO cargo (list) WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) \
    SELECT REPEAT(CONCAT(n, ' barrels'), 300) FROM n";
const SORTS: &str = "SELECT id FROM cargo ORDER BY CONCAT(list, id) LIMIT 1 OFFSET 800";
const GROUPS: &str =
    "SELECT COUNT(*) AS n FROM (SELECT list, id, COUNT(*) AS c FROM cargo GROUP BY list, id) AS g";

const SESSION: &str = "SET GLOBAL max_tmp_session_space_usage = 65536";
const TOTAL: &str = "SET GLOBAL max_tmp_total_space_usage = 65536";

/// Why there is no room.
#[derive(Clone, Copy)]
enum Lack {
    Setting(&'static str),
    Disk,
}

use Lack::{Disk, Setting};

/// Reads, and the code that each meets on the replica.
fn reads(engine: Engine) -> &'static [(&'static str, u16, Lack)] {
    match engine {
        Engine::Mysql => &[(SORTS, 3, Disk), (GROUPS, 1114, Disk)],
        _ => &[
            (SORTS, 3, Disk),
            (GROUPS, 1021, Disk),
            (SORTS, 41, Setting(SESSION)),
            (SORTS, 42, Setting(TOTAL)),
            (GROUPS, 201, Setting(SESSION)),
            (GROUPS, 202, Setting(TOTAL)),
        ],
    }
}

/// The replica's temporary files are on the small disk, and its memory is too small for these reads.
/// Probes find room in it.
fn options(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Mysql => &[
            "tmpdir = /var/tmp",
            "innodb_temp_tablespaces_dir = /var/tmp",
            "sort_buffer_size = 32K",
            "tmp_table_size = 1M",
            "max_heap_table_size = 1M",
        ],
        _ => &[
            "tmpdir = /var/tmp",
            "sort_buffer_size = 32K",
            "tmp_table_size = 1M",
            "max_heap_table_size = 1M",
        ],
    }
}

#[allow(clippy::print_stdout, reason = "figures of a test")]
async fn read_on(cluster: &Cluster, log: &Log) -> anyhow::Result<()> {
    let replica = cluster.server("replica-1");
    let mut met = Vec::new();
    for (read, code, lack) in reads(cluster.engine()) {
        // The disk is empty after a restart.
        replica.restart_with(options(cluster.engine())).await?;
        match lack {
            Setting(sql) => replica.sql(sql).await?,
            Disk => replica.fill_disk().await?,
        }
        let config =
            fleet::config(cluster).balancer(RoundRobin::default()).ejection(fleet::never_ejected());
        let db = sealane::connect(config).await?;
        serve(&db).await.with_context(|| format!("before {code}"))?;
        log.forget();
        let mut events = db.events();
        for n in 0..8 {
            let read = Statement::from_string(DbBackend::MySql, *read);
            let found = eventual(&db).query_one_raw(read).await;
            let found = found.with_context(|| format!("{code}, read {n}"))?;
            ensure!(found.is_some(), "{code}: no row");
        }
        nobody_went(&mut events, &db).await?;
        let told = log.failures(&format!("error returned from database: {code} "));
        ensure!(!told.is_empty(), "nobody met {code}");
        ensure!(told.iter().all(|line| line.contains("condition=")), "{told:?}");
        met.push(code);
    }
    println!("{} codes met: {met:?}", met.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_room_for_temporary_files_fails_no_read() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    cluster.primary().sql(CARGO).await?;
    fleet::replayed(&cluster).await?;
    let outcome = read_on(&cluster, log).await;
    cluster.server("replica-1").restart_with(&[]).await?;
    cluster.primary().sql("DROP TABLE cargo").await?;
    outcome
}
