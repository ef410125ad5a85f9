//! Addresses that move while a probe keeps its connection.

use super::*;

/// The server behind each address: 0 is the primary.
type Addresses = Arc<Mutex<[usize; 2]>>;

/// A probe that notices a new address only on a new connection.
struct Caller {
    addresses: Addresses,
    address: usize,
    link: Option<usize>,
}

impl Probe for Caller {
    async fn ask(&mut self) -> Result<Report, Failure> {
        let server = self.link.unwrap_or_else(|| self.addresses.lock().unwrap()[self.address]);
        self.link = Some(server);
        let role = [Role::Primary, Role::Replica][server];
        let lsn = Lsn::from_bytes(100);
        Ok(Report {
            position: Some(Position::Wal { system: 1, timeline: 1, lsn }),
            replication: Replication::Running,
            info: ServerInfo { identity: Some("1".into()), ..ServerInfo::default() },
            ..Report::new(role, Incarnation::new(["first", "second"][server]))
        })
    }

    fn disconnect(&mut self) {
        self.link = None;
    }

    fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    fn system(&self) -> &'static str {
        "numbers"
    }
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_has_moved_to_the_address_of_a_replica_is_found() {
    let addresses = Addresses::new(Mutex::new([0, 1]));
    let probes =
        [0, 1].map(|address| Caller { addresses: Arc::clone(&addresses), address, link: None });
    let endpoints = vec![Endpoint::new("one", "a"), Endpoint::new("other", "b")];
    let store = TopologyStore::new(Topology::new(endpoints));
    let monitor = Monitor::spawn(Arc::clone(&store), probes.into(), ProbeSchedule::default());
    monitor.first_round(Duration::from_secs(5)).await;
    assert_eq!(store.topology().primary(), Some(EndpointId::FIRST));
    *addresses.lock().unwrap() = [1, 0];
    // A pool has found another run there. Both addresses seem to lead to the replica now.
    store.probe_anew(EndpointId::FIRST);
    let moved = store.until(|topology| topology.primary() == Some(replica_id()));
    tokio::time::timeout(Duration::from_secs(1), moved).await.unwrap();
}
