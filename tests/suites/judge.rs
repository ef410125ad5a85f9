//! What we call a read, judged by a server that refuses to write.
//!
//! Every statement runs on a replica. What it refuses as a write must not be called a read; what
//! it accepts though it is no read, the cases know; and what a read leaves behind in its session
//! is looked at. Classified without a catalog: what only that knows is for the suite `catalog`.

#[path = "judge/corpus.rs"]
mod corpus;
#[path = "judge/functions.rs"]
mod functions;
#[path = "../../crates/sealane-sql/tests/support/mutation.rs"]
mod mutation;
#[path = "judge/standby.rs"]
mod standby;
#[path = "judge/tally.rs"]
mod tally;

use std::time::{Duration, Instant};

use anyhow::ensure;
use corpus::{Case, filled};
use sealane_sql::{Dialect, classify};
use sealane_tests::{Cluster, Engine, Server, fleet};
use standby::{SHAPES, Standby};
use tally::Tally;

/// For all statements of one test.
const LIMIT: Duration = Duration::from_secs(240);

/// A healthy cluster in which the cases find what they name.
async fn prepared() -> anyhow::Result<Cluster> {
    let cluster = Cluster::healthy().await?;
    match cluster.engine() {
        Engine::Postgres => {
            for (shape, value_type) in SHAPES {
                let sql = include_str!("judge/postgres.sql");
                let sql = sql.replace("SHAPE", shape).replace("VALUE_TYPE", value_type);
                cluster.primary().sql(&sql).await?;
            }
        }
        _ => cluster.primary().sql(include_str!("judge/mysql.sql")).await?,
    }
    fleet::replayed(&cluster).await?;
    Ok(cluster)
}

fn judge_of(cluster: &Cluster) -> &Server {
    &cluster.replicas()[0]
}

fn is_read(sql: &str, dialect: Dialect) -> bool {
    classify(sql, dialect).may_leave_primary()
}

/// All cases, judged. `calls_read` is the classifier on trial.
async fn judged(
    standby: &mut Standby<'_>,
    calls_read: impl Fn(&str, &Case) -> bool,
) -> anyhow::Result<Tally> {
    let (mut tally, began) = (Tally::default(), Instant::now());
    let dialect = standby.dialect();
    for case in corpus::cases(dialect)? {
        ensure!(began.elapsed() < LIMIT, "not within {LIMIT:?}");
        let sql = filled(&case.sql, dialect);
        let is_read = calls_read(&sql, &case);
        tally.judge(standby, &sql, is_read, Some(&case)).await?;
    }
    standby.ensure_replica().await?;
    Ok(tally)
}

#[tokio::test]
async fn no_case_that_we_call_a_read_is_refused_by_a_replica_or_leaves_a_trace()
-> anyhow::Result<()> {
    let cluster = prepared().await?;
    let mut standby = Standby::new(judge_of(&cluster));
    let dialect = standby.dialect();
    let calls_read = |sql: &str, case: &Case| is_read(sql, dialect) || is_read(&case.sql, dialect);
    let tally = judged(&mut standby, calls_read).await?;
    println!("{tally}");
    ensure!(tally.faults().next().is_none(), "unsafe, see above");
    ensure!(tally.reads_accepted >= 100, "only {} reads were accepted", tally.reads_accepted);
    Ok(())
}

#[tokio::test]
async fn no_function_that_we_take_to_be_pure_is_refused_by_a_replica_or_leaves_a_trace()
-> anyhow::Result<()> {
    let cluster = prepared().await?;
    let mut standby = Standby::new(judge_of(&cluster));
    let dialect = standby.dialect();
    let (mut tally, began) = (Tally::default(), Instant::now());
    for sql in functions::statements(judge_of(&cluster)).await? {
        ensure!(began.elapsed() < LIMIT, "not within {LIMIT:?}");
        if is_read(&sql, dialect) {
            tally.judge(&mut standby, &sql, true, None).await?;
        }
    }
    standby.ensure_replica().await?;
    println!("{tally}");
    ensure!(tally.faults().next().is_none(), "unsafe, see above");
    ensure!(tally.reads_accepted >= 200, "only {} reads were accepted", tally.reads_accepted);
    Ok(())
}

#[tokio::test]
async fn a_classifier_that_calls_everything_a_read_is_caught() -> anyhow::Result<()> {
    let cluster = prepared().await?;
    let mut standby = Standby::new(judge_of(&cluster));
    let tally = judged(&mut standby, |_, _| true).await?;
    let found = [&tally.refused_reads, &tally.residues, &tally.mistaken_reads].map(Vec::len);
    println!("refused, not pure, mistaken: {found:?}");
    ensure!(found[0] >= 50 && found[1] >= 5 && found[2] >= 200, "{found:?}\n{tally}");
    Ok(())
}

#[tokio::test]
async fn nothing_made_of_the_cases_that_we_call_a_read_is_refused_or_leaves_a_trace()
-> anyhow::Result<()> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    // The same texts in each run; for new ones set another.
    let seed = variable("SEALANE_FUZZ_SEED").unwrap_or(20_261_121);
    let seconds = variable("SEALANE_FUZZ_SECONDS").unwrap_or(15);
    let cluster = prepared().await?;
    let mut standby = Standby::new(judge_of(&cluster));
    let dialect = standby.dialect();
    let seeds: Vec<String> = corpus::cases(dialect)?.into_iter().map(|case| case.sql).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut tally, mut texts, began) = (Tally::default(), 0_u64, Instant::now());
    while began.elapsed() < Duration::from_secs(seconds) {
        let sql = filled(&mutation::mutated(&seeds, &mut rng), dialect);
        texts += 1;
        // No driver can send it to PostgreSQL whole.
        if sql.contains('\0') || !is_read(&sql, dialect) {
            continue;
        }
        tally.judge(&mut standby, &sql, true, None).await?;
    }
    standby.ensure_replica().await?;
    println!("seed {seed}: {texts} texts\n{tally}");
    ensure!(tally.faults().next().is_none(), "unsafe with seed {seed}, see above");
    ensure!(tally.reads_accepted >= 50, "only {} reads were accepted", tally.reads_accepted);
    Ok(())
}

#[test]
fn placeholders_are_filled_outside_of_literals_only() {
    for (sql, expected) in [
        ("SELECT $1, '$1', \"$2\", $$ $1 $$ -- $1", "SELECT NULL, '$1', \"$2\", $$ $1 $$ -- $1"),
        ("SELECT a ? 'b' AND c = $12::int", "SELECT a ? 'b' AND c = NULL::int"),
        ("SELECT $1$a$1$, a$1", "SELECT $1$a$1$, a$1"),
        ("SELECT $é$ $1 $é$, 'a''$1'", "SELECT $é$ $1 $é$, 'a''$1'"),
    ] {
        assert_eq!(filled(sql, Dialect::PostgreSql), expected);
    }
    let sql = "SELECT ?, '?', `?` /* ? */ LIMIT ? OFFSET ? # ?";
    let expected = "SELECT NULL, '?', `?` /* ? */ LIMIT 1 OFFSET 1 # ?";
    assert_eq!(filled(sql, Dialect::MySql), expected);
}
