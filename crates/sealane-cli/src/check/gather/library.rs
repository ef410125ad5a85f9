//! What the library's own probes find: conditions, lags, guards.

use std::time::Duration;

use sealane::{Condition, Config, EndpointStatus, Engine, RoutedConnection, Status, Target};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    check::facts::Seen,
    status::{LOOK, PACE, SETTLED, close, is_known, keeps_up},
};

/// The longest start.
const START: Duration = Duration::from_secs(20);
/// A replica that answers so often without having got to where the primary was before is behind by
/// more than the time between two probes.
const ANSWERS: usize = 2;

/// Starts the library with `config` and looks for a moment. Returns what it has seen of each
/// target, and why it did not start.
pub(super) async fn observe(
    config: &Config,
    targets: &[Target],
) -> (Vec<Option<Seen>>, Option<String>) {
    let nothing = vec![None; targets.len()];
    let is_file = targets.first().is_none_or(|target| target.engine == Engine::Sqlite);
    if is_file {
        return (nothing, None);
    }
    let config = config.clone().probe_interval(PACE);
    let db = match timeout(START, sealane::connect(config)).await {
        Err(_) => return (nothing, Some(format!("no connection within {START:?}"))),
        Ok(Err(error)) => return (nothing, Some(error.to_string())),
        Ok(Ok(db)) => db,
    };
    if targets.len() < 2 {
        // A single server is not probed.
        close(db).await;
        return (nothing, None);
    }
    let (status, unproved) = settled(&db).await;
    close(db).await;
    let seen = status.endpoints.into_iter().zip(unproved).map(|(endpoint, unproved_for)| {
        Some(Seen {
            condition: endpoint.condition,
            lag: endpoint.lag_ms.map(Duration::from_millis),
            unproved_for,
            behind: endpoint.behind,
            reported_lag: endpoint.reported_lag_ms.map(Duration::from_millis),
            read_only_guard: endpoint.read_only_guard,
            group: endpoint.group,
        })
    });
    (seen.collect(), None)
}

/// The state once the lag of every serving endpoint is known, or after a while; and for how long
/// each endpoint has not got to where the primary was before.
async fn settled(db: &RoutedConnection) -> (Status, Vec<Option<Duration>>) {
    let until = Instant::now() + SETTLED;
    let mut unproved = Vec::new();
    loop {
        let (status, now) = (db.status(), Instant::now());
        unproved.resize(status.endpoints.len(), None);
        for (endpoint, unproved) in status.endpoints.iter().zip(&mut unproved) {
            Unproved::note(unproved, endpoint, now);
        }
        if is_known(&status) || now > until {
            let times = status.endpoints.iter().zip(unproved);
            let times = times.map(|(endpoint, unproved)| unproved?.time(answers(endpoint), now));
            let times = times.collect();
            return (status, times);
        }
        sleep(LOOK).await;
    }
}

/// An endpoint that serves, and has not got to where the primary was at `since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unproved {
    since: Instant,
    /// How many answers had found an unknown lag by then.
    answers: usize,
}

impl Unproved {
    fn note(unproved: &mut Option<Self>, endpoint: &EndpointStatus, now: Instant) {
        let is_unproved = endpoint.condition == Condition::Serving && !keeps_up(endpoint);
        let begin = Unproved { since: now, answers: answers(endpoint) };
        *unproved = unproved.or(Some(begin)).filter(|_| is_unproved);
    }

    /// For how long it has been so at `now`; `None` while it has not answered often enough since.
    fn time(self, answers: usize, now: Instant) -> Option<Duration> {
        (answers >= self.answers + ANSWERS).then(|| now - self.since)
    }
}

/// How many of its last answers have found an unknown lag.
fn answers(endpoint: &EndpointStatus) -> usize {
    endpoint.lag_last_minute.map_or(0, |lags| lags.unknown)
}

#[cfg(test)]
mod tests {
    use sealane::Distance;

    use super::*;

    #[tokio::test]
    async fn an_endpoint_is_unproved_since_the_first_look_without_a_proof() {
        let folder = tempfile::tempdir().unwrap();
        let db = sealane::connect(Config::sqlite(folder.path().join("boats.db"))).await.unwrap();
        let mut replica = db.status().endpoints.remove(1);
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let mut unproved = None;
        Unproved::note(&mut unproved, &replica, begin);
        assert_eq!(unproved, None, "the readers of a file are never behind");
        (replica.lag_ms, replica.behind) = (None, Some(Distance::Bytes(1)));
        Unproved::note(&mut unproved, &replica, begin);
        Unproved::note(&mut unproved, &replica, begin + second);
        assert_eq!(unproved.map(|it| it.since), Some(begin));
        // What does not serve is another finding.
        replica.condition = Condition::Paused;
        Unproved::note(&mut unproved, &replica, begin + second);
        assert_eq!(unproved, None);
    }

    #[test]
    fn a_replica_that_was_not_asked_again_is_not_behind() {
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        let unproved = Unproved { since: begin, answers: 3 };
        assert_eq!(unproved.time(4, begin + second), None);
        assert_eq!(unproved.time(5, begin + second), Some(second));
    }
}
