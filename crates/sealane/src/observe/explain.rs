//! Answers the question "why did this statement go there?".

use std::fmt;

use sealane_core::{
    Access, Consistency, EndpointId, FallbackPolicy, Intent, Plan, PrimaryReads, PrimaryUse,
    ReadRequest, Refusal, Role, RoutingPolicy, Topology,
};
use sealane_sql::{Cost, Finding, Tables};
use serde::Serialize;

use crate::{caller::Caller, cluster::Cluster, config::Shadow, scope};

/// Where a statement would run, and why.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The statement's intent.
    pub intent: Intent,
    /// What decided the intent, in one line and without literals.
    pub reason: String,
    /// Everything that keeps the statement on the primary, with places in the text.
    pub findings: Vec<Finding>,
    /// The text with a caret under each finding, including literals; empty without findings.
    pub annotated: String,
    /// The tables that the statement touches.
    pub tables: Tables,
    /// How much work the statement may be.
    pub cost: Cost,
    /// The group of replicas that the statement's hint asks for, if no such group exists.
    pub unknown_group: Option<String>,
    /// How fresh the statement's data must be.
    pub consistency: Consistency,
    /// What happens to the statement if no replica is good enough.
    pub fallback: FallbackPolicy,
    /// Which of the reads that replicas could serve run on the primary.
    pub primary_reads: PrimaryReads,
    /// Whether the statement would be served stale now: no replica is fresh enough for it, the
    /// primary has no place for it, and it accepts that ([`FallbackPolicy::Stale`]). The choices are
    /// then those of such a read.
    pub is_served_stale: bool,
    /// Whether the session may have seen more on a replica than the primary shows now
    /// ([`WhenAhead`](crate::WhenAhead)).
    pub is_ahead_of_primary: bool,
    /// Every endpoint with its verdict, in the order of attempts: first the replicas that may serve
    /// the statement, then the primary, then the refused endpoints.
    pub choices: Vec<Choice>,
    /// The policy that decided which replicas may be asked.
    pub routing: &'static str,
    /// The rule that decided, if the policy has rules and one of them is for the statement.
    pub rule: Option<String>,
    /// The application's own policy, which a replica must pass besides the consistency.
    pub policy: Option<&'static str>,
    /// The share of such reads that may leave the primary, 0 to 1
    /// ([`Config::replica_share`](crate::Config::replica_share)). The choices are those of such a read.
    pub replica_share: f64,
    /// Whether such reads run on the primary all the same, to see what would become of them
    /// ([`Config::shadow`](crate::Config::shadow)). The choices are those without shadow mode.
    pub shadow: Shadow,
    /// The balancer that orders the replicas.
    pub balancer: &'static str,
    /// The endpoint that takes writes; `None` while no endpoint may.
    pub primary: Option<String>,
}

/// One endpoint in an [`Explanation`].
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// The endpoint's name.
    pub endpoint: String,
    /// The endpoint's last observed role.
    pub role: Role,
    /// Why the endpoint may not serve the statement; `None` if it may.
    pub refusal: Option<Refusal>,
}

impl Explanation {
    /// The endpoint that would be tried first. Among several replicas, the balancer may choose
    /// another one.
    #[must_use]
    pub fn first_choice(&self) -> Option<&str> {
        self.choices.iter().find(|c| c.refusal.is_none()).map(|c| c.endpoint.as_str())
    }

    /// Why the statement goes to `endpoint`, in one line.
    pub(crate) fn why(&self, endpoint: &str) -> String {
        let mut why = self.reason.clone();
        if let Some(rule) = &self.rule {
            why.push_str(&format!("; rule {rule}"));
        }
        if self.intent.is_read() && self.primary.as_deref() == Some(endpoint) {
            for Choice { endpoint, refusal, .. } in &self.choices {
                if let Some(refusal) = refusal {
                    why.push_str(&format!("; {endpoint} {refusal}"));
                }
            }
        }
        if self.intent.is_read() && self.shadow.is_on() {
            why.push_str("; shadow mode");
        }
        if self.is_served_stale {
            why.push_str("; served stale");
        }
        if self.is_ahead_of_primary && self.primary.as_deref() == Some(endpoint) {
            why.push_str("; it is not proved to show what the session has seen on a replica");
        }
        why
    }
}

