//! Failovers that tokens have reported and probes have not seen; see `execute/failover`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sealane_core::{Moment, Past, PastMismatch, Position, Topology};

/// The record of vain waits for failovers that this process has not seen.
#[derive(Debug, Default)]
pub(crate) struct Resignation {
    /// When a statement last waited in vain, in milliseconds after the origin of moments; 0 if none
    /// did. For a while after this, other statements do not wait.
    at_ms: AtomicU64,
    /// Pasts on other timelines, which tokens have reported while a primary answers.
    unseen: Mutex<Vec<Unseen>>,
}

/// A past that no probe here has seen.
#[derive(Debug)]
struct Unseen {
    /// The past of the token that reported it first.
    past: Past,
    /// What the topology said of this past.
    mismatch: PastMismatch,
    /// Where the primary was then, and when it last had received something from another server.
    primary_at: Option<Position>,
    since: Moment,
}

impl Resignation {
    const LASTS: Duration = Duration::from_secs(10);
    /// Probes see a failover within seconds. A failover that is not seen after this time did not
    /// happen to this primary: the database was restored to an earlier state.
    const GONE_AFTER: Duration = Duration::from_secs(60);
    /// How many timelines are kept. More do not occur in practice, because only signed tokens
    /// count.
    const UNSEEN_KEPT: usize = 16;

    /// Records a token whose past `topology` does not show yet, as `mismatch` says. Returns whether
    /// its timeline is gone: a token reported it a minute ago, and the primary still lacks what that
    /// token told of. (A MySQL or MariaDB primary that also receives from another server lacks
    /// *something* of it at every moment. So the minute begins again while it receives.)
    pub(crate) fn is_gone(
        &self,
        past: &Past,
        mismatch: PastMismatch,
        topology: &Topology,
        now: Moment,
    ) -> bool {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        let primary_at = topology.sampled_position().cloned();
        let says_the_same = |it: &&mut Unseen| it.mismatch == mismatch && includes(&it.past, past);
        if let Some(known) = unseen.iter_mut().find(says_the_same) {
            let before = known.primary_at.as_ref();
            if before.is_some_and(|before| topology.has_received_since(before)) {
                (known.primary_at, known.since) = (primary_at, now);
            }
            return now.since(known.since) >= Self::GONE_AFTER;
        }
        if unseen.len() == Self::UNSEEN_KEPT {
            unseen.remove(0);
        }
        unseen.push(Unseen { past: past.clone(), mismatch, primary_at, since: now });
        false
    }

