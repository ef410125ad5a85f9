//! What goes on where nobody looks.
//!
//! A connection or a transaction may be handed out as a type of somebody else's; what is
//! done with it is not seen. While that goes on, a session has to count as one that has
//! just written, or just seen something there, whenever a statement of it is planned. What
//! was handed out may have been used until the moment when it was given back, so it counts
//! once more afterwards. All of this is rare: usually a plan costs one load.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::{Carried, Server, Session};
use crate::{Footprint, Moment, Topology, WriteClock};

/// What one session has to look after.
#[derive(Debug, Default)]
pub(super) struct Unwatched {
    /// Of how much `open` consists.
    count: AtomicU32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Somebody may write until then.
    writing_until: Option<Moment>,
    lent: Vec<Arc<Loan>>,
    /// What was merged into a shared session from after a failover that is not seen here.
    failover: Option<Arc<Carried>>,
}

/// A transaction on a server, whose statements are not seen.
#[derive(Debug)]
struct Loan {
    server: Server,
    is_primary: bool,
    is_over: AtomicBool,
}

/// Held while statements may run whose answers the session does not see. See
/// [`Session::lend`].
#[derive(Debug)]
#[must_use = "dropping it says that nothing more is seen there"]
pub struct Lent(Option<Arc<Loan>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = &self.0 {
            // The next plan notes what may have been seen until now.
            loan.is_over.store(true, Ordering::Release);
        }
    }
}

impl Session {
    /// Says that somebody has a transaction on `server` in his hands, and that its answers
    /// are not seen here, until the guard is dropped: every plan of this session meanwhile
    /// counts as if something had just been seen there. So the session does not go back in
    /// time beside its own transaction. `is_primary`: it was the primary when the
    /// transaction began.
    ///
    /// A shared session is not told: it promises no order of its users' reads. What
    /// the transaction writes it learns when that ends, as always.
    pub fn lend(&self, server: Server, is_primary: bool) -> Lent {
        if self.is_shared() {
            return Lent(None);
        }
        let loan = Arc::new(Loan { server, is_primary, is_over: AtomicBool::new(false) });
        self.unwatched.change(|open| {
            // The new one notes a later stamp on the same server, for those that are over, too.
            open.lent.retain(|it| {
                let same = (it.server, it.is_primary) == (loan.server, loan.is_primary);
                !(same && it.is_over.load(Ordering::Acquire))
            });
            open.lent.push(Arc::clone(&loan));
        });
        Lent(Some(loan))
    }

    /// Says that somebody who is not seen may write on behalf of this session until then:
    /// every plan meanwhile, and the first one afterwards, counts as if a write had just
    /// ended.
    pub fn expect_writes(&self, until: Moment) {
        let later = |open: &mut Open| open.writing_until = open.writing_until.max(Some(until));
        self.unwatched.change(later);
        if let super::Kind::Own { shared: Some(shared) } = &self.kind
            && self.told().is_some_and(|others| others.waits)
        {
            shared.unwatched.change(later);
        }
    }

    /// Whether something goes on that nobody sees, so that the session has to
    /// [catch up](Self::catch_up) before it is looked at. One load.
    #[must_use]
    pub fn is_unwatched(&self) -> bool {
        self.unwatched.count.load(Ordering::Acquire) > 0
    }

    /// Notes what may have happened unseen by `now`.
    pub fn catch_up(&self, topology: &Topology, now: Moment, clock: &WriteClock) {
        if !self.is_unwatched() {
            return;
        }
        // All in one step: whoever finds nothing open any more finds it noted.
        self.unwatched.change(|open| {
            let failover = open.failover.take_if(|it| !it.awaits_failover(topology));
            if failover.is_some() || open.writing_until.is_some() {
                // The shared session is told by itself.
                self.written.note(clock.tick(), &Footprint::WHOLE);
            }
            open.writing_until = open.writing_until.filter(|until| now < *until);
            open.lent.retain(|loan| {
                // Before: what ends meanwhile is looked at by the next plan once more.
                let is_over = loan.is_over.load(Ordering::Acquire);
                self.saw_unplanned(loan.server, loan.is_primary, clock);
                !is_over
            });
        });
    }
}

