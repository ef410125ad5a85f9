//! The probe for a logical subscriber: a server whose only writer is its subscription to a
//! publication of the primary.
//!
//! # How far a subscriber has got
//! The probe reads `pg_stat_subscription.latest_end_lsn`: the place up to which the publisher has
//! sent everything, according to its last keepalive. One process of the subscriber, the apply
//! worker, reads all messages in order, and it commits a transaction before it reads the next
//! message (`LogicalRepApplyLoop`, `apply_handle_commit`). So when the worker has read the
//! keepalive, new snapshots see all transactions that ended before this place. This also holds with
//! `streaming = parallel`, because the worker waits at a transaction's end for the worker that
//! applied it (`pa_xact_finish`), and with `two_phase`. The publisher sends a keepalive whenever it
//! has sent everything (`WalSndWaitForWal`), even if nothing of it was published.
//!
//! The publisher sends no keepalive if the subscriber is so quick that it confirms a transaction
//! before the publisher checks. Then the confirmed position proves the same a little later, on the
//! publisher's side ([`Feed`](sealane_core::Feed)).
//!
//! Rejected: `received_lsn`, which is set before a message is applied. Rejected: the origin's
//! progress (`pg_replication_origin_status.remote_lsn`), which is set before others see the commit
//! (`RecordTransactionCommit`): in between, the server flushes the log and waits for the
//! subscriber's synchronous replicas.
//!
//! # What a subscriber holds
//! A subscriber holds only the published tables, as they are published. The probe checks neither
//! row filters and column lists nor writes by others on the subscriber. While one table is being
//! copied, nothing is proved about the other tables either, because a copied table can be ahead of
//! them.
//!
//! # What the role needs
//! The role only needs the right to connect: every role may read these columns.

use std::sync::Arc;

use sealane_core::{
    Failure, Incarnation, Lsn, Replication, Report, Role, ServerInfo, Subscription,
};
use sqlx::{FromRow, Row, postgres::PgRow};

use super::{Link, failure, greeting::incarnation_sql, unreadable};

/// Asks everything in one round trip. Workers that copy tables have a `relid`; workers that help to
/// apply show no positions. `bool_and` over no tables is NULL: a subscription without tables holds
/// nothing. The subscription's name comes last.
const PROBE: &str = concat!(
    "SELECT \
     subscription.oid::int8 AS id, \
     subscription.subenabled AS enabled, \
     subscription.subslotname::text AS slot, \
     (SELECT coalesce(bool_and(srsubstate = 'r'), false) FROM pg_subscription_rel \
      WHERE srsubid = subscription.oid) AS copied, \
     worker.running, worker.applied, worker.received, \
     (SELECT system_identifier FROM pg_control_system()) AS system_id, \
     current_setting('transaction_read_only') = 'off' AS writable, \
     ",
    incarnation_sql!(),
    " AS incarnation \
     FROM pg_subscription AS subscription, \
     LATERAL (SELECT count(pid) > 0 AS running, max(latest_end_lsn)::text AS applied, \
                     max(received_lsn)::text AS received \
              FROM pg_stat_subscription WHERE subid = subscription.oid AND relid IS NULL) AS worker \
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
       AND subname = convert_from(decode('"
);

/// The question for the subscription `name`. The text contains the name in hexadecimal digits:
/// nothing is prepared, because a pooler may be in between.
pub(super) fn probe(name: &str) -> String {
    use std::fmt::Write;

    let mut text = PROBE.to_owned();
    for byte in name.bytes() {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("', 'hex'), 'UTF8')");
    text
}

/// Asks in one round trip.
pub(super) async fn ask(link: &mut Link, name: &str) -> Result<Report, Failure> {
    let rows = link.rows().await?;
    let row = rows.first().ok_or_else(|| {
        Failure::Misconfigured(format!("there is no subscription called {name} in this database"))
    })?;
    Answer::from_row(row).map_err(|e| failure(&e))?.report(link)
}

#[derive(Debug)]
struct Answer {
    id: i64,
    enabled: bool,
    /// NULL if the slot was detached, to drop the subscription without its publisher.
    slot: Option<String>,
    copied: bool,
    running: bool,
    applied: Option<String>,
    received: Option<String>,
    system_id: i64,
    writable: bool,
    incarnation: String,
}

impl FromRow<'_, PgRow> for Answer {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Answer {
            id: row.try_get("id")?,
            enabled: row.try_get("enabled")?,
            slot: row.try_get("slot")?,
            copied: row.try_get("copied")?,
            running: row.try_get("running")?,
            applied: row.try_get("applied")?,
            received: row.try_get("received")?,
            system_id: row.try_get("system_id")?,
            writable: row.try_get("writable")?,
            incarnation: row.try_get("incarnation")?,
        })
    }
}

