//! One case of selection: replicas in some state, and which of them are taken how often.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sealane_core::{
    AttemptOutcome, Balancer, Candidates, Endpoint, EndpointId, EndpointSet, Failure,
    FastestResponse, InFlight, Incarnation, LeastInFlight, LeastLag, Loads, LocalFirst, Lsn,
    Moment, Observation, Outcome, Position, Random, Replication, Report, Role, RoundRobin, Sticky,
    Topology, TopologyReducer, TwoChoices, WeightedRoundRobin, WriteStamp,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The specified behaviour, as a sentence.
    pub says: String,
    balancer: String,
    /// The zone of the process.
    zone: Option<String>,
    spill: Option<u32>,
    /// The primary, number 0, is a candidate only if `among` says so.
    #[serde(default = "one")]
    primary_weight: u32,
    /// The replicas from number 1 on.
    #[serde(default)]
    replicas: Vec<Replica>,
    /// The candidates; all replicas unless given.
    among: Option<Vec<usize>>,
    /// The number of the session, the same for all picks.
    key: Option<u64>,
    /// Each pick is of another session.
    #[serde(default)]
    many_sessions: bool,
    /// Each picked replica goes on running what it got.
    #[serde(default)]
    piles_up: bool,
    #[serde(default = "many")]
    iterations: usize,
    #[serde(default = "two_hundredths")]
    tolerance: f64,
    /// The replicas that are taken: each of them, and no other.
    picks: Option<Vec<usize>>,
    /// How often each is taken.
    shares: Option<BTreeMap<String, f64>>,
    /// The first picks.
    order: Option<Vec<usize>>,
    /// If this replica is missing, no session of another replica moves.
    keeps_without: Option<usize>,
}

fn many() -> usize {
    10_000
}

fn two_hundredths() -> f64 {
    0.02
}

/// The state of a replica; times in milliseconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replica {
    #[serde(default = "one")]
    weight: u32,
    zone: Option<String>,
    #[serde(default)]
    in_flight: usize,
    /// How many times as long as usual its last statements took.
    slow: Option<f64>,
    #[serde(default)]
    failures: usize,
    /// How long ago it was measured to be slow, or failed.
    #[serde(default)]
    measured_ago: u64,
    /// How long ago it came back from an outage.
    back_since: Option<u64>,
    /// How far it is behind; -1 for unknown.
    #[serde(default)]
    lag: i64,
}

fn one() -> u32 {
    1
}

/// When everything happens.
const NOW: u64 = 1_000_000;

fn at(ms: u64) -> Moment {
    Moment::from_origin(Duration::from_millis(ms))
}

fn id(index: usize) -> EndpointId {
    EndpointId::from_index(index).expect("few endpoints")
}

impl Case {
    pub fn faults(&self) -> Vec<String> {
        self.faults_of(&*self.balancer())
    }

    /// What is not as specified if `balancer` decides.
    pub fn faults_of(&self, balancer: &dyn Balancer) -> Vec<String> {
        let topology = self.topology();
        let (loads, mut running) = self.loads();
        let replicas: EndpointSet = match &self.among {
            Some(among) => among.iter().map(|index| id(*index)).collect(),
            None => (1..=self.replicas.len()).map(id).collect(),
        };
        let pick = |set, number: usize| {
            let key = if self.many_sessions { Some(number as u64) } else { self.key };
            let candidates = Candidates::new(set, &topology, &loads, at(NOW)).with_key(key);
            balancer.pick(&candidates, word(number as u64)).map(|id| id.place())
        };
        let mut taken = Vec::new();
        for number in 0..self.iterations {
            let picked = pick(replicas, number);
            if let Some(place) = picked.filter(|_| self.piles_up) {
                running.push(loads.start_read(id(place)));
            }
            taken.push(picked);
        }
        let mut faults = self.compare(&taken);
        if let Some(missing) = self.keeps_without {
            let fewer = replicas.without([id(missing)].into_iter().collect());
            let sessions =
                (0..self.iterations).map(|number| (pick(replicas, number), pick(fewer, number)));
            let moved =
                sessions.filter(|(before, after)| *before != Some(missing) && before != after);
            let moved = moved.count();
            if moved > 0 {
                faults.push(format!("{moved} sessions of other replicas moved"));
            }
        }
        faults
    }

