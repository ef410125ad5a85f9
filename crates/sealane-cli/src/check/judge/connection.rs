//! Our connections to a server: how many there may be, and what is between us and the server.

use sealane::{Engine, ReadOnly};

use crate::check::{
    code,
    facts::{EndpointFacts, Facts, ServerFacts},
    finding::{Finding, Severity},
};

pub(super) fn judge(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = pool(endpoint, server, facts.processes).into_iter().collect();
    findings.extend(between(endpoint, server, facts));
    findings
}

/// The connections that this configuration may open, against those that the server allows. A pooler
/// that lends connections decides itself how many it opens.
fn pool(endpoint: &EndpointFacts, server: &ServerFacts, processes: u32) -> Option<Finding> {
    if is_lent(server) {
        return None;
    }
    let allowed = server.settings.number("max_connections")?;
    let reserved = ["superuser_reserved_connections", "reserved_connections"]
        .iter()
        .filter_map(|name| server.settings.number(name))
        .sum::<i64>();
    let left = allowed - reserved;
    // One connection more for the monitor.
    let needed = (i64::from(endpoint.pool) + 1) * i64::from(processes);
    (needed > left).then(|| {
        let found = format!(
            "{processes} process(es) with up to {} connections and one of the monitor need \
             {needed}; the server allows {left} (max_connections = {allowed}, {reserved} reserved)",
            endpoint.pool
        );
        let remedy = format!(
            "set pool.max_connections to {} or less, raise max_connections of the server, or put a \
             pooler in between",
            (left / i64::from(processes.max(1)) - 1).max(1)
        );
        Finding::at(code::POOL_TOO_LARGE, &endpoint.name, found, remedy)
    })
}

/// Whether a pooler lends us its connections. What the server says of its connection is then said of
/// the pooler's.
fn is_lent(server: &ServerFacts) -> bool {
    server.keeps_settings == Some(false)
}

/// What is between us and the server: the network, a pooler, a balancer.
fn between(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &*endpoint.name;
    if let (Some(one), Some(other)) = (&server.run, &server.run_again)
        && one != other
    {
        findings.push(Finding::at(
            code::SEVERAL_SERVERS,
            name,
            "two connections to its URL led to two different servers",
            "give each server's own URL: behind a balancer nothing can be proved of the server \
             that answers",
        ));
    }
    if is_lent(server) {
        findings.push(settings_lost(endpoint, facts));
    }
    if server.is_encrypted == Some(false) && !endpoint.is_local() && !is_lent(server) {
        let remedy = match facts.engine {
            Engine::MySql => "add ?ssl-mode=VERIFY_CA (or REQUIRED) to the URL",
            _ => "add ?sslmode=verify-full (or require) to the URL",
        };
        let found = format!("the connection to {} is not encrypted", endpoint.address);
        findings.push(Finding::at(code::PLAINTEXT, name, found, remedy));
    }
    findings
}

/// A pooler that lends connections for a transaction. Where it passes on what makes sessions on
/// replicas read-only, it was told what it must be told, and only the application's own settings
/// are at risk.
fn settings_lost(endpoint: &EndpointFacts, facts: &Facts) -> Finding {
    let guards: Vec<_> =
        facts.endpoints.iter().filter_map(|it| it.seen.as_ref()?.read_only_guard).collect();
    let is_guarded = guards.contains(&ReadOnly::Session) && !guards.contains(&ReadOnly::Server);
    let found = "a session's setting was gone at its next statement: a pooler lends connections for \
                 a transaction only";
    let remedy = "use pool_mode = session for this database, or see the chapter on poolers for what \
                  a transaction pooler must be told (max_prepared_statements, \
                  track_extra_parameters)";
    let guarded = "the pooler is set up as the chapter on poolers says; look whether the \
                   application itself relies on SET, session advisory locks, LISTEN or temporary \
                   tables";
    let finding = |remedy| Finding::at(code::SETTINGS_LOST, &endpoint.name, found, remedy);
    match is_guarded {
        true => Finding { severity: Severity::Note, ..finding(guarded) },
        false => finding(remedy),
    }
}
