//! Compares the topology's proofs with a simulated world in which everything is known: a primary
//! that writes, replicas that replay and crash, and questions whose answers are read and delivered
//! at any time.

use std::time::Duration;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use sealane_core::{
    Endpoint, EndpointId, Failure, Incarnation, Moment, Observation, Outcome, Position,
    Replication, Report, Role, Topology, TopologyReducer, WriteClock, WriteStamp,
};

const REPLICAS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Write,
    /// A replica replays this many writes.
    Replay(usize, u64),
    /// A replica comes back as another run, this many writes older.
    Crash(usize, u64),
    /// A question is sent to an endpoint.
    Ask(usize),
    /// The server reads its position for the answer.
    Read(usize),
    /// The answer is delivered, if the server has read its position.
    Deliver(usize),
    /// The question fails.
    Fail(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (replica, endpoint) = (1..=REPLICAS, 0..=REPLICAS);
    prop_oneof![
        3 => Just(Step::Write),
        3 => (replica.clone(), 1..4_u64).prop_map(|(r, n)| Step::Replay(r, n)),
        1 => (replica, 0..3_u64).prop_map(|(r, n)| Step::Crash(r, n)),
        5 => endpoint.clone().prop_map(Step::Ask),
        5 => endpoint.clone().prop_map(Step::Read),
        5 => endpoint.clone().prop_map(Step::Deliver),
        1 => endpoint.prop_map(Step::Fail),
    ]
}

/// The stamp and time of a question, and what the server has read for it.
#[derive(Debug, Clone)]
struct Question {
    started: Moment,
    stamp: WriteStamp,
    read: Option<(u64, u32)>,
}

/// The engine's notation for the number of contained writes.
type Notation = fn(u64) -> Position;

fn wal(writes: u64) -> Position {
    Position::Wal { system: 1, timeline: 1, lsn: sealane_core::Lsn::from_bytes(100 * writes) }
}

fn gtid_set(writes: u64) -> Position {
    let text = match writes {
        0 => String::new(),
        n => format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{n}"),
    };
    Position::GtidSet(text.parse().expect("a set"))
}

fn gtid_list(writes: u64) -> Position {
    Position::GtidList(format!("0-1-{writes}").parse().expect("a list"))
}

struct World {
    now_ms: u64,
    clock: WriteClock,
    /// When each write was committed; the first write is number 1.
    committed: Vec<Moment>,
    /// How many writes each endpoint contains, with its run.
    contained: Vec<(u64, u32)>,
    questions: Vec<Option<Question>>,
    reducer: TopologyReducer,
    notation: Notation,
    /// A planted fault: the clock is read when the answer arrives.
    late_stamps: bool,
}

impl World {
    fn new(notation: Notation, late_stamps: bool) -> Self {
        let endpoints = (0..=REPLICAS).map(|n| Endpoint::new(n.to_string(), "")).collect();
        World {
            now_ms: 0,
            clock: WriteClock::default(),
            committed: Vec::new(),
            contained: vec![(0, 1); REPLICAS + 1],
            questions: vec![None; REPLICAS + 1],
            reducer: TopologyReducer::new(Topology::new(endpoints)),
            notation,
            late_stamps,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_millis(self.now_ms))
    }

    fn take(&mut self, step: &Step) {
        self.now_ms += 1;
        let (now, writes) = (self.now(), self.contained[0].0);
        match *step {
            Step::Write => {
                self.contained[0].0 += 1;
                self.committed.push(now);
                self.clock.tick();
            }
            Step::Replay(replica, n) => {
                self.contained[replica].0 = writes.min(self.contained[replica].0 + n);
            }
            Step::Crash(replica, n) => {
                let (contained, run) = self.contained[replica];
                self.contained[replica] = (contained.saturating_sub(n), run + 1);
                self.questions[replica] = None;
            }
            Step::Ask(endpoint) => {
                let question = Question { started: now, stamp: self.clock.now(), read: None };
                self.questions[endpoint] = Some(question);
            }
            Step::Read(endpoint) => {
                let contained = self.contained[endpoint];
                if let Some(question) = &mut self.questions[endpoint] {
                    question.read.get_or_insert(contained);
                }
            }
            Step::Deliver(endpoint) => self.deliver(endpoint),
            Step::Fail(endpoint) => {
                if let Some(question) = self.questions[endpoint].take() {
                    self.apply(endpoint, &question, Outcome::Failed(Failure::Timeout));
                }
            }
        }
    }

