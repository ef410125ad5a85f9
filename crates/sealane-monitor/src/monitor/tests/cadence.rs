//! How often servers are probed, and why not more often.

use tokio::time::{Instant, sleep};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Fleet {
    monitor: Monitor,
    servers: Vec<Server>,
}

impl Fleet {
    /// A primary and its replicas, all up to date and idle.
    async fn of(replicas: usize) -> Self {
        // A fixed seed gives the same delays in each run.
        fastrand::seed(7);
        let servers: Vec<Server> = std::iter::once(Role::Primary)
            .chain(std::iter::repeat_n(Role::Replica, replicas))
            .map(|role| Server::new(role, 100))
            .collect();
        let endpoints = (0..servers.len()).map(|n| Endpoint::new(format!("db-{n}"), "x:1"));
        let store = TopologyStore::new(Topology::new(endpoints.collect()));
        let monitor = Monitor::spawn(store, servers.clone(), ProbeSchedule::default());
        monitor.first_round(MINUTE).await;
        let fleet = Fleet { monitor, servers };
        sleep(MINUTE).await;
        fleet.forget();
        fleet
    }

    fn store(&self) -> &Arc<TopologyStore> {
        self.monitor.store()
    }

    fn forget(&self) {
        self.servers.iter().for_each(|server| server.set(|state| state.asked_at.clear()));
    }

    fn asked_at(&self, server: usize) -> Vec<Instant> {
        self.servers[server].0.lock().unwrap().asked_at.clone()
    }

    fn asked(&self, server: usize) -> usize {
        self.asked_at(server).len()
    }

    /// The number of probes of each server in the next `time`.
    async fn asked_in(&self, time: Duration) -> Vec<usize> {
        self.forget();
        sleep(time).await;
        (0..self.servers.len()).map(|server| self.asked(server)).collect()
    }

    /// A write that the replicas in `level` have replayed, and a session that waits for it.
    fn write(&self, lsn: u64, level: &[usize]) -> WriteStamp {
        for server in std::iter::once(&0).chain(level) {
            self.servers[*server].set(|state| state.lsn = lsn);
        }
        let stamp = self.store().clock().tick();
        self.store().await_stamp(stamp);
        stamp
    }

    /// Sessions write and wait without a pause for `time`; the replicas in `level` keep up.
    async fn write_for(&self, time: Duration, level: &[usize]) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.write(200 + u64::try_from(begun.elapsed().as_millis()).unwrap(), level);
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn usable(&self, server: usize) -> bool {
        let id = EndpointId::from_index(server).unwrap();
        self.store().topology().get(id).unwrap().is_usable()
    }

    fn suspect(&self, server: usize) {
        let id = EndpointId::from_index(server).unwrap();
        self.store().suspect(id, self.store().now(), Failure::Connection("reset".to_owned()));
    }
}

