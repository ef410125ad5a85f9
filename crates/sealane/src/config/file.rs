//! The TOML form of a configuration.

mod balancer;
mod fault;
mod rule;
mod shadow;

use std::{path::Path, time::Duration};

use sea_orm::ConnectOptions;
use sealane_core::{
    Consistency, EjectionPolicy, FallbackPolicy, HealthPolicy, PrimaryReads, WhenAhead,
    WriteTracking,
};
use serde::Deserialize;

use super::{Config, Replica};
use crate::ConnectError;
use balancer::BalancerName;
use rule::FileRule;
use shadow::ShadowMode;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    primary: Endpoint,
    #[serde(default)]
    replicas: Vec<Endpoint>,
    #[serde(default)]
    routing: Routing,
    #[serde(default)]
    rules: Vec<FileRule>,
    #[serde(default)]
    probes: Probes,
    #[serde(default)]
    health: Health,
    #[serde(default)]
    ejection: Ejection,
    #[serde(default)]
    tokens: Tokens,
    require_replicas: Option<usize>,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    url: String,
    name: Option<String>,
    group: Option<String>,
    subscription: Option<String>,
    zone: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    weight: Option<u32>,
    read_timeout_ms: Option<u64>,
    max_connections: Option<u32>,
    min_connections: Option<u32>,
    acquire_timeout_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    max_lifetime_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Routing {
    consistency: Option<Level>,
    max_staleness_ms: Option<u64>,
    max_lag_ms: Option<u64>,
    fallback: Option<WayOut>,
    primary_wait_ms: Option<u64>,
    stale_limit_ms: Option<u64>,
    primary_reads: Option<PrimaryReads>,
    fallback_limit: Option<usize>,
    read_timeout_ms: Option<u64>,
    hedged_reads: Option<bool>,
    replica_share: Option<f64>,
    shadow: Option<ShadowMode>,
    shadow_share: Option<f64>,
    write_tracking: Option<WriteTracking>,
    shared_waits_for_sessions: Option<bool>,
    max_wait_ms: Option<u64>,
    when_ahead: Option<WayAhead>,
    max_ahead_wait_ms: Option<u64>,
    balancer: Option<BalancerName>,
    zone: Option<String>,
    spill_ratio: Option<u32>,
    heavy_reads: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Eventual,
    BoundedStaleness,
    ReadYourWrites,
    Strong,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokens {
    #[serde(default)]
    keys: Vec<String>,
    max_age_s: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WayOut {
    Primary,
    Wait,
    Fail,
    Stale,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WayAhead {
    Primary,
    Wait,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Probes {
    interval_ms: Option<u64>,
    quick_interval_ms: Option<u64>,
    timeout_ms: Option<u64>,
    budget_per_s: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Health {
    down_after: Option<u32>,
    down_ratio: Option<f64>,
    up_after: Option<u32>,
    back_off_ms: Option<u64>,
    back_off_cap_ms: Option<u64>,
    forgiven_after_ms: Option<u64>,
    lagging_above_ms: Option<u64>,
    lagging_until_ms: Option<u64>,
    replaced_after_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ejection {
    after: Option<u32>,
    back_off_ms: Option<u64>,
    back_off_cap_ms: Option<u64>,
    forgiven_after_ms: Option<u64>,
}

/// Reads `text`, which came from `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConnectError> {
    parse_with(text, path, |name| std::env::var(name).ok())
}

/// The same, with the values of `variable` instead of the environment.
fn parse_with(
    text: &str,
    path: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, ConnectError> {
    let invalid = |message: String| ConnectError::Toml { path: path.to_owned(), message };
    let mut file: File =
        toml::from_str(text).map_err(|error| invalid(fault::words(&error, text)))?;
    for secret in file.secrets_mut() {
        *secret = expand(secret, &variable).map_err(&invalid)?;
    }
    if let Some(zone) = &mut file.routing.zone {
        *zone = expand(zone, &variable).map_err(&invalid)?;
    }
    let consistency = file.routing.consistency().map_err(|text| invalid(text.to_owned()))?;
    let fallback = file.routing.fallback().map_err(|text| invalid(text.to_owned()))?;
    let when_ahead = file.routing.when_ahead().map_err(|text| invalid(text.to_owned()))?;

    let mut config = Config::new(file.primary.replica()).when_ahead(when_ahead);
    (config.name, config.strict) = (file.name, file.strict);
    config.required_replicas = file.require_replicas.unwrap_or_default();
    config = file.replicas.iter().map(Endpoint::replica).fold(config, Config::replica);
    config = file.tokens.apply(config.consistency(consistency).fallback(fallback));
    config = file.routing.apply(config).map_err(|text| invalid(text.to_owned()))?;
    for rule in file.rules {
        config = config.rule(rule.rule().map_err(|text| invalid(text.to_owned()))?);
    }
    let policy = file.health.policy().map_err(|text| invalid(text.to_owned()))?;
    Ok(file.probes.apply(config.health(policy).ejection(file.ejection.policy())))
}

impl File {
    /// The values that may refer to environment variables.
    fn secrets_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let urls = std::iter::once(&mut self.primary).chain(&mut self.replicas);
        urls.map(|endpoint| &mut endpoint.url).chain(&mut self.tokens.keys)
    }
}

/// `text` with each `${NAME}` replaced by its value.
///
/// # Errors
/// A variable is not set, or a brace is not closed. The error never contains the text, nor a name
/// that does not look like the name of a variable: both may be secrets.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, from)) = rest.split_once("${") {
        let Some((name, after)) = from.split_once('}').filter(|(name, _)| is_name(name)) else {
            return Err("a variable is written ${NAME}, with A to Z, 0 to 9 and _".to_owned());
        };
        let value = variable(name).ok_or_else(|| format!("the variable {name} is not set"))?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

impl Endpoint {
    fn replica(&self) -> Replica {
        let Endpoint { name, group, subscription, zone, weight, .. } = self;
        let mut replica = Replica::new(self.options());
        replica = name.iter().fold(replica, Replica::name);
        replica = group.iter().fold(replica, Replica::group);
        replica = subscription.iter().fold(replica, Replica::subscription);
        replica = zone.iter().fold(replica, Replica::zone);
        replica = weight.iter().fold(replica, |replica, weight| replica.weight(*weight));
        if let Some(limit) = self.read_timeout_ms.map(Duration::from_millis) {
            replica = replica.read_timeout(limit);
        }
        self.tags.iter().fold(replica, Replica::tag)
    }

    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(self.url.as_str());
        if let Some(connections) = self.max_connections {
            options.max_connections(connections);
        }
        if let Some(connections) = self.min_connections {
            options.min_connections(connections);
        }
        if let Some(timeout) = self.acquire_timeout_ms.map(Duration::from_millis) {
            options.acquire_timeout(timeout);
        }
        if let Some(timeout) = self.idle_timeout_ms.map(Duration::from_millis) {
            options.idle_timeout(timeout);
        }
        if let Some(lifetime) = self.max_lifetime_ms.map(Duration::from_millis) {
            options.max_lifetime(lifetime);
        }
        options
    }
}

impl Routing {
    fn consistency(&self) -> Result<Consistency, &'static str> {
        match (self.consistency, self.max_staleness_ms) {
            (Some(Level::BoundedStaleness), Some(bound_ms)) => {
                Ok(Consistency::BoundedStaleness(Duration::from_millis(bound_ms)))
            }
            (Some(Level::BoundedStaleness), None) => {
                Err("consistency \"bounded-staleness\" needs max_staleness_ms")
            }
            (_, Some(_)) => Err("max_staleness_ms needs consistency = \"bounded-staleness\""),
            (Some(Level::Eventual), None) => Ok(Consistency::Eventual),
            (Some(Level::Strong), None) => Ok(Consistency::Strong),
            (Some(Level::ReadYourWrites) | None, None) => Ok(Consistency::ReadYourWrites),
        }
    }
}

impl Routing {
    fn fallback(&self) -> Result<FallbackPolicy, &'static str> {
        way_out(self.fallback, self.max_wait_ms, self.stale_limit_ms)
    }
}

fn way_out(
    chosen: Option<WayOut>,
    wait_ms: Option<u64>,
    stale_limit_ms: Option<u64>,
) -> Result<FallbackPolicy, &'static str> {
    if stale_limit_ms.is_some() && chosen != Some(WayOut::Stale) {
        return Err("stale_limit_ms needs fallback = \"stale\"");
    }
    match (chosen, wait_ms) {
        (Some(WayOut::Wait), Some(wait_ms)) => {
            Ok(FallbackPolicy::Wait(Duration::from_millis(wait_ms)))
        }
        (Some(WayOut::Wait), None) => Err("fallback \"wait\" needs max_wait_ms"),
        (_, Some(_)) => Err("max_wait_ms needs fallback = \"wait\""),
        (Some(WayOut::Fail), None) => Ok(FallbackPolicy::Fail),
        (Some(WayOut::Stale), None) => {
            Ok(FallbackPolicy::Stale { at_most: stale_limit_ms.map(Duration::from_millis) })
        }
        (Some(WayOut::Primary) | None, None) => Ok(FallbackPolicy::Primary),
    }
}

impl Routing {
    fn when_ahead(&self) -> Result<WhenAhead, &'static str> {
        match (self.when_ahead, self.max_ahead_wait_ms) {
            (Some(WayAhead::Wait), Some(wait_ms)) => {
                Ok(WhenAhead::Wait(Duration::from_millis(wait_ms)))
            }
            (Some(WayAhead::Wait), None) => Err("when_ahead \"wait\" needs max_ahead_wait_ms"),
            (_, Some(_)) => Err("max_ahead_wait_ms needs when_ahead = \"wait\""),
            (Some(WayAhead::Primary) | None, None) => Ok(WhenAhead::Primary),
        }
    }
}