pub(crate) fn explain(caller: &Caller, sql: &str) -> Explanation {
    let cluster = caller.cluster();
    // As a read would do first.
    cluster.settle_ejections();
    let catalog = cluster.catalog_generation();
    let found = cluster.classifier.as_ref().map(|classifier| classifier.classify(sql));
    let read = found.as_ref().filter(|found| found.intent.is_read());
    let route = match read {
        Some(read) => caller.route_of(read, catalog, sql),
        // For a statement that is not a read, the route is not used.
        None => caller.route_of_transaction(),
    };
    let mut request = caller.request(&route);
    if read.is_none() {
        request.access = Access::Write;
    }
    let fallback = route.route.fallback;
    let topology = cluster.store().topology();
    let primary_reads = cluster.reading.primary_reads;
    let is_kept_off = allow_stale(cluster, &topology, &mut request, fallback);
    let is_served_stale = Plan::new(&topology, &request).is_stale();
    let only_replicas = read.is_some() && (route.only_replicas() || is_kept_off);
    let choices = choices(&topology, &request, only_replicas);
    let primary = topology.primary().map(|id| name(&topology, id).to_owned());
    let rule = route.route.rule.filter(|_| read.is_some());
    let rule = rule.and_then(|id| cluster.routing.rule_name(id)).map(|rule| rule.to_string());
    let unknown_group = read.and_then(|read| caller.unknown_group(read));
    let annotated = found.as_ref().map(|found| found.annotate(sql).to_string());
    let reason = match &found {
        None => "not classified: there is only one endpoint".to_owned(),
        Some(found) => match found.decisive() {
            None => "proved read".to_owned(),
            Some(finding) => finding.reason.to_string(),
        },
    };
    let intent = found.as_ref().map_or(Intent::Unknown, |found| found.intent);
    let (findings, tables, cost) =
        found.map(|found| (found.findings, found.tables, found.cost)).unwrap_or_default();
    Explanation {
        intent,
        reason,
        findings,
        annotated: annotated.unwrap_or_default(),
        tables,
        cost,
        unknown_group,
        consistency: request.consistency,
        fallback,
        primary_reads,
        is_served_stale,
        is_ahead_of_primary: request.session.ahead_of_primary(&topology).is_some(),
        choices,
        routing: cluster.routing.name(),
        rule,
        policy: caller.policy(),
        replica_share: cluster.roll_out.share(),
        shadow: cluster.roll_out.shadow(),
        balancer: cluster.balancer.name(),
        primary,
    }
}

/// Lets `request` be served stale if it may be, and the primary has no place for it now. Returns
/// whether the primary is kept free of it, because it serves intended reads only.
fn allow_stale(
    cluster: &Cluster,
    topology: &Topology,
    request: &mut ReadRequest,
    fallback: FallbackPolicy,
) -> bool {
    let used = Plan::new(topology, request).primary_use(request);
    let falls_back = used == PrimaryUse::Fallback;
    let is_kept_off = falls_back && cluster.reading.primary_reads == PrimaryReads::Intended;
    let is_full = falls_back && !cluster.fallback_limit.has_room();
    if used != PrimaryUse::Asked && (is_full || !topology.has_usable_primary()) {
        request.stale = fallback.accepted_staleness();
    }
    is_kept_off
}

/// Every endpoint with its verdict, in the order of attempts.
fn choices(topology: &Topology, request: &ReadRequest, only_replicas: bool) -> Vec<Choice> {
    let mut choices: Vec<_> = topology
        .iter()
        .map(|(id, state)| {
            let is_primary = topology.primary() == Some(id);
            let refusal = match is_primary && only_replicas {
                true => Some(Refusal::OnlyReplicas),
                false => Plan::judge(topology, id, request).err(),
            };
            let rank = match (&refusal, is_primary) {
                (None, false) => 0,
                (None, true) => 1,
                (Some(_), _) => 2,
            };
            let endpoint = state.endpoint.name().to_owned();
            (rank, Choice { endpoint, role: state.role, refusal })
        })
        .collect();
    choices.sort_by_key(|(rank, _)| *rank);
    choices.into_iter().map(|(_, choice)| choice).collect()
}

