//! A fleet of replicas under many processes, in virtual time: what balancers do to the tails.
//!
//! Each process has its own [`Loads`](sealane_core::Loads) and sees only its own statements, as in
//! production. Arrivals do not wait for answers (an open loop), so a slow server cannot hide behind
//! clients that wait for it. Run with `--nocapture` to see the figures.
#![allow(clippy::print_stdout, clippy::panic, reason = "the figures are the result")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod draw;
mod fleet;
mod server;

use std::time::Duration;

use fleet::{Figures, Fleet, Make};
use sealane_core::{
    Balancer, FastestResponse, LeastInFlight, Random, RoundRobin, TwoChoices, WeightedRoundRobin,
};
use server::Server;

fn two_choices() -> Box<dyn Balancer> {
    Box::new(TwoChoices)
}

fn round_robin() -> Box<dyn Balancer> {
    Box::new(RoundRobin::default())
}

/// Those that look at the load or at nothing, for comparison.
const ALL: [(&str, Make); 6] = [
    ("two-choices", two_choices),
    ("round-robin", round_robin),
    ("weighted-round-robin", || Box::new(WeightedRoundRobin::default())),
    ("least-in-flight", || Box::new(LeastInFlight)),
    ("fastest-response", || Box::new(FastestResponse)),
    ("random", || Box::new(Random)),
];

/// 50 processes with this many reads per second in all. A server that is well serves up to 2,000.
fn fleet_with(reads_per_s: u32, servers: Vec<Server>) -> Fleet {
    Fleet { servers, processes: 50, reads_per_s, lasts: Duration::from_secs(60), seed: 15 }
}

/// 60 reads per second for each process: half of what three servers can serve.
fn fleet(servers: Vec<Server>) -> Fleet {
    fleet_with(3_000, servers)
}

/// What the tail of `balancer` is with one slow server, relative to a fleet without this server.
fn relative_p99(make: Make, reads_per_s: u32, slow: Server) -> (f64, Figures) {
    let without = fleet_with(reads_per_s, vec![Server::usual(); 3]).run(make);
    let mut servers = vec![Server::usual(); 3];
    servers.push(slow);
    let with = fleet_with(reads_per_s, servers).run(make);
    (with.p99().as_secs_f64() / without.p99().as_secs_f64(), with)
}

#[test]
fn one_of_four_replicas_ten_times_slower_does_not_lengthen_the_tail() {
    // With the fewest reads, round robin does not even overload the slow server, and each process
    // reads only 12 times a second, so that trying the slow server again costs the most.
    for reads_per_s in [600, 3_000, 4_800] {
        println!("one of four replicas ten times slower, {reads_per_s} reads per second:");
        let mut ratios = Vec::new();
        let compared = if reads_per_s == 3_000 { &ALL[..] } else { &ALL[..2] };
        for (name, make) in compared {
            let (ratio, figures) = relative_p99(*make, reads_per_s, Server::slower(10));
            let share = figures.share(3) * 100.0;
            println!("  {name:21} p99 x {ratio:8.2}  its share {share:5.2} %  {figures}");
            ratios.push(ratio);
        }
        assert!(ratios[0] <= 1.3, "two choices: {}", ratios[0]);
        // The check can fail.
        assert!(ratios[1] > 1.3, "round robin: {}", ratios[1]);
    }
}

#[test]
fn a_replica_that_fails_fast_gets_few_reads() {
    println!("one of four replicas fails at once:");
    let mut shares = Vec::new();
    for (name, make) in ALL {
        let mut servers = vec![Server::usual(); 3];
        servers.push(Server::failing());
        let figures = fleet(servers).run(make);
        println!("  {name:21} its share {:6.3} %  {figures}", figures.share(3) * 100.0);
        shares.push(figures.share(3));
    }
    assert!(shares[0] < 0.02, "two choices: {}", shares[0]);
    assert!(shares[3] > 0.02, "least in flight is attracted by it: {}", shares[3]);
}

#[test]
fn a_replica_that_comes_back_is_not_flooded_and_gets_its_share_in_the_end() {
    let mut servers = vec![Server::usual(); 3];
    servers.push(Server::away(Duration::from_secs(10), Duration::from_secs(20)));
    let figures = fleet(servers).run(two_choices);
    println!("one of four replicas is away from 10 s to 20 s; its share by second:");
    let shares: Vec<f64> = (0..60).map(|second| figures.share_in(3, second)).collect();
    for (second, share) in shares.iter().enumerate().filter(|(second, _)| (8..40).contains(second))
    {
        println!("  {second:2} s  {:5.1} %", share * 100.0);
    }
    assert!(shares[12..20].iter().all(|share| *share < 0.005), "away: {:?}", &shares[12..20]);
    assert!(shares[20] < 0.10, "in the first second: {}", shares[20]);
    assert!(shares[21] < 0.15, "in the second one: {}", shares[21]);
    assert!(shares[20..].iter().all(|share| *share < 0.35), "{:?}", &shares[20..30]);
    let later = shares[40..].iter().sum::<f64>() / 20.0;
    assert!((0.22..0.28).contains(&later), "at last: {later}");
}

#[test]
fn a_replica_that_was_slow_once_gets_its_share_again() {
    let pause = Server::paused(Duration::from_secs(20), Duration::from_millis(300));
    let mut servers = vec![Server::usual(); 3];
    servers.push(pause);
    let figures = fleet(servers).run(two_choices);
    let shares: Vec<f64> = (0..60).map(|second| figures.share_in(3, second)).collect();
    println!("one of four replicas pauses for 300 ms at 20 s; its share by second:");
    for second in [18, 19, 20, 21, 22, 25, 30, 35, 40, 45, 50, 55, 59] {
        println!("  {second:2} s  {:5.1} %", shares[second] * 100.0);
    }
    let [before, after] =
        [&shares[10..20], &shares[50..60]].map(|it| it.iter().sum::<f64>() / 10.0);
    assert!((after - before).abs() < 0.04, "{before} {after}");
    // Nor does everybody return at once.
    assert!(shares[20..].iter().all(|share| *share < 0.35), "{shares:?}");
}

#[test]
fn fifty_processes_do_not_herd() {
    println!("6,400 reads per second, 80 % of what the servers can serve;");
    println!("reads at one server beyond an equal share, at the worst moment:");
    let mut all = Vec::new();
    for (name, make) in ALL {
        let figures = fleet_with(6_400, vec![Server::usual(); 4]).run(make);
        let shares: Vec<_> =
            (0..4).map(|server| format!("{:.1}", figures.share(server) * 100.0)).collect();
        let (excess, most) = (figures.worst_excess, figures.most_in_flight);
        println!("  {name:21} {excess:4} of {most:4}  shares {}  {figures}", shares.join(" "));
        all.push(figures);
    }
    let [two_choices, .., fastest, random] = &all[..] else { panic!("{all:?}") };
    assert!(two_choices.worst_excess < random.worst_excess, "{two_choices}");
    assert!((0..4).all(|it| (0.22..0.28).contains(&two_choices.share(it))), "{two_choices}");
    assert!(two_choices.p99() < random.p99(), "{two_choices}, and at random {random}");
    // The check can fail: these processes herd.
    assert!(fastest.worst_excess > random.worst_excess, "{fastest}");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let run = || {
        let servers = vec![Server::usual(), Server::slower(10), Server::failing()];
        let fleet = Fleet { lasts: Duration::from_secs(10), ..fleet(servers) };
        fleet.run(two_choices).to_string()
    };
    assert_eq!(run(), run());
}
