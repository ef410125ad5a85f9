//! What does not depend on the engine: reaching servers, who is who, clocks, lags.

use std::{collections::BTreeMap, time::Duration};

use sealane::{Condition, Engine, HealthPolicy, ReadOnly};

use super::connection;
use crate::{
    ask::{Trouble, TroubleKind},
    check::{
        code,
        facts::{Clock, EndpointFacts, Facts, Seen, ServerFacts},
        finding::{Finding, Severity},
    },
};

/// Clocks that differ by less are right enough for people who compare times.
const CLOCK_TOLERANCE_MS: i64 = 1_000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.endpoints.iter().filter_map(reach).collect();
    findings.extend(primaries(facts));
    findings.extend(twins(facts));
    findings.extend(versions(facts));
    findings.extend(clocks(facts));
    for (endpoint, server) in facts.answered() {
        findings.extend(connection::judge(endpoint, server, facts));
        findings.extend(database(endpoint, server, facts));
        findings.extend(delay(endpoint, server));
        findings.extend(seen(endpoint, server));
    }
    findings
}

/// Why the library refuses the configuration, if nothing else that was found explains it.
pub(super) fn judge_start(facts: &Facts, worst: Option<Severity>) -> Option<Finding> {
    let error = facts.start_error.as_ref().filter(|_| worst != Some(Severity::Error))?;
    let remedy =
        "remedy what the error names; an application with this configuration does not start";
    Some(Finding::overall(code::DOES_NOT_START, error.as_str(), remedy))
}

fn reach(endpoint: &EndpointFacts) -> Option<Finding> {
    let Trouble { kind, text } = endpoint.server.as_ref().err()?;
    let (code, remedy) = match kind {
        TroubleKind::Unreachable => (
            code::UNREACHABLE,
            "start the server, or correct host and port of the URL; look at firewalls and at the \
             server's listen_addresses or bind_address",
        ),
        TroubleKind::Refused => (
            code::REFUSED,
            "correct user and password of the URL (special characters percent-encoded), or grant \
             the user access: pg_hba.conf, or CREATE USER … @host; a user that must encrypt \
             (hostssl, REQUIRE SSL) needs sslmode (MySQL: ssl-mode) in the URL",
        ),
        TroubleKind::Tls => (
            code::TLS_REFUSED,
            "turn on TLS on the server (ssl = on, or ssl_cert and ssl_key), or set sslmode (MySQL: \
             ssl-mode) of the URL to what the server offers; a certificate that is not trusted needs \
             the file of its authority in sslrootcert (MySQL: ssl-ca)",
        ),
        TroubleKind::NoDatabase => (
            code::NO_DATABASE,
            "correct the end of the URL, or GRANT CONNECT (MySQL: any privilege) on the database \
             to the user",
        ),
        TroubleKind::Full => (
            code::CONNECTIONS_USED_UP,
            "raise max_connections on the server, or lower max_connections of the pools",
        ),
        TroubleKind::Unavailable => {
            (code::UNAVAILABLE, "wait until the server has started, or look at its log")
        }
    };
    Some(Finding::at(code, &endpoint.name, text.as_str(), remedy))
}

fn primaries(facts: &Facts) -> Vec<Finding> {
    let all: Vec<_> = facts.primaries().collect();
    let first = facts.endpoints.first();
    let mut findings = Vec::new();
    match all.as_slice() {
        // While one is not reached, it may be the primary.
        [] if facts.endpoints.iter().all(|it| it.server.is_ok()) => {
            findings.push(Finding::overall(
                code::NO_PRIMARY,
                "every server is a replica, so nothing can be written",
                "give the primary's URL as the first one, or promote a replica",
            ))
        }
        [(primary, _)] if first.is_some_and(|first| first.name != primary.name) => {
            let replica = first.filter(|it| matches!(&it.server, Ok(server) if server.is_replica));
            if let Some(replica) = replica {
                let found =
                    format!("the first URL leads to a replica; the primary is {}", primary.name);
                let remedy = format!(
                    "give the URL of {} first (DATABASE_URL, [primary]): while it is away at a \
                     start, nobody knows who the primary is",
                    primary.name
                );
                findings.push(Finding::at(code::FIRST_IS_REPLICA, &replica.name, found, remedy));
            }
        }
        [(one, first), others @ ..] => {
            let is_twin = |server: &ServerFacts| server.run.is_some() && server.run == first.run;
            let names: Vec<_> = others
                .iter()
                .filter(|(_, server)| !is_twin(server))
                .map(|(it, _)| &*it.name)
                .collect();
            if !names.is_empty() {
                let found = format!("{} and {} all accept writes", one.name, names.join(", "));
                findings.push(Finding::overall(
                    code::TWO_PRIMARIES,
                    found,
                    "make all but one of them replicas again (PostgreSQL: pg_rewind or \
                     pg_basebackup with standby.signal; MySQL: read_only = ON and CHANGE \
                     REPLICATION SOURCE TO …), or declare a logical subscriber with `subscription`",
                ));
            }
        }
        _ => {}
    }
    if facts.endpoints.len() == 1 {
        findings.push(Finding::overall(
            code::NO_REPLICAS,
            "there is only one server, so every read runs on it",
            "give the replicas' URLs in DATABASE_REPLICA_URLS or as [[replicas]]",
        ));
    }
    findings
}

