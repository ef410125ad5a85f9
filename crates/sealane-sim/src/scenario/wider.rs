//! What most worlds have more than the plain ones.
//!
//! It is drawn from a source of its own, so that the plain part of a seed stays what it was.

use super::{BUSY_MS, Fault, Kind, Scenario, Step};
use crate::draw::Draw;

/// Keeps the source apart from those of the plain scenario and of the processes.
const APART: u64 = 0x57DE_5A1A_0000_0000;

/// The scenario with more faults, and with other steps in place of some.
pub(super) fn widened(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if draw.percent(25) {
        return scenario;
    }
    scenario.is_synchronous = draw.percent(25);
    scenario.has_subscriber =
        draw.percent(40) && scenario.servers > 2 && scenario.kind == Kind::Timelines;
    let (servers, processes) = (scenario.servers, scenario.processes);
    let more = draw.within(0..=4);
    scenario.add_faults((0..more).map(|_| {
        let at_ms = draw.within(1_000..=BUSY_MS - 5_000);
        (at_ms, fault(draw, servers, processes))
    }));
    if draw.percent(15) {
        calm_down(&mut scenario, draw);
    }
    let often = [2, 10, 25][draw.below(3)];
    for user in &mut scenario.users {
        let mut draw = draw.split();
        for (_, step) in &mut user.steps {
            if draw.percent(often) {
                *step = another(&mut draw);
            } else if scenario.has_subscriber && draw.percent(20) {
                *step = Step::ReadHeavy;
            }
        }
    }
    scenario
}

/// Nobody is in a hurry, and replicas restart between two statements: no statement and no probe sees
/// it happen.
fn calm_down(scenario: &mut Scenario, draw: &mut Draw) {
    for user in &mut scenario.users {
        let mut ends_ms = 0;
        user.steps.retain_mut(|(pause_ms, _)| {
            *pause_ms = draw.within(400..=2_500);
            ends_ms += *pause_ms;
            ends_ms < BUSY_MS
        });
    }
    let servers = scenario.servers;
    scenario.add_faults((0..5).map(|_| {
        let server = draw.below(servers);
        let (older, behind_ms) = (1 + draw.below(8), draw.within(300..=1_500));
        let at_ms = draw.within(5_000..=BUSY_MS - 5_000);
        (at_ms, Fault::Blink { server, older, behind_ms })
    }));
}

fn another(draw: &mut Draw) -> Step {
    match draw.below(20) {
        0..=3 => Step::SlowStream(1 + draw.below(3), draw.within(0..=400)),
        4..=6 => Step::CancelledStream(draw.within(0..=12)),
        7..=9 => Step::CancelledReadTransaction(draw.within(0..=20)),
        10..=13 => Step::CancelledTransaction(draw.within(0..=25)),
        14..=16 => Step::LongTransaction(draw.within(0..=600)),
        _ => Step::Scope,
    }
}

fn fault(draw: &mut Draw, servers: usize, processes: usize) -> Fault {
    let (server, process) = (draw.below(servers), draw.below(processes));
    let for_ms = [40, 300, 1_500, 6_000][draw.below(4)] + draw.within(0..=500);
    match draw.below(20) {
        0..=3 => Fault::Drain { process, address: server, for_ms },
        4..=8 => Fault::Leave { process, address: server, for_ms },
        9..=11 => Fault::Switchover {
            candidate: draw.below(servers),
            drains: draw.percent(50),
            back_ms: draw.within(0..=1_000),
        },
        12..=14 => Fault::Deaf { process, server, for_ms },
        15..=16 => Fault::Kills { server, percent: 30, for_ms },
        _ => Fault::Blink { server, older: 1 + draw.below(6), behind_ms: for_ms },
    }
}
