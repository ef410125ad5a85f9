//! One rule: for which reads it is, and where they go.

use std::{sync::Arc, time::Duration};

use super::{Pattern, Routable};
use crate::{CostClass, Endpoint, FallbackPolicy, TableName, Tables};

/// A rule for reads: conditions, all of which must hold, and where such a read goes.
///
/// A rule only moves or narrows. It does not turn a statement into a read, it uses no endpoint that
/// is down or is not a replica, and it never accepts older data than the handle asks for. What a
/// handle asks for explicitly takes precedence: its consistency, its fallback, whether it is hedged,
/// and its group, unless the rule is for this group.
///
/// ```
/// use std::time::Duration;
///
/// use sealane_core::{CostClass, Rule};
///
/// let rules = [
///     Rule::new("balances").table("balance").to_primary().priority(10),
///     Rule::new("reports").cost(CostClass::Heavy).to_group("analytics"),
///     Rule::new("batch").tag("batch").to_replicas(["far-1", "far-2"]).max_lag(Duration::from_secs(5)),
/// ];
/// # drop(rules);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    name: Arc<str>,
    priority: i32,
    tables: Vec<TableName>,
    text: Option<Pattern>,
    cost: Option<CostClass>,
    tag: Option<Box<str>>,
    group: Option<Box<str>>,
    pub(super) target: Option<Target>,
    pub(super) max_lag: Option<Duration>,
    pub(super) fallback: Option<FallbackPolicy>,
    pub(super) sticky: bool,
    pub(super) hedged: Option<bool>,
}

/// Where the reads of a rule go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Primary,
    Group(Box<str>),
    Replicas(Vec<Box<str>>),
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The rule has no name, or one that is too long for people.
    #[error("the rule at place {place} needs a name of 1 to 100 characters")]
    InvalidName {
        /// The rule's place; the first is 1.
        place: usize,
    },
    /// Two rules have the same name.
    #[error("two rules are called `{rule}`; names must differ")]
    DuplicateName {
        /// The name.
        rule: String,
    },
    /// There is no such group of replicas.
    #[error("the rule `{rule}` sends reads to the group `{group}`, and no replica is in it")]
    UnknownGroup {
        /// The rule.
        rule: String,
        /// The group.
        group: String,
    },
    /// There is no such endpoint.
    #[error("the rule `{rule}` sends reads to `{replica}`, and no endpoint has this name")]
    UnknownReplica {
        /// The rule.
        rule: String,
        /// The name.
        replica: String,
    },
    /// A logical subscriber lacks what is not published, so only reads that ask for its group may
    /// run there.
    #[error(
        "the rule `{rule}` sends reads to the logical subscriber `{replica}`; only a statement or a \
         handle can ask for its group"
    )]
    Subscriber {
        /// The rule.
        rule: String,
        /// The subscriber.
        replica: String,
    },
    /// Reads on the primary have no lag, no fallback, no replica to stay on, and no second one.
    #[error(
        "the rule `{rule}` sends reads to the primary, so `max_lag`, `fallback`, `sticky` and `hedged` \
         mean nothing there"
    )]
    Contradiction {
        /// The rule.
        rule: String,
    },
    /// The rule has conditions and changes nothing.
    #[error(
        "the rule `{rule}` changes nothing: give it a target, `max_lag`, `fallback`, `sticky` or \
         `hedged`"
    )]
    ChangesNothing {
        /// The rule.
        rule: String,
    },
}

/// The longest name of a rule, in characters.
const LONGEST_NAME: usize = 100;

