//! What a user seldom asks for.

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};
use sealane::{
    Candidate, Condition, Consistency, ConsistencyPolicy, ReadRequest, Refusal, RoutedConnection,
    Verdict, WhenAhead,
};

use super::{Company, select, short};
use crate::{error::code, lender::endpoint_name, oracle, violation::Violation, world};

/// A statement that writes something on the way, which its text does not show.
pub(super) fn noting() -> Statement {
    Statement::from_string(DbBackend::Postgres, "SELECT shown FROM noting")
}

/// How long a read waits for the primary to show what a replica has shown.
const PATIENCE: Duration = Duration::from_secs(5);
/// A statement may end two sessions, and one more of which nobody could hear.
const MOST_KILLED: usize = 3;

/// Declines one endpoint.
#[derive(Debug)]
struct Declining(String);

impl ConsistencyPolicy for Declining {
    fn name(&self) -> &'static str {
        "declining"
    }

    fn judge(&self, candidate: &Candidate<'_>, _: &ReadRequest) -> Verdict {
        match candidate.endpoint().name() == self.0 {
            true => Err(Refusal::Declined { why: "is not liked".into() }),
            false => Ok(()),
        }
    }
}

impl Company {
    /// Whoever has not heard of a promotion may take the new primary for a replica.
    pub(super) async fn read_on_replicas(
        &self,
        user: usize,
        db: &RoutedConnection,
        process: usize,
    ) {
        let heard_of = self.heard_of(process);
        let db = db.on_replicas();
        self.note_refusals(&db);
        let is_read = db.explain(&select().sql).intent.is_read();
        let result = db.query_one_raw(select()).await;
        let Some(snapshot) = self.shown(result) else { return };
        self.check_read(user, &snapshot);
        // A replica may be promoted while it serves the read.
        let is_known = heard_of.is_some() && heard_of == self.heard_of(process);
        if snapshot.by_primary && is_read && is_known {
            let (session, server) = (user, snapshot.server);
            let violation = Violation::ReadOnPrimary { session, server };
            oracle::note(&mut self.world.lock(), violation, None);
        }
    }

    /// Whether a process has heard of the newest primary.
    pub(super) fn has_heard(&self, process: usize) -> bool {
        self.heard_of(process).is_some()
    }

    /// The newest timeline, if a process has heard of it.
    fn heard_of(&self, process: usize) -> Option<u32> {
        let state = self.world.lock();
        let newest = state.history.branches[state.history.current].timeline;
        (state.told_timeline[process] == newest).then_some(newest)
    }

    /// Reads whatever there is.
    pub(super) async fn look(&self, user: usize, db: &RoutedConnection) {
        let db = db.with_consistency(Consistency::Eventual);
        self.note_refusals(&db);
        let mut old = self.on_old_timelines(&db);
        let result = db.query_one_raw(select()).await;
        let Some(snapshot) = self.shown(result) else { return };
        old.extend(self.on_old_timelines(&db));
        let mut person = self.person(user);
        let mut state = self.world.lock();
        let counts = if old.contains(&snapshot.server) {
            state.count("eventual reads on an old timeline");
            state.known_to_primary(person.process, snapshot)
        } else {
            snapshot
        };
        person.see(&state, &counts);
    }

    /// The servers of which the process knows that they have what the primary lacks.
    fn on_old_timelines(&self, db: &RoutedConnection) -> Vec<usize> {
        let endpoints = db.status().endpoints;
        let state = self.world.lock();
        let is_old = |(address, _): &(usize, &usize)| {
            let name = endpoint_name(*address);
            endpoints.iter().any(|it| it.name == name && it.condition == Condition::OldTimeline)
        };
        state.addresses.iter().enumerate().filter(is_old).map(|(_, server)| *server).collect()
    }

    pub(super) async fn read_declining(&self, user: usize, db: &RoutedConnection, address: usize) {
        let db = db.with_policy(Arc::new(Declining(endpoint_name(address))));
        self.note_refusals(&db);
        self.read_by(user, &db, select()).await;
    }

    /// What a replica lacks, the primary has, if there is one.
    pub(super) async fn read_late(&self, user: usize, db: &RoutedConnection, process: usize) {
        let knows = || self.has_heard(process) && db.explain(&select().sql).primary.is_some();
        let knew = knows();
        let late = Statement::from_string(DbBackend::Postgres, "SELECT shown FROM late");
        let result = db.query_one_raw(late).await;
        let lacks = {
            let state = self.world.lock();
            let own = result.as_ref().err().and_then(code);
            own.as_deref() == Some(state.code_of(world::Refusal::Lacks))
        };
        if lacks && knew && knows() {
            let (session, why) = (user, "a replica lacks a table".to_owned());
            oracle::note(&mut self.world.lock(), Violation::FailedOnReplica { session, why }, None);
        }
        if let Some(snapshot) = self.shown(result) {
            self.check_read(user, &snapshot);
        }
    }

    /// If it did not wait to the end, the primary shows it.
    pub(super) async fn read_shown(&self, user: usize, db: &RoutedConnection) {
        let db = db.on_primary().when_ahead(WhenAhead::Wait(PATIENCE));
        let began_ms = self.world.lock().now_ms();
        let result = db.query_one_raw(select()).await;
        let took_ms = self.world.lock().now_ms() - began_ms;
        if let Some(snapshot) = self.shown(result) {
            let gave_up = u128::from(took_ms) + 100 >= PATIENCE.as_millis();
            self.check_read_after(user, &snapshot, gave_up);
        }
    }

    /// A statement that ends its session must not go round.
    pub(super) async fn read_killing(&self, user: usize, db: &RoutedConnection) {
        let text = "SELECT shown FROM killing WHERE id = $1";
        let number = self.new_id();
        let value = Value::BigInt(i64::try_from(number).ok());
        let killing = Statement::from_sql_and_values(DbBackend::Postgres, text, [value]);
        let result = db.query_one_raw(killing).await;
        let mut state = self.world.lock();
        let times = state.killed.get(&number).copied().unwrap_or(0);
        if let Err(error) = result {
            state.count(&format!("failed read: {}", short(&error)));
        }
        if times > MOST_KILLED {
            oracle::note(&mut state, Violation::KilledMany { session: user, times }, None);
        }
    }

    pub(super) async fn read_wrong(&self, db: &RoutedConnection) {
        let wrong = Statement::from_string(DbBackend::Postgres, "SELECT shown FROM wrong");
        let result: Result<_, DbErr> = db.query_one_raw(wrong).await;
        let mut state = self.world.lock();
        match result {
            Ok(_) => state.count("wrong statements that did not fail"),
            Err(error) if code(&error).as_deref() == Some(state.code_of(world::Refusal::Wrong)) => {
                state.count("wrong statements whose own error was told");
            }
            Err(error) => state.count(&format!("failed read: {}", short(&error))),
        }
    }
}
