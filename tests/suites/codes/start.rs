//! What an administrator can set only when one replica starts, so that reads fail there and nowhere
//! else.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use sealane_tests::{Engine, Log, fleet};

use crate::{
    admin,
    conditions::{
        Condition, DEEP, NAMES,
        Shows::{InLog, InStatus},
    },
    meets,
};

/// A configuration, and what reads meet.
type Row = (&'static [&'static str], Condition);

const fn met(code: u16, shows: crate::conditions::Shows, read: &'static str) -> Condition {
    Condition { code, apply: "DO 1", undo: "DO 1", read, shows }
}

const BOTH: &[Row] = &[(&["thread_stack = 131072"], met(1436, InLog, DEEP))];
/// A server counts failed handshakes by host only if it resolves names. MySQL does not keep the host of
/// these tests in its host cache even then, so it blocks nobody.
const MARIADB: &[Row] =
    &[(&["skip_name_resolve = OFF", "max_connect_errors = 1"], met(1129, InStatus, NAMES))];

fn all(engine: Engine) -> impl Iterator<Item = Row> {
    let own = if engine == Engine::Mariadb { MARIADB } else { &[] };
    BOTH.iter().chain(own).copied()
}

pub fn codes(engine: Engine) -> impl Iterator<Item = u16> {
    all(engine).map(|(_, condition)| condition.code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_started_with_other_settings_fails_no_read() -> anyhow::Result<()> {
    let log = Log::of_this_process();
    let cluster = fleet::moor().await?;
    cluster.primary().sql(crate::conditions::SETUP).await?;
    fleet::replayed(&cluster).await?;
    let replica = cluster.server("replica-1");
    let (mut provoked, mut wrong) = (BTreeSet::new(), Vec::new());
    for (options, condition) in all(cluster.engine()) {
        let outcome = async {
            replica.restart_with(options).await?;
            let mut admin = admin(replica).await?;
            meets(&cluster, &mut admin, condition, log).await
        };
        let outcome = outcome.await;
        replica.restart_with(&[]).await.with_context(|| format!("after {options:?}"))?;
        match outcome {
            Ok(()) => {
                provoked.insert(condition.code);
            }
            Err(error) => wrong.push(format!("{options:?}: {error:#}")),
        }
    }
    cluster.primary().sql(crate::conditions::TEARDOWN).await?;
    println!("{} codes by settings at the start: {provoked:?}", provoked.len());
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
