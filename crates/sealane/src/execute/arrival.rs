//! How long a read waits for a connection to a replica, if the application does not say.
//!
//! On the primary the driver's half a minute makes sense. A read on a replica has other endpoints to go
//! to, so it waits for a second; but a replica far away needs more than that for its first connection.
//! The quickest probe so far shows how far away it is.
//!
//! The pool has such a limit as well, since it opened. By then there was one probe, which may have met cold
//! caches or a busy machine, so for statements the limit is looked at while they wait. Of a transaction
//! only the pool's limit counts: nobody sees when its connection is there, and its BEGIN may take longer.

use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::time::sleep;

use super::attempt::{Attempt, Ended};
use crate::pool::{
    Pool,
    distance::{SOONEST, arrives_within},
};

/// How often the quickest probe is looked at after the least time.
const LOOK: Duration = Duration::from_millis(100);

impl Attempt {
    /// Completes with an error like the pool's when the connection should have come. Cancel safe: the
    /// time counts from the beginning of the attempt.
    pub(super) async fn has_no_connection(&self, pool: &Pool) -> Ended {
        if !pool.is_left_early {
            return std::future::pending().await;
        }
        sleep(SOONEST.saturating_sub(self.age())).await;
        while self.age() < arrives_within(self.cluster().store(), self.endpoint()) {
            sleep(LOOK).await;
        }
        Ended::Failed(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }
}
