//! Statements that wait while another server becomes the primary.

use tokio::time::{sleep, timeout};

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// The old primary goes on answering, in the same run.
fn promote(bench: &Bench) {
    bench.replica.set(|state| (state.role, state.timeline) = (Role::Primary, 2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_a_primary_that_was_replaced_while_a_connection_was_awaited() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let footing = store.footing(&store.topology(), EndpointId::FIRST, Role::Primary).unwrap();
    assert!(store.holds(&footing, Stage::Unsent));
    promote(&bench);
    timeout(LIMIT, store.until(|it| it.primary() == Some(replica_id()))).await.unwrap();
    assert!(!store.holds(&footing, Stage::Unsent) && !store.holds(&footing, Stage::Sent));
    bench.replica.set(|state| state.role = Role::Replica);
    timeout(LIMIT, store.until(|it| it.primary().is_none())).await.unwrap();
    assert!(!store.holds(&footing, Stage::Unsent), "nor while there is no primary");
}

#[tokio::test(start_paused = true)]
async fn what_waits_on_a_primary_is_told_of_its_replacement() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let footing = store.footing(&store.topology(), EndpointId::FIRST, Role::Primary).unwrap();
    let waiting = [Stage::Unsent, Stage::Sent].map(|stage| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.moved(&footing, stage).await })
    });
    tokio::task::yield_now().await;
    promote(&bench);
    for it in waiting {
        timeout(LIMIT, it).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_statement_waits_for_a_primary_all_are_asked_for_one_again_and_again() {
    let bench = bench().await;
    bench.primary.set(|state| state.refuses = true);
    // By then nobody hurries to find one while no statement waits.
    sleep(Duration::from_secs(40)).await;
    let servers = [&bench.primary, &bench.replica];
    let before = servers.map(Server::asked);
    let patience = Duration::from_secs(10);
    let found = timeout(patience, bench.monitor.store().next_primary()).await;
    assert!(found.is_err(), "nobody was promoted");
    for (server, before) in servers.into_iter().zip(before) {
        let asked = server.asked() - before;
        assert!((50..=110).contains(&asked), "{asked} probes in {patience:?}");
    }
}