/// Several names of one server.
fn twins(facts: &Facts) -> Vec<Finding> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for (endpoint, server) in facts.answered() {
        // A logical subscriber may be another database of the same server.
        let Some(run) = server.run.as_deref().filter(|_| !facts.is_subscriber(endpoint, server))
        else {
            continue;
        };
        match known.get(run) {
            None => drop(known.insert(run, &endpoint.name)),
            Some(other) => findings.push(Finding::at(
                code::SAME_SERVER,
                &endpoint.name,
                format!("its URL leads to the same server as that of {other}"),
                "give each server's URL once; it is not a second server, and is not used",
            )),
        }
    }
    findings
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some((first, reference)) = facts.reference().or_else(|| facts.answered().next()) else {
        return findings;
    };
    for (endpoint, server) in facts.answered() {
        let name = &*endpoint.name;
        if server.is_mariadb != reference.is_mariadb {
            findings.push(Finding::at(
                code::MIXED_ENGINES,
                name,
                format!(
                    "it runs {}, and {} runs {}",
                    server.version, first.name, reference.version
                ),
                "use either MySQL or MariaDB: their positions cannot be compared",
            ));
            continue;
        }
        // Physical replication needs the same main version; a subscriber may have another one.
        let differs = match facts.engine {
            Engine::MySql => server.release != reference.release,
            _ => server.release.0 != reference.release.0,
        };
        if differs && !facts.is_subscriber(endpoint, server) {
            findings.push(Finding::at(
                code::VERSIONS_DIFFER,
                name,
                format!(
                    "it runs {}, and {} runs {}",
                    server.version, first.name, reference.version
                ),
                "run the same version everywhere, except while you upgrade (replicas first)",
            ));
        }
        let oldest = match (facts.engine, server.is_mariadb) {
            (Engine::MySql, true) => (10, 6),
            (Engine::MySql, false) => (8, 0),
            _ => (13, 0),
        };
        if server.release < oldest && server.release != (0, 0) {
            findings.push(Finding::at(
                code::VERSION_UNSUPPORTED,
                name,
                format!(
                    "it runs {}, which is older than what sealane is tested with",
                    server.version
                ),
                format!("upgrade to {}.{} or later", oldest.0, oldest.1),
            ));
        }
    }
    findings
}

fn clocks(facts: &Facts) -> Vec<Finding> {
    let clock = |server: &ServerFacts| server.clock;
    let Some((first, reference)) =
        facts.answered().find_map(|(it, server)| Some((it, clock(server)?)))
    else {
        return Vec::new();
    };
    let differs = |endpoint: &EndpointFacts, Clock { ahead_ms, error_ms }: Clock| {
        let difference = ahead_ms - reference.ahead_ms;
        let sure = difference.abs() - error_ms - reference.error_ms;
        (sure > CLOCK_TOLERANCE_MS).then(|| {
            let (by, way) = (difference.abs(), if difference > 0 { "ahead of" } else { "behind" });
            Finding::at(
                code::CLOCKS_DIFFER,
                &endpoint.name,
                format!("its clock is {by} ms {way} that of {}", first.name),
                "keep the clocks together with NTP (chronyd, systemd-timesyncd); sealane does not \
                 depend on them, but reported lags, now() and logs do",
            )
        })
    };
    facts.answered().filter_map(|(it, server)| differs(it, clock(server)?)).collect()
}

