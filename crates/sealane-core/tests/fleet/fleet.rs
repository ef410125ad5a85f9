//! The processes, the servers, and what is counted.

use std::{cmp::Reverse, collections::BinaryHeap, fmt, sync::Arc, time::Duration};

use sealane_core::{
    AttemptOutcome, Balancer, Candidates, Endpoint, EndpointId, EndpointSet, Failure, InFlight,
    Incarnation, Loads, Lsn, Moment, Observation, Outcome, Pace, Position, Replication, Report,
    Role, Topology, TopologyReducer, WriteStamp,
};

use crate::{
    draw::Draw,
    server::{Fate, Server},
};

/// Makes the balancer of one process.
pub type Make = fn() -> Box<dyn Balancer>;

/// What happens before is not counted.
const WARM_UP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Fleet {
    pub servers: Vec<Server>,
    pub processes: usize,
    pub reads_per_s: u32,
    pub lasts: Duration,
    pub seed: u64,
}

struct Process {
    balancer: Box<dyn Balancer>,
    loads: Arc<Loads>,
    pace: Pace,
}

struct Read {
    process: usize,
    arrived: Moment,
    sent: Moment,
    server: usize,
    /// The servers that were not tried yet.
    left: EndpointSet,
    running: Option<InFlight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// What the monitor sees changes: this server goes away or comes back.
    Seen {
        server: usize,
        is_back: bool,
    },
    Arrives,
    Ends {
        read: usize,
        is_served: bool,
    },
}

struct Run<'a> {
    fleet: &'a Fleet,
    servers: Vec<Server>,
    reducer: TopologyReducer,
    processes: Vec<Process>,
    reads: Vec<Read>,
    events: BinaryHeap<Reverse<(Moment, u64, Happens)>>,
    sequence: u64,
    draw: Draw,
    at_server: Vec<usize>,
    figures: Figures,
}

impl Fleet {
    pub fn run(&self, make: Make) -> Figures {
        let processes = (0..self.processes).map(|_| Process {
            balancer: make(),
            loads: Arc::default(),
            pace: Pace::default(),
        });
        let mut run = Run {
            fleet: self,
            servers: self.servers.clone(),
            reducer: observed(self.servers.len()),
            processes: processes.collect(),
            reads: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            draw: Draw::new(self.seed),
            at_server: vec![0; self.servers.len()],
            figures: Figures::new(self),
        };
        run.go();
        run.figures
    }
}

/// A primary and this many replicas, all of which have answered.
fn observed(replicas: usize) -> TopologyReducer {
    let endpoints = (0..=replicas).map(|n| Endpoint::new(format!("endpoint-{n}"), ""));
    let mut reducer = TopologyReducer::new(Topology::new(endpoints.collect()));
    for index in 0..=replicas {
        reducer.apply(&observation(index, Moment::ZERO, true));
    }
    reducer
}

fn observation(index: usize, at: Moment, answers: bool) -> Observation {
    let role = if index == 0 { Role::Primary } else { Role::Replica };
    let position = Position::Wal { system: 1, timeline: 1, lsn: Lsn::from_bytes(100) };
    let report = Report {
        position: Some(position),
        replication: Replication::Running,
        ..Report::new(role, Incarnation::new("run"))
    };
    Observation {
        endpoint: id(index),
        started: at,
        finished: at,
        stamp: WriteStamp::NONE,
        outcome: match answers {
            true => Outcome::Answered(report),
            false => Outcome::Failed(Failure::Timeout),
        },
    }
}

fn id(index: usize) -> EndpointId {
    EndpointId::from_index(index).expect("few endpoints")
}

