//! The facts of a PostgreSQL server.

use std::{collections::BTreeMap, time::Duration};

use super::{clock, release};
use crate::{
    ask::{Line, TextRow},
    check::facts::{Receiving, Sending, ServerFacts, Settings, Slot},
};

/// `pg_postmaster_start_time` tells apart servers of one system: no two start in the same
/// microsecond on the same address.
const IDENTITY: &str = "SELECT pg_is_in_recovery() AS replica, \
     current_setting('server_version') AS version, \
     current_database() AS database, current_user AS user, \
     concat_ws(' ', extract(epoch FROM pg_postmaster_start_time())::text, \
               inet_server_addr()::text, current_setting('port')) AS run";
const SYSTEM: &str = "SELECT system_identifier::text AS system FROM pg_control_system()";
/// A function that only Aurora has.
const AURORA: &str = "SELECT aurora_version() AS version";
const ROLE: &str = "SELECT rolsuper AS super, \
     pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees \
     FROM pg_roles WHERE rolname = current_user";
/// In base units, but for time: the unit of a new setting is not ours to guess.
const SETTINGS: &str = "SELECT name, CASE WHEN name = 'idle_replication_slot_timeout' \
         THEN extract(epoch FROM current_setting(name)::interval)::bigint::text \
         ELSE setting END AS value \
     FROM pg_settings WHERE name IN ('wal_level', 'hot_standby_feedback', \
     'max_standby_streaming_delay', 'wal_keep_size', 'max_slot_wal_keep_size', \
     'idle_replication_slot_timeout', 'default_transaction_read_only', \
     'synchronous_standby_names', 'max_connections', 'superuser_reserved_connections', \
     'reserved_connections', 'fsync', 'recovery_min_apply_delay')";
const ENCRYPTION: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp()) AS now";
const SENDERS: &str = "SELECT application_name AS name FROM pg_stat_replication";
/// `invalidation_reason` is there since version 17.
const SLOTS: &str = "SELECT slot_name AS name, slot_type AS kind, active, wal_status, \
     to_jsonb(slot) ->> 'invalidation_reason' AS invalidation, \
     restart_lsn IS NOT NULL AS holds, \
     pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                          ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS retained \
     FROM pg_replication_slots AS slot WHERE NOT temporary";
const RECEIVER: &str = "SELECT pid, status, slot_name FROM pg_stat_wal_receiver";
const PAUSED: &str = "SELECT pg_is_wal_replay_paused() AS paused";
const SUBSCRIPTIONS: &str = "SELECT s.subname AS name, s.subenabled AS enabled, \
     EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL) AS runs \
     FROM pg_subscription s WHERE s.subdbid = \
     (SELECT oid FROM pg_database WHERE datname = current_database())";

/// A setting of our own, which means nothing to the server.
const MARK: &str = "SET sealane.mark TO 'kept'";
const MARKED: &str = "SELECT current_setting('sealane.mark', true) AS mark";
const UNMARK: &str = "RESET sealane.mark";

/// Asks over the first line, and over the second one where it leads to.
pub(super) async fn ask(lines: &mut [Line; 2]) -> sqlx::Result<ServerFacts> {
    let [line, other] = lines;
    let identity = line.rows(IDENTITY).await?.into_iter().next().unwrap_or_default();
    let text = |name| identity.text(name).map(str::to_owned);
    let version = text("version").unwrap_or_default();
    let role = line.first(ROLE).await.unwrap_or_default();
    let is_replica = identity.truth("replica") == Some(true);
    let sees = role.truth("sees").map(|sees| sees || role.truth("super") == Some(true));
    let settings = line.told(SETTINGS).await.unwrap_or_default();
    let settings = Settings::from_rows(&settings, "name", "value");
    let again = other.first(IDENTITY).await;
    Ok(ServerFacts {
        is_replica,
        release: release(&version),
        is_aurora: line.first(AURORA).await.is_some(),
        version: format!("PostgreSQL {}", version.split(' ').next().unwrap_or_default()),
        system: line.first(SYSTEM).await.and_then(|row| row.text("system").map(str::to_owned)),
        run: text("run"),
        run_again: again.and_then(|row| row.text("run").map(str::to_owned)),
        database: text("database"),
        user: text("user"),
        is_superuser: role.truth("super"),
        clock: clock(line, CLOCK).await,
        is_encrypted: line.first(ENCRYPTION).await.and_then(|row| row.truth("ssl")),
        keeps_settings: keeps_settings(line, other).await,
        sending: sending(line).await,
        receiving: receiving(line, is_replica, sees, &settings).await,
        settings,
        ..ServerFacts::default()
    })
}