/// The shortest time between two neighbours.
fn nearest(times: &[Instant]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_waiting_sessions_servers_are_probed_once_a_second_at_most() {
    let fleet = Fleet::of(5).await;
    sleep(10 * MINUTE).await;
    for server in 0..6 {
        let times = fleet.asked_at(server);
        assert!((480..=601).contains(&times.len()), "{} probes", times.len());
        assert!(nearest(&times) >= Duration::from_secs(1), "{:?}", nearest(&times));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_probes_do_not_fall_into_step() {
    let fleet = Fleet::of(5).await;
    sleep(10 * MINUTE).await;
    let near = Duration::from_millis(10);
    let of_first = fleet.asked_at(0);
    let (mut together, mut others) = (0, 0);
    for server in 1..6 {
        for time in fleet.asked_at(server) {
            others += 1;
            together += usize::from(
                of_first.iter().any(|first| time.max(*first) - time.min(*first) <= near),
            );
        }
    }
    // One in fifty-five would be chance.
    assert!(together * 20 < others, "{together} of {others} come with the primary's");
}

#[tokio::test(start_paused = true)]
async fn probes_are_quick_while_a_session_waits_and_no_longer() {
    let fleet = Fleet::of(2).await;
    let stamp = fleet.write(200, &[1]);
    assert!(fleet.asked_in(Duration::from_millis(100)).await[2] >= 5);
    fleet.servers[2].set(|state| state.lsn = 200);
    fleet.store().until(|topology| topology.covered_by_replicas() >= stamp).await;
    let asked = fleet.asked_in(10 * MINUTE).await;
    assert!(asked.iter().all(|asked| *asked <= 602), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn only_servers_that_can_help_are_probed_more_often() {
    let fleet = Fleet::of(2).await;
    fleet.write(200, &[1]);
    let asked = fleet.asked_in(Duration::from_millis(900)).await;
    assert!(asked[0] > 20 && asked[1] <= 3 && asked[2] > 20, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_are_probed_once_the_primary_has_a_new_sample() {
    let fleet = Fleet::of(2).await;
    fleet.servers[0].set(|state| state.answers = false);
    fleet.write(200, &[1, 2]);
    let asked = fleet.asked_in(Duration::from_millis(900)).await;
    assert!(asked[1] <= 1 && asked[2] <= 1, "in vain: {asked:?}");
    fleet.servers[0].set(|state| state.answers = true);
    let stamp = fleet.write(300, &[1, 2]);
    let covered = |topology: &Topology| topology.covered_by_replicas() >= stamp;
    let begun = Instant::now();
    fleet.store().until(|topology| topology.sampled_stamp() >= stamp).await;
    let sampled = begun.elapsed();
    fleet.store().until(covered).await;
    let waited = begun.elapsed() - sampled;
    assert!(waited <= Duration::from_millis(5), "{waited:?} after the sample");
}

#[tokio::test(start_paused = true)]
async fn many_processes_share_the_probes_of_one_server() {
    let fleet = Fleet::of(1).await;
    for server in &fleet.servers {
        server.set(|state| state.monitors = Some(50));
    }
    sleep(Duration::from_secs(3)).await;
    // For occasional writes it is as quick as if it were alone.
    let begun = Instant::now();
    let stamp = fleet.write(200, &[1]);
    fleet.store().until(|topology| topology.covered_by_replicas() >= stamp).await;
    assert!(begun.elapsed() <= Duration::from_millis(20), "{:?}", begun.elapsed());
    // For continuous writes it uses its share: four probes per second.
    fleet.write_for(Duration::from_secs(5), &[1]).await;
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    for server in [0, 1] {
        let asked = fleet.asked(server);
        assert!((60..=82).contains(&asked), "{asked} probes of {server} in 20 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_paused_replica_is_not_probed_for_sessions_that_no_longer_wait() {
    let fleet = Fleet::of(2).await;
    fleet.write(200, &[1]);
    sleep(Duration::from_millis(1_100)).await;
    let asked = fleet.asked_in(HOUR).await;
    assert!(asked.iter().all(|asked| *asked <= 3_601), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_catch_up_is_probed_less_and_less() {
    let fleet = Fleet::of(1).await;
    fleet.write_for(MINUTE, &[]).await;
    assert!(fleet.asked(0) < 400 && fleet.asked(1) < 400, "{}", fleet.asked(1));
    fleet.forget();
    fleet.write_for(MINUTE, &[]).await;
    assert!(fleet.asked(0) <= 61 && fleet.asked(1) <= 61, "{} {}", fleet.asked(0), fleet.asked(1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_catch_up_slows_no_other_replica_down() {
    let fleet = Fleet::of(2).await;
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    let asked = [fleet.asked(0), fleet.asked(1), fleet.asked(2)];
    assert!(asked[0] > 800 && asked[1] > 800 && asked[2] <= 21, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_for_a_near_replica_does_not_wait_for_a_far_one() {
    let fleet = Fleet::of(2).await;
    let far = fleet.write(200, &[1]);
    for _ in 0..600 {
        fleet.store().await_stamp(far);
        sleep(Duration::from_millis(100)).await;
    }
    let stamp = fleet.write(300, &[1]);
    let begun = Instant::now();
    let near = EndpointId::from_index(1).unwrap();
    fleet.store().until(|topology| topology.get(near).unwrap().covered >= stamp).await;
    assert!(begun.elapsed() <= Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_probed_at_once_and_then_at_the_idle_pace() {
    let fleet = Fleet::of(1).await;
    fleet.suspect(1);
    let asked = fleet.asked_in(Duration::from_millis(10)).await;
    assert_eq!(asked[1], 1);
    let asked = fleet.asked_in(10 * MINUTE).await;
    assert!(asked[1] <= 601, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_down_for_hours_is_probed_every_few_seconds() {
    let fleet = Fleet::of(1).await;
    fleet.servers[1].set(|state| state.refuses = true);
    sleep(MINUTE).await;
    let asked = fleet.asked_in(3 * HOUR).await[1];
    // One probe every 2.5 s to 5 s.
    assert!((2_160..=4_320).contains(&asked), "{asked} attempts in three hours");
    let times = fleet.asked_at(1);
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*most - *least > Duration::from_secs(2), "{least:?} to {most:?}: not spread");

    fleet.servers[1].set(|state| state.refuses = false);
    let begun = Instant::now();
    fleet.store().until(|topology| topology.get(replica_id()).unwrap().is_usable()).await;
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    let asked = fleet.asked_in(MINUTE).await[1];
    assert!((50..=61).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_down_is_probed_as_often_as_one_in_use() {
    let fleet = Fleet::of(1).await;
    fleet.servers[0].set(|state| state.refuses = true);
    sleep(HOUR).await;
    let asked = fleet.asked_in(MINUTE).await[0];
    assert!((50..=61).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_session_causes_no_connections_to_a_dead_replica() {
    let fleet = Fleet::of(2).await;
    fleet.servers[2].set(|state| state.refuses = true);
    sleep(MINUTE).await;
    assert!(!fleet.usable(2));
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    assert!(fleet.asked(2) <= 9, "{} attempts in 20 s", fleet.asked(2));
}

#[tokio::test(start_paused = true)]
async fn many_failing_statements_cause_no_storm_of_connections() {
    let fleet = Fleet::of(1).await;
    let long = Duration::from_secs(10);
    for server in [0, 1] {
        fleet.servers[server].set(|state| state.refuses = true);
        fleet.forget();
        let begun = Instant::now();
        while begun.elapsed() < long {
            fleet.suspect(server);
            sleep(Duration::from_millis(1)).await;
        }
        let times = fleet.asked_at(server);
        assert!(times[0] - begun <= Duration::from_millis(5), "{:?}", times[0] - begun);
        assert!(times.len() <= 110, "{} attempts in {long:?}", times.len());
        // The next probe finds a server that comes back.
        fleet.servers[server].set(|state| state.refuses = false);
        fleet.suspect(server);
        sleep(Duration::from_millis(110)).await;
        assert!(fleet.asked_at(server).len() > times.len());
    }
}

/// How long the monitor needs to find that the replica was promoted, if it was `after` the
/// primary's death was found and no statement waits.
async fn promotion_found_in(after: Duration) -> Duration {
    let bench = bench().await;
    let store = bench.monitor.store();
    bench.primary.set(|state| state.refuses = true);
    let is_down = |topology: &Topology| !topology.get(EndpointId::FIRST).unwrap().is_usable();
    store.until(is_down).await;
    tokio::time::sleep(after).await;
    bench.replica.set(|state| (state.role, state.timeline) = (Role::Primary, 2));
    let begun = tokio::time::Instant::now();
    store.until(|topology| topology.primary() == Some(replica_id())).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_promotion_is_soon_found_although_no_statement_waits() {
    for after in [0, 70, 2_000, 20_000].map(Duration::from_millis) {
        let found = promotion_found_in(after).await;
        assert!(found <= Duration::from_millis(130), "{found:?} if {after:?} after the death");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_primary_is_connected_to_at_the_idle_cadence() {
    let bench = bench().await;
    bench.primary.set(|state| state.refuses = true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = [bench.primary.asked(), bench.replica.asked()];
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = [bench.primary.asked() - before[0], bench.replica.asked() - before[1]];
    assert!((8..=11).contains(&asked[0]), "{asked:?} probes in 10 s");
    assert!((80..=130).contains(&asked[1]), "{asked:?} probes in 10 s");
}

/// A primary that returned for a moment, between two probes of the replica.
#[tokio::test(start_paused = true)]
async fn a_second_loss_is_as_good_as_the_first() {
    let bench = bench().await;
    let store = bench.monitor.store();
    let is_up = |topology: &Topology| topology.get(EndpointId::FIRST).unwrap().is_usable();
    let set = |refuses| bench.primary.set(|state| state.refuses = refuses);
    set(true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    set(false);
    store.until(is_up).await;
    set(true);
    store.until(|topology| !is_up(topology)).await;
    let before = bench.replica.asked();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = bench.replica.asked() - before;
    assert!((80..=130).contains(&asked), "{asked} probes in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_stays_away_is_looked_for_at_the_idle_cadence_in_the_end() {
    let bench = bench().await;
    bench.primary.set(|state| state.refuses = true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let (before, seconds) = ([bench.primary.asked(), bench.replica.asked()], 20);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    for (server, before) in [&bench.primary, &bench.replica].into_iter().zip(before) {
        let asked = server.asked() - before;
        assert!((seconds / 2..=seconds + 1).contains(&asked), "{asked} probes in {seconds} s");
    }
}