impl Run<'_> {
    fn go(&mut self) {
        for (server, state) in self.servers.clone().iter().enumerate() {
            // The monitor sees it a little later.
            let later = Duration::from_millis(50);
            if let Some((from, to)) = state.away {
                self.at(from + later, Happens::Seen { server, is_back: false });
                self.at(to + later, Happens::Seen { server, is_back: true });
            }
        }
        self.at(Moment::ZERO, Happens::Arrives);
        while let Some(Reverse((now, _, what))) = self.events.pop() {
            match what {
                Happens::Seen { server, is_back } => {
                    // Twice: only an outage that is confirmed counts as one.
                    let seen = observation(server + 1, now, is_back);
                    self.reducer.apply(&seen);
                    self.reducer.apply(&seen);
                }
                Happens::Arrives => self.arrives(now),
                Happens::Ends { read, is_served: true } => self.served(read, now),
                Happens::Ends { read, is_served: false } => self.failed(read, now),
            }
        }
    }

    fn at(&mut self, when: Moment, what: Happens) {
        self.sequence += 1;
        self.events.push(Reverse((when, self.sequence, what)));
    }

    fn arrives(&mut self, now: Moment) {
        let mean = Duration::from_secs(1) / self.fleet.reads_per_s;
        let next = now + self.draw.time(mean);
        if next.since(Moment::ZERO) < self.fleet.lasts {
            self.at(next, Happens::Arrives);
        }
        let process = self.draw.word() as usize % self.processes.len();
        let left = self.reducer.topology().replicas_in_use();
        let read = Read { process, arrived: now, sent: now, server: 0, left, running: None };
        self.reads.push(read);
        self.send(self.reads.len() - 1, now);
    }

    fn send(&mut self, read: usize, now: Moment) {
        let topology = self.reducer.topology();
        let it = &mut self.reads[read];
        let process = &self.processes[it.process];
        let candidates = Candidates::new(it.left, topology, &process.loads, now);
        let Some(picked) = process.balancer.pick(&candidates, self.draw.word()) else { return };
        it.left.remove(picked);
        it.server = picked.place() - 1;
        it.sent = now;
        it.running = Some(process.loads.start_read(picked));
        let server = it.server;
        self.at_server[server] += 1;
        self.figures.sent(server, now, &self.at_server);
        if let Some((ends, fate)) = self.servers[server].take(read, now, &mut self.draw) {
            self.at(ends, Happens::Ends { read, is_served: fate == Fate::Served });
        }
    }

    fn served(&mut self, read: usize, now: Moment) {
        let server = self.reads[read].server;
        self.ended(read, AttemptOutcome::Served(now.since(self.reads[read].sent)), now);
        self.figures.served(self.reads[read].arrived, now);
        if let Some((next, ends)) = self.servers[server].served(now, &mut self.draw) {
            self.at(ends, Happens::Ends { read: next, is_served: true });
        }
    }

    fn failed(&mut self, read: usize, now: Moment) {
        self.ended(read, AttemptOutcome::Failed, now);
        self.send(read, now);
    }

    fn ended(&mut self, read: usize, outcome: AttemptOutcome, now: Moment) {
        let it = &mut self.reads[read];
        it.running = None;
        self.at_server[it.server] -= 1;
        let process = &self.processes[it.process];
        let endpoint = id(it.server + 1);
        process.loads.ended(endpoint, outcome, process.pace.mean(), now, None);
        process.balancer.ended(endpoint, outcome);
        if let AttemptOutcome::Served(latency) = outcome {
            process.pace.record(latency);
        }
    }
}

/// What was counted after the warm-up.
#[derive(Debug, Clone)]
pub struct Figures {
    times: Vec<Duration>,
    /// By second, then by server.
    sent: Vec<Vec<u64>>,
    /// By how many reads a server had more than its equal share, at most.
    pub worst_excess: usize,
    /// How many reads all servers had together at that moment.
    pub most_in_flight: usize,
}

impl Figures {
    fn new(fleet: &Fleet) -> Self {
        let seconds = fleet.lasts.as_secs() as usize + 60;
        let sent = vec![vec![0; fleet.servers.len()]; seconds];
        Figures { times: Vec::new(), sent, worst_excess: 0, most_in_flight: 0 }
    }

    fn sent(&mut self, server: usize, now: Moment, at_server: &[usize]) {
        let elapsed = now.since(Moment::ZERO);
        if let Some(second) = self.sent.get_mut(elapsed.as_secs() as usize) {
            second[server] += 1;
        }
        let all: usize = at_server.iter().sum();
        let excess = at_server[server].saturating_sub(all / at_server.len());
        if elapsed >= WARM_UP && excess > self.worst_excess {
            (self.worst_excess, self.most_in_flight) = (excess, all);
        }
    }

    fn served(&mut self, arrived: Moment, now: Moment) {
        if arrived.since(Moment::ZERO) >= WARM_UP {
            self.times.push(now.since(arrived));
        }
    }

    fn quantile(&self, part: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[((times.len() - 1) as f64 * part) as usize]
    }

    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// The share of the attempts after the warm-up that went to this server.
    pub fn share(&self, server: usize) -> f64 {
        let counted = &self.sent[WARM_UP.as_secs() as usize..];
        share(counted.iter().map(|second| second.as_slice()), server)
    }

    /// The share of the attempts in this second.
    pub fn share_in(&self, server: usize, second: usize) -> f64 {
        share([self.sent[second].as_slice()].into_iter(), server)
    }
}

fn share<'a>(seconds: impl Iterator<Item = &'a [u64]>, server: usize) -> f64 {
    let (its, all) = seconds.fold((0, 0), |(its, all), second| {
        (its + second[server], all + second.iter().sum::<u64>())
    });
    its as f64 / (all as f64).max(1.0)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |part| self.quantile(part).as_secs_f64() * 1_000.0;
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, most {:.1} ms, {} reads",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
            self.times.len()
        )
    }
}
