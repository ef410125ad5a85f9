//! The results of a run: which suite ran on which release, and how it ended.

use std::fmt;
use std::time::Duration;

use crate::release::Release;
use crate::suite::Suite;

/// The result of one suite on one release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Passed(Duration),
    Failed(Duration),
    /// It failed, and passed when it ran again, alone. Such a suite is flaky: mend it.
    PassedAgain(Duration),
    /// It saw a wrong answer.
    BrokePromise(Duration),
    /// The suite is for other engines.
    NotForIt,
    /// No test of the suite matches the filter.
    NoSuchTest,
    /// The run ended before the suite's turn.
    NotReached,
}

/// So many suites of a run may need a second try: five of a hundred that fail on a busy machine are
/// bad luck, more are a defect. With three engines at a time on two cores that others use, too, nine
/// failed.
const MAX_SECOND_TRIES: usize = 5;

/// So many errors of one failed suite are repeated in the summary, and so much of each.
const MAX_ERRORS: usize = 3;
const ERROR_LENGTH: usize = 300;

impl Verdict {
    /// The same, when it was not the first run of the suite.
    pub(crate) fn at_the_second_try(self) -> Self {
        match self {
            Self::Passed(took) => Self::PassedAgain(took),
            other => other,
        }
    }

    fn is_wrong(self) -> bool {
        matches!(self, Self::Failed(_) | Self::BrokePromise(_) | Self::NotReached)
    }
}

/// The results of all suites on one release.
#[derive(Debug)]
pub(crate) struct Report {
    release: &'static Release,
    verdicts: Vec<(Suite, Verdict)>,
    /// What the failed tests said, also of suites that passed later.
    errors: Vec<String>,
    /// The error that kept suites from running.
    trouble: Option<String>,
}

/// The reports of one run of `cargo xtask itest`.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    reports: Vec<Report>,
}

impl Report {
    /// A report before anything has run.
    pub(crate) fn new(release: &'static Release, suites: &[Suite]) -> Self {
        let verdict = |suite: &Suite| match suite.is_for(release.engine) {
            true => Verdict::NotReached,
            false => Verdict::NotForIt,
        };
        let verdicts = suites.iter().map(|suite| (suite.clone(), verdict(suite))).collect();
        Self { release, verdicts, errors: Vec::new(), trouble: None }
    }

    /// The suites that should run but have not run yet.
    pub(crate) fn left(&self) -> Vec<Suite> {
        self.suites(|verdict| verdict == Verdict::NotReached)
    }

    /// The suites that failed and may run again: not those that saw a wrong answer.
    pub(crate) fn failed(&self) -> Vec<Suite> {
        self.suites(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    fn suites(&self, with: impl Fn(Verdict) -> bool) -> Vec<Suite> {
        let chosen = self.verdicts.iter().filter(|(_, verdict)| with(*verdict));
        chosen.map(|(suite, _)| suite.clone()).collect()
    }

    pub(crate) fn set(&mut self, suite: &str, verdict: Verdict) {
        for (_, known) in self.verdicts.iter_mut().filter(|(known, _)| known.name == suite) {
            *known = verdict;
        }
    }

    /// Keeps the errors that are in the `output` of the failed `suite`, for the end of the summary.
    pub(crate) fn note_errors(&mut self, suite: &str, output: &str) {
        let lines: Vec<&str> = output.lines().collect();
        let errors = lines.iter().enumerate().filter_map(|(number, line)| match line {
            _ if line.starts_with("Error: ") => Some(*line),
            // The message is on the next line.
            _ if line.contains(" panicked at ") => lines.get(number + 1).copied(),
            _ => None,
        });
        let release = self.release;
        let tell = |error: &str| {
            let error: String = error.chars().take(ERROR_LENGTH).collect();
            format!("{release}, {suite}: {error}")
        };
        self.errors.extend(errors.take(MAX_ERRORS).map(tell));
    }

    pub(crate) fn trouble(&mut self, error: &anyhow::Error) {
        self.trouble = Some(format!("{error:#}").lines().next().unwrap_or_default().to_owned());
    }

    /// Whether nothing is wrong; also true if nothing was run.
    pub(crate) fn is_fine(&self) -> bool {
        self.trouble.is_none() && !self.verdicts.iter().any(|(_, verdict)| verdict.is_wrong())
    }

    fn ran(&self) -> bool {
        self.verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Passed(_)))
    }

    fn second_tries(&self) -> usize {
        self.suites(|verdict| matches!(verdict, Verdict::PassedAgain(_))).len()
    }
}

