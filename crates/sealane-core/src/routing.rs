//! Which replicas a read may choose from, how fresh they must be, and what happens if no replica is
//! good enough.
//!
//! A [`RoutingPolicy`] turns the facts of a statement and of a call into a [`Route`]. It cannot
//! turn a statement into a read. It cannot use an endpoint that is down, is not a replica, or
//! belongs to another system or database. Whatever the policy says, a handle that asks for
//! [`Consistency::Strong`] gets it, and a logical subscriber serves only reads that ask for its
//! group.

mod pattern;
mod rule;
mod rules;

use std::{fmt, sync::Arc, time::Duration};

pub use pattern::Pattern;
pub use rule::{Rule, RuleError};
pub use rules::{RuleId, Rules};

use crate::{Consistency, Cost, EndpointSet, FallbackPolicy, Tables, Topology};

/// A read to be routed: its statement, and the call that makes it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Routable<'a> {
    /// The statement's text. Unknown for a read-only transaction.
    pub text: Option<&'a str>,
    /// The tables that the text names. Unknown for a read-only transaction.
    pub tables: Option<&'a Tables>,
    /// How much work the statement may be. Unknown for a read-only transaction.
    pub cost: Option<&'a Cost>,
    /// The group that the leading comment of the text asks for.
    pub hint: Option<&'a str>,
    /// The group that the handle or its scope asks for.
    pub group: Option<&'a str>,
    /// The tag that the handle or its scope carries.
    pub tag: Option<&'a str>,
    /// How fresh the data must be, according to the handle, its scope or the configuration.
    pub consistency: Consistency,
    /// Whether the handle or its scope chose the consistency, and not only the configuration.
    pub chose_consistency: bool,
    /// What happens if no replica is good enough, according to the handle, its scope or the
    /// configuration.
    pub fallback: FallbackPolicy,
    /// Whether the handle or its scope chose the fallback, and not only the configuration.
    pub chose_fallback: bool,
}

impl Routable<'_> {
    /// A read of which nothing else is known, by a handle that asks for nothing else.
    #[must_use]
    pub fn new(consistency: Consistency, fallback: FallbackPolicy) -> Self {
        Routable {
            text: None,
            tables: None,
            cost: None,
            hint: None,
            group: None,
            tag: None,
            consistency,
            chose_consistency: false,
            fallback,
            chose_fallback: false,
        }
    }
}

/// Where a read may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The replicas that the read may choose from.
    pub among: EndpointSet,
    /// How fresh their data must be.
    pub consistency: Consistency,
    /// What happens if none of them is good enough.
    pub fallback: FallbackPolicy,
    /// A limit of the lag at which a replica serves [`Consistency::ReadYourWrites`], in addition to
    /// the configured one; `None` for no further limit.
    pub max_lag: Option<Duration>,
    /// Whether the reads of one session should go to one replica.
    pub sticky: bool,
    /// Whether a slow read is sent to a second replica; `None` for what the configuration says. What
    /// a handle chose takes precedence.
    pub hedged: Option<bool>,
    /// The rule that decided, for explanations.
    pub rule: Option<RuleId>,
}

impl Route {
    /// A route to the replicas in `among`.
    #[must_use]
    pub fn new(among: EndpointSet, consistency: Consistency, fallback: FallbackPolicy) -> Self {
        Route {
            among,
            consistency,
            fallback,
            max_lag: None,
            sticky: false,
            hedged: None,
            rule: None,
        }
    }
}

/// Decides where reads go.
///
/// ```
/// use sealane_core::{CostClass, Routable, Route, RoutingPolicy, ByGroup, Topology};
///
/// /// Heavy reads go to the replicas for reports, whichever handle asks.
/// #[derive(Debug)]
/// struct HeavyApart;
///
/// impl RoutingPolicy for HeavyApart {
///     fn name(&self) -> &'static str {
///         "heavy-apart"
///     }
///
///     fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
///         let mut route = ByGroup.route(read, topology);
///         if read.cost.is_some_and(|cost| cost.class() == CostClass::Heavy) {
///             route.among = topology.group("reports").unwrap_or(route.among);
///         }
///         route
///     }
/// }
/// ```
pub trait RoutingPolicy: fmt::Debug + Send + Sync {
    /// The name shown in explanations.
    fn name(&self) -> &'static str;

    /// The route of `read`. This is called for each read, so it must not block, allocate or panic.
    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route;

    /// The name of a rule that a [`Route`] of this policy names; `None` if there is no such rule,
    /// or no longer.
    fn rule_name(&self, id: RuleId) -> Option<Arc<str>> {
        let _ = id;
        None
    }
}

impl<T: RoutingPolicy + ?Sized> RoutingPolicy for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
        (**self).route(read, topology)
    }

    fn rule_name(&self, id: RuleId) -> Option<Arc<str>> {
        (**self).rule_name(id)
    }
}

/// The default policy. A read goes to the replicas of the group that it asks for, or else to the
/// replicas of no group. Among these, replicas with the read's tag are used alone if there are any.
///
/// A hint in the text takes precedence over the group of the handle. An unknown group is ignored,
/// because a typing error must not take every replica away.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByGroup;

impl RoutingPolicy for ByGroup {
    fn name(&self) -> &'static str {
        "by-group"
    }

    fn route(&self, read: &Routable<'_>, topology: &Topology) -> Route {
        let mut asked = [read.hint, read.group].into_iter().flatten();
        let group = asked.find_map(|name| topology.group(name));
        let mut among = group.unwrap_or(topology.ungrouped());
        if let Some(tag) = read.tag {
            let tagged = topology.tagged(tag).and(among);
            among = if tagged.is_empty() { among } else { tagged };
        }
        Route::new(among, read.consistency, read.fallback)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::Endpoint;

    fn topology() -> Topology {
        let endpoint = |name| Endpoint::new(name, name);
        Topology::new(vec![
            endpoint("primary"),
            endpoint("a").with_tag("ssd"),
            endpoint("b"),
            endpoint("c").in_group("reports"),
            endpoint("d").in_group("reports").with_tag("ssd"),
            endpoint("e").in_group("nightly"),
        ])
    }

    #[rstest]
    #[case::nothing(None, None, None, &[0, 1, 2])]
    #[case::group(None, Some("reports"), None, &[3, 4])]
    #[case::hint(Some("reports"), None, None, &[3, 4])]
    #[case::the_hint_goes_first(Some("reports"), Some("nightly"), None, &[3, 4])]
    #[case::an_unknown_hint_is_ignored(Some("typo"), Some("nightly"), None, &[5])]
    #[case::no_such_group(None, Some("typo"), None, &[0, 1, 2])]
    #[case::tag(None, None, Some("ssd"), &[1])]
    #[case::tag_in_a_group(None, Some("reports"), Some("ssd"), &[4])]
    #[case::a_tag_that_none_carries(None, Some("reports"), Some("far"), &[3, 4])]
    fn a_read_goes_to_its_group_and_its_tag(
        #[case] hint: Option<&str>,
        #[case] group: Option<&str>,
        #[case] tag: Option<&str>,
        #[case] among: &[usize],
    ) {
        let read = Routable {
            hint,
            group,
            tag,
            ..Routable::new(Consistency::Eventual, FallbackPolicy::Fail)
        };
        let route = ByGroup.route(&read, &topology());
        assert_eq!(route.among.places().collect::<Vec<_>>(), among);
        assert_eq!((route.consistency, route.fallback), (read.consistency, read.fallback));
    }
}
