//! Replica first, primary second: a replica can show a commit before the primary does. What waiting
//! for the primary costs, and that sessions never go back on any other way.

use std::time::Duration;

use anyhow::ensure;
use sealane::WhenAhead;
use sealane_tests::ahead::{Crossings, PATIENCE, Pairs, Then, Writers, connect, moor};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_never_go_back_between_replicas_nor_from_the_primary_to_a_replica()
-> anyhow::Result<()> {
    let cluster = moor().await?;
    let crossings = Crossings::on(&cluster).await?;
    println!("{crossings}");
    crossings.judge()
}

/// The price where a probe has to be called for: on an idle primary, and beside a writer that
/// takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waiting_costs_where_little_is_written() -> anyhow::Result<()> {
    const BEGINNINGS: usize = 200;
    let cluster = moor().await?;
    let db = connect(&cluster).await?;
    for writers in [0, 2] {
        let _writers = Writers::with_pauses(&cluster, writers).await?;
        for when in [WhenAhead::Primary, WhenAhead::Wait(PATIENCE)] {
            let pairs = Pairs::sail(db.when_ahead(when), BEGINNINGS, Then::Transaction).await?;
            println!("{writers} writers with pauses, {when}: {pairs}");
            ensure!(when == WhenAhead::Primary || pairs.back == 0, "{} went back", pairs.back);
            ensure!(pairs.count == BEGINNINGS, "{} pairs", pairs.count);
            ensure!(pairs.waits[BEGINNINGS / 2] < Duration::from_millis(200), "{:?}", pairs.waits);
        }
    }
    Ok(())
}