fn database(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Option<Finding> {
    let (first, reference) = facts.reference()?;
    if facts.is_subscriber(endpoint, server) || endpoint.name == first.name {
        return None;
    }
    if let (Some(ours), Some(its)) = (&reference.system, &server.system)
        && ours != its
    {
        return Some(Finding::at(
            code::OTHER_SYSTEM,
            &endpoint.name,
            format!("it holds another system's data ({its}; {} holds {ours})", first.name),
            "correct its URL, or make it anew from the primary (pg_basebackup)",
        ));
    }
    let (ours, its) = (reference.database.as_ref()?, server.database.as_ref()?);
    (ours != its).then(|| {
        Finding::at(
            code::OTHER_DATABASE,
            &endpoint.name,
            format!("its URL leads to the database {its}, that of {} to {ours}", first.name),
            format!("end its URL with /{ours}"),
        )
    })
}

/// A replica that stays behind on purpose.
fn delay(endpoint: &EndpointFacts, server: &ServerFacts) -> Option<Finding> {
    // How late a primary applies what another cluster writes concerns nobody here.
    let delay = server.receiving.delay.filter(|it| server.is_replica && *it > Duration::ZERO)?;
    Some(Finding::at(
        code::DELAYED,
        &endpoint.name,
        format!("it applies everything {delay:?} late on purpose"),
        "set recovery_min_apply_delay = 0 (MySQL: SOURCE_DELAY = 0, MariaDB: MASTER_DELAY = 0), or \
         take it out of the configuration: sessions that write would wait that long for it",
    ))
}

/// How far a replica is behind, if it is far behind.
///
/// The library measures the lag from what it has seen of the primary, and a check is too short for
/// the lag to grow above the library's limit. A replica that was far behind before shows itself by
/// not getting to where the primary was at the start of the check.
fn lag(seen: &Seen) -> Option<String> {
    let limit = HealthPolicy::default().lagging_above;
    let reported = seen.reported_lag.filter(|lag| *lag > limit);
    let says = |lag| format!("it says that it is {lag:.1?} behind the primary");
    match (seen.condition, seen.lag, seen.unproved_for) {
        (Condition::Lagging, Some(lag), _) => Some(format!("it is {lag:.1?} behind the primary")),
        (Condition::Lagging, None, None) => Some("it is far behind the primary".to_owned()),
        (_, None, Some(unproved)) => {
            let behind = seen.behind.map(|it| format!("; it lacks {it}")).unwrap_or_default();
            let says = seen.reported_lag.map(|it| format!("; {}", says(it))).unwrap_or_default();
            Some(format!(
                "it did not get within {unproved:.1?} to where the primary was before{behind}{says}"
            ))
        }
        // Nothing is proved here of any replica.
        (_, None, None) => reported.map(says),
        // What is proved counts more than what the servers' clocks say.
        (_, Some(_), _) => None,
    }
}

/// What the library found by probing, where the server's own words do not tell it.
fn seen(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let Some(seen) = &endpoint.seen else { return Vec::new() };
    let at = |code, found: &str, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let mut findings = Vec::new();
    findings.extend(match seen.condition {
        Condition::Foreign if server.system.is_none() => Some(at(
            code::OTHER_SYSTEM,
            "its data are not those of the primary",
            "correct its URL, or make it anew from the primary",
        )),
        Condition::OldTimeline => Some(at(
            code::OLD_TIMELINE,
            "it has what the primary lacks: it replays a history that a promotion has ended, or \
             somebody wrote on it",
            "point it to the new primary and make it anew (pg_rewind; MySQL: clone)",
        )),
        Condition::Copying => {
            Some(at(code::COPYING, "not all of its tables are copied yet", "wait"))
        }
        Condition::Lagging | Condition::Serving => lag(seen).map(|found| {
            at(
                code::LAGGING,
                &found,
                "look for long transactions, heavy writes or a slow disk; on MySQL raise \
                 replica_parallel_workers",
            )
        }),
        _ => None,
    });
    if seen.read_only_guard == Some(ReadOnly::Server) {
        findings.push(at(
            code::GUARD_DROPPED,
            "its sessions can not be made read-only by a startup option: a pooler drops it",
            "let the pooler pass it on (PgBouncer 1.20 or later: track_extra_parameters = \
             default_transaction_read_only), or connect to the server itself",
        ));
    }
    if let Some(group) = &seen.group {
        findings.push(at(
            code::GROUP,
            &format!("it is a member of a group of primaries ({group})"),
            "have one primary: set read_only on all other members, which serve eventual reads only. \
             The state of a member of Group Replication shows with GRANT SELECT ON \
             performance_schema.replication_group_members",
        ));
    }
    findings
}
