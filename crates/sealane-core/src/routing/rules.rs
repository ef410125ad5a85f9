//! A routing policy made of rules that can be replaced while statements run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{ByGroup, Routable, Route, RoutingPolicy, Rule, RuleError, rule::Target};
use crate::{Consistency, Endpoint, EndpointSet, Topology};

/// Routes each read by the first of its [`Rule`]s that is for it, and everything that the rule
/// leaves open by another policy.
///
/// Reading a snapshot of the rules is one atomic load, and routing a read allocates nothing.
#[derive(Debug)]
pub struct Rules {
    otherwise: Arc<dyn RoutingPolicy>,
    /// In the order in which they are tried.
    rules: ArcSwap<Vec<Numbered>>,
    /// The number of the next rule.
    next: AtomicU64,
}

/// The number of a rule. Numbers are not used again, so the name of a rule that was replaced is
/// unknown, and never another rule's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(u64);

#[derive(Debug, Clone)]
struct Numbered {
    id: RuleId,
    rule: Rule,
}

impl Default for Rules {
    /// No rules, and otherwise [`ByGroup`].
    fn default() -> Self {
        Rules::new(Arc::new(ByGroup), Vec::new())
    }
}

impl Rules {
    /// Begins with `rules`, which are not checked: where a rule leads nowhere, it changes nothing.
    /// What the rules leave open is decided by `otherwise`.
    #[must_use]
    pub fn new(otherwise: Arc<dyn RoutingPolicy>, rules: Vec<Rule>) -> Self {
        let it = Rules { otherwise, rules: ArcSwap::default(), next: AtomicU64::new(0) };
        let numbered = it.numbered(rules, &[]);
        it.rules.store(Arc::new(numbered));
        it
    }

    /// `rules` in the order in which they are tried. Those of `before` keep their numbers.
    fn numbered(&self, mut rules: Vec<Rule>, before: &[Numbered]) -> Vec<Numbered> {
        // The sort is stable: equals keep their order.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.its_priority()));
        let number = |rule: Rule| match before.iter().find(|it| it.rule == rule) {
            Some(same) => same.clone(),
            None => Numbered { id: RuleId(self.next.fetch_add(1, Ordering::Relaxed)), rule },
        };
        rules.into_iter().map(number).collect()
    }

    /// Replaces all rules. Reads that are planned already keep their route.
    ///
    /// # Errors
    /// A rule cannot be used with these `endpoints`. No rule is replaced then.
    pub fn set(&self, rules: Vec<Rule>, endpoints: &[Endpoint]) -> Result<(), RuleError> {
        self.change(endpoints, |_| rules.clone())
    }

    /// Adds one rule.
    ///
    /// # Errors
    /// The rule cannot be used with these `endpoints`, or its name is taken.
    pub fn add(&self, rule: Rule, endpoints: &[Endpoint]) -> Result<(), RuleError> {
        self.change(endpoints, |mut rules| {
            rules.push(rule.clone());
            rules
        })
    }

    /// Removes the rule with this name. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let before = self.rules.rcu(|rules| {
            rules.iter().filter(|it| it.rule.name() != name).cloned().collect::<Vec<_>>()
        });
        before.iter().any(|it| it.rule.name() == name)
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn list(&self) -> Vec<Rule> {
        self.rules.load().iter().map(|it| it.rule.clone()).collect()
    }

    /// Changes the rules as `change` says, and checks the result. If somebody else changes them at
    /// the same time, `change` is asked again.
    fn change(
        &self,
        endpoints: &[Endpoint],
        change: impl Fn(Vec<Rule>) -> Vec<Rule>,
    ) -> Result<(), RuleError> {
        loop {
            let before = self.rules.load_full();
            let rules = change(before.iter().map(|it| it.rule.clone()).collect());
            Rule::check_names(&rules)?;
            // What an older rule names may have been removed in the meantime.
            let is_new = |rule: &&Rule| before.iter().all(|it| it.rule != **rule);
            rules.iter().filter(is_new).try_for_each(|rule| rule.check(endpoints))?;
            let after = Arc::new(self.numbered(rules, &before));
            let seen = self.rules.compare_and_swap(&before, after);
            if Arc::ptr_eq(&seen, &before) {
                return Ok(());
            }
        }
    }
}

impl RoutingPolicy for Rules {
    fn name(&self) -> &'static str {
        match self.rules.load().is_empty() {
            true => self.otherwise.name(),
            false => "rules",
        }
    }

    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
        let mut route = self.otherwise.route(read, topology);
        // The numbers of another policy's rules mean nothing here.
        route.rule = None;
        let rules = self.rules.load();
        if let Some(Numbered { id, rule }) = rules.iter().find(|it| it.rule.is_for(read)) {
            route.rule = Some(*id);
            rule.apply(&mut route, read, topology);
        }
        route
    }

    fn rule_name(&self, id: RuleId) -> Option<Arc<str>> {
        let rules = self.rules.load();
        rules.iter().find(|it| it.id == id).map(|it| it.rule.shared_name())
    }
}