    fn compare(&self, taken: &[Option<usize>]) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(expected) = &self.picks {
            let found: BTreeSet<usize> = taken.iter().copied().flatten().collect();
            let expected: BTreeSet<usize> = expected.iter().copied().collect();
            if found != expected {
                faults.push(format!("picked {found:?} instead of {expected:?}"));
            }
        }
        if let Some(order) = &self.order {
            let found: Vec<usize> = taken.iter().take(order.len()).copied().flatten().collect();
            if found != *order {
                faults.push(format!("picked {found:?} instead of {order:?}"));
            }
        }
        let wrong = |(place, expected): (&String, &f64)| {
            let place: usize = place.parse().unwrap_or_else(|_| panic!("{place} is no number"));
            let times = taken.iter().filter(|picked| **picked == Some(place)).count();
            let share = times as f64 / taken.len() as f64;
            ((share - expected).abs() > self.tolerance).then(|| format!("{place}: {share:.3}"))
        };
        let shares = self.shares.iter().flatten().filter_map(wrong);
        let shares: Vec<_> = shares.collect();
        if !shares.is_empty() {
            faults.push(format!("shares {} instead of {:?}", shares.join(", "), self.shares));
        }
        let expects = self.picks.is_some()
            || self.order.is_some()
            || self.shares.is_some()
            || self.keeps_without.is_some();
        if !expects {
            faults.push("the case expects nothing".to_owned());
        }
        faults
    }

    fn balancer(&self) -> Box<dyn Balancer> {
        let balancer: Arc<dyn Balancer> = match &*self.balancer {
            "two-choices" => Arc::new(TwoChoices),
            "round-robin" => Arc::new(RoundRobin::default()),
            "weighted-round-robin" => Arc::new(WeightedRoundRobin::default()),
            "least-in-flight" => Arc::new(LeastInFlight),
            "least-lag" => Arc::new(LeastLag),
            "fastest-response" => Arc::new(FastestResponse),
            "random" => Arc::new(Random),
            "sticky" => Arc::new(Sticky),
            unknown => panic!("{unknown} is no balancer"),
        };
        assert_eq!(balancer.name(), self.balancer);
        match &self.zone {
            None => Box::new(balancer),
            Some(zone) => {
                let local = LocalFirst::new(zone.as_str(), balancer);
                Box::new(self.spill.into_iter().fold(local, LocalFirst::with_spill_ratio))
            }
        }
    }

    fn loads(&self) -> (Arc<Loads>, Vec<InFlight>) {
        let (loads, mut running) = (Arc::new(Loads::new()), Vec::new());
        for (index, replica) in (1..).zip(&self.replicas) {
            let (id, then) = (id(index), at(NOW - replica.measured_ago));
            let usual = Duration::from_millis(1);
            if let Some(slow) = replica.slow {
                let outcome = AttemptOutcome::Served(usual.mul_f64(slow));
                // One sample raises the average to a multiple of itself only.
                (0..20).for_each(|_| loads.ended(id, outcome, Some(usual), then, None));
            }
            let failed = AttemptOutcome::Failed;
            (0..replica.failures).for_each(|_| loads.ended(id, failed, None, then, None));
            running.extend((0..replica.in_flight).map(|_| loads.start_read(id)));
        }
        (loads, running)
    }

    /// The primary is endpoint 0.
    fn topology(&self) -> Topology {
        let primary = Endpoint::new("primary", "").with_weight(self.primary_weight);
        let replicas = (1..).zip(&self.replicas).map(|(index, replica)| {
            let endpoint =
                Endpoint::new(format!("replica-{index}"), "").with_weight(replica.weight);
            replica.zone.iter().fold(endpoint, |endpoint, zone| endpoint.in_zone(zone.as_str()))
        });
        let endpoints: Vec<_> = std::iter::once(primary).chain(replicas).collect();
        let mut reducer = TopologyReducer::new(Topology::new(endpoints));
        let mut observations = self.observations();
        observations.sort_by_key(|observation| observation.started);
        for observation in &observations {
            reducer.apply(observation);
        }
        reducer.topology().clone()
    }

    fn observations(&self) -> Vec<Observation> {
        // The primary has one byte more in each millisecond, so a position tells the lag.
        let primary = |ms| observation(0, ms, Ok((Role::Primary, Some(ms))));
        let mut all = vec![primary(1), primary(NOW)];
        for (index, replica) in (1..).zip(&self.replicas) {
            let position = u64::try_from(replica.lag).ok().map(|lag| NOW - lag);
            all.extend(position.filter(|at| *at != NOW).map(primary));
            if let Some(ago) = replica.back_since {
                let back = NOW - ago;
                all.extend([3, 2].map(|before| observation(index, back - before, Err(()))));
                all.push(observation(index, back, Ok((Role::Replica, Some(1)))));
            }
            all.push(observation(index, NOW, Ok((Role::Replica, position))));
        }
        all
    }
}

fn observation(index: usize, ms: u64, answer: Result<(Role, Option<u64>), ()>) -> Observation {
    let outcome = match answer {
        Err(()) => Outcome::Failed(Failure::Timeout),
        Ok((role, bytes)) => Outcome::Answered(Report {
            position: bytes.map(|bytes| Position::Wal {
                system: 1,
                timeline: 1,
                lsn: Lsn::from_bytes(bytes),
            }),
            replication: Replication::Running,
            ..Report::new(role, Incarnation::new("run"))
        }),
    };
    let stamp = WriteStamp::from_number(ms);
    Observation { endpoint: id(index), started: at(ms), finished: at(ms), stamp, outcome }
}

/// A random word, the same in every run (splitmix64).
fn word(number: u64) -> u64 {
    let mut z = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
