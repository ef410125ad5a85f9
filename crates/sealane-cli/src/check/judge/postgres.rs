//! What is wrong or risky on PostgreSQL.
//!
//! Sources: chapters 19.6 (replication settings) and 26 (high availability) of the manual,
//! <https://www.postgresql.org/docs/current/runtime-config-replication.html>.

use crate::{
    check::{
        code,
        facts::{EndpointFacts, Facts, ServerFacts, Slot},
        finding::Finding,
    },
    output::bytes,
};

/// Longer than most reads, and shorter than what `max_lag` allows.
const LONG_DELAY_MS: i64 = 5 * 60 * 1_000;
/// A read that takes longer than this is nothing unusual.
const SHORT_DELAY_MS: i64 = 1_000;
/// The time in which somebody restarts or upgrades a replica.
const SHORT_SLOT_TIMEOUT_S: i64 = 10 * 60;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_replicas = facts.replicas().next().is_some();
    for (endpoint, server) in facts.answered() {
        findings.extend(role(endpoint, server, facts));
        findings.extend(subscriber(endpoint, server, facts));
        if server.is_aurora {
            continue;
        }
        match server.is_replica {
            true => findings.extend(replica(endpoint, server, facts)),
            // How a subscriber is set up for replicas of its own concerns nobody here.
            false if facts.is_subscriber(endpoint, server) => {}
            false => findings.extend(primary(endpoint, server, facts, has_replicas)),
        }
    }
    findings
}

/// Our role on the server.
fn role(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let user = server.user.as_deref().unwrap_or("the user");
    if server.is_superuser == Some(true) {
        findings.push(Finding::at(
            code::SUPERUSER,
            &endpoint.name,
            format!("{user} is a superuser"),
            format!(
                "ALTER ROLE \"{user}\" NOSUPERUSER; GRANT pg_monitor TO \"{user}\"; with the \
                 privileges that the application needs"
            ),
        ));
    }
    // A single server has no replication to see, and Aurora's shows nothing.
    let is_of_interest = facts.endpoints.len() > 1 && !server.is_aurora;
    if is_of_interest && server.receiving.is_visible == Some(false) {
        findings.push(Finding::at(
            code::STATISTICS_HIDDEN,
            &endpoint.name,
            format!("{user} may not see whether replicas receive, nor who is connected"),
            format!("GRANT pg_monitor TO \"{user}\"; (pg_read_all_stats is enough)"),
        ));
    }
    findings
}

fn primary(
    endpoint: &EndpointFacts,
    server: &ServerFacts,
    facts: &Facts,
    has_replicas: bool,
) -> Vec<Finding> {
    let at = |code, found: String, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let settings = &server.settings;
    let mut findings = Vec::new();
    if settings.is_on("default_transaction_read_only") == Some(true) {
        findings.push(at(
            code::PRIMARY_READ_ONLY,
            "default_transaction_read_only is on for our sessions, so writes are refused".into(),
            "ALTER ROLE … (or ALTER DATABASE …, ALTER SYSTEM) RESET default_transaction_read_only",
        ));
    }
    if settings.is_off("fsync") {
        findings.push(at(
            code::FSYNC_OFF,
            "fsync is off: a crash of the machine destroys the database".into(),
            "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
        ));
    }
    let is_logical = facts.endpoints.iter().any(|it| it.subscription.is_some());
    let wanted = if is_logical { "logical" } else { "replica" };
    match settings.text("wal_level") {
        Some("logical") | None => {}
        Some(level) if is_logical || level == "minimal" => findings.push(at(
            code::WAL_LEVEL,
            format!("wal_level is {level}, and replicas need {wanted}"),
            &format!("ALTER SYSTEM SET wal_level = {wanted}, and restart"),
        )),
        Some(_) => {}
    }
    findings.extend(synchronous(endpoint, server));
    if has_replicas || !server.sending.slots.is_empty() {
        findings.extend(slots(endpoint, server));
    }
    findings
}

/// `synchronous_standby_names` that asks for more than is connected: every commit waits for ever.
fn synchronous(endpoint: &EndpointFacts, server: &ServerFacts) -> Option<Finding> {
    let names = server.settings.text("synchronous_standby_names").filter(|it| !it.is_empty())?;
    let connected = server.sending.replicas.as_ref()?;
    let (named, wanted) = (standby_names(names), standbys_wanted(names));
    let is_named =
        |it: &&String| named.iter().any(|name| name == "*" || *name == it.to_lowercase());
    let there = connected.iter().filter(is_named).count();
    (there < wanted).then(|| {
        let connected = match connected.as_slice() {
            [] => "nobody is connected".to_owned(),
            some => format!("connected are {}", some.join(", ")),
        };
        Finding::at(
            code::SYNC_NOBODY,
            &endpoint.name,
            format!(
                "synchronous_standby_names = '{names}', and {connected}: commits wait for ever"
            ),
            "set synchronous_standby_names to the cluster_name (or application_name) of replicas \
             that are connected, or to ''; SELECT pg_reload_conf()",
        )
    })
}

