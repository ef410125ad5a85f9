//! Activity that a session cannot observe.
//!
//! A connection or a transaction may be handed out as a foreign type, and sealane does not see what
//! is done with it. While it is in use, each plan of the session must assume that the session has
//! just written or seen something there. It may be in use until the moment when it is given back,
//! so the next plan afterwards assumes this once more. All of this is rare. Usually it costs a plan
//! one atomic load.
//!
//! sealane cannot see the end of a SeaORM executor, so such an executor counts as in use for one
//! second. Rejected: SeaORM's metric callback on a connection of each session. It hears of
//! statements, but not of commits.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{Carried, SeenSoFar, Server, Session};
use crate::{Moment, TableSet, Topology, WriteClock};

/// Added to the count while a position waits for its failover to be seen.
const AWAITS_FAILOVER: u32 = 1 << 31;

/// The unobserved activity of one session.
#[derive(Debug, Default)]
pub(super) struct Unwatched {
    /// The number of entries in `open` of work that may go on, and [`AWAITS_FAILOVER`].
    count: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Until this moment, unobserved writes are possible.
    writing_until: Option<Moment>,
    lent: Vec<Arc<Loan>>,
    /// Positions that were merged into a shared session, or that the session itself carries, from
    /// after failovers that this process has not seen yet.
    failovers: Vec<Awaited>,
}

/// A position that waits for its failover to be seen.
#[derive(Debug)]
struct Awaited {
    carried: Arc<Carried>,
    /// When it was first found to wait.
    since: Option<Moment>,
}

impl Awaited {
    /// A failover that is not seen after this time did not happen to this primary. Tokens that tell
    /// of it are refused by then, too.
    const AT_MOST: Duration = Duration::from_secs(60);
    /// More do not occur in practice, because only signed tokens bring one.
    const KEPT: usize = 16;

    /// Whether the wait is over.
    fn is_over(&mut self, topology: &Topology, now: Moment) -> bool {
        let since = *self.since.get_or_insert(now);
        !self.carried.awaits_failover(topology) || now.since(since) >= Self::AT_MOST
    }
}

/// A transaction on a server whose statements are not observed.
#[derive(Debug)]
struct Loan {
    server: Server,
    /// What the session had seen before, if the server was the primary.
    held: Option<SeenSoFar>,
    /// When it counts as given back, if nobody tells.
    until: Option<Moment>,
    is_over: AtomicBool,
}

impl Loan {
    fn is_over(&self, now: Moment) -> bool {
        self.is_over.load(Ordering::Acquire) || self.until.is_some_and(|until| now >= until)
    }
}

/// A guard for the time in which unobserved statements may run. See [`Session::lend`].
#[derive(Debug)]
#[must_use = "dropping it means that nothing more is seen there"]
pub struct Lent(Option<Arc<Loan>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = &self.0 {
            // The next plan records what may have been seen until now.
            loan.is_over.store(true, Ordering::Release);
        }
    }
}

impl Session {
    /// Announces a transaction on `server` whose answers are not observed here. Until the guard is
    /// dropped, each plan of this session assumes that the session has just seen something on
    /// `server`. So the session does not go back in time relative to its own transaction. `held` is
    /// as for [`saw_unplanned`](Self::saw_unplanned).
    ///
    /// A shared session ignores this, because it promises no order of its users' reads. It learns
    /// of the transaction's writes at the end, as always.
    pub fn lend(&self, server: Server, held: Option<SeenSoFar>) -> Lent {
        if self.is_shared() {
            return Lent(None);
        }
        let loan = self.keep_loan(server, held, None);
        Lent(Some(loan))
    }

    /// Like [`lend`](Self::lend), for a transaction whose end is not observed either. It counts until
    /// `until`, and for the first plan afterwards.
    pub fn lend_until(&self, server: Server, held: Option<SeenSoFar>, until: Moment) {
        if !self.is_shared() {
            self.keep_loan(server, held, Some(until));
        }
    }

    fn keep_loan(
        &self,
        server: Server,
        held: Option<SeenSoFar>,
        until: Option<Moment>,
    ) -> Arc<Loan> {
        let loan = Arc::new(Loan { server, held, until, is_over: AtomicBool::new(false) });
        self.unwatched.change(|open| {
            // The new loan records a later stamp on the same server, so it covers the finished
            // loans there, and those that end before it by themselves.
            open.lent.retain(|it| {
                let same = it.server == loan.server && it.held == loan.held;
                let is_shorter = it.until.is_some() && it.until <= loan.until;
                !(same && (is_shorter || it.is_over.load(Ordering::Acquire)))
            });
            open.lent.push(Arc::clone(&loan));
        });
        loan
    }

    /// Announces that unobserved writes on behalf of this session are possible until `until`. Each
    /// plan until then, and the first one afterwards, assumes that a write has just ended.
    pub fn expect_writes(&self, until: Moment) {
        let later = |open: &mut Open| open.writing_until = open.writing_until.max(Some(until));
        self.unwatched.change(later);
        if let super::Kind::Own { shared: Some(shared) } = &self.kind
            && self.told().is_some_and(|others| others.waits)
        {
            shared.unwatched.change(later);
        }
    }

