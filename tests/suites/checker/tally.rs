//! A run in figures.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::ensure;

use crate::{
    history::{Action, Failed, Fate, History, Promise},
    nemesis::{FAILED, Inflicted},
    verdict::{Fault, Violation},
};

/// Errors of one kind are shown so many times.
const SHOWN: usize = 3;

#[derive(Debug, Default)]
pub struct Tally {
    pub seeds: Vec<u64>,
    pub operations: usize,
    pub took: Duration,
    reads: usize,
    reads_on_replicas: usize,
    transactions: usize,
    transactions_on_replicas: usize,
    writes: BTreeMap<&'static str, usize>,
    /// Forks, merges and tokens.
    relations: BTreeMap<&'static str, usize>,
    eventual: usize,
    /// Lone reads that ended with an error.
    pub failed_reads: usize,
    /// Lone reads that an administrator ended, and that only the primary was left for: they
    /// must not burden it.
    ended_reads: usize,
    failed_transactions: usize,
    /// Tokens that were refused.
    pub failed_tokens: usize,
    endless: usize,
    errors: Vec<String>,
    pub faults: BTreeMap<Fault, usize>,
    inflicted: Inflicted,
}

impl Tally {
    /// Adds one round.
    pub fn add(&mut self, history: &History, violations: &[Violation]) {
        self.operations += history.operations.len();
        for operation in &history.operations {
            match &operation.action {
                Action::Read { promise, sights, transaction } => {
                    let on_replica = usize::from(
                        sights.iter().any(|sight| !history.primaries.contains(&sight.place)),
                    );
                    if transaction.is_some() {
                        self.transactions += 1;
                        self.transactions_on_replicas += on_replica;
                    } else {
                        self.reads += 1;
                        self.reads_on_replicas += on_replica;
                    }
                    self.eventual += usize::from(*promise == Promise::Nothing);
                }
                Action::Write { fate, .. } => {
                    let fate = match fate {
                        Fate::Done => "done",
                        Fate::Undone => "undone",
                        Fate::Unknown(_) => "unknown",
                    };
                    *self.writes.entry(fate).or_default() += 1;
                    if fate == "done" && history.is_lost(operation.number) {
                        *self.writes.entry("of them lost").or_default() += 1;
                    }
                }
                Action::Descend { by_token: true, .. } => self.relate("tokens"),
                Action::Descend { by_token: false, .. } => self.relate("forks"),
                Action::Merge { .. } => self.relate("merges"),
                Action::Fail { what, error } => self.fail(*what, error),
            }
        }
        for violation in violations {
            *self.faults.entry(violation.fault).or_default() += 1;
        }
    }

    pub fn add_inflicted(&mut self, inflicted: Inflicted) {
        for (name, count) in inflicted {
            *self.inflicted.entry(name).or_default() += count;
        }
    }

    /// So that nothing can pass without having been tested. What a machine that does much else at
    /// once still does is a fraction of what an idle one does.
    pub fn was_a_test(&self) -> anyhow::Result<()> {
        let seconds = self.took.as_secs_f64();
        let done = self.writes.get("done").copied().unwrap_or_default();
        let failed = self.inflicted.get(FAILED).copied().unwrap_or_default();
        let inflicted = self.inflicted.values().sum::<usize>() - failed;
        let enough = |count: usize, per_second: f64| count as f64 >= seconds * per_second;
        ensure!(enough(self.operations, 50.0), "{} operations", self.operations);
        ensure!(enough(done, 3.0), "{done} writes were done");
        // Their share depends on the faults: 13 % to 48 % were seen in rounds of half a minute. A busy
        // machine had 13 a second. Those that accept stale data are 6 % or so.
        let on_replicas = self.reads_on_replicas;
        ensure!(
            on_replicas * 10 >= self.reads,
            "{on_replicas} of {} reads on replicas",
            self.reads
        );
        ensure!(enough(on_replicas, 8.0), "{on_replicas} of {} reads on replicas", self.reads);
        ensure!(enough(inflicted, 0.1), "{inflicted} faults took effect");
        Ok(())
    }

    /// The same for rounds in which the primary is replaced.
    pub fn was_a_failover(&self) -> anyhow::Result<()> {
        let seconds = self.took.as_secs_f64();
        let done = self.writes.get("done").copied().unwrap_or_default();
        ensure!(self.operations as f64 >= seconds * 25.0, "{} operations", self.operations);
        ensure!(done as f64 >= seconds, "{done} writes were done");
        ensure!(self.inflicted.values().sum::<usize>() == self.seeds.len(), "too few failovers");
        Ok(())
    }

    fn relate(&mut self, relation: &'static str) {
        *self.relations.entry(relation).or_default() += 1;
    }

    fn fail(&mut self, what: Failed, error: &str) {
        let count = match what {
            Failed::Read if is_ended(error) => &mut self.ended_reads,
            Failed::Read => &mut self.failed_reads,
            Failed::Transaction => &mut self.failed_transactions,
            Failed::Token => &mut self.failed_tokens,
            Failed::Endless => &mut self.endless,
        };
        *count += 1;
        if *count <= SHOWN {
            self.errors.push(format!("{what:?}: {error}"));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let violations: usize = self.faults.values().sum();
        let per_second = self.operations as f64 / self.took.as_secs_f64().max(f64::EPSILON);
        let share = |part, whole| 100.0 * part as f64 / f64::max(whole as f64, 1.0);
        writeln!(
            f,
            "seeds {:?}: {} operations in {:.1?} ({per_second:.0} a second), {violations} violations {:?}",
            self.seeds, self.operations, self.took, self.faults
        )?;
        writeln!(
            f,
            "  {} reads, {:.1}% on replicas; {} read-only transactions, {:.1}% on replicas; \
             {} reads without a promise",
            self.reads,
            share(self.reads_on_replicas, self.reads),
            self.transactions,
            share(self.transactions_on_replicas, self.transactions),
            self.eventual
        )?;
        writeln!(f, "  writes {:?}, sessions {:?}", self.writes, self.relations)?;
        writeln!(
            f,
            "  errors: {} of reads, {} of reads that were ended, {} of transactions, {} of tokens; {} \
             had no end",
            self.failed_reads,
            self.ended_reads,
            self.failed_transactions,
            self.failed_tokens,
            self.endless
        )?;
        for error in &self.errors {
            writeln!(f, "    {error}")?;
        }
        write!(f, "  inflicted: {:?}", self.inflicted)
    }
}

/// Whether somebody has ended its connection, as the nemesis does: PostgreSQL's 57P01, MariaDB's
/// 1927.
fn is_ended(error: &str) -> bool {
    ["due to administrator command", "Connection was killed"].iter().any(|it| error.contains(it))
}
