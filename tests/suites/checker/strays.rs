//! What is done beside a session: through the handle that its process shares, in tasks that left
//! its scope, and through SeaORM's own types.

use sea_orm::IntoDatabaseExecutor;
use sealane::Consistency;

use crate::{
    client::{Client, Held, Plant, Way, looked},
    history::{Action, Failed, PROCESS, Promise, SHARED, process_of},
    sea::look,
};

impl Client {
    /// The application's one handle reads its writes, too.
    pub async fn use_shared_handle(&mut self) {
        let db = self.planted(&self.shared.processes[0]);
        let held = Held { id: SHARED, db };
        self.write_own(&held).await;
        self.read_shared().await;
    }

    /// And what was read in the sessions that were merged into it.
    pub async fn merge_into_shared(&mut self, held: &Held) {
        if process_of(held.id) != process_of(SHARED) {
            return;
        }
        let begun = self.shared.clock.now();
        self.shared.processes[process_of(SHARED)].merge(&held.db);
        self.record(SHARED, begun, Action::Merge { from: held.id });
        for _ in 0..3 {
            self.read_shared().await;
        }
    }

    async fn read_shared(&mut self) {
        let (db, keys) = (self.planted(&self.shared.processes[0]), self.some_keys());
        self.observe(SHARED, Promise::OwnWrites, keys, &db, Way::Handle).await;
    }

    /// A task that is spawned after a write of the session, and uses the shared handle: it sees
    /// what any session of its process wrote.
    pub async fn stray(&mut self, held: &Held) {
        self.write_own(held).await;
        let process = process_of(held.id);
        let everybody = match self.shared.plant {
            Plant::Strays => self.shared.processes[process].with_consistency(Consistency::Eventual),
            _ => self.shared.processes[process].clone(),
        };
        let (keys, begun) = (self.some_keys(), self.shared.clock.now());
        let spawned = async { tokio::spawn(async move { look(&everybody, &keys).await }).await };
        let action = match sealane::scope(held.db.clone(), spawned).await {
            Ok(result) => looked(result, Promise::OwnWrites),
            Err(error) => Action::Fail { what: Failed::Read, error: error.to_string() },
        };
        self.record(PROCESS[process], begun, action);
    }

    /// As services do that take SeaORM's own type.
    pub async fn write_through_executor(&mut self, held: &Held) {
        let executor = (&held.db).into_database_executor();
        self.write_own_through(held.id, &executor).await;
        let keys = self.some_keys();
        self.observe(held.id, Promise::Session, keys, &held.db, Way::Handle).await;
    }
}
