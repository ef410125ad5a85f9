use std::time::Duration;

use super::*;
use crate::history::{Failover, SHARED};

/// A history by hand: keys 0 and 1 stand alone, 2 and 3 are a pair. Every operation takes
/// ten nanoseconds, and begins when the one before has ended.
struct Log(History);

impl Log {
    fn new() -> Self {
        let (primaries, operations) = (vec!["primary".to_owned()], Vec::new());
        Self(History { failover: None, keys: 4, pairs: 2..4, primaries, operations })
    }

    fn add(mut self, session: SessionId, action: Action) -> Self {
        let number = i64::try_from(self.0.operations.len()).unwrap() + 1;
        let begun = Moment(number.cast_unsigned() * 20);
        let ended = Moment(begun.0 + 10);
        let operation = Operation { number, client: 0, session, begun, ended, action };
        self.0.operations.push(operation);
        self
    }

    fn ending_at(mut self, ended: u64) -> Self {
        self.0.operations.last_mut().unwrap().ended = Moment(ended);
        self
    }

    fn on_primary(mut self) -> Self {
        if let Action::Read { sights, .. } = &mut self.0.operations.last_mut().unwrap().action {
            sights.iter_mut().for_each(|sight| sight.place = "primary".to_owned());
        }
        self
    }

    fn write(self, session: SessionId, keys: &[Key], version: Version, fate: Fate) -> Self {
        self.add(session, Action::Write { keys: keys.into(), version: Some(version), fate })
    }

    fn done(self, session: SessionId, keys: &[Key], version: Version) -> Self {
        self.write(session, keys, version, Fate::Done)
    }

    fn reads(self, session: SessionId, promise: Promise, cells: &[(Key, Version, Author)]) -> Self {
        let sights = vec![sight(cells)];
        self.add(session, Action::Read { promise, sights, transaction: None })
    }

    fn read(self, session: SessionId, key: Key, version: Version, author: Author) -> Self {
        self.reads(session, Promise::Session, &[(key, version, author)])
    }

    fn transaction(self, kind: Transaction, sights: &[&[(Key, Version, Author)]]) -> Self {
        let sights = sights.iter().map(|cells| sight(cells)).collect();
        let promise = Promise::Session;
        self.add(9, Action::Read { promise, sights, transaction: Some(kind) })
    }

    fn faults(&self) -> Vec<(Fault, Author)> {
        violations(&self.0).iter().map(|found| (found.fault, found.operation)).collect()
    }
}

fn sight(cells: &[(Key, Version, Author)]) -> Sight {
    let cell = |&(key, version, author): &_| Cell { key, version, author };
    Sight { place: "here".to_owned(), cells: cells.iter().map(cell).collect() }
}

#[test]
fn a_history_without_fault_passes() {
    let log = Log::new()
        .read(1, 0, 0, 0)
        .done(1, &[0], 1)
        .read(1, 0, 1, 2)
        .reads(2, Promise::Nothing, &[(0, 0, 0)])
        .read(3, 0, 0, 0)
        .done(2, &[2, 3], 1)
        .reads(1, Promise::Within(Duration::ZERO), &[(2, 1, 6), (3, 1, 6)])
        .transaction(Transaction::Snapshot, &[&[(2, 0, 0)], &[(2, 0, 0), (3, 0, 0)]])
        .transaction(Transaction::Statements, &[&[(2, 0, 0)], &[(2, 1, 6), (3, 1, 6)]]);
    assert_eq!(log.faults(), []);
}

#[test]
fn a_session_that_misses_its_write_is_found() {
    let log = Log::new().done(1, &[0], 1).read(1, 0, 0, 0);
    assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 2)]);
    let log = Log::new().done(0, &[0], 1).reads(0, Promise::OwnWrites, &[(0, 0, 0)]);
    assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 2)]);
}

#[test]
fn a_write_that_was_not_answered_before_the_read_began_is_not_owed() {
    let log = Log::new().done(1, &[0], 1).ending_at(50).read(1, 0, 0, 0);
    assert_eq!(log.faults(), []);
    let lost = Fate::Unknown("connection lost".to_owned());
    let log = Log::new().write(1, &[0], 1, lost).read(1, 0, 0, 0).read(1, 0, 1, 1);
    assert_eq!(log.faults(), []);
}

#[test]
fn a_session_that_goes_back_in_time_is_found() {
    let log = Log::new().done(1, &[0], 1).read(2, 0, 1, 1).read(2, 0, 0, 0);
    assert_eq!(log.faults(), [(Fault::BackInTime, 3)]);
    // Whatever was asked of the read that saw it.
    let seen = [(0, 1, 1)];
    let log = Log::new().done(1, &[0], 1).reads(2, Promise::Nothing, &seen).read(2, 0, 0, 0);
    assert_eq!(log.faults(), [(Fault::BackInTime, 3)]);
}

