//! The history of the primary's positions: the proof behind fences and staleness.
//!
//! A probe of the primary yields a sample: a moment, a stamp and a position. A replica whose
//! position covers a sample covers the sample's stamp. Each observation recomputes
//! `EndpointState::covered` from the history, so the value also falls if a replica goes back.
//!
//! # Chains
//! Positions are only partially ordered. After a promotion, a lost tail, or a primary that went
//! back, neither of two samples may cover the other. The history keeps *chains* of samples in which
//! each sample covers its predecessor, bisects each chain, and takes the best result. So one rule
//! serves LSNs, MySQL's GTID sets and MariaDB's GTID lists. A read compares stamps and never sees a
//! set.
//!
//! # Staleness
//! The samples' moments prove staleness in the same way: a replica that covers the primary's
//! position of moment *t* misses nothing that was committed before *t*. No server's clock is
//! trusted. An idle primary shows no lag, because a sample that equals the last one replaces it
//! with the newer moment. Forgetting samples only makes replicas look staler.
//!
//! *Staleness* is measured from now, *lag* from the newest sample. A bound on staleness must hold
//! even while the primary is away. The default `max_lag` need not hold then. Otherwise an outage of
//! the primary would also take the replicas away from their readers.

use crate::{Moment, Position, WriteStamp};

/// How many samples are kept. At the idle pace of one per second they reach back four minutes. When
/// the history is full, every other sample of the older half is dropped, so that it reaches further
/// back at a coarser grain.
const CAPACITY: usize = 256;

/// How many intervals all samples together may have; an interval takes sixteen bytes. Only sets
/// with thousands of pieces come near this limit, and their history becomes coarser.
const MOST_INTERVALS: usize = 1 << 20;

/// One sample of the primary's position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// A moment before the position was requested: the position contains all commits up to this
    /// moment.
    pub(crate) at: Moment,
    /// The write clock, read at that time.
    pub(crate) stamp: WriteStamp,
    pub(crate) position: Position,
}

/// What a server's position proves about its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The data contains everything that the primary had committed at this moment.
    pub(crate) at: Moment,
    /// The data contains every write up to this stamp.
    pub(crate) stamp: WriteStamp,
}

/// Samples of the primary, oldest first.
///
/// Forgetting a sample is always safe: a replica then covers only an older sample, so it counts as
/// staler than it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Vec<Entry>);

/// Positions are only partially ordered. After a promotion, or when a primary went back, a new
/// sample may not cover the samples before it. Consecutive samples that each cover their
/// predecessor form a chain. Within a chain, the samples that a position covers come before those
/// that it does not cover.
#[derive(Debug, Clone)]
struct Entry {
    sample: Sample,
    /// The number of the sample's chain; numbers grow.
    chain: u64,
}

impl History {
    /// Adds a sample. While the primary stands still, the newer sample replaces the older one,
    /// because a position that covers one covers both.
    pub(crate) fn push(&mut self, mut sample: Sample) {
        let mut chain = 0;
        if let Some(Entry { sample: last, chain: current }) = self.0.last_mut() {
            let is_late = sample.at < last.at;
            if is_late && sample.position.timeline() <= last.position.timeline() {
                // The late sample proves nothing that a newer sample does not prove. (The first
                // sample of a new primary does, even if the old primary was asked after it.)
                return;
            }
            chain = *current + 1;
            if sample.position.covers(&last.position) {
                chain = *current;
                // The new position contains everything of the last one, so its stamp must not be
                // smaller. Around a promotion, two endpoints are probed at the same time, and the
                // clock may have been read earlier for the one that was probed later.
                sample.stamp = sample.stamp.max(last.stamp);
            }
            if last.position == sample.position {
                *last = sample;
                return;
            }
        }
        let room = MOST_INTERVALS.saturating_sub(intervals(&sample));
        while self.0.len() >= CAPACITY || (self.0.len() >= 4 && self.intervals() > room) {
            self.thin();
        }
        self.0.push(Entry { sample, chain });
    }

    fn intervals(&self) -> usize {
        self.0.iter().map(|entry| intervals(&entry.sample)).sum()
    }

    /// The most that `position` proves: the greatest stamp and the latest moment of the samples
    /// that it covers. A binary search finds them in each chain.
    pub(crate) fn proof(&self, position: &Position) -> Option<Proof> {
        let mut best: Option<Proof> = None;
        for chain in self.0.chunk_by(|a, b| a.chain == b.chain) {
            let covered = chain.partition_point(|entry| position.covers(&entry.sample.position));
            let Some(Entry { sample, .. }) = covered.checked_sub(1).and_then(|i| chain.get(i))
            else {
                continue;
            };
            let so_far = best.unwrap_or(Proof { at: sample.at, stamp: sample.stamp });
            best =
                Some(Proof { at: so_far.at.max(sample.at), stamp: so_far.stamp.max(sample.stamp) });
        }
        best
    }