    /// Whether there is unobserved activity, so that the session must [catch up](Self::catch_up)
    /// before its view is used. One atomic load.
    #[must_use]
    pub fn is_unwatched(&self) -> bool {
        self.unwatched.count.load(Ordering::Acquire) > 0
    }

    /// Whether unobserved work may go on, so that the session sees and writes new things at any
    /// moment. One atomic load.
    #[must_use]
    pub fn may_act_unwatched(&self) -> bool {
        self.unwatched.count.load(Ordering::Acquire) & !AWAITS_FAILOVER > 0
    }

    /// Records what may have happened unobserved until `now`.
    pub fn catch_up(&self, topology: &Topology, now: Moment, clock: &WriteClock) {
        if !self.is_unwatched() {
            return;
        }
        // One lock covers all of this. So a thread that finds nothing open also finds everything
        // recorded.
        self.unwatched.change(|open| {
            let mut has_written = open.writing_until.is_some();
            for seen in open.failovers.extract_if(.., |it| it.is_over(topology, now)) {
                seen.carried.failover_seen(clock.tick());
                // A stamp stands for a position that the session does not carry itself.
                has_written |= self.carried().is_none_or(|it| !Arc::ptr_eq(&it, &seen.carried));
            }
            if has_written {
                // The shared session has its own entry, so this write is not reported to it.
                self.written.note(clock.tick(), &TableSet::WHOLE);
            }
            open.writing_until = open.writing_until.filter(|until| now < *until);
            open.lent.retain(|loan| {
                // Read before recording: if the loan ends in the meantime, the next plan records it
                // once more.
                let is_over = loan.is_over(now);
                self.saw_unplanned(loan.server, loan.held, clock);
                !is_over
            });
        });
    }
}

impl Unwatched {
    /// Keeps a position until its failover is seen. Of several timelines, the latest is enough.
    pub(super) fn await_failover(&self, carried: &Arc<Carried>) {
        self.change(|open| {
            let timeline = |it: &Awaited| it.carried.position.timeline();
            let ours = carried.position.timeline();
            let is_known = |it: &Awaited| timeline(it) > ours || it.carried == *carried;
            if open.failovers.iter().any(is_known) {
                return;
            }
            open.failovers.retain(|it| timeline(it) == ours);
            if open.failovers.len() == Awaited::KEPT {
                open.failovers.remove(0);
            }
            open.failovers.push(Awaited { carried: Arc::clone(carried), since: None });
        });
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        let mut open: MutexGuard<'_, Open> =
            // Each field is consistent at any time, so a poisoned lock does no harm.
            self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open);
        let work = open.lent.len() + usize::from(open.writing_until.is_some());
        let work = u32::try_from(work).unwrap_or(u32::MAX) & !AWAITS_FAILOVER;
        let failover = if open.failovers.is_empty() { 0 } else { AWAITS_FAILOVER };
        self.count.store(work | failover, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crate::*;

    fn at(millis: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(millis))
    }

    fn server(index: usize) -> Server {
        Server {
            endpoint: EndpointId::from_index(index).unwrap(),
            run: u32::try_from(index).unwrap() + 1,
        }
    }

    struct User {
        clock: WriteClock,
        topology: Topology,
        session: Session,
    }

    impl User {
        fn new() -> Self {
            let topology = Topology::new(vec![Endpoint::new("primary", "here")]);
            User { clock: WriteClock::default(), topology, session: Session::own() }
        }

        /// The stamps that the primary and each of two replicas must cover when a read is planned.
        fn planned(&self, millis: u64) -> [u64; 3] {
            self.session.catch_up(&self.topology, at(millis), &self.clock);
            [0, 1, 2].map(|index| self.session.view().needs(server(index)).number())
        }
    }

    #[test]
    fn while_a_transaction_is_lent_each_plan_assumes_a_new_read_there() {
        let it = User::new();
        assert!(!it.session.is_unwatched());
        let lent = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        assert_eq!(it.planned(0), [0, 1, 1]);
        assert_eq!(it.planned(0), [0, 2, 2]);
        drop(lent);
        assert_eq!(it.planned(0), [0, 3, 3], "it counts until it is given back");
        assert!(!it.session.is_unwatched());
        assert_eq!(it.planned(0), [0, 3, 3]);
    }

    #[test]
    fn a_transaction_on_a_replica_holds_its_session_there() {
        let it = User::new();
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        let _lent = it.session.lend(server(1), None);
        assert_eq!(it.planned(0), [2, 0, 2]);
        // The session has seen more on another server: now neither server holds everything.
        it.session.saw(server(2), &it.session.view(), true, &it.clock);
        assert_eq!(it.planned(0), [4, 4, 4]);
    }

    #[test]
    fn with_transactions_on_two_servers_neither_holds_everything() {
        let it = User::new();
        let _one = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        let _two = it.session.lend(server(1), None);
        let [primary, one, two] = it.planned(0);
        assert!(primary > 0 && primary == one && one == two);
    }

