//! Worlds in which an address leads to somebody else, users ask for more than the usual, and not every
//! server can run every statement.
//!
//! It is drawn from a source of its own, so that the rest of a seed stays what it was.

use super::{BUSY_MS, Fault, Scenario, Step};
use crate::draw::Draw;

/// Keeps the source apart from the others.
const APART: u64 = 0x0DD0_57A6_0000_0000;

/// The scenario, in some worlds with odd addresses, settings and steps.
pub(super) fn odd(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if !draw.percent(30) {
        return scenario;
    }
    let (servers, processes) = (scenario.servers, scenario.processes);
    // Replicas that are never used again leave nobody to serve a read.
    scenario.only_intended = draw.percent(25) && !scenario.has_unseen_changes();
    let misled = (draw.below(processes), 1 + draw.below(servers - 1));
    // If the server becomes the primary, its process has none, and takes the old one for it.
    let moves = |fault: &Fault| matches!(fault, Fault::Failover { .. } | Fault::Switchover { .. });
    let may_mislead = servers > 2
        && !scenario.has_subscriber
        && !scenario.faults.iter().any(|(_, fault)| moves(fault));
    scenario.misled = Some(misled).filter(|_| draw.percent(50) && may_mislead);
    // A newcomer cannot know which of two systems is ours.
    if draw.percent(50) && scenario.newcomer.is_none() {
        scenario.add_faults((0..draw.within(1..=2)).map(|_| {
            let for_ms = [40, 300, 1_500, 6_000][draw.below(4)] + draw.within(0..=500);
            let address = draw.below(servers);
            (draw.within(1_000..=BUSY_MS - 8_000), Fault::Stranger { address, for_ms })
        }));
    }
    let often = [3, 15][draw.below(2)];
    scenario.replace_steps(often, draw, |draw| another(draw, servers));
    scenario
}

fn another(draw: &mut Draw, servers: usize) -> Step {
    match draw.below(20) {
        0..=5 => Step::ReadOnReplicas,
        6..=10 => Step::ReadDeclining(draw.below(servers)),
        11..=14 => Step::ReadLate,
        15..=17 => Step::ReadNoting,
        _ => Step::ReadWrong,
    }
}