/// Logs at debug level where a statement is sent and why. The text contains only values that the
/// application wrote into it.
pub(crate) fn trace(caller: &Caller, id: EndpointId, sql: &str) {
    if caller.session_ref().reports_strays() {
        warn_of_stray(caller, sql);
    }
    if tracing::enabled!(target: "sealane::route", tracing::Level::DEBUG) {
        let explanation = explain(caller, sql);
        let topology = caller.cluster().store().topology();
        let (endpoint, session) =
            (name(&topology, id), scope::kind_of_session(caller.session_ref()));
        let why = explanation.why(endpoint);
        tracing::debug!(target: "sealane::route", endpoint, session, why, sql);
    }
}

/// Warns about a read through the shared session that may be work of another session.
fn warn_of_stray(caller: &Caller, sql: &str) {
    let cluster = caller.cluster();
    let (generation, topology) = (cluster.catalog_generation(), cluster.store().topology());
    let is_stray = caller.route(sql).is_some_and(|read| {
        read.route.consistency == Consistency::ReadYourWrites
            && caller.session_ref().is_stray(&read.tables, generation, &topology)
    });
    if is_stray {
        tracing::warn!(
            target: "sealane::session",
            sql,
            "a read outside any session follows a write of a request's session that is not replayed \
             everywhere yet; if it is work of that request alone, in a task of its own, spawn it with \
             sealane::in_current_scope; leave work for several users, such as a shared data loader, \
             outside (this is said once)"
        );
    }
}

/// The name of an endpoint for people.
fn name(topology: &Topology, id: EndpointId) -> &str {
    topology.get(id).map_or("?", |state| state.endpoint.name())
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "intent: {:?} ({})", self.intent, self.reason)?;
        if !self.annotated.is_empty() {
            writeln!(f, "{}", self.annotated)?;
        }
        for (what, names) in [("reads", &self.tables.read), ("writes", &self.tables.written)] {
            if let Some((first, others)) = names.split_first() {
                write!(f, "{what}: {first}")?;
                others.iter().try_for_each(|name| write!(f, ", {name}"))?;
                writeln!(f, "{}", if self.tables.complete { "" } else { ", and maybe more" })?;
            }
        }
        if self.intent.is_read() {
            writeln!(f, "cost: {}", self.cost)?;
        }
        if let Some(group) = &self.unknown_group {
            writeln!(f, "group: there is no `{group}`, so replicas of no group may serve it")?;
        }
        let policy = self.policy.map(|policy| format!(" and {policy}")).unwrap_or_default();
        writeln!(
            f,
            "consistency: {}{policy}, routing: {}, balancer: {}",
            self.consistency, self.routing, self.balancer
        )?;
        if let Some(rule) = &self.rule {
            writeln!(f, "rule: {rule}")?;
        }
        if self.fallback != FallbackPolicy::Primary {
            writeln!(f, "when all replicas are behind: {}", self.fallback)?;
        }
        if self.intent.is_read() && self.primary_reads != PrimaryReads::Fallback {
            writeln!(f, "primary reads: {}", self.primary_reads.name())?;
        }
        if self.is_served_stale {
            writeln!(f, "served stale: no replica is fresh enough, and the primary has no place")?;
        }
        if self.intent.is_read() && self.replica_share < 1.0 {
            let share = self.replica_share;
            writeln!(f, "replica share: {share}; the other reads run on the primary")?;
        }
        if self.intent.is_read() && self.shadow.is_on() {
            writeln!(f, "shadow mode: it runs on the primary; without, it would run as follows")?;
        }
        if self.is_ahead_of_primary {
            writeln!(f, "the session may have seen more on a replica than the primary shows")?;
        }
        for choice in &self.choices {
            match &choice.refusal {
                None => writeln!(f, "  {}: may serve it", choice.endpoint)?,
                Some(refusal) => writeln!(f, "  {}: no, it {refusal}", choice.endpoint)?,
            }
        }
        Ok(())
    }
}
