//! Endpoints that are added, drained and removed while the monitor runs.

use sealane_core::EndpointSet;
use tokio::time::timeout;

use super::*;
use crate::BoxProbe;

const LIMIT: Duration = Duration::from_secs(5);

/// Adds a server that answers as a replica.
fn add(bench: &Bench, server: &Server) -> EndpointId {
    let store = bench.monitor.store();
    let id = store.vacancy(EndpointSet::EMPTY).unwrap();
    assert!(store.add(id, Endpoint::new("comer", "c")));
    // This probe has another type than the others.
    bench.monitor.add(id, BoxProbe::new(server.clone()));
    id
}

fn is_usable(topology: &Topology, id: EndpointId) -> bool {
    topology.get(id).is_some_and(|state| state.is_usable())
}

#[tokio::test(start_paused = true)]
async fn an_added_endpoint_is_probed_and_a_removed_one_is_not() {
    let bench = bench().await;
    let (store, server) = (bench.monitor.store(), Server::new(Role::Replica, 100));
    let id = add(&bench, &server);
    timeout(LIMIT, store.until(|topology| is_usable(topology, id))).await.unwrap();
    store.remove(id);
    bench.monitor.remove(id);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let asked = server.asked();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.asked(), asked);
    assert_eq!(Arc::strong_count(&server.0), 1, "the probe is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_of_a_removed_endpoint_brings_nothing_back_and_marks_nobody() {
    let bench = bench().await;
    let (store, server) = (bench.monitor.store(), Server::new(Role::Replica, 100));
    let old = add(&bench, &server);
    timeout(LIMIT, store.until(|topology| is_usable(topology, old))).await.unwrap();
    store.remove(old);
    bench.monitor.remove(old);
    // The next endpoint gets the same place.
    let others = EndpointSet::ALL.without(EndpointSet::from_iter([old]));
    let new = store.vacancy(others).unwrap();
    assert_eq!((new.place(), new == old), (old.place(), false));
    assert!(store.add(new, Endpoint::new("next", "d")));
    let (started, stamp) = (store.now(), store.clock().now());
    let report = Report::new(Role::Replica, Incarnation::new("late"));
    let gone = Failure::Connection("refused".into());
    for outcome in [Outcome::Answered(report), Outcome::Failed(gone)] {
        let finished = store.now();
        store.apply(&Observation { endpoint: old, started, finished, stamp, outcome });
    }
    let topology = store.topology();
    assert!(topology.get(old).is_none());
    assert_eq!(topology.get(new).unwrap().health, Health::Unknown);
    let heard = timeout(Duration::from_millis(10), store.heard_after(new, Moment::ZERO)).await;
    assert!(heard.is_err(), "what was heard of the old one counts for the new one");
}

#[tokio::test(start_paused = true)]
async fn what_waits_on_an_endpoint_is_told_of_its_draining_and_of_its_removal() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let footing = store.footing(&store.topology(), replica_id(), Role::Replica).unwrap();
    let unsent = {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.moved(&footing, Stage::Unsent).await })
    };
    let sent = {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.moved(&footing, Stage::Sent).await })
    };
    tokio::task::yield_now().await;
    store.set_draining(replica_id(), true);
    timeout(LIMIT, unsent).await.unwrap().unwrap();
    assert!(store.holds(&footing, Stage::Sent), "what was sent may end");
    store.remove(replica_id());
    timeout(LIMIT, sent).await.unwrap().unwrap();
    assert!(!store.holds(&footing, Stage::Sent));
}

#[tokio::test(start_paused = true)]
async fn no_footing_on_a_removed_endpoint_holds_on_the_next_one_at_its_place() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let (old, generation) = (replica_id(), store.generation(replica_id()));
    let footing = store.footing(&store.topology(), old, Role::Replica).unwrap();
    store.remove(old);
    bench.monitor.remove(old);
    let new = store.vacancy(EndpointSet::ALL.without(EndpointSet::from_iter([old]))).unwrap();
    assert!(store.add(new, Endpoint::new("next", "d")));
    bench.monitor.add(new, bench.replica.clone());
    timeout(LIMIT, store.until(|topology| is_usable(topology, new))).await.unwrap();
    assert!(store.generation(new) > generation);
    assert!(!store.holds(&footing, Stage::Unsent) && !store.holds(&footing, Stage::Sent));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_drained_replica_and_it_is_not_probed_quickly() {
    let bench = bench().await;
    let store = bench.monitor.store();
    store.set_draining(replica_id(), true);
    bench.primary.set(|state| state.lsn = 200);
    let asked = bench.replica.asked();
    assert!(bench.monitor.await_replication(Duration::from_secs(1)).await, "none is left");
    store.await_stamp(store.clock().tick());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(bench.replica.asked() - asked <= 2, "{} probes", bench.replica.asked() - asked);
}

#[tokio::test(start_paused = true)]
async fn a_drained_primary_is_no_primary_to_wait_for_and_stays_elected() {
    let bench = bench().await;
    let store = bench.monitor.store();
    store.set_draining(EndpointId::FIRST, true);
    assert_eq!(store.topology().primary(), Some(EndpointId::FIRST));
    assert!(timeout(Duration::from_secs(1), store.next_primary()).await.is_err());
    store.set_draining(EndpointId::FIRST, false);
    timeout(LIMIT, store.next_primary()).await.unwrap();
}
