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
    /// It did not get to its end.
    Crashed(Duration),
    /// The suite is covered on other engines.
    Elsewhere,
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
        matches!(
            self,
            Self::Failed(_) | Self::BrokePromise(_) | Self::Crashed(_) | Self::NotReached
        )
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
    /// A report before anything has run. `usual`: suites run on their usual engines only.
    pub(crate) fn new(release: &'static Release, suites: &[Suite], usual: bool) -> Self {
        let verdict = |suite: &Suite| match release.engine {
            engine if !suite.is_for(engine) => Verdict::NotForIt,
            engine if usual && !suite.is_usual_for(engine) => Verdict::Elsewhere,
            _ => Verdict::NotReached,
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
            _ if line.starts_with("Error: ") => Some(with_causes(line, &lines[number + 1..])),
            // The message is on the next line.
            _ if line.contains(" panicked at ") => {
                lines.get(number + 1).map(|next| (*next).to_owned())
            }
            _ => None,
        });
        let release = self.release;
        let tell = |error: String| {
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

/// An error in one line, as its causes are in the `following` lines.
fn with_causes(error: &str, following: &[&str]) -> String {
    let causes = following.iter().skip_while(|line| line.is_empty());
    let mut causes = causes.take_while(|line| !line.is_empty());
    let mut told = error.to_owned();
    if causes.next() == Some(&"Caused by:") {
        for cause in causes {
            told = format!("{told}: {}", cause.trim_start());
        }
    }
    told
}

/// The names of the tests that have failed, as the `output` of their suite says; none if it does not
/// name all of them, as when the suite did not get to its end.
pub(crate) fn failed_tests(output: &str) -> Vec<String> {
    let failed = output.lines().filter_map(|line| {
        line.strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned)
    });
    let failed: Vec<String> = failed.collect();
    let counted = format!("; {} failed; ", failed.len());
    if result(output).is_some_and(|line| line.contains(&counted)) { failed } else { Vec::new() }
}

/// Whether a suite got to its end.
pub(crate) fn has_ended(output: &str) -> bool {
    result(output).is_some()
}

/// Whether so many tests have passed, and none failed.
pub(crate) fn has_passed(output: &str, tests: usize) -> bool {
    result(output).is_some_and(|line| line.contains(&format!("ok. {tests} passed; 0 failed; ")))
}

/// The last line of a suite.
fn result(output: &str) -> Option<&str> {
    output.lines().rev().find(|line| line.starts_with("test result: "))
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
            Self::Crashed(took) => write!(f, "CRASHED ({:.1}s)", took.as_secs_f64()),
            Self::Elsewhere => f.write_str("covered on other engines"),
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
            "test a ... FAILED\nError: Kill\n\nCaused by:\n    0: x\n    1: too slow\n\nthread 'b' (7) panicked at b.rs:1:2:\nno row\n",
        );
        let text = Summary::from_iter([report]).to_string();
        let end = "=== errors of failed suites\nmysql 9, smoke: Error: Kill: 0: x: 1: too slow\nmysql 9, smoke: no row";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn tests_that_failed_are_named() {
        let lines = "test a::b ... ok\ntest a::c ... FAILED\ntest d ... FAILED\nError: test e\n";
        let ended =
            |failed| format!("{lines}test result: FAILED. 1 passed; {failed} failed; 0 ignored");
        assert_eq!(failed_tests(&ended(2)), ["a::c", "d"]);
        assert!(failed_tests(&ended(3)).is_empty(), "one of them is not named");
        assert!(failed_tests(lines).is_empty() && !has_ended(lines), "no end");
        let again =
            |passed| format!("test a::c ... ok\ntest result: ok. {passed} passed; 0 failed; 0");
        assert!(has_ended(&ended(2)) && has_passed(&again(1), 1) && !has_passed(&again(0), 1));
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