impl Routing {
    /// The settings that stand for themselves.
    fn apply(&self, mut config: Config) -> Result<Config, &'static str> {
        if let Some(tracking) = self.write_tracking {
            config = config.write_tracking(tracking);
        }
        if let Some(waits) = self.shared_waits_for_sessions {
            config = config.shared_waits_for_sessions(waits);
        }
        if let Some(wait) = self.primary_wait_ms.map(Duration::from_millis) {
            config = config.primary_wait(wait);
        }
        if let Some(reads) = self.primary_reads {
            config = config.primary_reads(reads);
        }
        if let Some(reads) = self.fallback_limit {
            config = config.fallback_limit(reads);
        }
        if let Some(limit) = self.read_timeout_ms.map(Duration::from_millis) {
            config = config.read_timeout(limit);
        }
        if let Some(hedged) = self.hedged_reads {
            config = config.hedged_reads(hedged);
        }
        if let Some(ratio) = self.replica_share {
            if !(0.0..=1.0).contains(&ratio) {
                return Err("routing.replica_share must be between 0 and 1");
            }
            config = config.replica_share(ratio);
        }
        config = config.shadow(shadow::read(self.shadow, self.shadow_share)?);
        if let Some(max_lag) = self.max_lag_ms.map(Duration::from_millis) {
            config = config.max_lag(max_lag);
        }
        if let Some(balancer) = self.balancer {
            config = balancer.apply(config);
        }
        config = self.zone.iter().fold(config, Config::zone);
        config = self.spill_ratio.iter().fold(config, |config, ratio| config.spill_ratio(*ratio));
        Ok(self.heavy_reads.as_deref().into_iter().fold(config, Config::heavy_reads))
    }
}