impl Rule {
    fn apply(&self, route: &mut Route, read: &Routable<'_>, topology: &Topology) {
        match &self.target {
            None => {}
            // Strong reads run on the primary by intention, whatever the fallback is.
            Some(Target::Primary) => route.consistency = Consistency::Strong,
            Some(_) if !self.is_for_group() && asks_for_group(read, topology) => {}
            Some(Target::Group(group)) => {
                let members = topology.group(group).unwrap_or_default();
                narrow(route, members, read, topology);
            }
            Some(Target::Replicas(names)) => {
                let is_named =
                    |endpoint: &Endpoint| names.iter().any(|it| **it == *endpoint.name());
                let members = topology.iter().filter(|(_, state)| is_named(&state.endpoint));
                narrow(route, members.map(|(id, _)| id).collect(), read, topology);
            }
        }
        if let Some(max_lag) = self.max_lag {
            bound(route, max_lag);
        }
        if let Some(fallback) = self.fallback.filter(|_| !read.chose_fallback) {
            route.fallback = fallback;
        }
        route.sticky |= self.sticky;
        route.hedged = self.hedged.or(route.hedged);
    }
}

fn asks_for_group(read: &Routable<'_>, topology: &Topology) -> bool {
    [read.hint, read.group].into_iter().flatten().any(|name| topology.group(name).is_some())
}

/// Sends the read to `members`, and among these to those with its tag if there are any. If all
/// members were removed, or became the primary, the route stays: nobody wants all replicas to be
/// idle.
fn narrow(route: &mut Route, members: EndpointSet, read: &Routable<'_>, topology: &Topology) {
    if members.without(topology.primary().into_iter().collect()).is_empty() {
        return;
    }
    let tagged = read.tag.map(|tag| topology.tagged(tag).and(members)).unwrap_or_default();
    route.among = if tagged.is_empty() { members } else { tagged };
}

/// Makes the read refuse replicas that are further behind than `max_lag`.
fn bound(route: &mut Route, max_lag: Duration) {
    match route.consistency {
        Consistency::Eventual => route.consistency = Consistency::BoundedStaleness(max_lag),
        Consistency::BoundedStaleness(bound) => {
            route.consistency = Consistency::BoundedStaleness(bound.min(max_lag));
        }
        Consistency::ReadYourWrites => {
            route.max_lag = Some(route.max_lag.map_or(max_lag, |it| it.min(max_lag)));
        }
        Consistency::Strong => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &[&str]) -> Vec<Endpoint> {
        names.iter().map(|name| Endpoint::new(*name, *name)).collect()
    }

    #[test]
    fn a_rule_whose_replica_was_removed_keeps_no_other_rule_out() {
        let rules = Rules::default();
        let far = Rule::new("batch").to_replicas(["far"]);
        assert!(rules.add(far.clone(), &endpoints(&["primary", "near"])).is_err(), "unknown");
        rules.add(far, &endpoints(&["primary", "near", "far"])).unwrap();
        let left = endpoints(&["primary", "near"]);
        rules.add(Rule::new("other").to_replicas(["near"]), &left).unwrap();
        assert_eq!(rules.list().len(), 2);
    }

    #[test]
    fn rules_are_checked_together_and_each_against_the_endpoints() {
        let endpoints = endpoints(&["primary", "near"]);
        let near = Rule::new("batch").to_replicas(["near"]);
        let check =
            |rules: &[Rule]| Rule::check_all(rules, &endpoints).map_err(|it| it.to_string());
        assert_eq!(check(std::slice::from_ref(&near)), Ok(()));
        assert!(check(&[near.clone(), near]).is_err(), "two of one name");
        assert!(check(&[Rule::new("batch").to_replicas(["far"])]).is_err(), "no such replica");
    }

    #[test]
    fn a_rule_whose_only_replica_became_the_primary_leaves_the_reads_where_they_go_otherwise() {
        // Before any probe, the first endpoint is the primary.
        let endpoints = endpoints(&["promoted", "other"]);
        let rules = Rules::default();
        rules.add(Rule::new("batch").to_replicas(["promoted"]), &endpoints).unwrap();
        let topology = Topology::new(endpoints);
        let read = Routable::new(Consistency::Eventual, crate::FallbackPolicy::Primary);
        let route = rules.route(&read, &topology);
        assert_eq!(route.among, topology.ungrouped());
    }
}
