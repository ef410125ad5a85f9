//! A process that starts while others are at work. It has seen nothing of what happened before, and
//! may not reach every server.
//!
//! It is drawn from a source of its own, so that the rest of a seed stays what it was.

use super::{BUSY_MS, Fault, Loss, Scenario, User, user_until};
use crate::draw::Draw;

/// Keeps the source apart from the others.
const APART: u64 = 0x0E3C_03E2_0000_0000;
/// The newcomer has at least so long for its work.
const LEAST_MS: u64 = 5_000;

/// A process that starts late, with one user.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// When it starts, in milliseconds.
    pub at_ms: u64,
    /// A server that it does not reach at first, and for how many milliseconds.
    pub cut: Option<(usize, u64)>,
    /// What its user does.
    pub user: User,
}

/// The scenario, in some worlds with a newcomer, who mostly comes after a failover.
pub(super) fn joined(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if !draw.percent(30) {
        return scenario;
    }
    let (servers, processes) = (scenario.servers, scenario.processes);
    if draw.percent(60) {
        let loss = [Loss::Crash, Loss::Freeze, Loss::Alone][draw.below(3)];
        let (candidate, after_ms) = (draw.below(servers), draw.within(100..=2_500));
        let (back_ms, unfenced_ms) = (draw.within(0..=3_000), draw.within(500..=6_000));
        let failover = Fault::Failover { loss, candidate, after_ms, back_ms, unfenced_ms };
        scenario.add_faults([(draw.within(1_000..=20_000), failover)]);
    }
    let failovers = scenario.faults.iter().filter_map(|(at_ms, fault)| match fault {
        Fault::Failover { after_ms, .. } => Some(at_ms + after_ms),
        _ => None,
    });
    let failovers: Vec<u64> = failovers.collect();
    let at_ms = match failovers.get(draw.below(failovers.len())) {
        Some(over_ms) => over_ms + draw.within(0..=6_000),
        None => draw.within(1_000..=BUSY_MS),
    };
    let at_ms = at_ms.min(BUSY_MS - LEAST_MS);
    let cut = draw.percent(70).then(|| {
        let for_ms = [300, 1_500, 6_000][draw.below(3)] + draw.within(0..=500);
        (draw.below(servers), for_ms)
    });
    let user = user_until(draw, processes, 1, BUSY_MS - at_ms);
    let user = User { process: processes, ..user };
    scenario.newcomer = Some(Newcomer { at_ms, cut, user });
    scenario
}
