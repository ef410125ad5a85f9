//! One process of a crowd: a single session that writes and reads, again and again.
//!
//! Arguments: the pause between its reads until a replica serves one, and its rest then, in
//! milliseconds. It says `ready` once it is
//! connected, begins and ends with a line on its standard input, and then prints how long each
//! of its writes kept it on the primary, in microseconds, in one line.

#![allow(clippy::print_stdout, reason = "it talks to the suite that started it")]

use std::time::{Duration, Instant};

use anyhow::Context;
use sea_orm::EntityTrait;
use sealane::RoutedConnection;
use sealane_tests::{
    Cluster,
    fleet::{self, boat},
};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut millis =
        || anyhow::Ok(Duration::from_millis(arguments.next().context("no time")?.parse()?));
    let (pause, rest) = (millis()?, millis()?);
    let cluster = Cluster::from_env();
    let db = sealane::connect(fleet::config(&cluster)).await?;
    println!("ready");
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    told.next_line().await?;
    let kept = write_and_read(&db, pause, rest, &mut told).await?;
    let words: Vec<String> = kept.iter().map(|kept| kept.as_micros().to_string()).collect();
    println!("{}", words.join(" "));
    Ok(())
}

async fn write_and_read(
    db: &RoutedConnection,
    pause: Duration,
    rest: Duration,
    told: &mut Lines<BufReader<Stdin>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut kept = Vec::new();
    loop {
        let round = async {
            let session = db.session();
            boat::Entity::insert(fleet::boat("Ida")).exec(&session).await?;
            let written = Instant::now();
            while !fleet::reads_on_replica(&session).await? {
                tokio::time::sleep(pause).await;
            }
            let took = written.elapsed();
            tokio::time::sleep(rest.mul_f64(0.5 + fastrand::f64())).await;
            anyhow::Ok(took)
        };
        tokio::select! {
            took = round => kept.push(took?),
            // Also when whoever started it is gone.
            line = told.next_line() => return line.map(|_| kept).map_err(Into::into),
        }
    }
}
