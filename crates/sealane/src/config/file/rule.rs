//! A routing rule in a file.

use std::time::Duration;

use sealane_core::{CostClass, FallbackPolicy, Rule};
use serde::Deserialize;

use super::{WayOut, way_out};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRule {
    name: String,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    tables: Vec<String>,
    text: Option<String>,
    cost: Option<Class>,
    tag: Option<String>,
    group: Option<String>,
    #[serde(default)]
    to_primary: bool,
    to_group: Option<String>,
    to_replicas: Option<Vec<String>>,
    max_lag_ms: Option<u64>,
    fallback: Option<WayOut>,
    max_wait_ms: Option<u64>,
    stale_limit_ms: Option<u64>,
    #[serde(default)]
    sticky: bool,
    hedged: Option<bool>,
}

/// The least cost of a rule's reads.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Class {
    Light,
    Moderate,
    Heavy,
}

impl FileRule {
    /// The rule, or why it is none. The error quotes nothing of the file.
    pub(super) fn rule(self) -> Result<Rule, &'static str> {
        let fallback = self.fallback()?;
        let mut rule = Rule::new(self.name).priority(self.priority);
        rule = self.tables.iter().fold(rule, |rule, table| rule.table(table));
        rule = self.text.iter().fold(rule, |rule, text| rule.text(text));
        rule = self.cost.into_iter().fold(rule, |rule, class| rule.cost(class.into()));
        rule = self.tag.into_iter().fold(rule, Rule::tag);
        rule = self.group.into_iter().fold(rule, Rule::group);
        rule = match (self.to_primary, self.to_group, self.to_replicas) {
            (false, None, None) => rule,
            (true, None, None) => rule.to_primary(),
            (false, Some(group), None) => rule.to_group(group),
            (false, None, Some(replicas)) => rule.to_replicas(replicas),
            _ => return Err("a rule has one of to_primary, to_group and to_replicas"),
        };
        rule = self.max_lag_ms.into_iter().map(Duration::from_millis).fold(rule, Rule::max_lag);
        rule = fallback.into_iter().fold(rule, Rule::fallback);
        rule = self.hedged.into_iter().fold(rule, Rule::hedged);
        Ok(if self.sticky { rule.sticky() } else { rule })
    }

    fn fallback(&self) -> Result<Option<FallbackPolicy>, &'static str> {
        match (self.fallback, self.max_wait_ms, self.stale_limit_ms) {
            (None, None, None) => Ok(None),
            (chosen, wait_ms, stale_ms) => way_out(chosen, wait_ms, stale_ms).map(Some),
        }
    }
}

impl From<Class> for CostClass {
    fn from(class: Class) -> Self {
        match class {
            Class::Light => CostClass::Light,
            Class::Moderate => CostClass::Moderate,
            Class::Heavy => CostClass::Heavy,
        }
    }
}
