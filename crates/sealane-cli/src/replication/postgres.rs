//! PostgreSQL: `pg_stat_replication`, `pg_replication_slots`, `pg_stat_wal_receiver`; on a logical
//! subscriber `pg_subscription` and `pg_stat_subscription`.

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
/// The subscriptions of this database. The worker that applies has no `relid`; what it has read of
/// `latest_end_lsn` it has applied before. Every role may read these columns.
const SUBSCRIPTIONS: &str = "SELECT s.subname AS name, s.subenabled AND w.runs AS runs, \
     w.received, w.applied \
     FROM pg_subscription s, \
     LATERAL (SELECT count(pid) > 0 AS runs, max(received_lsn)::text AS received, \
                     max(latest_end_lsn)::text AS applied \
              FROM pg_stat_subscription WHERE subid = s.oid AND relid IS NULL) AS w \
     WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// `subscription` is the one that the configuration declares.
pub(super) async fn ask(line: &mut Line, subscription: Option<&str>, measure: Duration) -> Told {
    let (began, first) = (Instant::now(), line.first(POSITION).await.unwrap_or_default());
    let senders = line.told(SENDERS).await.map(|rows| rows.iter().map(sender).collect());
    let slots = line.told(SLOTS).await.unwrap_or_default();
    let receivers = match (first.truth("replica"), subscription) {
        (Some(true), _) => {
            line.told(RECEIVERS).await.map(|rows| rows.iter().map(receiver).collect())
        }
        (_, Some(name)) => line.told(SUBSCRIPTIONS).await.map(|rows| vec![subscriber(&rows, name)]),
        // What a primary subscribes to concerns nobody here.
        (_, None) => Some(Vec::new()),
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

/// What the subscription `name` receives. A subscription that does not exist receives nothing.
fn subscriber(rows: &[TextRow], name: &str) -> Receiver {
    let row = rows.iter().find(|row| row.text("name") == Some(name));
    let column = |column| row.and_then(|row| text(row, column));
    let runs = row.map_or(Some(false), |row| row.truth("runs"));
    let state = if row.is_some() { "" } else { ", which does not exist" };
    Receiver {
        source: Some(format!("the subscription {name}{state}")),
        // One process does both.
        receives: runs,
        applies: runs,
        received: column("received"),
        applied: column("applied"),
        ..Receiver::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_receives_what_its_declared_subscription_does() {
        let rows = [
            TextRow::from([("name", "other"), ("runs", "f")]),
            TextRow::from([
                ("name", "tide"),
                ("runs", "t"),
                ("received", "0/2"),
                ("applied", "0/1"),
            ]),
        ];
        let tide = subscriber(&rows, "tide");
        assert_eq!(tide.source.as_deref(), Some("the subscription tide"));
        assert_eq!((tide.receives, tide.applies), (Some(true), Some(true)));
        assert_eq!((tide.received.as_deref(), tide.applied.as_deref()), (Some("0/2"), Some("0/1")));
        assert_eq!(subscriber(&rows, "other").applies, Some(false));
        let missing = subscriber(&rows, "ebb");
        assert_eq!((missing.receives, missing.applied), (Some(false), None));
        assert_eq!(missing.source.as_deref(), Some("the subscription ebb, which does not exist"));
    }
}