impl Tokens {
    fn apply(&self, mut config: Config) -> Config {
        for key in &self.keys {
            config = config.token_key(key);
        }
        match self.max_age_s {
            Some(seconds) => config.token_max_age(Duration::from_secs(seconds)),
            None => config,
        }
    }
}

impl Health {
    fn policy(&self) -> Result<HealthPolicy, &'static str> {
        let mut policy = HealthPolicy::default();
        let ratio = self.down_ratio.unwrap_or(policy.down_ratio);
        if !(0.0..=1.0).contains(&ratio) {
            return Err("health.down_ratio must be between 0 and 1");
        }
        policy.down_ratio = ratio;
        policy.down_after = self.down_after.unwrap_or(policy.down_after);
        policy.up_after = self.up_after.unwrap_or(policy.up_after);
        let durations = [
            (&mut policy.back_off, self.back_off_ms),
            (&mut policy.back_off_cap, self.back_off_cap_ms),
            (&mut policy.forgiven_after, self.forgiven_after_ms),
            (&mut policy.lagging_above, self.lagging_above_ms),
            (&mut policy.lagging_until, self.lagging_until_ms),
            (&mut policy.replaced_after, self.replaced_after_ms),
        ];
        set_durations(durations);
        Ok(policy)
    }
}

impl Ejection {
    fn policy(&self) -> EjectionPolicy {
        let mut policy = EjectionPolicy::default();
        policy.after = self.after.unwrap_or(policy.after);
        let durations = [
            (&mut policy.back_off, self.back_off_ms),
            (&mut policy.back_off_cap, self.back_off_cap_ms),
            (&mut policy.forgiven_after, self.forgiven_after_ms),
        ];
        set_durations(durations);
        policy
    }
}

