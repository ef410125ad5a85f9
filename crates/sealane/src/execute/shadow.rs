//! Shadow mode: reads run on the primary, and what would have become of them is recorded.
//!
//! A read is planned as without shadow mode, on the same snapshot and by the same rules, and then
//! runs on the primary. Two things differ from a real plan. It does not wait for a replica that is
//! about to catch up, because shadow mode must not slow anybody down. And it leaves out what its
//! session has *seen*: in shadow mode everything is seen on the primary, and after that no replica
//! would be good enough, although without shadow mode the session would have read from replicas.
//! What the session wrote counts as ever.
//!
//! If answers are compared, the caller gets the primary's answer first. A task then sends the
//! statement to the replica that the plan chose (`comparison`).

mod comparison;

use sea_orm::{DbErr, Statement};
use sealane_core::{Candidates, EndpointId, Plan, PrimaryUse, Role, Topology};
use sealane_monitor::Footing;

use super::read::plan_for;
use crate::{
    caller::Caller,
    cluster::{Compared, ReadRoute, Stay},
    pool::Verb,
};
use comparison::Comparison;

/// What would have become of a read.
enum Fate {
    Leaves { replica: Footing, lag_ms: Option<u64> },
    Stays(Stay),
}

impl Caller {
    /// Runs a read of shadow mode on the primary, and records what would have become of it.
    pub(super) async fn run_shadowed<V: Verb>(
        &self,
        route: ReadRoute,
        statement: &Statement,
    ) -> Result<V::Output, DbErr> {
        let comparison = self.comparison(statement);
        let output = self.run_read::<V>(route, statement).await?;
        if let Some(comparison) = comparison {
            comparison.begin::<V>(statement, &output);
        }
        Ok(output)
    }

    /// Whether a read that stays on the primary does so because of shadow mode, perhaps.
    pub(crate) fn is_shadowed(&self, route: &ReadRoute) -> bool {
        route.stays_on_primary && self.cluster().roll_out.shadow().is_on()
    }

    /// Records a stream of shadow mode.
    pub(crate) fn shadow_stream(&self, route: &ReadRoute, statement: &Statement) {
        if self.is_shadowed(route)
            && let Some(planned) = self.unshadowed(&statement.sql)
        {
            self.shadow_uncompared(&planned);
        }
    }

    /// Records a read-only transaction of shadow mode.
    pub(crate) fn shadow_transaction(&self, route: &ReadRoute) {
        if self.is_shadowed(route) {
            self.shadow_uncompared(&self.unshadowed_transaction());
        }
    }

    fn shadow_uncompared(&self, planned: &ReadRoute) {
        if let Some((replica, _)) = self.recorded(planned)
            && self.is_compared()
        {
            self.cluster().ledger.compared(replica.endpoint, Compared::NotComparable);
        }
    }

    /// Records what would have become of `statement`. Returns what to compare its answer with, if
    /// anything.
    fn comparison(&self, statement: &Statement) -> Option<Comparison> {
        let planned = self.unshadowed(&statement.sql)?;
        let (replica, lag_ms) = self.recorded(&planned)?;
        let found = planned.statement.filter(|_| self.is_compared())?;
        Some(Comparison::new(self.cluster(), replica, found, lag_ms))
    }

    /// Records what would have become of a read with the route `planned`. Returns the replica that
    /// would have served it, and its lag in milliseconds.
    fn recorded(&self, planned: &ReadRoute) -> Option<(Footing, Option<u64>)> {
        let cluster = self.cluster();
        match self.fate(planned) {
            Fate::Leaves { replica, lag_ms } => {
                cluster.ledger.leaves(replica.endpoint, &cluster.name(replica.endpoint));
                Some((replica, lag_ms))
            }
            Fate::Stays(why) => {
                cluster.ledger.stays(why);
                None
            }
        }
    }

    fn is_compared(&self) -> bool {
        self.cluster().roll_out.compares(self.cluster().store().entropy().word())
    }

    fn fate(&self, planned: &ReadRoute) -> Fate {
        let cluster = self.cluster();
        if !cluster.roll_out.would_admit(cluster.store().entropy().word()) {
            return Fate::Stays(Stay::OutsideShare);
        }
        cluster.settle_ejections();
        let request = self.request(planned);
        let session = request.session.clone().without_seen();
        // The ledger tells where reads leave the primary to; the primary's own turns are left out.
        let request = request.with_session(session).sharing_primary(false);
        let mut plan = plan_for(self, &request);
        let usual = plan.primary_use(&request);
        if planned.only_replicas() {
            plan.forbid_primary();
        }
        let topology = cluster.store().topology();
        let balancer = if planned.route.sticky { &cluster.sticky } else { &cluster.balancer };
        loop {
            let all = Candidates::all(&topology, &cluster.loads, request.now)
                .with_key(self.session_number());
            let random = cluster.store().entropy().word();
            match plan.next(&**balancer, all, random) {
                None => return Fate::Stays(Stay::Failed),
                Some((_, Role::Primary)) => return Fate::Stays(Stay::from(usual)),
                Some((id, _)) if Plan::suits(&topology, id, &request).is_ok() => {
                    let lag_ms = lag_ms(&topology, id);
                    if let Some(replica) = cluster.store().footing(&topology, id, Role::Replica) {
                        return Fate::Leaves { replica, lag_ms };
                    }
                }
                Some(_) => {}
            }
        }
    }
}

impl From<PrimaryUse> for Stay {
    fn from(usual: PrimaryUse) -> Self {
        match usual {
            PrimaryUse::Asked => Stay::Asked,
            PrimaryUse::Pinned => Stay::Pinned,
            PrimaryUse::Fallback => Stay::FellBack,
        }
    }
}

fn lag_ms(topology: &Topology, id: EndpointId) -> Option<u64> {
    topology.lag(id).map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX))
}