/// How many standbys a commit waits for: the number in `ANY 2 (…)`, `FIRST 2 (…)` or `2 (…)`.
fn standbys_wanted(text: &str) -> usize {
    let before = text.split_once('(').map_or("", |(before, _)| before);
    before.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(1)
}

/// The names in `ANY 1 (one, "two")`, `FIRST 2 (…)` or `one, two`, in lower case.
fn standby_names(text: &str) -> Vec<String> {
    let inner = match (text.find('('), text.rfind(')')) {
        (Some(begin), Some(end)) if begin < end => &text[begin + 1..end],
        _ => text,
    };
    let names = inner.split(',').map(|name| name.trim().trim_matches('"').to_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

/// How a slot that is lost is replaced, and what keeps the next one from being lost.
///
/// The reasons: <https://www.postgresql.org/docs/current/view-pg-replication-slots.html>.
fn lost_slot_remedy(slot: &Slot) -> String {
    let name = &slot.name;
    let anew = match slot.is_logical {
        true => {
            "empty the subscriber's tables, and create the subscription anew, which copies the \
                 data (another consumer: create its slot anew, and copy the data)"
        }
        false => "make the replica anew (pg_basebackup)",
    };
    let setting = match slot.invalidation.as_deref() {
        Some("idle_timeout") => "raise idle_replication_slot_timeout",
        Some("rows_removed") => "set hot_standby_feedback = on on this standby",
        Some("wal_level_insufficient") => "set wal_level = logical on the primary",
        _ => "raise max_slot_wal_keep_size",
    };
    format!("SELECT pg_drop_replication_slot('{name}'); {anew}; {setting}")
}

fn slots(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let at = |code, found: String, remedy: String| Finding::at(code, &endpoint.name, found, remedy);
    for slot in &server.sending.slots {
        let name = &slot.name;
        let user = if slot.is_logical { "subscriber" } else { "replica" };
        if slot.is_lost() {
            let found = format!("the slot {name} cannot serve its {user} any more");
            let reason = slot.invalidation.as_ref().map(|it| format!(" ({it})"));
            findings.push(at(
                code::SLOT_LOST,
                found + &reason.unwrap_or_default(),
                lost_slot_remedy(slot),
            ));
        } else if !slot.is_active && slot.holds_log != Some(false) {
            let retained = slot.retained_bytes.map(|it| format!(" and holds back {}", bytes(it)));
            findings.push(at(
                code::SLOT_INACTIVE,
                format!("nobody uses the slot {name}{}", retained.unwrap_or_default()),
                format!(
                    "bring its {user} back, or SELECT pg_drop_replication_slot('{name}'); the log \
                     that it holds back fills the disk"
                ),
            ));
        }
    }
    let settings = &server.settings;
    let timeout_s = settings.number("idle_replication_slot_timeout");
    let is_unbounded = settings.number("max_slot_wal_keep_size") == Some(-1)
        && timeout_s.is_none_or(|timeout| timeout == 0);
    if is_unbounded && !server.sending.slots.is_empty() {
        findings.push(at(
            code::SLOTS_UNBOUNDED,
            "max_slot_wal_keep_size is -1: the slot of a replica that is away holds back log until \
             the primary's disk is full"
                .into(),
            "ALTER SYSTEM SET max_slot_wal_keep_size = '…' (less than the free space of the disk); \
             SELECT pg_reload_conf()"
                .into(),
        ));
    }
    if let Some(timeout) = timeout_s.filter(|it| (1..SHORT_SLOT_TIMEOUT_S).contains(it)) {
        findings.push(at(
            code::SLOT_TIMEOUT_SHORT,
            format!(
                "idle_replication_slot_timeout is {timeout} s: a replica that is away for longer \
                 must be made anew"
            ),
            "set idle_replication_slot_timeout to more than a maintenance takes, such as '1h'"
                .into(),
        ));
    }
    findings
}

fn replica(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &*endpoint.name;
    if server.receiving.receives == Some(false) {
        findings.push(Finding::at(
            code::NOT_RECEIVING,
            name,
            "no process receives from a primary; it answers queries, and shows the same for ever",
            "look at primary_conninfo, at its log, and whether the primary still has the log that \
             it needs (if not: pg_basebackup)",
        ));
    }
    if server.receiving.applies == Some(false) {
        findings.push(Finding::at(
            code::NOT_APPLYING,
            name,
            "its replay is paused by hand",
            "SELECT pg_wal_replay_resume()",
        ));
    }
    findings.extend(slot_of(endpoint, server, facts));
    findings.extend(conflicts(endpoint, server));
    findings
}

/// Whether the primary keeps the log for a replica that is away for a moment.
fn slot_of(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Option<Finding> {
    let is_without = server.receiving.receives == Some(true) && server.receiving.slot.is_none();
    let keeps = facts.reference().and_then(|(_, primary)| primary.settings.number("wal_keep_size"));
    (is_without && server.receiving.is_visible == Some(true)).then(|| {
        let keeps = match keeps {
            Some(0) => "wal_keep_size is 0, so a short interruption may end its replication for ever".to_owned(),
            Some(size) => format!("only wal_keep_size ({size} MB) of log is kept for it"),
            None => "how much log the primary keeps for it is unknown".to_owned(),
        };
        let slot = endpoint.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_lowercase();
        Finding::at(
            code::WITHOUT_SLOT,
            &endpoint.name,
            format!("it receives without a replication slot; {keeps}"),
            format!(
                "on the primary: SELECT pg_create_physical_replication_slot('{slot}'); on it: ALTER \
                 SYSTEM SET primary_slot_name = '{slot}'; SELECT pg_reload_conf()"
            ),
        )
    })
}

/// What happens when replay and a read want the same rows.
fn conflicts(endpoint: &EndpointFacts, server: &ServerFacts) -> Vec<Finding> {
    let settings = &server.settings;
    let at = |code, found: String, remedy: &str| Finding::at(code, &endpoint.name, found, remedy);
    let mut findings = Vec::new();
    let has_feedback = settings.is_on("hot_standby_feedback");
    if has_feedback == Some(false) {
        findings.push(at(
            code::FEEDBACK_OFF,
            "hot_standby_feedback is off: VACUUM on the primary cancels reads here, which then run \
             again elsewhere"
                .into(),
            "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf() (the price: long \
             reads here delay VACUUM on the primary)",
        ));
    }
    match settings.number("max_standby_streaming_delay") {
        Some(-1) => findings.push(at(
            code::DELAY_UNBOUNDED,
            "max_standby_streaming_delay is -1: one long read stops the replay for as long as it \
             runs"
                .into(),
            "ALTER SYSTEM SET max_standby_streaming_delay = '30s'; SELECT pg_reload_conf()",
        )),
        Some(delay) if delay > LONG_DELAY_MS => findings.push(at(
            code::DELAY_LONG,
            format!(
                "max_standby_streaming_delay is {} s: a read can stop the replay that long",
                delay / 1_000
            ),
            "set max_standby_streaming_delay to what reads may miss at most, such as '30s'",
        )),
        Some(delay) if delay < SHORT_DELAY_MS && has_feedback != Some(true) => {
            findings.push(at(
                code::DELAY_SHORT,
                format!("max_standby_streaming_delay is {delay} ms: replay cancels most reads that it meets"),
                "set max_standby_streaming_delay = '30s', or turn on hot_standby_feedback",
            ));
        }
        _ => {}
    }
    findings
}

fn subscriber(endpoint: &EndpointFacts, server: &ServerFacts, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What the server does not tell is unknown, not missing.
    let Some(subscriptions) = &server.receiving.subscriptions else { return findings };
    let name = &*endpoint.name;
    match &endpoint.subscription {
        Some(declared) => match subscriptions.get(declared) {
            None => {
                let there: Vec<_> = subscriptions.keys().map(String::as_str).collect();
                findings.push(Finding::at(
                    code::NO_SUBSCRIPTION,
                    name,
                    format!("there is no subscription {declared} in its database (there: {})",
                        if there.is_empty() { "none".to_owned() } else { there.join(", ") }),
                    format!("CREATE SUBSCRIPTION {declared} …, or correct `subscription` and the end of its URL"),
                ));
            }
            Some(is_enabled) => {
                let runs = server.receiving.running_subscriptions.contains(declared);
                if !is_enabled || !runs {
                    findings.push(Finding::at(
                        code::SUBSCRIPTION_STOPPED,
                        name,
                        format!("the subscription {declared} does not run"),
                        format!(
                            "ALTER SUBSCRIPTION {declared} ENABLE; its log says why it stopped"
                        ),
                    ));
                }
            }
        },
        None => {
            if let Some((one, _)) = subscriptions.first_key_value()
                && facts.is_subscriber(endpoint, server)
            {
                findings.push(Finding::at(
                    code::UNDECLARED_SUBSCRIBER,
                    name,
                    format!(
                        "it is a logical subscriber ({one}), and the configuration does not say so"
                    ),
                    format!("add subscription = \"{one}\" and a group to its [[replicas]]"),
                ));
            }
        }
    }
    findings
}
