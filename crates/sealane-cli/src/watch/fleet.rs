//! Snapshots for tests: a primary and its replicas, without servers.

use sealane::{Condition, Config, EndpointStatus, Failure, Health, Role, Status};

/// A primary `db-1` with replicas `db-2` and so on, all of which serve.
pub(super) struct Fleet {
    pub(super) status: Status,
}

impl Fleet {
    /// Only the library makes snapshots, so the one of a file is changed to what is wanted.
    pub(super) async fn sail(replicas: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = sealane::connect(Config::sqlite(folder.path().join("boats.db"))).await.unwrap();
        let mut status = db.status();
        crate::status::close(db).await;
        let any = status.endpoints.pop().unwrap();
        let endpoint = |number: usize| {
            let mut endpoint = any.clone();
            endpoint.name = format!("db-{number}");
            endpoint.role = if number == 1 { Role::Primary } else { Role::Replica };
            endpoint.condition = Condition::Serving;
            endpoint.health = Health::Up;
            endpoint.lag_ms = Some(3);
            endpoint.probe_ms = Some(2);
            endpoint
        };
        status.endpoints = (1..=replicas + 1).map(endpoint).collect();
        status.primary = Some("db-1".to_owned());
        Fleet { status }
    }

    /// The replica with this number, from 1 on: `db-2` is the first one.
    pub(super) fn replica(&mut self, number: usize) -> &mut EndpointStatus {
        &mut self.status.endpoints[number]
    }

    /// Nobody answers at this replica any more.
    pub(super) fn sink(&mut self, number: usize) {
        let replica = self.replica(number);
        replica.condition = Condition::Down;
        replica.health =
            Health::Down { failure: Failure::Connection("connection refused".to_owned()) };
        replica.lag_ms = None;
    }
}
