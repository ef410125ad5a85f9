//! How long a read waits for a connection to a replica, if the application does not say.
//!
//! On the primary the driver's half a minute makes sense. A read on a replica has other endpoints to go
//! to, so it waits for a second; but a replica far away needs more than that for its first connection.
//!
//! The quickest probe shows how far away it is. Rejected: to give the pool a limit when it opens. By then
//! there was one probe, which has met cold caches or a busy machine, and all later reads would wait 40
//! times as long as it took.

use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::time::sleep;

use super::attempt::{Attempt, Ended};
use crate::pool::Pool;

/// The least time.
const SOONEST: Duration = Duration::from_secs(1);
/// So many quickest probes, which take one round trip each. A new connection with TLS takes up to 18, with
/// the search for the application's hook.
const PROBES_PER_LOGIN: u32 = 40;
/// How often the quickest probe is looked at from then on.
const LOOK: Duration = Duration::from_millis(100);

impl Attempt {
    /// Completes with an error like the pool's when the connection should have come. Cancel safe: the
    /// time counts from the beginning of the attempt.
    pub(super) async fn has_no_connection(&self, pool: &Pool) -> Ended {
        if !pool.is_left_early {
            return std::future::pending().await;
        }
        sleep(SOONEST.saturating_sub(self.age())).await;
        while self.age() < self.far() {
            sleep(LOOK).await;
        }
        Ended::Failed(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }

    fn far(&self) -> Duration {
        let topology = self.cluster().store().topology();
        let quickest = topology.get(self.endpoint()).and_then(|it| it.least_probe_time);
        quickest.unwrap_or_default().saturating_mul(PROBES_PER_LOGIN)
    }
}
