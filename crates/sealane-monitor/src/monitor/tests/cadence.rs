//! How often servers are asked, and why not more often.

use tokio::time::{Instant, sleep};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Fleet {
    monitor: Monitor,
    servers: Vec<Server>,
}

impl Fleet {
    /// A primary and its replicas, all level and idle.
    async fn of(replicas: usize) -> Self {
        // The same delays each time.
        fastrand::seed(7);
        let servers: Vec<Server> = std::iter::once(Role::Primary)
            .chain(std::iter::repeat_n(Role::Replica, replicas))
            .map(|role| Server::new(role, 100))
            .collect();
        let endpoints = (0..servers.len()).map(|n| Endpoint::new(format!("db-{n}"), "x:1"));
        let board = Board::new(Topology::new(endpoints.collect()));
        let monitor = Monitor::spawn(board, servers.clone(), Pace::default());
        monitor.first_round(MINUTE).await;
        let fleet = Fleet { monitor, servers };
        sleep(MINUTE).await;
        fleet.forget();
        fleet
    }

    fn board(&self) -> &Arc<Board> {
        self.monitor.board()
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

    /// Probes of each server in `time` from now.
    async fn asked_in(&self, time: Duration) -> Vec<usize> {
        self.forget();
        sleep(time).await;
        (0..self.servers.len()).map(|server| self.asked(server)).collect()
    }

    /// A write that replicas `level` have replayed, and a session that waits for it.
    fn write(&self, lsn: u64, level: &[usize]) -> WriteStamp {
        for server in std::iter::once(&0).chain(level) {
            self.servers[*server].set(|state| state.lsn = lsn);
        }
        let stamp = self.board().clock().tick();
        self.board().await_stamp(stamp);
        stamp
    }

    /// Sessions write and wait all the time, for so long; replicas `level` keep up.
    async fn write_for(&self, time: Duration, level: &[usize]) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.write(200 + u64::try_from(begun.elapsed().as_millis()).unwrap(), level);
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn usable(&self, server: usize) -> bool {
        let id = EndpointId::from_index(server).unwrap();
        self.board().topology().get(id).unwrap().is_usable()
    }

    fn suspect(&self, server: usize) {
        let id = EndpointId::from_index(server).unwrap();
        self.board().suspect(id, self.board().now(), Failure::Connection("reset".to_owned()));
    }
}

/// The shortest time between two of them.
fn nearest(times: &[Instant]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_so_nobody_is_asked_more_than_once_a_second() {
    let fleet = Fleet::of(5).await;
    sleep(10 * MINUTE).await;
    for server in 0..6 {
        let times = fleet.asked_at(server);
        assert!((480..=601).contains(&times.len()), "{} probes", times.len());
        assert!(nearest(&times) >= Duration::from_secs(1), "{:?}", nearest(&times));
    }
}

#[tokio::test(start_paused = true)]
async fn idle_probes_do_not_march_in_step() {
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
    // By chance one in fifty-five.
    assert!(together * 20 < others, "{together} of {others} come with the primary's");
}

#[tokio::test(start_paused = true)]
async fn probes_are_quick_while_a_session_waits_and_no_longer() {
    let fleet = Fleet::of(2).await;
    let stamp = fleet.write(200, &[1]);
    assert!(fleet.asked_in(Duration::from_millis(100)).await[2] >= 5);
    fleet.servers[2].set(|state| state.lsn = 200);
    fleet.board().until(|topology| topology.covered_by_replicas() >= stamp).await;
    let asked = fleet.asked_in(10 * MINUTE).await;
    assert!(asked.iter().all(|asked| *asked <= 602), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn only_who_can_help_is_asked_more_often() {
    let fleet = Fleet::of(2).await;
    fleet.write(200, &[1]);
    let asked = fleet.asked_in(Duration::from_millis(900)).await;
    assert!(asked[0] > 20 && asked[1] <= 3 && asked[2] > 20, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_are_asked_once_the_primary_has_told_where_it_is() {
    let fleet = Fleet::of(2).await;
    fleet.servers[0].set(|state| state.answers = false);
    fleet.write(200, &[1, 2]);
    let asked = fleet.asked_in(Duration::from_millis(900)).await;
    assert!(asked[1] <= 1 && asked[2] <= 1, "in vain: {asked:?}");
    fleet.servers[0].set(|state| state.answers = true);
    let stamp = fleet.write(300, &[1, 2]);
    let covered = |topology: &Topology| topology.covered_by_replicas() >= stamp;
    let begun = Instant::now();
    fleet.board().until(|topology| topology.sampled_stamp() >= stamp).await;
    let sampled = begun.elapsed();
    fleet.board().until(covered).await;
    let waited = begun.elapsed() - sampled;
    assert!(waited <= Duration::from_millis(5), "{waited:?} after the sample");
}

#[tokio::test(start_paused = true)]
async fn many_processes_share_what_one_server_is_asked() {
    let fleet = Fleet::of(1).await;
    for server in &fleet.servers {
        server.set(|state| state.monitors = Some(50));
    }
    sleep(Duration::from_secs(3)).await;
    // Now and then it is as quick as if it were alone.
    let begun = Instant::now();
    let stamp = fleet.write(200, &[1]);
    fleet.board().until(|topology| topology.covered_by_replicas() >= stamp).await;
    assert!(begun.elapsed() <= Duration::from_millis(20), "{:?}", begun.elapsed());
    // All the time it takes its share: four a second.
    fleet.write_for(Duration::from_secs(5), &[1]).await;
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    for server in [0, 1] {
        let asked = fleet.asked(server);
        assert!((60..=82).contains(&asked), "{asked} probes of {server} in 20 s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_paused_for_an_hour_is_not_asked_for_the_sake_of_who_once_waited() {
    let fleet = Fleet::of(2).await;
    fleet.write(200, &[1]);
    sleep(Duration::from_millis(1_100)).await;
    let asked = fleet.asked_in(HOUR).await;
    assert!(asked.iter().all(|asked| *asked <= 3_601), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_catch_up_is_asked_ever_less_often() {
    let fleet = Fleet::of(1).await;
    fleet.write_for(MINUTE, &[]).await;
    assert!(fleet.asked(0) < 400 && fleet.asked(1) < 400, "{}", fleet.asked(1));
    fleet.forget();
    fleet.write_for(MINUTE, &[]).await;
    assert!(fleet.asked(0) <= 61 && fleet.asked(1) <= 61, "{} {}", fleet.asked(0), fleet.asked(1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_catch_up_slows_nobody_else_down() {
    let fleet = Fleet::of(2).await;
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    let asked = [fleet.asked(0), fleet.asked(1), fleet.asked(2)];
    assert!(asked[0] > 800 && asked[1] > 800 && asked[2] <= 21, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_near_replica_does_not_wait_for_a_far_one() {
    let fleet = Fleet::of(2).await;
    let far = fleet.write(200, &[1]);
    for _ in 0..600 {
        fleet.board().await_stamp(far);
        sleep(Duration::from_millis(100)).await;
    }
    let stamp = fleet.write(300, &[1]);
    let begun = Instant::now();
    let near = EndpointId::from_index(1).unwrap();
    fleet.board().until(|topology| topology.get(near).unwrap().covered >= stamp).await;
    assert!(begun.elapsed() <= Duration::from_millis(50), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_asked_at_once_and_then_as_seldom_as_ever() {
    let fleet = Fleet::of(1).await;
    fleet.suspect(1);
    let asked = fleet.asked_in(Duration::from_millis(10)).await;
    assert_eq!(asked[1], 1);
    let asked = fleet.asked_in(10 * MINUTE).await;
    assert!(asked[1] <= 601, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_down_for_hours_is_asked_every_few_seconds() {
    let fleet = Fleet::of(1).await;
    fleet.servers[1].set(|state| state.refuses = true);
    sleep(MINUTE).await;
    let asked = fleet.asked_in(3 * HOUR).await[1];
    // Between every 2.5 s and every 5 s.
    assert!((2_160..=4_320).contains(&asked), "{asked} attempts in three hours");
    let times = fleet.asked_at(1);
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*most - *least > Duration::from_secs(2), "{least:?} to {most:?}: not spread");

    fleet.servers[1].set(|state| state.refuses = false);
    let begun = Instant::now();
    fleet.board().until(|topology| topology.get(replica_id()).unwrap().is_usable()).await;
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    let asked = fleet.asked_in(MINUTE).await[1];
    assert!((50..=61).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn of_a_primary_that_is_down_everybody_waits_for_the_return() {
    let fleet = Fleet::of(1).await;
    fleet.servers[0].set(|state| state.refuses = true);
    sleep(HOUR).await;
    let asked = fleet.asked_in(MINUTE).await[0];
    assert!((50..=61).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_does_not_have_a_dead_replica_connected_to() {
    let fleet = Fleet::of(2).await;
    fleet.servers[2].set(|state| state.refuses = true);
    sleep(MINUTE).await;
    assert!(!fleet.usable(2));
    fleet.forget();
    fleet.write_for(Duration::from_secs(20), &[1]).await;
    assert!(fleet.asked(2) <= 9, "{} attempts in 20 s", fleet.asked(2));
}

#[tokio::test(start_paused = true)]
async fn many_failing_statements_are_no_storm_of_connections() {
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
        // Who comes back is found by the next of them.
        fleet.servers[server].set(|state| state.refuses = false);
        fleet.suspect(server);
        sleep(Duration::from_millis(110)).await;
        assert!(fleet.asked_at(server).len() > times.len());
    }
}
