//! What a user does with sessions: forks, merges, tokens, scopes.

use sea_orm::ConnectionTrait;
use sealane::{RoutedConnection, in_current_scope, scope};

use super::{Company, Knowledge, select};
use crate::plant::Plant;

impl Company {
    pub(super) fn fork(&self, user: usize, db: &RoutedConnection) {
        let mut person = self.person(user);
        (person.db, person.shares) = (db.fork(), false);
    }

    pub(super) fn merge(&self, user: usize, db: &RoutedConnection, process: usize, other: usize) {
        if other == user {
            return;
        }
        let (its, its_process, knowledge) = {
            let other = self.person(other);
            (other.db.clone(), other.process, other.knowledge.clone())
        };
        if its_process != process {
            return;
        }
        if self.world.lock().plant != Plant::LostMerges {
            db.merge(&its);
        }
        self.person(user).knowledge.merge(&knowledge);
    }

    pub(super) async fn go(&self, user: usize, db: &RoutedConnection, process: usize, to: usize) {
        if to == process {
            return;
        }
        let Some(token) = db.token().await else { return };
        let target = &self.processes[to];
        let (session, refused) = match self.world.lock().plant {
            Plant::LostTokens => (target.session(), false),
            _ => {
                let resumed = target.resume(&token);
                (resumed.session, resumed.refused.is_some())
            }
        };
        let mut state = self.world.lock();
        state.count(if refused { "tokens refused" } else { "tokens" });
        state.trace.note(format_args!("  goes on in process {to}, refused: {refused}"));
        drop(state);
        let mut person = self.person(user);
        if refused {
            // The user was told that the session begins anew.
            person.knowledge = Knowledge::default();
        }
        (person.process, person.db, person.here) = (to, session, Knowledge::default());
        person.shares = false;
    }

    /// Reads in process `to` with a token of the handle that everybody shares, which must tell of what
    /// any session has written in this process.
    pub(super) async fn go_shared(&self, user: usize, process: usize, to: usize) {
        let here = self.person(user).here.clone();
        let Some(token) = self.processes[process].token().await else { return };
        let resumed = self.processes[to].resume(&token);
        if resumed.refused.is_some() {
            return;
        }
        if let Some(snapshot) = self.shown(resumed.session.query_one_raw(select()).await) {
            self.check_writes(user, to, here, &snapshot);
        }
    }

    /// Reads in a session that begins with a token that is refused: it shows nothing older than what the
    /// primary has now.
    pub(super) async fn begin_anew(&self, user: usize, db: &RoutedConnection) {
        let resumed = db.resume("forged");
        if let Some(snapshot) = self.shown(resumed.session.query_one_raw(select()).await) {
            self.check_here(user, &snapshot);
        }
    }

    /// Works with the handle that everybody shares, in the scope of the user's session. A task that
    /// takes the scope along must not miss what was written in it, and one that leaves it must not
    /// either.
    pub(super) async fn scoped(&self, user: usize, db: &RoutedConnection, process: usize) {
        let shared = &self.processes[process];
        let work = async {
            self.write(user, shared, "").await;
            self.read(user, shared).await;
            let (inside, outside) = (shared.clone(), shared.clone());
            let inside =
                tokio::spawn(in_current_scope(async move { inside.query_one_raw(select()).await }));
            let outside = tokio::spawn(async move { outside.query_one_raw(select()).await });
            let (inside, outside) = tokio::join!(inside, outside);
            if let Some(snapshot) = inside.ok().and_then(|result| self.shown(result)) {
                self.check_read(user, &snapshot);
            }
            if let Some(snapshot) = outside.ok().and_then(|result| self.shown(result)) {
                self.check_here(user, &snapshot);
            }
        };
        scope(db.clone(), work).await;
    }
}