#[test]
fn the_primary_may_lack_what_a_replica_has_shown_until_it_is_answered() {
    let shown = |ended| Log::new().done(1, &[0], 1).ending_at(ended).read(2, 0, 1, 1);
    assert_eq!(shown(70).read(2, 0, 0, 0).on_primary().faults(), []);
    // Other replicas may not, and nor may the primary once it is answered.
    assert_eq!(shown(70).read(2, 0, 0, 0).faults(), [(Fault::BackInTime, 3)]);
    assert_eq!(shown(50).read(2, 0, 0, 0).on_primary().faults(), [(Fault::BackInTime, 3)]);
}

#[test]
fn reads_that_many_share_have_no_order() {
    let [new, old] = [[(0, 1, 1)], [(0, 0, 0)]];
    let log = Log::new().done(1, &[0], 1).reads(0, Promise::OwnWrites, &new).reads(
        0,
        Promise::OwnWrites,
        &old,
    );
    assert_eq!(log.faults(), []);
}

#[test]
fn what_a_session_knows_goes_along_with_forks_merges_and_tokens() {
    let descend = |by_token| Action::Descend { to: 2, by_token };
    for by_token in [false, true] {
        let log = Log::new().done(1, &[0], 1).add(1, descend(by_token)).read(2, 0, 0, 0);
        assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 3)]);
    }
    // But not what comes later, and not the other way.
    let log = Log::new()
        .add(1, descend(false))
        .done(1, &[0], 1)
        .read(2, 0, 0, 0)
        .done(2, &[1], 1)
        .read(1, 1, 0, 0);
    assert_eq!(log.faults(), []);
    let merge = Action::Merge { from: 1 };
    let log = Log::new()
        .done(3, &[0], 1)
        .read(1, 0, 1, 1)
        .read(2, 0, 0, 0)
        .add(2, merge)
        .read(2, 0, 0, 0);
    assert_eq!(log.faults(), [(Fault::BackInTime, 5)]);
}

#[test]
fn a_read_beyond_its_bound_is_found() {
    // Answered at 30; the read begins at 40.
    let read = |bound| {
        let promise = Promise::Within(Duration::from_nanos(bound));
        Log::new().done(1, &[0], 1).reads(2, promise, &[(0, 0, 0)])
    };
    assert_eq!(read(9).faults(), [(Fault::TooStale, 2)]);
    assert_eq!(read(10).faults(), []);
}

#[test]
fn a_bound_owes_the_greatest_version_and_not_the_last_answer() {
    let log = Log::new().done(1, &[0], 2).done(1, &[0], 1).reads(
        2,
        Promise::Within(Duration::ZERO),
        &[(0, 1, 2)],
    );
    assert_eq!(log.faults(), [(Fault::TooStale, 3)]);
}

#[test]
fn a_torn_snapshot_is_found() {
    let torn = [(2, 1, 1), (3, 0, 0)];
    let log = Log::new().done(1, &[2, 3], 1).reads(2, Promise::Session, &torn);
    assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
    let [old, new]: [&[_]; 2] = [&[(0, 0, 0)], &[(0, 1, 1)]];
    let log = Log::new().done(1, &[0], 1).transaction(Transaction::Snapshot, &[old, new]);
    assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
    // A pair read one after the other.
    let [first, second]: [&[_]; 2] = [&[(2, 0, 0)], &[(3, 1, 1)]];
    let log = Log::new().done(1, &[2, 3], 1).transaction(Transaction::Snapshot, &[first, second]);
    assert_eq!(log.faults(), [(Fault::TornSnapshot, 2)]);
    let log = Log::new().done(1, &[2, 3], 1).transaction(Transaction::Statements, &[first, second]);
    assert_eq!(log.faults(), []);
}

#[test]
fn a_transaction_that_goes_back_in_time_is_found() {
    let [old, new]: [&[_]; 2] = [&[(0, 0, 0)], &[(0, 1, 1)]];
    let log = Log::new().done(1, &[0], 1).transaction(Transaction::Statements, &[new, old]);
    assert_eq!(log.faults(), [(Fault::BackInTime, 2)]);
}

#[test]
fn what_nobody_wrote_is_found() {
    let never = [(Fault::NeverWritten, 2)];
    let undone = Log::new().write(1, &[0], 1, Fate::Undone).read(2, 0, 1, 1);
    assert_eq!(undone.faults(), never);
    let of_another_key = Log::new().done(1, &[0], 1).read(2, 1, 1, 1);
    assert_eq!(of_another_key.faults(), never);
    let of_another_version = Log::new().done(1, &[0], 1).read(2, 0, 2, 1);
    assert_eq!(of_another_version.faults(), never);
    let by_nobody = Log::new().done(1, &[0], 1).read(2, 0, 1, 77);
    assert_eq!(by_nobody.faults(), never);
    let from_the_future = Log::new().read(2, 0, 1, 2).done(1, &[0], 1);
    assert_eq!(from_the_future.faults(), [(Fault::NeverWritten, 1)]);
    let no_such_row = Log::new().done(1, &[0], 1).read(2, 0, -1, 0);
    assert!(no_such_row.faults().contains(&never[0]));
}

