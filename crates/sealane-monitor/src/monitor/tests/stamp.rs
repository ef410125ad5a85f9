//! Which writes a sample of the primary contains.

use super::*;

/// A primary on which a write ends while its answer is on the way.
struct Writing(Arc<TopologyStore>);

impl Probe for Writing {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let lsn = Lsn::from_bytes(100);
        let position = Some(Position::Wal { system: 1, timeline: 1, lsn });
        self.0.clock().tick();
        Ok(Report { position, ..Report::new(Role::Primary, Incarnation::new("first")) })
    }

    fn disconnect(&mut self) {}

    fn is_connected(&self) -> bool {
        true
    }

    fn system(&self) -> &'static str {
        "numbers"
    }
}

#[tokio::test(start_paused = true)]
async fn a_sample_contains_no_write_that_ended_after_its_question() {
    let store = TopologyStore::new(Topology::new(vec![Endpoint::new("primary", "a")]));
    let probes = vec![Writing(Arc::clone(&store))];
    let monitor = Monitor::spawn(Arc::clone(&store), probes, ProbeSchedule::default());
    monitor.first_round(Duration::from_secs(5)).await;
    assert!(store.topology().sampled_position().is_some());
    assert!(store.topology().sampled_stamp() < store.clock().now());
}
