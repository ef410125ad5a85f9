//! What was decided about a text.

use std::fmt;

use sealane_core::{Footprint, Intent};
use serde::Serialize;

use crate::annotation::Annotation;
use crate::cost::Cost;
use crate::finding::{Finding, Reason};
use crate::place::Place;
use crate::table_name::Tables;

/// More findings than this are not kept: one is enough to decide.
const MAX_FINDINGS: usize = 16;

/// An intent, with all that was found on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Classification {
    /// What the statement does, as far as that is proved.
    pub intent: Intent,
    /// What keeps it on the primary, the deciding finding first; at most 16.
    /// Empty if and only if the statement may leave the primary.
    pub findings: Vec<Finding>,
    /// The tables that it touches.
    pub tables: Tables,
    /// The tables that it touches, for comparing; [`Footprint::WHOLE`] unless the
    /// catalog is known and nothing is hidden.
    #[serde(skip)]
    pub footprint: Footprint,
    /// How much work it may be.
    pub cost: Cost,
    /// The group of replicas that its leading hint asks for.
    pub group: Option<Box<str>>,
}

impl Classification {
    /// A read, until something is found.
    pub(crate) fn new() -> Self {
        Self {
            intent: Intent::Read,
            findings: Vec::new(),
            tables: Tables::default(),
            footprint: Footprint::WHOLE,
            cost: Cost::default(),
            group: None,
        }
    }

    /// Whether it is proved to be a read and nothing asks for the primary.
    #[must_use]
    pub fn may_leave_primary(&self) -> bool {
        self.intent.is_read() && self.findings.is_empty()
    }

    /// The finding that decided; `None` if there is none.
    #[must_use]
    pub fn decisive(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// The text with a caret under each place that something was found at.
    ///
    /// `sql` is the text that was classified. The result shows its lines, with
    /// whatever literals they have; [`Display`](fmt::Display) shows none.
    #[must_use]
    pub fn annotate<'a>(&'a self, sql: &'a str) -> Annotation<'a> {
        Annotation::new(sql, &self.findings)
    }

    /// Bytes on the heap, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let names = self.tables.read.iter().chain(&self.tables.written);
        let names: usize = names
            .map(|name| size_of_val(name) + name.name().len() + name.schema().map_or(0, str::len))
            .sum();
        names
            + self.findings.len() * (size_of::<Finding>() + 32)
            + self.group.as_ref().map_or(0, |group| group.len())
    }

    /// Whether one more finding would be kept.
    pub(crate) fn takes(&self, intent: Intent) -> bool {
        self.findings.len() < MAX_FINDINGS || rank(intent) > rank(self.intent)
    }

    pub(crate) fn found(&mut self, intent: Intent, reason: Reason, place: Option<Place>) {
        let finding = Finding { intent, reason, place };
        if matches!(finding.reason, Reason::Writes(_) | Reason::NotParsed | Reason::TooLong(_)) {
            // What runs there is not in the text, or was not looked at.
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

/// A text does what the strongest of its parts does.
fn rank(intent: Intent) -> u8 {
    match intent {
        Intent::Read => 0,
        Intent::Session => 2,
        Intent::Transaction => 3,
        Intent::Write => 4,
        // Also what core may add: not known here.
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