impl Log {
    /// With a promotion that both processes know of from moment 100 on.
    fn after(mut self, synchronous: bool, survivors: &[Author]) -> Self {
        let known = [Moment(100); 2];
        let survivors = survivors.iter().copied().collect();
        self.0.failover = Some(Failover { synchronous, began: Moment(30), known, survivors });
        self
    }
}

#[test]
fn an_answered_write_that_a_promotion_lost_is_found_if_a_replica_had_it() {
    let log = || Log::new().done(1, &[0], 1).done(1, &[0], 2);
    assert_eq!(log().after(true, &[1, 2]).faults(), []);
    assert_eq!(log().after(true, &[2]).faults(), [(Fault::Lost, 1)]);
    assert_eq!(log().after(false, &[2]).faults(), []);
}

#[test]
fn an_answer_of_a_primary_that_was_replaced_is_found() {
    let log = |ended| Log::new().done(1, &[0], 1).ending_at(ended);
    assert_eq!(log(101).after(false, &[]).faults(), [(Fault::AnsweredByOld, 1)]);
    assert_eq!(log(101).after(false, &[1]).faults(), []);
    assert_eq!(log(99).after(false, &[]).faults(), []);
    let unknown = Fate::Unknown("who knows".to_owned());
    let log = Log::new().write(1, &[0], 1, unknown).ending_at(101).after(true, &[]);
    assert_eq!(log.faults(), []);
}

#[test]
fn what_a_promotion_lost_is_owed_to_nobody_and_shown_to_nobody_who_knows() {
    // The third begins at 60, the fifth at 100, the sixth at 120.
    let log = |promise| {
        let lost = [(0, 2, 2)];
        let log = Log::new().done(1, &[0], 1).done(1, &[0], 2).reads(1, promise, &lost);
        log.read(1, 0, 1, 1).read(1, 0, 1, 1)
    };
    assert_eq!(log(Promise::Session).after(false, &[1]).faults(), []);
    let shown = |promise| log(promise).reads(1, promise, &[(0, 2, 2)]).after(false, &[1]);
    assert_eq!(shown(Promise::Session).faults(), [(Fault::ReadFromOld, 6)]);
    assert_eq!(shown(Promise::Nothing).faults(), []);
}

#[test]
fn bounds_hold_but_for_those_who_cannot_know_the_new_primary() {
    let read = |log: Log| log.reads(2, Promise::Within(Duration::ZERO), &[(0, 0, 0)]);
    let log = || read(Log::new().done(1, &[0], 1));
    assert_eq!(log().after(false, &[1]).faults(), []);
    let later = || read(log().done(1, &[1], 1).done(1, &[1], 2));
    assert_eq!(later().after(false, &[1, 3, 4]).faults(), [(Fault::TooStale, 5)]);
}

#[test]
fn a_task_without_a_session_is_owed_what_its_process_wrote() {
    let stray = |process: usize| {
        let log = Log::new().done(5, &[0], 1);
        log.reads(PROCESS[process], Promise::OwnWrites, &[(0, 0, 0)])
    };
    assert_eq!(stray(process_of(5)).faults(), [(Fault::OwnWriteMissed, 2)]);
    assert_eq!(stray(1 - process_of(5)).faults(), []);
}

#[test]
fn the_shared_handle_is_owed_what_merged_sessions_have_read() {
    let log = Log::new().done(3, &[0], 1).read(4, 0, 1, 1);
    let log = log.add(SHARED, Action::Merge { from: 4 });
    let log = log.reads(SHARED, Promise::OwnWrites, &[(0, 0, 0)]);
    assert_eq!(log.faults(), [(Fault::BackInTime, 4)]);
}

#[test]
fn what_a_transaction_shows_is_seen_by_its_session() {
    let seen = [(0, 1, 1)];
    let log = Log::new().done(1, &[0], 1).reads(2, Promise::InTransaction, &seen);
    assert_eq!(log.read(2, 0, 0, 0).faults(), [(Fault::BackInTime, 3)]);
    // It may itself be older than what a replica showed, and not than what the session wrote.
    let log = Log::new().done(1, &[0], 1).read(2, 0, 1, 1);
    assert_eq!(log.reads(2, Promise::InTransaction, &[(0, 0, 0)]).faults(), []);
    let log = Log::new().done(1, &[0], 1).reads(1, Promise::InTransaction, &[(0, 0, 0)]);
    assert_eq!(log.faults(), [(Fault::OwnWriteMissed, 2)]);
}

#[test]
fn what_has_no_end_is_found() {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap();
    let log = |took| Log::new().read(1, 0, 0, 0).ending_at(20 + took);
    assert_eq!(log(longest).faults(), [(Fault::Endless, 1)]);
    assert_eq!(log(longest - 1).faults(), []);
}
