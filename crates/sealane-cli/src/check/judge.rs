//! From facts to findings: pure, so that every finding is tested with planted facts.

mod connection;
mod general;
mod mysql;
mod postgres;
#[cfg(test)]
mod tests;

use sealane::Engine;

use super::{
    facts::Facts,
    finding::{Finding, Severity},
};

/// Everything that is wrong or risky, the worst first.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = general::judge(facts);
    match facts.engine {
        Engine::MySql => findings.extend(mysql::judge(facts)),
        _ => findings.extend(postgres::judge(facts)),
    }
    findings.extend(general::judge_start(facts, worst(&findings)));
    findings.dedup();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// How bad the worst finding is.
pub(crate) fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}