/// A pooler that lends connections for a transaction lends the first line's to the second one,
/// which keeps it in a transaction; the first line then gets another one.
async fn keeps_settings(line: &mut Line, other: &mut Line) -> Option<bool> {
    line.rows(MARK).await.ok()?;
    other.rows("BEGIN").await.ok()?;
    let theirs = other.first(MARKED).await;
    let ours = line.first(MARKED).await;
    let is_marked =
        |row: &Option<TextRow>| row.as_ref().map(|row| row.text("mark") == Some("kept"));
    let (kept, leaked) = (is_marked(&ours), is_marked(&theirs));
    // Whoever holds the marked connection now removes the mark.
    let _ = other.rows(UNMARK).await;
    let _ = other.rows("COMMIT").await;
    let _ = line.rows(UNMARK).await;
    Some(kept? && !leaked?)
}

async fn sending(line: &mut Line) -> Sending {
    let names = |rows: Vec<TextRow>| -> Vec<String> {
        rows.iter().filter_map(|row| row.text("name").map(str::to_owned)).collect()
    };
    let replicas = line.told(SENDERS).await.map(names);
    let slots = line.told(SLOTS).await.unwrap_or_default();
    Sending { replicas, slots: slots.iter().filter_map(slot).collect() }
}

fn slot(row: &TextRow) -> Option<Slot> {
    Some(Slot {
        name: row.text("name")?.to_owned(),
        is_logical: row.text("kind") == Some("logical"),
        is_active: row.truth("active")?,
        holds_log: row.truth("holds"),
        wal_status: row.text("wal_status").map(str::to_owned),
        invalidation: row.text("invalidation").map(str::to_owned),
        retained_bytes: row.number("retained"),
    })
}

async fn receiving(
    line: &mut Line,
    is_replica: bool,
    sees: Option<bool>,
    settings: &Settings,
) -> Receiving {
    let mut receiving = Receiving { is_visible: sees, ..Receiving::default() };
    if !is_replica {
        let rows = line.told(SUBSCRIPTIONS).await;
        let rows = rows.as_deref();
        receiving.subscriptions = rows.map(subscriptions);
        receiving.running_subscriptions = rows.map(running).unwrap_or_default();
        return receiving;
    }
    // A server in recovery runs none.
    receiving.subscriptions = Some(BTreeMap::new());
    let delay = settings.number("recovery_min_apply_delay").and_then(|it| u64::try_from(it).ok());
    receiving.delay = delay.map(Duration::from_millis);
    receiving.applies =
        line.first(PAUSED).await.and_then(|row| row.truth("paused")).map(|paused| !paused);
    // The process is shown to everybody, what it does is not.
    if let Some(rows) = line.told(RECEIVER).await {
        receiving.receives = Some(rows.iter().any(|row| row.text("pid").is_some()));
        let row = rows.first();
        receiving.slot = row.and_then(|row| row.text("slot_name")).map(str::to_owned);
    }
    receiving
}

/// The subscriptions by name, and whether each is enabled.
fn subscriptions(rows: &[TextRow]) -> BTreeMap<String, bool> {
    let one =
        |row: &TextRow| Some((row.text("name")?.to_owned(), row.truth("enabled") == Some(true)));
    rows.iter().filter_map(one).collect()
}

/// The subscriptions whose worker runs.
fn running(rows: &[TextRow]) -> Vec<String> {
    let runs = |row: &&TextRow| row.truth("runs") == Some(true);
    let name = |row: &TextRow| row.text("name").map(str::to_owned);
    rows.iter().filter(runs).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_those_of_the_answer() {
        let rows = [
            TextRow::from([("name", "one"), ("enabled", "t"), ("runs", "t")]),
            TextRow::from([("name", "two"), ("enabled", "f"), ("runs", "f")]),
        ];
        let wanted = [("one".to_owned(), true), ("two".to_owned(), false)];
        assert_eq!(subscriptions(&rows), wanted.into());
        assert_eq!(running(&rows), ["one"]);
    }

    #[test]
    fn a_logical_slot_is_told_apart_and_why_it_was_lost() {
        let row = TextRow::from([
            ("name", "one"),
            ("kind", "logical"),
            ("active", "f"),
            ("invalidation", "rows_removed"),
        ]);
        let slot = slot(&row).unwrap();
        assert!(slot.is_logical && slot.is_lost());
        assert_eq!(slot.invalidation.as_deref(), Some("rows_removed"));
    }

    #[test]
    fn a_slot_without_a_reservation_holds_back_nothing() {
        let row = TextRow::from([("name", "one"), ("active", "f"), ("holds", "f")]);
        assert_eq!(slot(&row).and_then(|slot| slot.holds_log), Some(false));
    }
}
