//! What the judge said to all statements, and where we differ.

use std::collections::BTreeMap;
use std::fmt;

use sealane_sql::Intent;

use crate::corpus::{self, Case};
use crate::standby::{Standby, Verdict};

/// Longer texts are cut in a report.
const SHOWN_CHARS: usize = 160;

/// Verdicts, counted, and both kinds of our errors, named.
#[derive(Debug, Default)]
pub struct Tally {
    pub judged: usize,
    verdicts: BTreeMap<String, usize>,
    skipped: BTreeMap<&'static str, usize>,
    /// What we call a read.
    pub reads: usize,
    pub reads_accepted: usize,
    /// We call it a read, and a replica refuses it as a write.
    pub refused_reads: Vec<String>,
    /// We call it a read, and it leaves something behind in its session.
    pub residues: Vec<String>,
    /// We call it a read, and whoever wrote the case knows better.
    pub mistaken_reads: Vec<String>,
    /// We call it a read, and it has words of something harmful.
    reads_not_run: Vec<String>,
    /// A replica serves it, it is a read in truth, and we send it to the primary.
    pub over_cautious: Vec<String>,
    /// Writes by their cases that a replica lets through: why its word alone is not enough.
    pub accepted_writes: Vec<String>,
}

impl Tally {
    /// All that is unsafe.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.refused_reads.iter().chain(&self.residues).chain(&self.mistaken_reads)
    }

    /// Has `standby` judge one statement. `is_read` is what we call it; `case` what is known of
    /// it, if anything.
    pub async fn judge(
        &mut self,
        standby: &mut Standby<'_>,
        sql: &str,
        is_read: bool,
        case: Option<&Case>,
    ) -> anyhow::Result<()> {
        if is_read && case.is_some_and(|case| !case.is_read_in_truth()) {
            self.mistaken_reads.push(shown(sql));
        }
        if let Some(harm) = corpus::harm(sql, standby.dialect()) {
            *self.skipped.entry(harm).or_default() += 1;
            self.reads_not_run.extend(is_read.then(|| shown(sql)));
            return Ok(());
        }
        // What comes in thousands runs in one schema, now this and now that.
        let shapes = match case {
            Some(_) => 0..standby.shapes(),
            None => {
                let shape = self.judged / 100 % standby.shapes();
                shape..shape + 1
            }
        };
        let mut verdict = Verdict::Lost;
        for shape in shapes {
            let next = standby.judge(sql, shape).await?;
            if is_read && let Some(residue) = standby.residue().await? {
                self.residues.push(format!("leaves {residue}: {}", shown(sql)));
                standby.forget_session();
            }
            if !is_read {
                standby.forget_session();
            }
            verdict = weightier(verdict, next);
            if matches!(verdict, Verdict::RefusedAsWrite(_)) {
                break;
            }
            if verdict == Verdict::Accepted && !is_read {
                break;
            }
        }
        self.count(sql, is_read, case, &verdict);
        Ok(())
    }

    fn count(&mut self, sql: &str, is_read: bool, case: Option<&Case>, verdict: &Verdict) {
        self.judged += 1;
        *self.verdicts.entry(name(verdict)).or_default() += 1;
        self.reads += usize::from(is_read);
        match verdict {
            Verdict::Accepted if is_read => self.reads_accepted += 1,
            Verdict::Accepted => match case {
                Some(case) if case.is_read_in_truth() => self.over_cautious.push(shown(sql)),
                Some(case) if case.intent == Intent::Write => {
                    self.accepted_writes.push(shown(sql));
                }
                _ => {}
            },
            Verdict::RefusedAsWrite(code) if is_read => {
                self.refused_reads.push(format!("refused ({code}): {}", shown(sql)));
            }
            Verdict::RefusedAsWrite(_) | Verdict::OtherError(_) | Verdict::Lost => {}
        }
    }
}

/// Of the verdicts in several schemas the one that says most.
fn weightier(one: Verdict, other: Verdict) -> Verdict {
    let weight = |verdict: &Verdict| match verdict {
        Verdict::RefusedAsWrite(_) => 3,
        Verdict::Accepted => 2,
        Verdict::OtherError(_) => 1,
        Verdict::Lost => 0,
    };
    if weight(&other) > weight(&one) { other } else { one }
}

fn name(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::RefusedAsWrite(code) => format!("refused as write {code}"),
        Verdict::OtherError(code) => format!("other error {code}"),
        Verdict::Lost => "no answer".to_owned(),
    }
}

fn shown(sql: &str) -> String {
    let cut: String = sql.chars().take(SHOWN_CHARS).collect();
    format!("{cut:?}")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        writeln!(
            f,
            "{} statements judged, {skipped} not run; {} called reads, {} of them accepted",
            self.judged, self.reads, self.reads_accepted
        )?;
        for (verdict, count) in &self.verdicts {
            writeln!(f, "  {count:>5} {verdict}")?;
        }
        for (harm, count) in &self.skipped {
            writeln!(f, "  {count:>5} not run: {harm}")?;
        }
        for (what, texts) in [
            ("UNSAFE, refused though called reads", &self.refused_reads),
            ("UNSAFE, not pure though called reads", &self.residues),
            ("UNSAFE, no reads by their cases", &self.mistaken_reads),
            ("called reads, but not run", &self.reads_not_run),
            ("writes that were accepted, and that we do not call reads", &self.accepted_writes),
            ("over-cautious, accepted reads that we send to the primary", &self.over_cautious),
        ] {
            writeln!(f, "  {:>5} {what}", texts.len())?;
            texts.iter().try_for_each(|text| writeln!(f, "          {text}"))?;
        }
        Ok(())
    }
}
