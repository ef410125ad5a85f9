//! What was heard of a probe is in the topology.

use std::{sync::mpsc, thread};

use super::*;

/// More than enough to meet the moment between the two.
const PROBES: u32 = 2_000;

fn one() -> Arc<TopologyStore> {
    TopologyStore::new(Topology::new(vec![Endpoint::new("db-1", "10.0.0.1:5432")]))
}

fn probed(started: Moment, outcome: Outcome) -> Observation {
    let (endpoint, stamp) = (EndpointId::FIRST, WriteStamp::NONE);
    Observation { endpoint, started, finished: started, stamp, outcome }
}

fn answered(started: Moment) -> Observation {
    let report = Report::new(Role::Primary, Incarnation::new("first"));
    probed(started, Outcome::Answered(report))
}

/// A moment after now.
fn next(store: &TopologyStore) -> Moment {
    let (before, step) = (store.now(), Duration::from_nanos(1));
    while store.now() <= before + step {}
    before + step
}

#[test]
fn an_answer_that_a_later_suspicion_outweighs_is_not_heard_of() {
    let store = one();
    store.apply(&answered(store.now()));
    let (before, began) = (store.now(), next(&store));
    store.suspect(EndpointId::FIRST, before, Failure::Statement("broken".into()));
    store.apply(&answered(began));
    assert_eq!(store.heard(EndpointId::FIRST, before), None);
    store.apply(&answered(next(&store)));
    assert_eq!(store.heard(EndpointId::FIRST, before), Some(Ok(())));
}

/// What is told to logs and listeners takes time, in which the next probe may begin.
#[test]
fn whoever_is_told_of_a_suspicion_or_a_silence_finds_the_old_connections_left_behind() {
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    /// What a listener has found: whether the probe must connect again, and the generation.
    type Found = Arc<Mutex<Vec<(bool, u64)>>>;

    struct Looks(Arc<TopologyStore>, Found);
    impl<S: tracing::Subscriber> Layer<S> for Looks {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            if event.metadata().target() == "sealane::topology" {
                let reconnects = self.0.take_reconnect(EndpointId::FIRST);
                self.1.lock().unwrap().push((reconnects, self.0.generation(EndpointId::FIRST)));
            }
        }
    }

    let found = |happens: &dyn Fn(&TopologyStore)| {
        let (store, found) = (one(), Found::default());
        store.apply(&answered(store.now()));
        let looks = Looks(Arc::clone(&store), Arc::clone(&found));
        let before = store.generation(EndpointId::FIRST);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(looks), || {
            happens(&store);
        });
        let found = std::mem::take(&mut *found.lock().unwrap());
        (before, found)
    };
    let (_, suspected) = found(&|store| {
        let failure = Failure::Statement("broken".into());
        store.suspect(EndpointId::FIRST, store.now(), failure);
    });
    assert!(suspected.first().is_some_and(|(reconnects, _)| *reconnects));
    let (before, gone) = found(&|store| {
        let failure = Failure::Connection("refused".into());
        store.apply(&probed(next(store), Outcome::Failed(failure)));
    });
    assert!(!gone.is_empty() && gone.iter().all(|(_, generation)| *generation > before));
}

/// The address may have led elsewhere when the connection was made.
#[tokio::test(start_paused = true)]
async fn the_first_run_leaves_connections_behind_that_were_admitted_before_it() {
    let store = one();
    store.apply(&answered(store.now()));
    let unused = store.generation(EndpointId::FIRST);
    assert_eq!(unused, one().generation(EndpointId::FIRST), "nothing was admitted");
    let store = one();
    let before = store.generation(EndpointId::FIRST);
    let guard = RunGuard::new(Arc::clone(&store), EndpointId::FIRST, before);
    assert_eq!(guard.admit(&Incarnation::new("another")).await, Admission::Unobserved);
    store.apply(&answered(store.now()));
    assert!(store.generation(EndpointId::FIRST) > before);
}

/// A waiter may look at any moment, because the probes of other endpoints wake it as well.
#[test]
fn who_has_heard_of_a_probe_sees_its_result_in_the_topology() {
    let id = EndpointId::FIRST;
    let store = one();
    let (told, to_tell) = mpsc::channel::<Observation>();
    let telling = {
        let store = store.clone();
        thread::spawn(move || to_tell.iter().for_each(|it| store.apply(&it)))
    };
    for probe in 0..PROBES {
        let role = if probe % 2 == 0 { Role::Primary } else { Role::Replica };
        let before = store.now();
        let started = next(&store);
        let report = Report::new(role, Incarnation::new("first"));
        let outcome = Outcome::Answered(report);
        let stamp = WriteStamp::NONE;
        told.send(Observation { endpoint: id, started, finished: started, stamp, outcome })
            .unwrap();
        while store.heard(id, before).is_none() {
            std::hint::spin_loop();
        }
        assert_eq!(store.topology().get(id).unwrap().role, role, "probe {probe}");
    }
    drop(told);
    telling.join().unwrap();
}
