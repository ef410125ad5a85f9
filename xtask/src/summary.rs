//! What ran where, and what became of it.

use std::fmt;
use std::time::Duration;

use crate::release::Release;
use crate::suite::Suite;

/// What became of one suite on one release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Passed(Duration),
    Failed(Duration),
    /// It is for other engines.
    NotForIt,
    /// None of its tests has the wanted name.
    NoSuchTest,
    /// The run ended before its turn.
    NotReached,
}

/// What became of all suites on one release.
#[derive(Debug)]
pub(crate) struct Report {
    release: &'static Release,
    verdicts: Vec<(String, Verdict)>,
    /// What kept the suites from running.
    trouble: Option<String>,
}

/// The reports of one run of `cargo xtask itest`.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    reports: Vec<Report>,
}

impl Report {
    /// Before anything has run.
    pub(crate) fn new(release: &'static Release, suites: &[Suite]) -> Self {
        let verdict = |suite: &Suite| match suite.is_for(release.engine) {
            true => Verdict::NotReached,
            false => Verdict::NotForIt,
        };
        let verdicts = suites.iter().map(|suite| (suite.name.clone(), verdict(suite))).collect();
        Self { release, verdicts, trouble: None }
    }

    /// The names of the suites that have not run, but should.
    pub(crate) fn left(&self) -> Vec<String> {
        let left = self.verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::NotReached);
        left.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn set(&mut self, suite: &str, verdict: Verdict) {
        for (_, known) in self.verdicts.iter_mut().filter(|(name, _)| name == suite) {
            *known = verdict;
        }
    }

    pub(crate) fn trouble(&mut self, error: &anyhow::Error) {
        self.trouble = Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
    }

    /// Whether nothing is wrong; also if nothing was run.
    pub(crate) fn is_fine(&self) -> bool {
        let wrong = |verdict| matches!(verdict, Verdict::Failed(_) | Verdict::NotReached);
        self.trouble.is_none() && !self.verdicts.iter().any(|(_, verdict)| wrong(*verdict))
    }

    fn ran(&self) -> bool {
        self.verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Passed(_)))
    }
}

impl Summary {
    pub(crate) fn add(&mut self, report: Report) {
        self.reports.push(report);
    }

    /// Whether every suite that should run has passed, and there was one.
    pub(crate) fn passed(&self) -> bool {
        self.reports.iter().all(Report::is_fine) && self.reports.iter().any(Report::ran)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(took) => write!(f, "passed ({:.1}s)", took.as_secs_f64()),
            Self::Failed(took) => write!(f, "FAILED ({:.1}s)", took.as_secs_f64()),
            Self::NotForIt => f.write_str("not for this engine"),
            Self::NoSuchTest => f.write_str("no test of that name"),
            Self::NotReached => f.write_str("NOT RUN"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.release)?;
        if let Some(trouble) = &self.trouble {
            write!(f, ": {trouble}")?;
        }
        self.verdicts.iter().try_for_each(|(name, verdict)| write!(f, "\n  {name:<14} {verdict}"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=== summary")?;
        self.reports.iter().try_for_each(|report| write!(f, "\n{report}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Choice;

    fn report() -> Report {
        let choice: Choice = "mysql".parse().unwrap();
        Report {
            release: choice.releases().next().unwrap(),
            verdicts: vec![
                ("smoke".to_owned(), Verdict::NotReached),
                ("faults".to_owned(), Verdict::NotForIt),
            ],
            trouble: None,
        }
    }

    #[test]
    fn a_run_passes_only_if_every_suite_for_the_engine_has() {
        let mut report = report();
        assert!(!report.is_fine());
        assert_eq!(report.left(), ["smoke"]);
        report.set("smoke", Verdict::Failed(Duration::from_secs(1)));
        assert!(!report.is_fine() && report.left().is_empty());
        report.set("smoke", Verdict::Passed(Duration::from_secs(1)));
        assert!(report.is_fine());
    }

    #[test]
    fn a_run_of_no_test_has_not_passed() {
        let mut report = report();
        report.set("smoke", Verdict::NoSuchTest);
        assert!(report.is_fine());
        assert!(!Summary { reports: vec![report] }.passed());
    }

    #[test]
    fn a_suite_that_did_not_run_is_named_and_so_is_what_stood_in_its_way() {
        let mut summary = Summary::default();
        let mut report = report();
        report.trouble(&anyhow::anyhow!("no image\nmany lines"));
        summary.add(report);
        assert!(!summary.passed());
        let text = summary.to_string();
        assert!(text.contains("mysql 9: no image\n"), "{text}");
        assert!(text.contains("smoke          NOT RUN"), "{text}");
        assert!(text.contains("faults         not for this engine"), "{text}");
    }
}
