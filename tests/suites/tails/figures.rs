//! What one fault did to the reads.

use std::{
    fmt,
    time::{Duration, Instant},
};

use sealane_tests::crew::Done;

use super::fault::Fault;

/// After this time the fault should be known, and no read should suffer from it any more.
const KNOWN: Duration = Duration::from_secs(1);

pub struct Figures {
    pub fault: Fault,
    pub is_hedged: bool,
    /// How many reads were sent to a second replica during the event.
    pub hedges: u64,
    /// How many left their replica because they took too long.
    pub overdue: u64,
    /// Whether the struck replica was seen ejected.
    pub was_ejected: bool,
    /// The durations of all reads that ended before the fault, in ascending order.
    pub quiet: Vec<Duration>,
    /// Of those that were under way, or began, while it lasted.
    pub during: Vec<Duration>,
    /// Of those of them that began a second or more after it.
    pub later: Vec<Duration>,
    pub failures: Vec<String>,
    /// The longest that the primary took to answer plain connections while it lasted.
    pub control: Duration,
}

impl Figures {
    pub fn of(fault: Fault, done: &[Done], began: Instant, ended: Instant) -> Self {
        let took = |suits: &dyn Fn(&Done) -> bool| {
            let mut took: Vec<_> = done.iter().filter(|it| suits(it)).map(Done::took).collect();
            took.sort();
            took
        };
        Figures {
            fault,
            is_hedged: false,
            hedges: 0,
            overdue: 0,
            was_ejected: false,
            control: Duration::ZERO,
            quiet: took(&|it| it.ended < began),
            during: took(&|it| it.ended >= began && it.began < ended),
            later: took(&|it| it.began >= began + KNOWN && it.began < ended),
            failures: done
                .iter()
                .filter_map(|it| it.failure.as_ref())
                .map(|it| it.to_string())
                .collect(),
        }
    }
}

/// The time within which this part of `sorted` ended.
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

pub fn longest(sorted: &[Duration]) -> Duration {
    sorted.last().copied().unwrap_or_default()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<13} {:>2} failed of {:>5}; p50 {:>7.1?}, p99 {:>7.1?}, longest {:>7.1?}; after a second p99 {:>7.1?}, \
             longest {:>7.1?}; before it p99 {:>7.1?}, longest {:>7.1?}",
            format!("{:?}{}", self.fault, if self.is_hedged { "+" } else { "" }),
            self.failures.len(),
            self.during.len(),
            quantile(&self.during, 0.5),
            quantile(&self.during, 0.99),
            longest(&self.during),
            quantile(&self.later, 0.99),
            longest(&self.later),
            quantile(&self.quiet, 0.99),
            longest(&self.quiet),
        )?;
        write!(f, "; {} overdue, {} hedges", self.overdue, self.hedges)?;
        if self.was_ejected { write!(f, ", ejected") } else { Ok(()) }
    }
}
