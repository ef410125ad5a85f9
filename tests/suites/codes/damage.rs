//! Files of one replica's tables that are damaged, as by a disk or by a copy that went wrong.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use sealane_tests::{Cluster, Engine, Log, Server, docker, fleet};

use crate::{
    admin,
    conditions::{Condition, Shows::InLog},
    meets,
};

/// More tables in the database of these tests. One with a single row would be read without its index.
const CHART: &str = "CREATE TABLE code_db.chart (id int, KEY (id)) ENGINE = MyISAM; \
    INSERT INTO code_db.chart VALUES (1), (2), (3)";
const TIDE: &str =
    "CREATE TABLE code_db.tide (id int NOT NULL) ENGINE = CSV; INSERT INTO code_db.tide VALUES (1)";
const LOG_BOOK: &str = "CREATE TABLE code_db.log_book (id int, KEY (id)) ENGINE = Aria; \
    INSERT INTO code_db.log_book VALUES (1), (2), (3)";
const BUOY: &str =
    "CREATE TABLE code_db.buoy (id int) ENGINE = InnoDB; INSERT INTO code_db.buoy VALUES (1)";

/// A damaged table.
#[derive(Clone, Copy, Debug)]
struct Damage {
    code: u16,
    table: &'static str,
    /// What happens to its files, in their folder.
    script: &'static str,
    /// InnoDB keeps its files open, so the server is stopped and started again. (After a crash it
    /// would write them anew from its log, or refuse to start.)
    restarts: bool,
    read: &'static str,
}

const fn of(code: u16, table: &'static str, script: &'static str, read: &'static str) -> Damage {
    Damage { code, table, script, restarts: false, read }
}

const ON_CHART: &str = "SELECT id FROM chart WHERE id = 1";
const ON_TIDE: &str = "SELECT id FROM tide";
const ON_LOG_BOOK: &str = "SELECT id FROM log_book WHERE id = 1";
const ON_BUOY: &str = "SELECT id FROM buoy";
const TRUNCATES_LOG_BOOK: &str = "truncate -s 8192 log_book.MAI";

const BOTH: &[Damage] = &[
    of(1017, "chart", "rm chart.MYI", ON_CHART),
    of(29, "chart", "rm chart.MYD", ON_CHART),
    of(126, "chart", "truncate -s 1024 chart.MYI", ON_CHART),
    of(130, "chart", "printf rotten | dd of=chart.MYI conv=notrunc", ON_CHART),
    of(13, "tide", "rm tide.CSV", ON_TIDE),
    of(1194, "tide", "printf 'rotten,,\n\"' > tide.CSV", ON_TIDE),
];
/// MySQL does not start without a file of InnoDB that was written a moment ago.
const MYSQL: &[Damage] = &[];
const MARIADB: &[Damage] = &[
    of(1033, "chart", "printf rotten > chart.frm", ON_CHART),
    // The first who opens the table is told 175, the others 1034.
    of(175, "log_book", TRUNCATES_LOG_BOOK, ON_LOG_BOOK),
    of(1034, "log_book", TRUNCATES_LOG_BOOK, ON_LOG_BOOK),
    Damage { restarts: true, ..of(1030, "buoy", "rm buoy.ibd", ON_BUOY) },
];

fn all(engine: Engine) -> impl Iterator<Item = Damage> {
    let own = if engine == Engine::Mysql { MYSQL } else { MARIADB };
    BOTH.iter().chain(own).copied()
}

pub fn codes(engine: Engine) -> impl Iterator<Item = u16> {
    all(engine).map(|damage| damage.code)
}

impl Damage {
    /// The tables are closed once more, so that each connection opens them.
    fn condition(&self) -> Condition {
        let apply = "FLUSH TABLES";
        Condition { code: self.code, apply, undo: apply, read: self.read, shows: InLog }
    }

    async fn shell(&self, replica: &Server, script: &str) -> anyhow::Result<()> {
        let folder: String = replica.query_scalar("SELECT @@datadir").await?;
        let script = format!("set -e; cd {folder}/code_db; {script}");
        docker(&["exec", &replica.container, "sh", "-c", &script]).await.map(drop)
    }

    /// Damages the files of a table that nobody has open.
    async fn apply(&self, replica: &Server) -> anyhow::Result<()> {
        replica.sql("FLUSH TABLES").await?;
        let table = self.table;
        let saves = format!("rm -rf /tmp/saved; mkdir /tmp/saved; cp -p {table}.* /tmp/saved");
        self.shell(replica, &format!("{saves}; {}", self.script)).await?;
        if self.restarts {
            replica.stop().await?;
            replica.start().await?;
        }
        Ok(())
    }

    /// Sees that reads are served although a replica's table is damaged.
    async fn is_met(&self, cluster: &Cluster, log: &Log) -> anyhow::Result<()> {
        let replica = cluster.server("replica-1");
        self.apply(replica).await?;
        let mut admin = admin(replica).await?;
        meets(cluster, &mut admin, self.condition(), log).await
    }

    /// Puts the files back, or makes the table anew, and finds the replica's row.
    async fn undo(&self, replica: &Server) -> anyhow::Result<()> {
        if self.restarts {
            let anew = format!("SET sql_log_bin = 0; DROP TABLE code_db.{}; {BUOY}", self.table);
            replica.sql(&anew).await?;
        } else {
            replica.sql("FLUSH TABLES").await?;
            self.shell(replica, "cp -p /tmp/saved/* .").await?;
            replica.sql("FLUSH TABLES").await?;
        }
        let read = self.read.replace("FROM ", "FROM code_db.");
        let found: i32 = replica.query_scalar(&read).await.context("it is not restored")?;
        ensure!(found == 1, "{found}");
        Ok(())
    }
}

/// Every read of a damaged table is answered by another server, and people find out why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_fails_no_read() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    let primary = cluster.primary();
    primary.sql(crate::conditions::SETUP).await?;
    primary.sql(&[CHART, TIDE, BUOY].join("; ")).await?;
    if cluster.engine() == Engine::Mariadb {
        primary.sql(LOG_BOOK).await?;
    }
    fleet::replayed(&cluster).await?;
    let replica = cluster.server("replica-1");
    let (mut provoked, mut wrong) = (BTreeSet::new(), Vec::new());
    for damage in all(cluster.engine()) {
        let mut outcome = damage.is_met(&cluster, log).await;
        if replica.sql("SELECT 1").await.is_err() {
            // MariaDB may crash over a damaged index, and then tells no code.
            println!("{damage:?}: the server crashed");
            replica.start().await?;
            damage.undo(replica).await.with_context(|| format!("{damage:?}"))?;
            outcome = damage.is_met(&cluster, log).await;
        }
        damage.undo(replica).await.with_context(|| format!("{damage:?}"))?;
        match outcome {
            Ok(()) => {
                provoked.insert(damage.code);
            }
            Err(error) => wrong.push(format!("{damage:?}: {error:#}")),
        }
    }
    primary.sql(crate::conditions::TEARDOWN).await?;
    println!("{} codes of damaged tables: {provoked:?}", provoked.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
