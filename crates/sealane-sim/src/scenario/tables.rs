//! Worlds in which the catalog decides where statements may run.
//!
//! It is drawn from a source of its own, so that the rest of a seed stays what it was.

use super::{BUSY_MS, Fault, Kind, Scenario, Step};
use crate::draw::Draw;

/// Keeps the source apart from the others.
const APART: u64 = 0x0CA7_A106_0000_0000;

/// The tables of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// How many of a hundred starts of a server are with a filter.
    pub filters_percent: u64,
}

/// The scenario, in some worlds with more tables, and with servers that may filter one of them.
pub(super) fn stocked(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if !draw.percent(35) {
        return scenario;
    }
    let may_filter = scenario.kind != Kind::Timelines;
    let filters_percent = if may_filter { [0, 50, 90][draw.below(3)] } else { 0 };
    scenario.tables = Some(Tables { filters_percent });
    if filters_percent > 0 {
        let servers = scenario.servers;
        scenario.add_faults((0..draw.within(1..=6)).map(|_| {
            let (server, for_ms) = (draw.below(servers), draw.within(10..=2_000));
            let fault = match draw.percent(50) {
                true => Fault::Blink { server, older: 0, behind_ms: for_ms },
                false => Fault::Crash { server, for_ms, older: 0 },
            };
            (draw.within(1_000..=BUSY_MS - 5_000), fault)
        }));
    }
    let often = [5, 20][draw.below(2)];
    scenario.replace_steps(often, draw, another);
    scenario
}

fn another(draw: &mut Draw) -> Step {
    match draw.below(20) {
        0..=7 => Step::ReadFiltered,
        8..=9 => Step::ReadFilteredTransaction,
        10..=17 => Step::ReadView,
        _ => Step::ChangeView { locks: draw.percent(50) },
    }
}
