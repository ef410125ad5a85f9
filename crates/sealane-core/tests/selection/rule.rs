//! One case of rules: rules and a read, and where the read goes.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    ByGroup, Consistency, Cost, CostClass, Endpoint, EndpointId, FallbackPolicy, Routable,
    RoutingPolicy, Rule, Rules, TableName, Tables, Topology, TopologyReducer,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The specified behaviour, as a sentence.
    pub says: String,
    rules: Vec<Written>,
    /// The names of rules that are removed while reads run.
    #[serde(default)]
    without: Vec<String>,
    /// The endpoints that are removed while reads run.
    #[serde(default)]
    removed: Vec<usize>,
    #[serde(default)]
    read: Read,
    then: Option<Then>,
    /// What the error about the rules contains; none unless given.
    error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    tables: Vec<String>,
    text: Option<String>,
    cost: Option<CostClass>,
    tag: Option<String>,
    group: Option<String>,
    #[serde(default)]
    to_primary: bool,
    to_group: Option<String>,
    to_replicas: Option<Vec<String>>,
    max_lag: Option<u64>,
    fallback: Option<String>,
    #[serde(default)]
    sticky: bool,
    hedged: Option<bool>,
}

/// A statement, or a read-only transaction.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(default)]
    transaction: bool,
    text: Option<String>,
    #[serde(default)]
    tables: Vec<String>,
    /// Not all tables are known.
    #[serde(default)]
    and_more: bool,
    #[serde(default)]
    cost: CostClass,
    hint: Option<String>,
    group: Option<String>,
    tag: Option<String>,
    consistency: Option<String>,
    /// What the handle chose; else the configuration lets the primary serve.
    fallback: Option<String>,
}

/// Compared only where given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Then {
    /// The rule that decided, or `none`.
    rule: Option<String>,
    among: Option<Vec<usize>>,
    consistency: Option<String>,
    fallback: Option<String>,
    /// 0 for none.
    max_lag: Option<u64>,
    sticky: Option<bool>,
    /// `true`, `false`, or `unsaid`.
    hedged: Option<String>,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The endpoints of all cases.
fn endpoints() -> Vec<Endpoint> {
    let endpoint = |name| Endpoint::new(name, name);
    vec![
        endpoint("primary"),
        endpoint("near"),
        endpoint("far").with_tag("ssd"),
        endpoint("report-1").in_group("analytics"),
        endpoint("report-2").in_group("analytics").with_tag("ssd"),
        endpoint("night").in_group("nightly"),
        endpoint("feed").in_group("feeds").as_subscriber(),
    ]
}

fn topology(removed: &[usize]) -> Topology {
    let mut reducer = TopologyReducer::new(Topology::new(endpoints()));
    for index in removed {
        reducer.remove(EndpointId::from_index(*index).expect("an endpoint"));
    }
    reducer.topology().clone()
}

impl Case {
    pub fn faults(&self) -> Vec<String> {
        let rules = Rules::new(Arc::new(ByGroup), Vec::new());
        let written = self.rules.iter().map(Written::rule).collect();
        match (rules.set(written, &endpoints()), &self.error) {
            (Err(error), Some(expected)) if error.to_string().contains(expected) => {
                return Vec::new();
            }
            (Err(error), _) => return vec![format!("refused: {error}")],
            (Ok(()), Some(expected)) => return vec![format!("not refused: {expected}")],
            (Ok(()), None) => {}
        }
        for name in &self.without {
            assert!(rules.remove(name), "there is no rule {name}");
        }
        let topology = topology(&self.removed);
        let Some(then) = &self.then else { return vec!["the case expects nothing".to_owned()] };
        let (tables, cost) = (self.read.tables(), self.read.cost());
        let routable = self.read.routable(&tables, &cost);
        let route = rules.route(&routable, &topology);
        let rule = route.rule.and_then(|id| rules.rule_name(id));
        let mut faults = Vec::new();
        let mut compare = |what: &str, found: String, expected: Option<String>| {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                faults.push(format!("{what}: {found} instead of {expected}"));
            }
        };
        compare("rule", rule.as_deref().unwrap_or("none").to_owned(), then.rule.clone());
        let among: Vec<_> = route.among.places().collect();
        compare("among", format!("{among:?}"), then.among.as_ref().map(|it| format!("{it:?}")));
        compare("consistency", shown(route.consistency), then.consistency.clone());
        compare("fallback", way_out(route.fallback), then.fallback.clone());
        let max_lag = route.max_lag.unwrap_or_default().as_millis().to_string();
        compare("max_lag", max_lag, then.max_lag.map(|it| it.to_string()));
        compare("sticky", route.sticky.to_string(), then.sticky.map(|it| it.to_string()));
        let hedged = route.hedged.map_or_else(|| "unsaid".to_owned(), |it| it.to_string());
        compare("hedged", hedged, then.hedged.clone());
        faults
    }
}