impl Rule {
    /// A rule for all reads that changes nothing yet. Explanations call it `name`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Rule {
            name: name.into(),
            priority: 0,
            tables: Vec::new(),
            text: None,
            cost: None,
            tag: None,
            group: None,
            target: None,
            max_lag: None,
            fallback: None,
            sticky: false,
            hedged: None,
        }
    }

    /// Of several rules for a read, the one with the highest priority decides alone; among equals,
    /// the first one. Default: 0.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        Rule { priority, ..self }
    }

    /// Only for reads of this table, or of one of several if it is called again. A name is `table`
    /// or `schema.table`, and case does not count. A table behind a view counts where the catalog is
    /// known.
    ///
    /// If not all tables of a statement are known, a rule that sends reads to the primary is for it,
    /// because the statement may read the table. Other rules are not. The same is true of a
    /// read-only transaction, whose statements come later.
    #[must_use]
    pub fn table(mut self, name: &str) -> Self {
        let (schema, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, name),
        };
        self.tables.push(TableName::new(schema, name));
        self
    }

    /// Only for statements whose text matches; see [`Pattern`].
    #[must_use]
    pub fn text(self, pattern: &str) -> Self {
        Rule { text: Some(Pattern::new(pattern)), ..self }
    }

    /// Only for reads that are at least this much work.
    #[must_use]
    pub fn cost(self, at_least: CostClass) -> Self {
        Rule { cost: Some(at_least), ..self }
    }

    /// Only for reads of handles with this tag.
    #[must_use]
    pub fn tag(self, tag: impl Into<Box<str>>) -> Self {
        Rule { tag: Some(tag.into()), ..self }
    }

    /// Only for reads that ask for this group, by a hint or by their handle.
    #[must_use]
    pub fn group(self, group: impl Into<Box<str>>) -> Self {
        Rule { group: Some(group.into()), ..self }
    }

    /// Its reads run on the primary. They count as intended there, and not as a fallback.
    #[must_use]
    pub fn to_primary(self) -> Self {
        Rule { target: Some(Target::Primary), ..self }
    }

    /// Its reads choose among the replicas of this group.
    #[must_use]
    pub fn to_group(self, group: impl Into<Box<str>>) -> Self {
        Rule { target: Some(Target::Group(group.into())), ..self }
    }

    /// Its reads choose among the replicas with these names.
    #[must_use]
    pub fn to_replicas<S: Into<Box<str>>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Rule { target: Some(Target::Replicas(names)), ..self }
    }

    /// Its reads use no replica that is further behind than this. Eventual reads then need a proof
    /// that the replica is not further behind.
    #[must_use]
    pub fn max_lag(self, max_lag: Duration) -> Self {
        Rule { max_lag: Some(max_lag), ..self }
    }

    /// What happens to its reads if no replica is good enough, unless the handle chose that.
    #[must_use]
    pub fn fallback(self, fallback: FallbackPolicy) -> Self {
        Rule { fallback: Some(fallback), ..self }
    }

    /// Its reads go to one replica for each session ([`Sticky`](crate::Sticky)), whichever balancer
    /// is configured.
    #[must_use]
    pub fn sticky(self) -> Self {
        Rule { sticky: true, ..self }
    }

    /// Whether its reads are sent to a second replica when they are slow, whatever the configuration
    /// says. A handle's own choice takes precedence.
    #[must_use]
    pub fn hedged(self, hedged: bool) -> Self {
        Rule { hedged: Some(hedged), ..self }
    }

    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn its_priority(&self) -> i32 {
        self.priority
    }

    /// Whether the rule is for `read`. Allocates nothing.
    #[must_use]
    pub fn is_for(&self, read: &Routable<'_>) -> bool {
        // Handles are cheaper to compare than texts.
        let asks = |wanted: &Option<Box<str>>, asked: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| asked == Some(wanted))
        };
        asks(&self.tag, read.tag)
            && asks(&self.group, read.hint.or(read.group))
            && self.cost.is_none_or(|least| self.or_maybe(read.cost, |it| it.class() >= least))
            && (self.tables.is_empty() || self.or_maybe(read.tables, |it| self.reads_one_of(it)))
            && self.text.as_ref().is_none_or(|it| self.or_maybe(read.text, |sql| it.matches(sql)))
    }

    /// Whether `known` holds. What is not known may hold, which is enough to stay on the primary.
    fn or_maybe<T>(&self, known: Option<T>, holds: impl FnOnce(T) -> bool) -> bool {
        known.map_or(self.is_to_primary(), holds)
    }

    fn reads_one_of(&self, tables: &Tables) -> bool {
        let is_one = |read: &TableName| self.tables.iter().any(|ours| is_same(ours, read));
        tables.read.iter().any(is_one) || (!tables.complete && self.is_to_primary())
    }

    fn is_to_primary(&self) -> bool {
        self.target == Some(Target::Primary)
    }

    /// Whether a read that asks for a group goes to the rule's target nevertheless.
    pub(super) fn is_for_group(&self) -> bool {
        self.group.is_some()
    }

    /// Checks `rules` for a cluster of these `endpoints`.
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn check_all(rules: &[Rule], endpoints: &[Endpoint]) -> Result<(), RuleError> {
        Rule::check_names(rules)?;
        rules.iter().try_for_each(|rule| rule.check(endpoints))
    }

    pub(super) fn check_names(rules: &[Rule]) -> Result<(), RuleError> {
        for (index, rule) in rules.iter().enumerate() {
            if !(1..=LONGEST_NAME).contains(&rule.name.chars().count()) {
                return Err(RuleError::InvalidName { place: index + 1 });
            }
            if rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(RuleError::DuplicateName { rule: rule.name.to_string() });
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, endpoints: &[Endpoint]) -> Result<(), RuleError> {
        let rule = || self.name.to_string();
        let says_more = self.max_lag.is_some()
            || self.fallback.is_some()
            || self.sticky
            || self.hedged.is_some();
        match &self.target {
            None if !says_more => Err(RuleError::ChangesNothing { rule: rule() }),
            None => Ok(()),
            Some(Target::Primary) if says_more => Err(RuleError::Contradiction { rule: rule() }),
            Some(Target::Primary) => Ok(()),
            Some(Target::Group(group)) => {
                let members = endpoints.iter().filter(|it| it.group() == Some(&**group));
                let members: Vec<_> = members.collect();
                match members.is_empty() {
                    true => Err(RuleError::UnknownGroup { rule: rule(), group: group.to_string() }),
                    false => self.check_members(&members),
                }
            }
            Some(Target::Replicas(names)) => {
                let find = |name: &str| endpoints.iter().find(|it| it.name() == name);
                let unknown = names.iter().find(|name| find(name).is_none());
                match unknown {
                    Some(name) => {
                        Err(RuleError::UnknownReplica { rule: rule(), replica: name.to_string() })
                    }
                    None => {
                        let members: Vec<_> = names.iter().filter_map(|name| find(name)).collect();
                        self.check_members(&members)
                    }
                }
            }
        }
    }

    fn check_members(&self, members: &[&Endpoint]) -> Result<(), RuleError> {
        match members.iter().find(|it| it.is_subscriber()) {
            // A read may run on the subscribers of the group that it asks for.
            Some(subscriber) if self.group.as_deref() != subscriber.group() => {
                Err(RuleError::Subscriber {
                    rule: self.name.to_string(),
                    replica: subscriber.name().to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Whether `ours`, as written in a rule, may name the table `read`.
fn is_same(ours: &TableName, read: &TableName) -> bool {
    let is_schema = match (ours.schema(), read.schema()) {
        (Some(ours), Some(read)) => ours.eq_ignore_ascii_case(read),
        _ => true,
    };
    is_schema && ours.name().eq_ignore_ascii_case(read.name())
}
