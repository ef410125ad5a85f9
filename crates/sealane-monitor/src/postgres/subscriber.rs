//! The probe of a logical subscriber: a server that is written to by its subscription to
//! a publication of the primary, and by nobody else.
//!
//! # How far it has got
//! `pg_stat_subscription.latest_end_lsn`: the place up to which the publisher has sent
//! everything, as its last keepalive told. One process of the subscriber, the apply
//! worker, reads all messages in their order, and it has committed a transaction
//! before it reads the next message (`LogicalRepApplyLoop`, `apply_handle_commit`); so
//! when it has read the keepalive, all that ended before that place is seen by new
//! snapshots. That holds with `streaming = parallel`, for the worker waits at a
//! transaction's end for the one that applied it (`pa_xact_finish`), and with
//! `two_phase`. The publisher sends one whenever it has sent all there is
//! (`WalSndWaitForWal`), also when nothing of it was published.
//!
//! There is none if the subscriber is so quick that it has confirmed a transaction
//! before the publisher looks; what it has confirmed then tells the same a little later,
//! on the publisher's side ([`Feed`](sealane_core::Feed)).
//!
//! Rejected: `received_lsn`, which is set before a message is applied; and the origin's
//! progress (`pg_replication_origin_status.remote_lsn`), which is set before the commit
//! is seen by others (`RecordTransactionCommit`): in between the log is flushed, and
//! synchronous replicas of the subscriber are waited for.
//!
//! # What it holds
//! Only the published tables, as published: filters of rows and lists of columns are
//! not looked at, nor is what somebody else writes there. While a table is being copied
//! nothing is proved of the others either: a copied table can be ahead of them.
//!
//! # What the role needs
//! Nothing but to connect: the columns asked for are everybody's.

use std::sync::Arc;

use sealane_core::{
    Failure, Incarnation, Lsn, Particulars, Replication, Report, Role, Subscription,
};
use sqlx::{FromRow, Row, postgres::PgRow};

use super::{Link, failure, unreadable};

/// Everything in one round trip. The workers that copy tables have a `relid`; those
/// that help to apply show no places. `bool_and` of no tables is NULL: a subscription
/// without any holds nothing. The name comes last.
const PROBE: &str = "SELECT \
     subscription.oid::int8 AS id, \
     subscription.subenabled AS enabled, \
     subscription.subslotname::text AS slot, \
     (SELECT coalesce(bool_and(srsubstate = 'r'), false) FROM pg_subscription_rel \
      WHERE srsubid = subscription.oid) AS copied, \
     worker.running, worker.applied, worker.received, \
     (SELECT system_identifier FROM pg_control_system()) AS system_id, \
     current_setting('transaction_read_only') = 'off' AS writable, \
     (SELECT concat(pg_postmaster_start_time(), ' ', stats_reset) FROM pg_stat_bgwriter) \
       AS incarnation \
     FROM pg_subscription AS subscription, \
     LATERAL (SELECT count(pid) > 0 AS running, max(latest_end_lsn)::text AS applied, \
                     max(received_lsn)::text AS received \
              FROM pg_stat_subscription WHERE subid = subscription.oid AND relid IS NULL) AS worker \
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
       AND subname = convert_from(decode('";

/// The question for a subscription. Its name is in the text, in digits: nothing is prepared,
/// because a pooler may be in between.
pub(super) fn probe(name: &str) -> String {
    use std::fmt::Write;

    let mut text = PROBE.to_owned();
    for byte in name.bytes() {
        // Writing to a text does not fail.
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
    /// NULL if it was taken away, to drop the subscription without its publisher.
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
        report.particulars.version = Some(Arc::clone(&link.version));
        report.particulars.identity = Some(identity);
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
            particulars: Particulars {
                writable: Some(self.writable),
                // One process does both.
                receives: Some(runs),
                applies: Some(runs),
                ..Particulars::default()
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
        assert_eq!(report.particulars.writable, Some(true));
        assert_eq!(report.position, None, "it does not know whose log its places are of");
        let subscription = report.subscription.unwrap();
        assert_eq!(subscription.applied, Some(Lsn::from_bytes(0x409_9138)));
        assert_eq!((subscription.id, &*subscription.slot), (16_393, "sub"));
    }

    #[test]
    fn disabled_or_without_its_worker_it_receives_nothing() {
        for answer in [
            Answer { enabled: false, ..answer() },
            Answer { running: false, applied: None, received: None, ..answer() },
        ] {
            let report = answer.told().unwrap();
            assert_eq!(report.replication, Replication::Stopped);
            assert_eq!(report.particulars.receives, Some(false));
        }
    }

    #[test]
    fn tables_that_are_being_copied_are_told_also_when_nothing_runs() {
        for running in [true, false] {
            let report = Answer { copied: false, running, ..answer() }.told().unwrap();
            assert_eq!(report.replication, Replication::Copying);
        }
    }

    #[test]
    fn what_is_no_place_is_told() {
        let error = Answer { applied: Some("here".into()), ..answer() }.told().unwrap_err();
        assert!(matches!(error, Failure::Unexpected(_)));
    }
}
