//! The statements that cost most, and those that burden the primary.

use std::cmp::Reverse;

use sealane_core::{Intent, UsageCounts};
use sealane_sql::{Classification, Classifier, Sketch};
use serde::Serialize;

/// How many statements each list holds.
const LONGEST_LIST: usize = 10;
/// How many characters of a text are shown.
const SHOWN: usize = 400;

/// The statements that cost most, of those that are remembered: up to 8 MiB of texts. What was
/// counted for a forgotten text is forgotten with it. Ten statements at most in each list.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct StatementReports {
    /// Those on which reads spent most time together, the first one most.
    pub by_total: Vec<StatementReport>,
    /// Those whose reads take longest on average.
    pub by_mean: Vec<StatementReport>,
    /// Those that ran most often on the primary although they are reads, or may be some.
    pub on_primary: Vec<StatementReport>,
}

/// The executions of one text as a single statement, outside transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatementReport {
    /// The text on one line, without comments and with `?` for each literal; 400 characters at most.
    pub text: String,
    /// How many reads were answered, on any endpoint.
    pub reads: u64,
    /// How long they took on average, in microseconds; a stream until its first row.
    pub mean_us: u64,
    /// How long they took together, in milliseconds.
    pub total_ms: u64,
    /// Reads on the primary that asked for it, or that no replica could ever serve.
    pub asked_for_primary: u64,
    /// Reads on the primary because no replica had replayed what their session wrote or saw.
    pub pinned_to_primary: u64,
    /// Reads on the primary because no replica was usable or fresh enough.
    pub fell_back_to_primary: u64,
    /// Executions on the primary because the text is not a proved read.
    pub unproved: u64,
    /// Why it ran on the primary, for the most part; `None` if it never did.
    pub why: Option<String>,
}

/// A remembered text with its counts.
struct Counted {
    sql: Box<str>,
    counts: UsageCounts,
    finding: Option<String>,
}

impl StatementReport {
    /// How often the text ran on the primary.
    #[must_use]
    pub fn on_primary(&self) -> u64 {
        self.asked_for_primary + self.pinned_to_primary + self.fell_back_to_primary + self.unproved
    }
}

impl StatementReports {
    /// Of everything that `classifier` remembers.
    pub(super) fn of(classifier: &Classifier) -> Self {
        let dialect = classifier.dialect();
        let counted: Vec<_> = classifier.remembered().filter_map(Counted::of).collect();
        let list = |measure: fn(&UsageCounts) -> u64| {
            let mut ranked: Vec<_> = counted.iter().filter(|it| measure(&it.counts) > 0).collect();
            // Equal ones in the order of their texts, so that a page does not flicker.
            ranked.sort_by_key(|it| (Reverse(measure(&it.counts)), &it.sql));
            ranked.truncate(LONGEST_LIST);
            ranked.into_iter().map(|it| it.report(|sql| Sketch::of(sql, dialect).text)).collect()
        };
        StatementReports {
            by_total: list(|counts| micros(Some(counts.total))),
            by_mean: list(|counts| micros(counts.mean())),
            on_primary: list(UsageCounts::on_primary),
        }
    }
}

impl Counted {
    /// `None` for a text that certainly writes or changes its session: it belongs to the primary.
    fn of((sql, known): (Box<str>, std::sync::Arc<Classification>)) -> Option<Self> {
        let may_read = matches!(known.intent, Intent::Read | Intent::Unknown);
        let finding = known.decisive().map(|finding| finding.reason.to_string());
        may_read.then(|| Counted { sql, counts: known.usage.read(), finding })
    }

    fn report(&self, shown: impl Fn(&str) -> Option<String>) -> StatementReport {
        let Counted { sql, counts, finding } = self;
        let text = shown(sql).unwrap_or_else(|| {
            format!("(a text of {} bytes whose literals cannot be told apart)", sql.len())
        });
        StatementReport {
            text: shortened(text),
            reads: counts.served,
            mean_us: micros(counts.mean()),
            total_ms: micros(Some(counts.total)) / 1_000,
            asked_for_primary: counts.asked,
            pinned_to_primary: counts.pinned,
            fell_back_to_primary: counts.fell_back,
            unproved: counts.unproved,
            why: finding.clone().filter(|_| counts.on_primary() > 0).or_else(|| why(counts)),
        }
    }
}

/// The reason that counts most.
fn why(counts: &UsageCounts) -> Option<String> {
    let reasons = [
        (counts.asked, "asks for the primary"),
        (counts.pinned, "no replica had what its session wrote or saw"),
        (counts.fell_back, "no replica was usable or fresh enough"),
    ];
    let most = reasons.into_iter().max_by_key(|(count, _)| *count).filter(|(count, _)| *count > 0);
    most.map(|(_, reason)| reason.to_owned())
}

fn micros(time: Option<std::time::Duration>) -> u64 {
    u64::try_from(time.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sealane_sql::Dialect;

    use super::*;

    #[test]
    fn each_list_has_its_own_order_and_no_literals() {
        let classifier = Classifier::new(Dialect::PostgreSql);
        let often = classifier.look_up("SELECT a FROM often WHERE b = 'SECRET'");
        (0..100).for_each(|_| often.usage.served(Duration::from_millis(1)));
        let slow = classifier.look_up("SELECT a FROM slow WHERE b = 4711");
        slow.usage.served(Duration::from_millis(50));
        slow.usage.pinned();
        let unproved = classifier.look_up("SELECT mystery('SECRET')");
        (0..2).for_each(|_| unproved.usage.unproved());
        let never = classifier.look_up("SELECT a FROM never");
        assert!(never.may_leave_primary());

        let reports = StatementReports::of(&classifier);
        let texts = |list: &[StatementReport]| -> Vec<_> {
            list.iter().map(|it| it.text.clone()).collect()
        };
        let (often, slow) = ("SELECT a FROM often WHERE b = ?", "SELECT a FROM slow WHERE b = ?");
        assert_eq!(texts(&reports.by_total), [often, slow]);
        assert_eq!(texts(&reports.by_mean), [slow, often]);
        assert_eq!(texts(&reports.on_primary), ["SELECT mystery(?)", slow]);
        let whys: Vec<_> = reports.on_primary.iter().map(|it| it.why.clone().unwrap()).collect();
        assert_eq!(whys[0], "calls mystery, which is not known to be pure");
        assert_eq!(whys[1], "no replica had what its session wrote or saw");
        assert_eq!((reports.by_total[0].total_ms, reports.by_total[0].why.clone()), (100, None));
    }

    #[test]
    fn a_list_is_short_and_so_are_its_texts() {
        let classifier = Classifier::new(Dialect::Sqlite);
        for number in 0..30 {
            let columns = vec!["a"; 300].join(", ");
            let read = classifier.look_up(&format!("SELECT {columns} FROM t{number}"));
            read.usage.asked();
        }
        let reports = StatementReports::of(&classifier);
        assert_eq!(reports.on_primary.len(), LONGEST_LIST);
        assert!(reports.on_primary.iter().all(|it| it.text.chars().count() == SHOWN + 1));
        assert!(reports.by_total.is_empty());
    }
}
