//! What a user does with a view.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sealane::RoutedConnection;

use super::{Company, short};
use crate::{oracle, violation::Violation, world::View};

impl Company {
    /// A process that has made the view take a lock must not read it on a replica any more, unless
    /// somebody has made another view of it since.
    pub(super) async fn read_view(&self, user: usize, db: &RoutedConnection, process: usize) {
        let must_stay = self.must_stay(process);
        let of_view = Statement::from_string(DbBackend::Postgres, "SELECT shown FROM sight");
        let result = db.query_one_raw(of_view).await;
        let Some(snapshot) = self.shown(result) else { return };
        self.check_read(user, &snapshot);
        // Whoever has not heard of a promotion may ask the old primary.
        let has_heard = self.has_heard(process);
        let state = &mut self.world.lock();
        state.count(if snapshot.by_primary { "views on primaries" } else { "views on replicas" });
        let is_broken = must_stay.is_some_and(|view| view == state.sight);
        if is_broken && has_heard && !snapshot.by_primary {
            let (session, server) = (user, snapshot.server);
            oracle::note(state, Violation::LockedOnReplica { session, server }, None);
        }
    }

    /// The view, if this process has made it take a lock and knows of no other.
    fn must_stay(&self, process: usize) -> Option<View> {
        let state = self.world.lock();
        let made = state.made_sight[process];
        (made.locks && made == state.sight).then_some(made)
    }

    pub(super) async fn change_view(&self, db: &RoutedConnection, process: usize, locks: bool) {
        let locking = self.world.lock().kind.locks();
        let what = if locks { format!("shown, {locking}") } else { "shown".to_owned() };
        let text = format!("CREATE OR REPLACE VIEW sight AS SELECT {what} FROM boat");
        let change = Statement::from_string(DbBackend::Postgres, text);
        let result = db.execute_raw(change).await;
        let mut state = self.world.lock();
        match result {
            Ok(done) => {
                let number = done.rows_affected();
                state.trace.note(format_args!("  made view {number}"));
                let made = &mut state.made_sight[process];
                if number > made.number {
                    *made = View { number, locks };
                }
            }
            Err(error) => state.trace.note(format_args!("  not changed: {}", short(&error))),
        }
    }
}
