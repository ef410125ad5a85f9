//! Worlds in which replicas soon count as lagging, a process meets a replica that receives nothing, and
//! a server looks for its tables elsewhere.
//!
//! It is drawn from a source of its own, so that the rest of a seed stays what it was.

use super::{BUSY_MS, Fault, Scenario, Step};
use crate::draw::Draw;

/// Keeps the source apart from the others.
const APART: u64 = 0xBE41_4D00_0000_0000;
/// The process that starts late meets the replica for as long before its start and after it.
const AROUND_MS: u64 = 3_000;

/// The scenario, in some worlds with such replicas, and with reads that take whatever there is.
pub(super) fn behind(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if !draw.percent(20) {
        return scenario;
    }
    let servers = scenario.servers;
    scenario.lags_soon = draw.percent(70);
    scenario.any_lag = draw.percent(50);
    scenario.other_path = Some(draw.below(servers)).filter(|_| draw.percent(50));
    scenario.add_faults((0..draw.within(1..=3)).map(|_| {
        let (server, for_ms) = (draw.below(servers), draw.within(500..=4_000));
        let fault = match draw.percent(50) {
            true => Fault::Pause { server, for_ms },
            false => Fault::Lag { server, delay_ms: 1_500, for_ms },
        };
        (draw.within(1_000..=BUSY_MS - 5_000), fault)
    }));
    if let Some(newcomer) = &scenario.newcomer {
        let server = draw.below(servers);
        let at_ms = newcomer.at_ms.saturating_sub(AROUND_MS);
        scenario.add_faults([(at_ms, Fault::CutOff { server, for_ms: 2 * AROUND_MS })]);
    }
    let often = [5, 20][draw.below(2)];
    scenario.replace_steps(often, draw, |_| Step::ReadEventual);
    scenario
}