impl Summary {
    /// Whether every suite that should run has passed, few at the second try, and at least one ran.
    pub(crate) fn passed(&self) -> bool {
        let second_tries: usize = self.reports.iter().map(Report::second_tries).sum();
        self.reports.iter().all(Report::is_fine)
            && self.reports.iter().any(Report::ran)
            && second_tries <= MAX_SECOND_TRIES
    }
}

impl FromIterator<Report> for Summary {
    fn from_iter<I: IntoIterator<Item = Report>>(reports: I) -> Self {
        Self { reports: reports.into_iter().collect() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(took) => write!(f, "passed ({:.1}s)", took.as_secs_f64()),
            Self::Failed(took) => write!(f, "FAILED ({:.1}s)", took.as_secs_f64()),
            Self::PassedAgain(took) => {
                write!(f, "FLAKY: passed at the second try, alone ({:.1}s)", took.as_secs_f64())
            }
            Self::BrokePromise(took) => write!(f, "BROKE A PROMISE ({:.1}s)", took.as_secs_f64()),
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
        self.verdicts
            .iter()
            .try_for_each(|(suite, verdict)| write!(f, "\n  {:<20} {verdict}", suite.name))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=== summary")?;
        self.reports.iter().try_for_each(|report| write!(f, "\n{report}"))?;
        let errors: Vec<_> = self.reports.iter().flat_map(|report| &report.errors).collect();
        if errors.is_empty() {
            return Ok(());
        }
        f.write_str("\n=== errors of failed suites")?;
        errors.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Choice;

    fn report() -> Report {
        let choice: Choice = "mysql".parse().unwrap();
        let suite = |name: &str| Suite::for_tests(name);
        Report {
            release: choice.releases().next().unwrap(),
            verdicts: vec![
                (suite("smoke"), Verdict::NotReached),
                (suite("faults"), Verdict::NotForIt),
            ],
            errors: Vec::new(),
            trouble: None,
        }
    }

    #[test]
    fn a_run_passes_only_if_every_suite_for_the_engine_has() {
        let mut report = report();
        assert!(!report.is_fine());
        assert_eq!(report.left(), [Suite::for_tests("smoke")]);
        report.set("smoke", Verdict::Failed(Duration::from_secs(1)));
        assert!(!report.is_fine() && report.left().is_empty());
        report.set("smoke", Verdict::Passed(Duration::from_secs(1)));
        assert!(report.is_fine());
    }

    #[test]
    fn a_second_try_counts_for_few_suites_and_not_for_broken_promises() {
        let took = Duration::from_secs(1);
        let reports = |flaky: usize| {
            let suite = |number: usize| {
                let verdict = match number < flaky {
                    true => Verdict::Passed(took).at_the_second_try(),
                    false => Verdict::Passed(took),
                };
                (Suite::for_tests(&number.to_string()), verdict)
            };
            Summary { reports: vec![Report { verdicts: (0..9).map(suite).collect(), ..report() }] }
        };
        assert!(reports(MAX_SECOND_TRIES).passed());
        assert!(!reports(MAX_SECOND_TRIES + 1).passed());
        let text = reports(1).to_string();
        assert!(text.contains("FLAKY"), "{text}");
        let mut broken = report();
        broken.set("smoke", Verdict::Failed(took));
        assert_eq!(broken.failed(), [Suite::for_tests("smoke")]);
        broken.set("smoke", Verdict::BrokePromise(took));
        assert!(broken.failed().is_empty() && !broken.is_fine());
        assert_eq!(Verdict::Failed(took).at_the_second_try(), Verdict::Failed(took));
    }

    #[test]
    fn the_summary_ends_with_what_failed_tests_said() {
        let mut report = report();
        report.note_errors(
            "smoke",
            "test a ... FAILED\nError: too slow: 1 s\nthread 'b' (7) panicked at b.rs:1:2:\nno row\n",
        );
        let text = Summary::from_iter([report]).to_string();
        let end = "=== errors of failed suites\nmysql 9, smoke: Error: too slow: 1 s\nmysql 9, smoke: no row";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_run_of_no_test_has_not_passed() {
        let mut report = report();
        report.set("smoke", Verdict::NoSuchTest);
        assert!(report.is_fine());
        assert!(!Summary { reports: vec![report] }.passed());
    }

    #[test]
    fn a_suite_that_did_not_run_is_named_with_the_error() {
        let mut report = report();
        report.trouble(&anyhow::anyhow!("no image\nmany lines"));
        let summary = Summary::from_iter([report]);
        assert!(!summary.passed());
        let text = summary.to_string();
        assert!(text.contains("mysql 9: no image\n"), "{text}");
        assert!(text.contains("smoke                NOT RUN"), "{text}");
        assert!(text.contains("faults               not for this engine"), "{text}");
    }
}