    fn deliver(&mut self, endpoint: usize) {
        let Some(question) = self.questions[endpoint].take() else { return };
        let Some((contained, run)) = question.read else {
            self.questions[endpoint] = Some(question);
            return;
        };
        let (role, replication) = match endpoint {
            0 => (Role::Primary, Replication::NotApplicable),
            _ => (Role::Replica, Replication::Running),
        };
        let report = Report {
            position: Some((self.notation)(contained)),
            replication,
            ..Report::new(role, Incarnation::new(run.to_string()))
        };
        self.apply(endpoint, &question, Outcome::Answered(report));
    }

    fn apply(&mut self, endpoint: usize, question: &Question, outcome: Outcome) {
        let stamp = if self.late_stamps { self.clock.now() } else { question.stamp };
        self.reducer.apply(&Observation {
            endpoint: EndpointId::from_index(endpoint).expect("an endpoint"),
            started: question.started,
            finished: self.now(),
            stamp,
            outcome,
        });
    }

    /// The first claim that is not true for the data at the shown position.
    fn false_claim(&self) -> Option<String> {
        let topology = self.reducer.topology();
        topology.iter().skip(1).find_map(|(id, state)| {
            let holds = |n: u64| match &state.position {
                Some(position) => position.covers(&(self.notation)(n)),
                None => false,
            };
            // Writes are stamped in the order of their numbers.
            let covered = state.covered.number();
            if covered > 0 && !holds(covered) {
                return Some(format!("{id} does not hold write {covered}"));
            }
            let fresh_at = state.fresh_at?;
            let committed = self.committed.iter().filter(|at| **at < fresh_at).count() as u64;
            (committed > 0 && !holds(committed))
                .then(|| format!("{id} does not hold write {committed}, committed before"))
        })
    }
}

fn simulate(steps: &[Step], notation: Notation, late_stamps: bool) -> Result<World, String> {
    let mut world = World::new(notation, late_stamps);
    for step in steps {
        world.take(step);
        if let Some(claim) = world.false_claim() {
            return Err(claim);
        }
    }
    Ok(world)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 0..120)
}

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
}

const NOTATIONS: [Notation; 3] = [wal, gtid_set, gtid_list];

#[test]
fn the_topology_makes_no_false_claim() {
    let run = runner().run(&steps(), |steps| {
        for notation in NOTATIONS {
            simulate(&steps, notation, false).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    assert!(run.is_ok(), "{run:?}");
}

#[test]
fn a_replica_that_has_replayed_everything_is_proved_after_one_round() {
    let run = runner().run(&steps(), |steps| {
        for notation in NOTATIONS {
            let mut world = simulate(&steps, notation, false).map_err(TestCaseError::fail)?;
            world.take(&Step::Write);
            for endpoint in 0..=REPLICAS {
                if endpoint > 0 {
                    world.take(&Step::Replay(endpoint, u64::MAX / 2));
                }
                for step in [Step::Ask(endpoint), Step::Read(endpoint), Step::Deliver(endpoint)] {
                    world.take(&step);
                }
            }
            let everything = world.clock.now();
            for (_, state) in world.reducer.topology().iter() {
                prop_assert_eq!(state.covered, everything);
            }
        }
        Ok(())
    });
    assert!(run.is_ok(), "{run:?}");
}

#[test]
fn a_clock_that_is_read_too_late_is_detected() {
    for notation in NOTATIONS {
        let run = runner().run(&steps(), |steps| {
            simulate(&steps, notation, true).map(drop).map_err(TestCaseError::fail)
        });
        assert!(matches!(run, Err(TestError::Fail(..))), "{run:?}");
    }
}
