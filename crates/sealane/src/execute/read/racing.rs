//! A read that is hedged, or is a hedge.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use sealane_core::Role;

use super::ReadExecution;
use crate::{
    Error,
    execute::{Attempt, attempt::Whereabouts, race::Race},
};

impl ReadExecution {
    /// Makes it the hedge of a read. It ends with the first connection that it loses: the other one
    /// tries elsewhere.
    pub(in crate::execute) fn is_hedge_of(&mut self, race: Arc<Race>) {
        (self.lost_connection, self.race) = (true, Some(race));
    }

    /// Makes it a read that may be hedged, and tells the hedge where it runs.
    pub(in crate::execute) fn is_first_of(&mut self, race: Arc<Race>, whereabouts: Whereabouts) {
        (self.race, self.whereabouts) = (Some(race), Some(whereabouts));
    }

    fn is_hedge(&self) -> bool {
        self.whereabouts.is_none()
    }

    /// Whether the caller has another attempt's answer already.
    pub(super) fn is_outrun(&self) -> bool {
        self.race.as_ref().is_some_and(|race| race.is_over())
    }

    /// # Errors
    /// The caller has its answer. Nobody sees the error.
    pub(super) fn unless_outrun(&self) -> Result<(), DbErr> {
        if self.is_outrun() { Err(Error::NoReplica.into()) } else { Ok(()) }
    }

    /// `attempt` begins: a hedge counts its time from now on. The time for which it waits for a
    /// connection counts, too: a replica that hangs soon holds all of them.
    pub(super) fn note_begun(&self, attempt: &Attempt) {
        if let (Some(whereabouts), Role::Replica) = (&self.whereabouts, attempt.role()) {
            whereabouts.send_replace(Some(attempt.endpoint()));
        }
    }

    /// An attempt that runs for longer has lost against its hedge; `None` for one without a hedge.
    pub(super) fn long_after(&self) -> Option<Duration> {
        self.race.as_ref().filter(|_| !self.is_hedge()).map(|race| race.long_after())
    }

    /// Records that `attempt` was served after the other one. A hedge may well lose, and so may an
    /// attempt that began later than the hedge.
    pub(super) fn lost_race(&self, attempt: &Attempt, usual: Option<Duration>) {
        // Waiting for a connection is no slowness of the server.
        let took = attempt.age().saturating_sub(attempt.waited());
        let is_slow = |race: &Race| !self.is_hedge() && took >= race.delay;
        match self.race.as_deref().is_some_and(is_slow) {
            true => attempt.tell_outrun(usual),
            false => attempt.tell_served(usual),
        }
    }
}