/// Sets the durations that are given.
fn set_durations<const N: usize>(durations: [(&mut Duration, Option<u64>); N]) {
    for (setting, millis) in durations {
        if let Some(millis) = millis {
            *setting = Duration::from_millis(millis);
        }
    }
}

impl Probes {
    fn apply(&self, mut config: Config) -> Config {
        if let Some(interval) = self.interval_ms.map(Duration::from_millis) {
            config = config.probe_interval(interval);
        }
        if let Some(interval) = self.quick_interval_ms.map(Duration::from_millis) {
            config = config.quick_probe_interval(interval);
        }
        if let Some(timeout) = self.timeout_ms.map(Duration::from_millis) {
            config = config.probe_timeout(timeout);
        }
        if let Some(per_s) = self.budget_per_s {
            config = config.probe_budget(per_s);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::{CostClass, Rule};

    use super::*;

    fn parse(text: &str) -> Result<Config, ConnectError> {
        super::parse(text, Path::new("sealane.toml"))
    }

    #[test]
    fn every_key_is_understood() {
        let config = parse(
            r#"
            require_replicas = 2
            strict = true

            [primary]
            url = "postgres://app@db-1/shop"
            max_connections = 10

            [[replicas]]
            name = "near"
            url = "postgres://app@db-2/shop"
            max_connections = 50
            min_connections = 1
            acquire_timeout_ms = 500
            idle_timeout_ms = 60000
            max_lifetime_ms = 600000

            [[replicas]]
            url = "postgres://app@db-3/shop"
            group = "analytics"
            subscription = "shop_to_analytics"
            zone = "eu-1"
            tags = ["ssd", "big"]
            weight = 2
            read_timeout_ms = 300

            [routing]
            consistency = "bounded-staleness"
            max_staleness_ms = 250
            max_lag_ms = 5000
            fallback = "wait"
            max_wait_ms = 40
            when_ahead = "wait"
            max_ahead_wait_ms = 250
            write_tracking = "whole"
            shared_waits_for_sessions = false
            primary_reads = "always"
            fallback_limit = 7
            read_timeout_ms = 1500
            hedged_reads = true
            replica_share = 0.5
            shadow = "compare"
            shadow_share = 0.125
            balancer = "round-robin"
            zone = "eu-1"
            spill_ratio = 5
            heavy_reads = "analytics"

            [[rules]]
            name = "balances"
            priority = 10
            tables = ["balance", "shop.account"]
            text = "SELECT*"
            to_primary = true

            [[rules]]
            name = "batch"
            cost = "moderate"
            tag = "batch"
            group = "analytics"
            to_replicas = ["near"]
            max_lag_ms = 5000
            fallback = "wait"
            max_wait_ms = 40
            sticky = true
            hedged = false

            [tokens]
            keys = ["0123456789abcdef0123456789abcdef"]
            max_age_s = 600

            [probes]
            interval_ms = 500
            quick_interval_ms = 2
            timeout_ms = 300
            budget_per_s = 50

            [health]
            down_after = 2
            down_ratio = 0.25
            up_after = 3
            back_off_ms = 500
            back_off_cap_ms = 5000
            forgiven_after_ms = 30000
            lagging_above_ms = 10000
            lagging_until_ms = 4000
            replaced_after_ms = 300000

            [ejection]
            after = 5
            back_off_ms = 200
            back_off_cap_ms = 4000
            forgiven_after_ms = 20000
            "#,
        )
        .unwrap();
        let names: Vec<_> = config.endpoints().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["primary", "near", "replica-2"]);
        assert!(config.strict && config.required_replicas == 2);
        assert_eq!(config.replicas[1].group.as_deref(), Some("analytics"));
        assert_eq!(config.replicas[1].subscription.as_deref(), Some("shop_to_analytics"));
        let Replica { zone, tags, weight, read_timeout, .. } = &config.replicas[1];
        assert_eq!((zone.as_deref(), tags.len(), *weight), (Some("eu-1"), 2, 2));
        assert_eq!(*read_timeout, Some(Duration::from_millis(300)));
        assert_eq!(config.replicas[0].options.get_max_connections(), Some(50));
        assert_eq!(
            config.reading.consistency,
            Consistency::BoundedStaleness(Duration::from_millis(250))
        );
        assert_eq!(config.reading.tracking, WriteTracking::Whole);
        assert!(!config.reading.shared_waits);
        assert_eq!(config.reading.fallback, FallbackPolicy::Wait(Duration::from_millis(40)));
        assert_eq!(config.reading.when_ahead, WhenAhead::Wait(Duration::from_millis(250)));
        assert_eq!(config.balancer.name(), "round-robin");
        assert_eq!((config.zone.as_deref(), config.spill_ratio), (Some("eu-1"), 5));
        let balances = Rule::new("balances").priority(10).table("balance").table("shop.account");
        let batch = Rule::new("batch").cost(CostClass::Moderate).tag("batch").group("analytics");
        let batch =
            batch.to_replicas(["near"]).max_lag(Duration::from_secs(5)).sticky().hedged(false);
        assert_eq!(
            config.rules[1..],
            [
                balances.text("SELECT*").to_primary(),
                batch.fallback(FallbackPolicy::Wait(Duration::from_millis(40))),
            ]
        );
        assert_eq!(config.rules[0].name(), "heavy-reads");
        assert_eq!(config.reading.max_lag, Some(Duration::from_secs(5)));
        assert_eq!(config.schedule.quick, Duration::from_millis(2));
        assert_eq!(config.schedule.budget_per_s, 50);
        assert_eq!((config.health.down_after, config.health.up_after), (2, 3));
        assert_eq!(config.health.lagging_until, Duration::from_secs(4));
        assert_eq!(config.health.replaced_after, Duration::from_secs(300));
        assert_eq!((config.fallback_limit, config.reading.hedged), (Some(7), true));
        assert_eq!(config.reading.primary_reads, PrimaryReads::Always);
        assert!((config.replica_share - 0.5).abs() < 1e-9);
        assert_eq!(config.shadow, crate::Shadow::Compare { share: 0.125 });
        assert_eq!(config.reading.read_timeout, Some(Duration::from_millis(1_500)));
        assert_eq!((config.ejection.after, config.ejection.back_off.as_millis()), (5, 200));
        assert_eq!(config.ejection.back_off_cap, Duration::from_secs(4));
        assert_eq!(config.ejection.forgiven_after, Duration::from_secs(20));
    }

    #[test]
    fn every_balancer_is_chosen_by_its_own_name() {
        for name in [
            "two-choices",
            "round-robin",
            "weighted-round-robin",
            "least-in-flight",
            "least-lag",
            "fastest-response",
            "random",
            "sticky",
        ] {
            let config = parse(&format!("primary.url = 'a'\nrouting.balancer = '{name}'")).unwrap();
            assert_eq!(config.balancer.name(), name);
        }
    }

    #[test]
    fn variables_are_expanded_where_the_file_asks_for_them() {
        let text = "primary.url = 'postgres://app:${PASSWORD}@${HOST_1}/shop'\n\
                    tokens.keys = ['${KEY}-0123456789abcdef0123456789abcdef']";
        let variable = |name: &str| match name {
            "PASSWORD" => Some("tide".to_owned()),
            "HOST_1" => Some("db-1".to_owned()),
            "KEY" => Some(String::new()),
            _ => None,
        };
        let config = parse_with(text, Path::new("sealane.toml"), variable).unwrap();
        assert_eq!(config.primary.options.get_url(), "postgres://app:tide@db-1/shop");
    }

    #[test]
    fn a_variable_that_cannot_be_expanded_is_told_without_what_stands_around_it() {
        for (url, says) in [
            ("postgres://app:tide@${HOST}/shop", "the variable HOST is not set"),
            ("postgres://app:tide@${host}/shop", "written ${NAME}"),
            ("postgres://app:${tide/shop", "written ${NAME}"),
        ] {
            let text = format!("primary.url = '{url}'");
            let error = parse_with(&text, Path::new("sealane.toml"), |_| None).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(says) && !error.contains("tide"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_without_the_password() {
        let text =
            "[primary]\nurl = \"postgres://app:tide@db-1/shop\"\n\n[routing]\nlevel = \"strong\"\n";
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("`consistency`"), "{error}");
        assert!(!error.contains("tide"), "{error}");
    }

    #[test]
    fn a_url_in_the_wrong_place_is_not_quoted() {
        for text in [
            "primary = \"postgres://app:tide@db-1/shop\"",
            "replicas = [\"postgres://app:tide@db-2/shop\"]\nprimary.url = \"a\"",
            "[primary]\nurl = postgres://app:tide@db-1/shop",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("line 1") || error.contains("line 2"), "{error}");
            assert!(!error.contains("tide"), "{error}");
        }
    }

    #[test]
    fn a_ratio_out_of_its_range_is_refused() {
        for key in ["health.down_ratio", "routing.replica_share"] {
            let error = parse(&format!("primary.url = \"a\"\n{key} = 1.5")).unwrap_err();
            assert!(
                error.to_string().contains(&format!("{key} must be between 0 and 1")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_wait_without_its_length_is_refused() {
        let error = parse("primary.url = \"a\"\nrouting.fallback = \"wait\"").unwrap_err();
        assert!(error.to_string().contains("max_wait_ms"), "{error}");
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_quoted() {
        let error = parse("primary.url = \"a\"\ntokens.keys = \"ebb\"").unwrap_err();
        assert!(!error.to_string().contains("ebb"), "{error}");
    }

    #[test]
    fn a_rule_with_two_targets_is_refused() {
        let text = "primary.url = 'a'\n[[rules]]\nname = 'a'\nto_primary = true\nto_group = 'b'";
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("one of to_primary, to_group and to_replicas"), "{error}");
    }

    #[test]
    fn the_database_may_have_a_name() {
        let config = parse("name = 'shop-eu'\nprimary.url = 'a'").unwrap();
        assert_eq!(config.name.as_deref(), Some("shop-eu"));
    }

    #[test]
    fn a_zone_may_come_from_a_variable() {
        let text = "primary.url = 'a'\nrouting.zone = '${ZONE}'";
        let variable = |name: &str| (name == "ZONE").then(|| "eu-1".to_owned());
        let config = parse_with(text, Path::new("sealane.toml"), variable).unwrap();
        assert_eq!(config.zone.as_deref(), Some("eu-1"));
    }

    #[test]
    fn a_bound_without_its_level_is_refused() {
        let error = parse("primary.url = \"a\"\nrouting.max_staleness_ms = 5").unwrap_err();
        assert!(error.to_string().contains("bounded-staleness"), "{error}");
    }
}
