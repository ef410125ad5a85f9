//! The result of classifying a text.

use std::fmt;

use sealane_core::{Intent, Pace, TableSet, Usage};
use serde::Serialize;

use crate::annotation::Annotation;
use crate::finding::{Finding, Reason};
use crate::place::Place;
use sealane_core::Cost;
use sealane_core::Tables;

/// Further findings are dropped: one is enough to decide.
const MAX_FINDINGS: usize = 16;

/// A statement's intent, with the findings, tables and cost behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Classification {
    /// What the statement does, as far as the classifier can prove it.
    pub intent: Intent,
    /// What keeps the statement on the primary, the decisive finding first; at most 16. Empty if
    /// and only if the statement may leave the primary.
    pub findings: Vec<Finding>,
    /// The tables that the statement touches.
    pub tables: Tables,
    /// The same tables as a compact set for comparisons; [`TableSet::WHOLE`] unless the catalog is
    /// known and hides nothing.
    #[serde(skip)]
    pub table_set: TableSet,
    /// How much work the statement may be.
    pub cost: Cost,
    /// The group of replicas that the statement's leading hint asks for.
    pub group: Option<Box<str>>,
    /// How long the statement usually takes, learned while this classification is cached.
    #[serde(skip)]
    pub pace: Pace,
    /// What its executions came to, counted while this classification is cached.
    #[serde(skip)]
    pub usage: Usage,
}

impl Classification {
    /// A read, until something is found.
    pub(crate) fn new() -> Self {
        Self {
            intent: Intent::Read,
            findings: Vec::new(),
            tables: Tables::default(),
            table_set: TableSet::WHOLE,
            cost: Cost::default(),
            group: None,
            pace: Pace::default(),
            usage: Usage::default(),
        }
    }

    /// Whether the statement is a proved read and nothing asks for the primary.
    #[must_use]
    pub fn may_leave_primary(&self) -> bool {
        self.intent.is_read() && self.findings.is_empty()
    }

    /// The finding that decided the intent; `None` if nothing was found.
    #[must_use]
    pub fn decisive(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// The text with a caret under the place of each finding.
    ///
    /// `sql` is the text that was classified. The annotation shows lines of this text with their
    /// literals; [`Display`](fmt::Display) of the classification shows no literals.
    #[must_use]
    pub fn annotate<'a>(&'a self, sql: &'a str) -> Annotation<'a> {
        Annotation::new(sql, &self.findings)
    }

    /// Approximate number of bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let names = self.tables.read.iter().chain(&self.tables.written);
        let names: usize = names
            .map(|name| size_of_val(name) + name.name().len() + name.schema().map_or(0, str::len))
            .sum();
        names
            + self.findings.len() * (size_of::<Finding>() + 32)
            + self.group.as_ref().map_or(0, |group| group.len())
    }

    /// Whether another finding with this intent would be kept.
    pub(crate) fn takes(&self, intent: Intent) -> bool {
        self.findings.len() < MAX_FINDINGS || rank(intent) > rank(self.intent)
    }

    pub(crate) fn found(&mut self, intent: Intent, reason: Reason, place: Option<Place>) {
        let finding = Finding { intent, reason, place };
        if matches!(finding.reason, Reason::Writes(_) | Reason::NotParsed | Reason::TooLong(_)) {
            // The text does not show what runs, or the text was not read.
            self.tables.complete &= !self.tables.written.is_empty();
        }
        if rank(intent) > rank(self.intent) || self.findings.is_empty() {
            self.intent = intent;
            self.findings.insert(0, finding);
            self.findings.truncate(MAX_FINDINGS);
        } else if self.takes(intent) && !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// The strongest part of a text decides its intent.
fn rank(intent: Intent) -> u8 {
    match intent {
        Intent::Read => 0,
        Intent::Session => 2,
        Intent::Transaction => 3,
        Intent::Write => 4,
        // `Unknown`, and intents that core may add later.
        _ => 1,
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.intent)?;
        match self.decisive() {
            None => f.write_str("proved read"),
            Some(finding) => write!(f, "{}", finding.reason),
        }
    }
}