impl Written {
    fn rule(&self) -> Rule {
        let it = self.clone();
        let mut rule = Rule::new(it.name).priority(it.priority);
        rule = it.tables.iter().fold(rule, |rule, table| rule.table(table));
        rule = it.text.iter().fold(rule, |rule, text| rule.text(text));
        rule = it.cost.into_iter().fold(rule, Rule::cost);
        rule = it.tag.into_iter().fold(rule, Rule::tag);
        rule = it.group.into_iter().fold(rule, Rule::group);
        rule = if it.to_primary { rule.to_primary() } else { rule };
        rule = it.to_group.into_iter().fold(rule, Rule::to_group);
        rule = it.to_replicas.into_iter().fold(rule, Rule::to_replicas);
        rule = it.max_lag.map(ms).into_iter().fold(rule, Rule::max_lag);
        rule = it.fallback.iter().map(|it| read_way_out(it)).fold(rule, Rule::fallback);
        rule = it.hedged.into_iter().fold(rule, Rule::hedged);
        if it.sticky { rule.sticky() } else { rule }
    }
}

impl Read {
    fn tables(&self) -> Tables {
        let mut tables = Tables::default();
        for name in &self.tables {
            let (schema, name) = match name.split_once('.') {
                Some((schema, name)) => (Some(schema), name),
                None => (None, name.as_str()),
            };
            tables.add_read(TableName::new(schema, name));
        }
        tables.complete = !self.and_more;
        tables
    }

    fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        cost.filtered = true;
        cost.recursion = self.cost != CostClass::Light;
        cost.grouping = self.cost == CostClass::Heavy;
        assert_eq!(cost.class(), self.cost);
        cost
    }

    fn routable<'a>(&'a self, tables: &'a Tables, cost: &'a Cost) -> Routable<'a> {
        let consistency =
            self.consistency.as_deref().map_or(Consistency::default(), read_consistency);
        let fallback = self.fallback.as_deref().map_or(FallbackPolicy::Primary, read_way_out);
        let mut read = Routable::new(consistency, fallback);
        if !self.transaction {
            read.text = Some(self.text.as_deref().unwrap_or("SELECT 1"));
            read.tables = Some(tables);
            read.cost = Some(cost);
        }
        read.hint = self.hint.as_deref();
        read.group = self.group.as_deref();
        read.tag = self.tag.as_deref();
        read.chose_consistency = self.consistency.is_some();
        read.chose_fallback = self.fallback.is_some();
        read
    }
}

fn number(text: &str) -> Option<Duration> {
    text.split_once(' ').and_then(|(_, number)| number.parse().ok()).map(ms)
}

fn read_consistency(text: &str) -> Consistency {
    match (text, number(text)) {
        ("eventual", _) => Consistency::Eventual,
        ("read-your-writes", _) => Consistency::ReadYourWrites,
        ("strong", _) => Consistency::Strong,
        (_, Some(bound)) => Consistency::BoundedStaleness(bound),
        _ => panic!("{text} is no consistency"),
    }
}

fn shown(consistency: Consistency) -> String {
    match consistency {
        Consistency::BoundedStaleness(bound) => format!("bounded {}", bound.as_millis()),
        other => other.to_string(),
    }
}

fn read_way_out(text: &str) -> FallbackPolicy {
    match (text, number(text)) {
        ("primary", _) => FallbackPolicy::Primary,
        ("fail", _) => FallbackPolicy::Fail,
        ("stale", _) => FallbackPolicy::Stale { at_most: None },
        (stale, at_most @ Some(_)) if stale.starts_with("stale ") => {
            FallbackPolicy::Stale { at_most }
        }
        (_, Some(wait)) => FallbackPolicy::Wait(wait),
        _ => panic!("{text} is no fallback"),
    }
}

fn way_out(fallback: FallbackPolicy) -> String {
    match fallback {
        FallbackPolicy::Primary => "primary".to_owned(),
        FallbackPolicy::Wait(wait) => format!("wait {}", wait.as_millis()),
        FallbackPolicy::Fail => "fail".to_owned(),
        FallbackPolicy::Stale { at_most: None } => "stale".to_owned(),
        FallbackPolicy::Stale { at_most: Some(bound) } => format!("stale {}", bound.as_millis()),
        other => format!("{other:?}"),
    }
}