    #[test]
    fn loans_are_counted() {
        let it = User::new();
        let one = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        let two = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        drop(one);
        it.planned(0);
        assert!(it.session.is_unwatched());
        drop(two);
        it.planned(0);
        assert!(!it.session.is_unwatched());
    }

    #[test]
    fn a_read_that_is_held_back_by_a_loan_waits_for_no_proof() {
        let it = User::new();
        let _lent = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        assert!(!(0..40).any(|_| it.session.should_wait_for_proof()));
    }

    #[test]
    fn a_shared_session_promises_no_order_and_ignores_loans() {
        let shared = Session::shared(WriteTracking::Tables);
        let _lent = shared.lend(server(0), Some(shared.view().seen_so_far()));
        assert!(!shared.is_unwatched());
    }

    #[test]
    fn while_writes_are_expected_each_plan_assumes_one_and_so_does_the_next() {
        let it = User::new();
        it.session.expect_writes(at(100));
        it.session.expect_writes(at(50));
        assert_eq!(it.planned(0), [1, 1, 1]);
        assert_eq!(it.planned(99), [2, 2, 2]);
        assert_eq!(it.planned(5_000), [3, 3, 3], "writes up to the end count");
        assert!(!it.session.is_unwatched());
        assert_eq!(it.planned(5_001), [3, 3, 3]);
    }

    #[test]
    fn writes_that_are_expected_of_a_session_are_expected_of_the_shared_one_too() {
        let it = User::new();
        for waits in [true, false] {
            let shared = Session::shared(WriteTracking::Tables).waiting_for_others(waits);
            let shared = Arc::new(shared);
            Session::own().beside(&shared).expect_writes(at(100));
            assert_eq!(shared.is_unwatched(), waits);
            shared.catch_up(&it.topology, at(0), &it.clock);
            assert_eq!(shared.view().written() > WriteStamp::NONE, waits);
        }
    }

    #[test]
    fn an_unplanned_read_on_the_primary_ties_the_session_to_it() {
        let it = User::new();
        it.session.saw_unplanned(server(0), Some(it.session.view().seen_so_far()), &it.clock);
        assert_eq!(it.planned(0), [0, 1, 1]);
        // The session had seen something on a replica, and the primary holds this too.
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        it.session.saw_unplanned(server(0), Some(it.session.view().seen_so_far()), &it.clock);
        assert_eq!(it.planned(0), [0, 3, 3]);
    }

    #[test]
    fn what_a_replica_showed_during_a_transaction_the_primary_is_not_proved_to_show() {
        let it = User::new();
        let held = it.session.view().seen_so_far();
        it.session.saw_unplanned(server(0), Some(held), &it.clock);
        it.session.saw_unplanned(server(0), Some(held), &it.clock);
        assert_eq!(it.planned(0), [0, 2, 2]);
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        it.session.saw_unplanned(server(0), Some(held), &it.clock);
        assert_eq!(it.planned(0), [4, 4, 4]);
    }

    #[test]
    fn a_transaction_whose_end_nobody_tells_counts_for_its_time_and_one_plan_more() {
        let it = User::new();
        it.session.lend_until(server(1), None, at(100));
        assert_eq!(it.planned(0), [1, 1, 1]);
        assert_eq!(it.planned(99), [2, 2, 2]);
        // Another one there takes its place.
        it.session.lend_until(server(1), None, at(150));
        assert_eq!(it.planned(149), [3, 3, 3]);
        assert_eq!(it.planned(5_000), [4, 4, 4]);
        assert!(!it.session.is_unwatched());
        assert_eq!(it.planned(5_001), [4, 4, 4]);
    }

    #[test]
    fn a_transaction_goes_on_counting_when_a_later_one_there_ends() {
        let it = User::new();
        let one = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        drop(it.session.lend(server(0), Some(it.session.view().seen_so_far())));
        it.planned(0);
        assert!(it.session.is_unwatched());
        drop(one);
        it.planned(0);
        assert!(!it.session.is_unwatched());
    }

    #[test]
    fn a_transaction_that_is_over_counts_although_one_elsewhere_has_begun_since() {
        let it = User::new();
        drop(it.session.lend(server(1), None));
        let _two = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        assert_eq!(it.planned(0), [2, 2, 2], "no server is proved to show what both showed");
    }

    #[test]
    fn a_transaction_that_is_over_counts_for_what_it_had_seen_when_it_began() {
        let it = User::new();
        let one = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        drop(one);
        let _two = it.session.lend(server(0), Some(it.session.view().seen_so_far()));
        let [primary, replica, other] = it.planned(0);
        assert!(primary > 0 && primary == replica && replica == other);
    }

    #[test]
    fn a_transaction_that_lasts_longer_is_not_forgotten_for_one_of_a_limited_time() {
        let it = User::new();
        it.session.lend_until(server(1), None, at(200));
        it.session.lend_until(server(1), None, at(100));
        it.planned(150);
        assert!(it.session.is_unwatched());
        it.planned(200);
        assert!(!it.session.is_unwatched());
        let _lent = it.session.lend(server(1), None);
        it.session.lend_until(server(1), None, at(300));
        it.planned(300);
        assert!(it.session.is_unwatched());
    }
}