impl Answer {
    fn report(&self, link: &mut Link) -> Result<Report, Failure> {
        let identity = link.identity(self.system_id.cast_unsigned());
        let mut report = self.told()?;
        report.info.version = Some(Arc::clone(&link.version));
        report.info.identity = Some(identity);
        Ok(report)
    }

    fn told(&self) -> Result<Report, Failure> {
        let lsn = |text: &Option<String>| {
            text.as_deref().map(str::parse::<Lsn>).transpose().map_err(unreadable)
        };
        let runs = self.enabled && self.running;
        let replication = match (self.copied, runs) {
            (false, _) => Replication::Copying,
            (true, true) => Replication::Running,
            (true, false) => Replication::Stopped,
        };
        let subscription = Subscription {
            id: u32::try_from(self.id).map_err(unreadable)?,
            slot: self.slot.as_deref().unwrap_or_default().into(),
            applied: lsn(&self.applied)?,
            received: lsn(&self.received)?,
        };
        Ok(Report {
            replication,
            subscription: Some(subscription),
            info: ServerInfo {
                writable: Some(self.writable),
                // One process receives and applies.
                receives: Some(runs),
                applies: Some(runs),
                ..ServerInfo::default()
            },
            ..Report::new(Role::Replica, Incarnation::new(self.incarnation.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            id: 16_393,
            enabled: true,
            slot: Some("sub".into()),
            copied: true,
            running: true,
            applied: Some("0/4099138".into()),
            received: Some("0/4099140".into()),
            system_id: -1,
            writable: true,
            incarnation: "now".into(),
        }
    }

    #[test]
    fn a_subscriber_is_a_replica_although_it_could_be_written_to() {
        let report = answer().told().unwrap();
        assert_eq!((report.role, report.replication), (Role::Replica, Replication::Running));
        assert_eq!(report.info.writable, Some(true));
        assert_eq!(
            report.position, None,
            "a subscriber does not know which log its positions belong to"
        );
        let subscription = report.subscription.unwrap();
        assert_eq!(subscription.applied, Some(Lsn::from_bytes(0x409_9138)));
        assert_eq!((subscription.id, &*subscription.slot), (16_393, "sub"));
    }

    #[test]
    fn a_subscriber_that_is_disabled_or_has_no_worker_receives_nothing() {
        for answer in [
            Answer { enabled: false, ..answer() },
            Answer { running: false, applied: None, received: None, ..answer() },
        ] {
            let report = answer.told().unwrap();
            assert_eq!(report.replication, Replication::Stopped);
            assert_eq!(report.info.receives, Some(false));
        }
    }

    #[test]
    fn copying_is_reported_even_if_no_worker_runs() {
        for running in [true, false] {
            let report = Answer { copied: false, running, ..answer() }.told().unwrap();
            assert_eq!(report.replication, Replication::Copying);
        }
    }

    #[test]
    fn an_unreadable_position_is_a_failure() {
        let error = Answer { applied: Some("here".into()), ..answer() }.told().unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)));
    }
}