    pub(crate) fn note(&self, now: Moment) {
        let ms = u64::try_from(now.since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX);
        self.at_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn holds(&self, now: Moment) -> bool {
        match self.at_ms.load(Ordering::Relaxed) {
            0 => false,
            ms => now.since(Moment::from_origin(Duration::from_millis(ms))) < Self::LASTS,
        }
    }
}

/// Whether `later` is gone if `past` is: both are on one timeline, or, without timelines, `past` holds
/// all of `later`. (If the fifth transaction of a server is lost with its end, a fiftieth that the server
/// wrote after its next promotion is not.)
fn includes(past: &Past, later: &Past) -> bool {
    match (past.position(), later.position()) {
        (Some(ours), Some(theirs)) => ours.timeline() > 0 || ours.covers(theirs),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::{
        Ancestry, Endpoint, EndpointId, Incarnation, Lsn, Observation, Outcome, Report, Role,
        TopologyReducer, WriteStamp,
    };

    use super::*;

    /// A primary, and what tokens tell of it.
    struct Home {
        reducer: TopologyReducer,
        resignation: Resignation,
    }

    impl Home {
        fn new() -> Self {
            let topology = Topology::new(vec![Endpoint::new("primary", "here")]);
            let (reducer, resignation) = (TopologyReducer::new(topology), Resignation::default());
            Home { reducer, resignation }
        }

        fn sample(&mut self, position: Position, ancestry: Option<Ancestry>) {
            let (now, position) = (Moment::from_origin(Duration::from_secs(1)), Some(position));
            let report = Report::new(Role::Primary, Incarnation::new("a run"));
            self.reducer.apply(&Observation {
                endpoint: EndpointId::FIRST,
                started: now,
                finished: now,
                stamp: WriteStamp::NONE,
                outcome: Outcome::Answered(Report { position, ancestry, ..report }),
            });
        }

        fn is_gone(&self, position: Position, seconds: u64) -> bool {
            let past = Past::Known { position: Some(position), server: None };
            let (topology, now) =
                (self.reducer.topology(), Moment::from_origin(Duration::from_secs(seconds)));
            let mismatch = past.check(topology).unwrap_err();
            self.resignation.is_gone(&past, mismatch, topology, now)
        }
    }

    #[test]
    fn a_timeline_that_is_not_seen_for_a_minute_is_gone() {
        let at = |timeline| Position::Wal { system: 7, timeline, lsn: Lsn::from_bytes(100) };
        let mut home = Home::new();
        home.sample(at(3), None);
        assert!(!home.is_gone(at(5), 0));
        assert!(!home.is_gone(at(5), 59));
        assert!(!home.is_gone(at(4), 61), "another one");
        assert!(home.is_gone(at(5), 61));
        home.sample(at(4), None);
        assert!(!home.is_gone(at(5), 62), "the primary has moved on meanwhile");
    }

    #[test]
    fn a_server_that_the_primary_receives_from_is_never_gone_while_it_receives() {
        let ours = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let theirs = "8a94f357-aab4-11df-86ab-c80aa9429562";
        let at = |received: u64| {
            Position::GtidSet(format!("{ours}:1-9,{theirs}:1-{received}").parse().unwrap())
        };
        let mut home = Home::new();
        let third = "5b6c2c60-0000-11e1-9e33-c80aa9429562";
        let lost = || Position::GtidSet(format!("{ours}:1-9,{third}:1-5").parse().unwrap());
        home.sample(at(100), Some(Ancestry::mysql(ours).unwrap()));
        assert!(!home.is_gone(lost(), 0));
        for seconds in 0..200 {
            home.sample(at(100 + seconds), Some(Ancestry::mysql(ours).unwrap()));
            // The token's server is ahead of the last probe.
            assert!(!home.is_gone(at(101 + seconds), seconds), "after {seconds} s");
        }
        assert!(!home.is_gone(lost(), 200), "it may still be on its way");
        assert!(!home.is_gone(at(500), 200));
        assert!(!home.is_gone(at(900), 230), "another one");
        assert!(!home.is_gone(lost(), 259));
        assert!(home.is_gone(lost(), 260), "nothing comes any more");
        assert!(home.is_gone(at(500), 260));
        assert!(home.is_gone(at(499), 260), "what it includes");
        assert!(!home.is_gone(at(900), 260), "this one may still come");
    }

    #[test]
    fn the_minute_begins_again_when_the_primary_has_received_something() {
        let [ours, theirs, third] =
            [1, 2, 3].map(|number| format!("0000000{number}-0000-0000-0000-000000000000"));
        let at = |received: u64| {
            Position::GtidSet(format!("{ours}:1-9,{theirs}:1-{received}").parse().unwrap())
        };
        let lost = || Position::GtidSet(format!("{ours}:1-9,{third}:1-5").parse().unwrap());
        let mut home = Home::new();
        home.sample(at(100), Some(Ancestry::mysql(&ours).unwrap()));
        assert!(!home.is_gone(lost(), 0));
        home.sample(at(101), Some(Ancestry::mysql(&ours).unwrap()));
        assert!(!home.is_gone(lost(), 60), "it may still be on its way");
        assert!(!home.is_gone(lost(), 119));
        assert!(home.is_gone(lost(), 120));
    }

    #[test]
    fn a_resignation_holds_for_a_while() {
        let resignation = Resignation::default();
        let at = |seconds| Moment::from_origin(Duration::from_secs(seconds));
        assert!(!resignation.holds(at(3)));
        resignation.note(at(3));
        assert!(resignation.holds(at(3)) && resignation.holds(at(12)));
        assert!(!resignation.holds(at(13)));
    }
}
