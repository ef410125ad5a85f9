//! PostgreSQL: `pg_stat_replication`, `pg_replication_slots`, `pg_stat_wal_receiver`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Receiver, Sender, Slot, Told, rate};
use crate::ask::{Line, TextRow};

/// The end of the log on either kind of server.
const POSITION: &str = "SELECT pg_is_in_recovery() AS replica, p::text AS position, \
     pg_wal_lsn_diff(p, '0/0')::bigint AS bytes \
     FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                       ELSE pg_current_wal_lsn() END AS p) AS log";
const SENDERS: &str = "SELECT application_name AS name, client_addr::text AS client, state, \
     sync_state, sent_lsn::text AS sent, write_lsn::text AS written, flush_lsn::text AS flushed, \
     replay_lsn::text AS replayed, \
     pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                          ELSE pg_current_wal_lsn() END, replay_lsn)::bigint AS behind, \
     (extract(epoch FROM replay_lag) * 1000)::bigint AS replay_lag_ms \
     FROM pg_stat_replication ORDER BY application_name";
const SLOTS: &str = "SELECT slot_name AS name, slot_type AS kind, active, wal_status, \
     pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                          ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS retained \
     FROM pg_replication_slots ORDER BY slot_name";
const RECEIVERS: &str = "SELECT r.pid, r.sender_host AS source, \
     NOT pg_is_wal_replay_paused() AS applies, pg_last_wal_receive_lsn()::text AS received, \
     pg_last_wal_replay_lsn()::text AS applied, \
     CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
          ELSE greatest(0, extract(epoch FROM now() - pg_last_xact_replay_timestamp()))::bigint \
     END AS lag_s \
     FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver r ON true";

pub(super) async fn ask(line: &mut Line, measure: Duration) -> Told {
    let (began, first) = (Instant::now(), line.first(POSITION).await.unwrap_or_default());
    let senders = line.told(SENDERS).await.map(|rows| rows.iter().map(sender).collect());
    let slots = line.told(SLOTS).await.unwrap_or_default();
    let receivers = match first.truth("replica") {
        Some(true) => line.told(RECEIVERS).await.map(|rows| rows.iter().map(receiver).collect()),
        _ => Some(Vec::new()),
    };
    let mut told = Told {
        position: first.text("position").map(str::to_owned),
        log_bytes_per_s: None,
        senders,
        slots: slots.iter().map(slot).collect(),
        receivers,
    };
    if !measure.is_zero() {
        sleep(measure).await;
        let last = line.first(POSITION).await.unwrap_or_default();
        let bytes = |row: &TextRow| row.number::<u64>("bytes");
        if let (Some(before), Some(after)) = (bytes(&first), bytes(&last)) {
            told.log_bytes_per_s = rate(before, after, began.elapsed());
        }
    }
    told
}

fn text(row: &TextRow, column: &str) -> Option<String> {
    row.text(column).map(str::to_owned)
}

fn sender(row: &TextRow) -> Sender {
    Sender {
        name: text(row, "name").unwrap_or_default(),
        client: text(row, "client"),
        state: text(row, "state"),
        sync_state: text(row, "sync_state"),
        sent: text(row, "sent"),
        written: text(row, "written"),
        flushed: text(row, "flushed"),
        replayed: text(row, "replayed"),
        behind_bytes: row.number("behind"),
        replay_lag_ms: row.number("replay_lag_ms"),
    }
}

fn slot(row: &TextRow) -> Slot {
    Slot {
        name: text(row, "name").unwrap_or_default(),
        kind: text(row, "kind"),
        is_active: row.truth("active"),
        wal_status: text(row, "wal_status"),
        retained_bytes: row.number("retained"),
    }
}

fn receiver(row: &TextRow) -> Receiver {
    Receiver {
        source: text(row, "source"),
        receives: Some(row.text("pid").is_some()),
        applies: row.truth("applies"),
        received: text(row, "received"),
        applied: text(row, "applied"),
        reported_lag_s: row.number("lag_s"),
        ..Receiver::default()
    }
}
