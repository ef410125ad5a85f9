//! What was heard of a probe is in the topology.

use std::{sync::mpsc, thread, time::Duration};

use sealane_core::{
    Endpoint, EndpointId, Incarnation, Observation, Outcome, Report, Role, Topology, WriteStamp,
};

use crate::TopologyStore;

/// More than enough to meet the moment between the two.
const PROBES: u32 = 2_000;

/// A waiter may look at any moment, because the probes of other endpoints wake it as well.
#[test]
fn who_has_heard_of_a_probe_sees_its_result_in_the_topology() {
    let id = EndpointId::FIRST;
    let store = TopologyStore::new(Topology::new(vec![Endpoint::new("db-1", "10.0.0.1:5432")]));
    let (told, to_tell) = mpsc::channel::<Observation>();
    let telling = {
        let store = store.clone();
        thread::spawn(move || to_tell.iter().for_each(|it| store.apply(&it)))
    };
    for probe in 0..PROBES {
        let role = if probe % 2 == 0 { Role::Primary } else { Role::Replica };
        let before = store.now();
        let started = before + Duration::from_nanos(1);
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
