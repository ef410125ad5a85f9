//! Worlds in which what was begun goes on late: streams and transactions that take their time, tokens that
//! travel on their own, and statements that end their sessions.
//!
//! It is drawn from a source of its own, so that the rest of a seed stays what it was.

use super::{Scenario, Step};
use crate::draw::Draw;

/// Keeps the source apart from the others.
const APART: u64 = 0x1A7E_57E9_0000_0000;

/// The scenario, in some worlds with such steps.
pub(super) fn late(mut scenario: Scenario) -> Scenario {
    let draw = &mut Draw::new(scenario.seed ^ APART);
    if !draw.percent(50) {
        return scenario;
    }
    let processes = scenario.processes;
    let often = [4, 15][draw.below(2)];
    scenario.replace_steps(often, draw, |draw| another(draw, processes));
    scenario
}

fn another(draw: &mut Draw, processes: usize) -> Step {
    match draw.below(20) {
        0..=1 => Step::MoveShared(draw.below(processes)),
        2..=3 => Step::RefusedToken,
        4..=5 => Step::ReadShown,
        6..=7 => Step::ReadKilling,
        8..=10 => Step::LateStream(draw.within(0..=300)),
        11..=12 => Step::WritingStream,
        13..=15 => Step::SlowReadTransaction(2 + draw.below(3), draw.within(0..=300)),
        16 => Step::ReadSerializable,
        _ => Step::TalkingTransaction(draw.within(0..=300)),
    }
}