    /// The least position that contains every write up to `stamp`, among the samples of the newest
    /// chain.
    pub(crate) fn position_at(&self, stamp: WriteStamp) -> Option<&Position> {
        let chain = self.0.chunk_by(|a, b| a.chain == b.chain).last()?;
        let before = chain.partition_point(|entry| entry.sample.stamp < stamp);
        chain.get(before).map(|entry| &entry.sample.position)
    }

    /// The newest sample.
    pub(crate) fn newest(&self) -> Option<&Sample> {
        self.0.last().map(|entry| &entry.sample)
    }

    fn thin(&mut self) {
        let half = self.0.len() / 2;
        let mut index = 0;
        self.0.retain(|_| {
            index += 1;
            index > half || index % 2 == 0
        });
    }
}

fn intervals(sample: &Sample) -> usize {
    match &sample.position {
        Position::GtidSet(set) => set.intervals(),
        Position::Current | Position::Wal { .. } | Position::GtidList(_) | Position::Opaque => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::Lsn;

    fn at(n: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(n))
    }

    fn sample(n: u64) -> Sample {
        sample_of(n, position(n))
    }

    fn sample_of(n: u64, position: Position) -> Sample {
        Sample { at: at(n), stamp: WriteStamp::from_number(n), position }
    }

    fn position(lsn: u64) -> Position {
        on_timeline(1, lsn)
    }

    fn on_timeline(timeline: u32, lsn: u64) -> Position {
        Position::Wal { system: 1, timeline, lsn: Lsn::from_bytes(lsn) }
    }

    /// `a`, `b` and `c` stand for UUIDs.
    fn set(text: &str) -> Position {
        let uuid = |c: char| match c {
            'a'..='c' => format!("0000000{c}-0000-0000-0000-000000000000"),
            c => c.to_string(),
        };
        Position::GtidSet(text.chars().map(uuid).collect::<String>().parse().unwrap())
    }

    fn history(samples: u64) -> History {
        let mut history = History::default();
        (1..=samples).for_each(|n| history.push(sample(n)));
        history
    }

    fn of_sets(texts: &[&str]) -> History {
        let mut history = History::default();
        for (n, text) in (1..).zip(texts) {
            history.push(sample_of(n, set(text)));
        }
        history
    }

    /// The proved moment and stamp, both as the number of their sample.
    fn proved(history: &History, position: &Position) -> Option<(u64, u64)> {
        let proof = history.proof(position)?;
        Some((proof.at.since(Moment::ZERO).as_secs(), proof.stamp.number()))
    }

    #[test]
    fn the_newest_covered_sample_is_found() {
        let history = history(10);
        assert_eq!(proved(&history, &position(7)), Some((7, 7)));
        assert_eq!(proved(&history, &position(99)), Some((10, 10)));
        assert_eq!(proved(&history, &position(0)), None);
    }

    #[test]
    fn a_primary_that_stands_still_keeps_one_sample_with_the_newest_time() {
        let mut history = history(3);
        history.push(sample_of(9, position(3)));
        assert_eq!(history.0.len(), 3);
        assert_eq!(proved(&history, &position(3)), Some((9, 9)));
    }

    #[test]
    fn a_late_sample_changes_nothing() {
        let mut history = history(3);
        history.push(sample_of(2, position(50)));
        assert_eq!(history.newest(), Some(&sample(3)));
    }

    #[test]
    fn a_stamp_read_late_does_not_fall_behind_its_predecessor() {
        let mut history = history(3);
        history.push(Sample { stamp: WriteStamp::from_number(2), ..sample(4) });
        assert_eq!(proved(&history, &position(4)), Some((4, 3)));
        history.push(Sample { stamp: WriteStamp::NONE, ..sample_of(5, position(4)) });
        assert_eq!(proved(&history, &position(4)), Some((5, 3)));
    }

    #[test]
    fn after_a_promotion_each_timeline_is_proved_by_its_own_samples() {
        let mut history = history(3);
        history.push(sample_of(4, on_timeline(2, 2)));
        history.push(sample_of(5, on_timeline(2, 8)));
        assert_eq!(proved(&history, &position(99)), Some((3, 3)));
        assert_eq!(proved(&history, &on_timeline(2, 7)), Some((4, 4)));
        assert_eq!(proved(&history, &on_timeline(2, 1)), None);
    }

    #[test]
    fn a_primary_that_went_back_begins_a_new_chain() {
        let mut history = history(10);
        history.push(sample_of(11, position(4)));
        history.push(sample_of(12, position(6)));
        assert_eq!(proved(&history, &position(5)), Some((11, 11)));
        assert_eq!(proved(&history, &position(6)), Some((12, 12)));
        assert_eq!(proved(&history, &position(3)), Some((3, 3)));
    }

    #[test]
    fn a_lost_tail_is_in_one_set_and_not_in_the_other() {
        // The old primary's a:96-100 never reached the new one.
        let history = of_sets(&["a:1-90", "a:1-100", "a:1-95,b:1", "a:1-95,b:1-7"]);
        assert_eq!(proved(&history, &set("a:1-100")), Some((2, 2)));
        assert_eq!(proved(&history, &set("a:1-95")), Some((1, 1)));
        assert_eq!(proved(&history, &set("a:1-95,b:1-3")), Some((3, 3)));
        assert_eq!(proved(&history, &set("a:1-100,b:1-3")), Some((3, 3)));
        assert_eq!(proved(&history, &set("a:1-95,b:2-7")), Some((1, 1)), "b:1 is missing");
    }

    #[test]
    fn an_errant_transaction_changes_no_proof() {
        let history = of_sets(&["a:1-90", "a:1-100"]);
        assert_eq!(proved(&history, &set("a:1-100,c:1")), Some((2, 2)));
    }

    #[test]
    fn the_position_of_a_stamp_is_the_first_sampled_after_it() {
        let mut history = History::default();
        assert_eq!(history.position_at(WriteStamp::NONE), None);
        (1..=3).for_each(|n| history.push(sample_of(n * 10, on_timeline(1, n * 100))));
        let at = |stamp| history.position_at(WriteStamp::from_number(stamp)).cloned();
        assert_eq!(at(0), Some(on_timeline(1, 100)));
        assert_eq!(at(10), Some(on_timeline(1, 100)));
        assert_eq!(at(11), Some(on_timeline(1, 200)));
        assert_eq!(at(31), None);
    }

    #[test]
    fn after_a_promotion_only_the_new_history_has_positions_to_give() {
        let mut history = History::default();
        history.push(sample_of(10, on_timeline(1, 500)));
        history.push(sample_of(20, on_timeline(2, 400)));
        assert_eq!(history.position_at(WriteStamp::from_number(5)), Some(&on_timeline(2, 400)));
    }

    #[test]
    fn thinning_never_proves_more_than_was_sampled() {
        let history = history(10_000);
        assert!(history.0.len() <= CAPACITY);
        for lsn in 1..=10_000 {
            if let Some((moment, stamp)) = proved(&history, &position(lsn)) {
                assert!(moment <= lsn && stamp <= lsn);
            }
        }
        assert_eq!(proved(&history, &position(10_000)), Some((10_000, 10_000)));
    }

    #[test]
    fn thinning_keeps_every_second_sample_of_the_older_half() {
        let capacity = CAPACITY as u64;
        let history = history(capacity + 1);
        assert_eq!(history.0.len() as u64, capacity / 4 + capacity / 2 + 1);
        for n in [1, capacity / 4, capacity / 2] {
            let even = n / 2 * 2;
            let expected = Some((even, even)).filter(|_| even > 0);
            assert_eq!(proved(&history, &position(n)), expected, "{n}");
        }
    }

    #[test]
    fn sets_of_many_pieces_make_the_history_coarser_and_not_larger() {
        let torn: String = (1..20_000).map(|n| format!(":{}", 2 * n)).collect();
        let (Position::GtidSet(torn), uuid) = (set(&format!("a{torn}")), "0000000b") else {
            panic!("no set")
        };
        let set_of = |n: u64| {
            let tail = format!("{uuid}-0000-0000-0000-000000000000:1-{n}").parse().unwrap();
            Position::GtidSet(torn.union(&tail))
        };
        let mut history = History::default();
        (1..100).for_each(|n| history.push(sample_of(n, set_of(n))));
        assert!(history.intervals() <= MOST_INTERVALS, "{}", history.intervals());
        assert_eq!(proved(&history, &set_of(99)), Some((99, 99)));
        let (_, stamp) = proved(&history, &set_of(40)).unwrap();
        assert!((1..=40).contains(&stamp), "{stamp}");
    }

    fn any_position() -> impl Strategy<Value = Position> {
        prop_oneof![
            (1..3_u32, 0..9_u64).prop_map(|(timeline, lsn)| on_timeline(timeline, lsn)),
            vec((0..3_usize, 1..6_u64), 0..6).prop_map(|transactions| {
                let each = |(source, n): (usize, u64)| format!("{}:{n}", ["a", "b", "c"][source]);
                set(&transactions.into_iter().map(each).collect::<Vec<_>>().join(","))
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// Compares the binary search with a search through every sample.
        #[test]
        fn the_proof_is_the_best_of_all_covered_samples(
            positions in vec(any_position(), 0..40),
            asked in any_position(),
        ) {
            let mut history = History::default();
            for (n, position) in (1..).zip(positions) {
                history.push(sample_of(n, position));
            }
            let best =
                history.0.iter().rfind(|entry| asked.covers(&entry.sample.position));
            let best = best.map(|entry| entry.sample.stamp.number());
            prop_assert_eq!(proved(&history, &asked), best.map(|n| (n, n)));
        }
    }
}