impl Unwatched {
    /// Keeps a position for when the failover is seen; the one of the later timeline.
    pub(super) fn await_failover(&self, carried: &Arc<Carried>) {
        self.change(|open| {
            let timeline = |it: &Arc<Carried>| it.position.timeline();
            let is_later = open.failover.as_ref().is_none_or(|it| timeline(it) < timeline(carried));
            if is_later {
                open.failover = Some(Arc::clone(carried));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        let mut open: MutexGuard<'_, Open> =
            // Each field is whole at any time.
            self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open);
        let others = [open.writing_until.is_some(), open.failover.is_some()];
        let count = open.lent.len() + others.into_iter().filter(|it| *it).count();
        self.count.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Release);
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

        /// What the primary, and each of two replicas, must cover in stamps when a read is
        /// planned.
        fn planned(&self, millis: u64) -> [u64; 3] {
            self.session.catch_up(&self.topology, at(millis), &self.clock);
            [0, 1, 2].map(|index| self.session.view().needs(server(index)).number())
        }
    }

    #[test]
    fn while_a_transaction_is_lent_every_plan_has_just_seen_something_there() {
        let it = User::new();
        assert!(!it.session.is_unwatched());
        let lent = it.session.lend(server(0), true);
        assert_eq!(it.planned(0), [0, 1, 1]);
        assert_eq!(it.planned(0), [0, 2, 2]);
        drop(lent);
        assert_eq!(it.planned(0), [0, 3, 3], "until the moment when it was given back");
        assert!(!it.session.is_unwatched());
        assert_eq!(it.planned(0), [0, 3, 3]);
    }

    #[test]
    fn a_transaction_on_a_replica_holds_its_session_there() {
        let it = User::new();
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        let _lent = it.session.lend(server(1), false);
        assert_eq!(it.planned(0), [2, 0, 2]);
        // The session has seen more on another server: now neither holds all.
        it.session.saw(server(2), &it.session.view(), true, &it.clock);
        assert_eq!(it.planned(0), [4, 4, 4]);
    }

    #[test]
    fn two_transactions_on_two_servers_are_held_by_neither() {
        let it = User::new();
        let _one = it.session.lend(server(0), true);
        let _two = it.session.lend(server(1), false);
        let [primary, one, two] = it.planned(0);
        assert!(primary > 0 && primary == one && one == two);
    }

    #[test]
    fn loans_are_counted() {
        let it = User::new();
        let one = it.session.lend(server(0), true);
        let two = it.session.lend(server(0), true);
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
        let _lent = it.session.lend(server(0), true);
        assert!(!(0..40).any(|_| it.session.should_wait_for_proof()));
    }

    #[test]
    fn a_shared_session_promises_no_order_and_is_not_told_of_loans() {
        let shared = Session::shared(WriteTracking::Tables);
        let _lent = shared.lend(server(0), true);
        assert!(!shared.is_unwatched());
    }

    #[test]
    fn while_writes_are_expected_every_plan_has_just_written_and_the_next_one_too() {
        let it = User::new();
        it.session.expect_writes(at(100));
        it.session.expect_writes(at(50));
        assert_eq!(it.planned(0), [1, 1, 1]);
        assert_eq!(it.planned(99), [2, 2, 2]);
        assert_eq!(it.planned(5_000), [3, 3, 3], "what was written since, up to the end");
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
    fn what_the_primary_showed_ties_to_it_until_a_stamp_of_now_is_covered() {
        let it = User::new();
        it.session.saw_unplanned(server(0), true, &it.clock);
        assert_eq!(it.planned(0), [0, 1, 1]);
        // It had seen something on a replica, which the primary has, too.
        it.session.saw(server(1), &it.session.view(), true, &it.clock);
        it.session.saw_unplanned(server(0), true, &it.clock);
        assert_eq!(it.planned(0), [0, 3, 3]);
    }
}
