//! Checks the algebra of positions: laws, and a comparison with plain sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use sealane_core::{GtidList, GtidSet, Position};

/// One transaction of the model.
type Transaction = (u8, &'static str, u64);

const TAGS: [&str; 3] = ["", "tag", "other_tag"];

fn transaction() -> impl Strategy<Value = Transaction> {
    (0..3_u8, 0..TAGS.len(), 1..12_u64).prop_map(|(uuid, tag, n)| (uuid, TAGS[tag], n))
}

fn model() -> impl Strategy<Value = BTreeSet<Transaction>> {
    vec(transaction(), 0..24).prop_map(|transactions| transactions.into_iter().collect())
}

fn uuid(n: u8) -> String {
    format!("0000000{n}-aaaa-bbbb-cccc-0123456789ab")
}

/// Writes each transaction separately, so that the parser must join all of them.
fn text(model: &BTreeSet<Transaction>) -> String {
    let each = |(u, tag, n): &Transaction| match *tag {
        "" => format!("{}:{n}", uuid(*u)),
        tag => format!("{}:{tag}:{n}", uuid(*u)),
    };
    model.iter().rev().map(each).collect::<Vec<_>>().join(",\n")
}

fn set(model: &BTreeSet<Transaction>) -> GtidSet {
    text(model).parse().expect("a set")
}

fn list() -> impl Strategy<Value = GtidList> {
    // The server follows from domain and sequence, so all lists share one history.
    vec((0..4_u32, 0..20_u64), 0..5).prop_map(|gtids| {
        let last: BTreeMap<u32, u64> = gtids.into_iter().collect();
        let each = |(domain, n): (u32, u64)| format!("{domain}-{}-{n}", 1 + n / 7);
        last.into_iter().map(each).collect::<Vec<_>>().join(",").parse().expect("a list")
    })
}

/// Lists of servers that may have diverged.
fn any_list() -> impl Strategy<Value = GtidList> {
    vec((0..3_u32, 1..3_u32, 0..4_u64), 0..4).prop_map(|gtids| {
        let last: BTreeMap<u32, (u32, u64)> =
            gtids.into_iter().map(|(domain, server, n)| (domain, (server, n))).collect();
        let each = |(domain, (server, n))| format!("{domain}-{server}-{n}");
        last.into_iter().map(each).collect::<Vec<_>>().join(",").parse().expect("a list")
    })
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        Just(Position::Current),
        (1..3_u64, 1..3_u32, 0..4_u64).prop_map(|(system, timeline, bytes)| Position::Wal {
            system,
            timeline,
            lsn: sealane_core::Lsn::from_bytes(bytes)
        }),
        model().prop_map(|model| Position::GtidSet(set(&model))),
        any_list().prop_map(Position::GtidList),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_behaves_like_its_model(a in model(), b in model()) {
        let (x, y) = (set(&a), set(&b));
        prop_assert_eq!(x.len(), a.len() as u64);
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x == y, a == b);
        prop_assert_eq!(x.covers(&y), a.is_superset(&b));
        prop_assert_eq!(x.missing(&y), b.difference(&a).count() as u64);
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert_eq!(x.union(&y), set(&a.union(&b).copied().collect()));
    }

    #[test]
    fn a_written_position_is_read_back(a in model(), b in any_list()) {
        let (set, list) = (set(&a), b);
        prop_assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), set.clone());
        prop_assert_eq!(set.to_string().to_uppercase().parse::<GtidSet>().unwrap(), set);
        prop_assert_eq!(list.to_string().parse::<GtidList>().unwrap(), list);
    }

    #[test]
    fn a_union_of_sets_is_their_least_upper_bound(a in model(), b in model(), c in model()) {
        let (a, b, c) = (set(&a), set(&b), set(&c));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert!(a.union(&b).covers(&a) && a.union(&b).covers(&b));
        prop_assert_eq!(c.covers(&a.union(&b)), c.covers(&a) && c.covers(&b));
        prop_assert_eq!(a.covers(&b), a.union(&b) == a);
    }

    #[test]
    fn a_union_of_lists_of_one_history_is_their_least_upper_bound(
        a in list(), b in list(), c in list()
    ) {
        prop_assert!(a.union(&b).covers(&a) && a.union(&b).covers(&b));
        prop_assert_eq!(c.covers(&a.union(&b)), c.covers(&a) && c.covers(&b));
        prop_assert_eq!(a.covers(&b), a.union(&b) == a);
    }

    #[test]
    fn a_union_of_any_lists_does_not_depend_on_the_order(
        a in any_list(), b in any_list(), c in any_list()
    ) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a);
    }

    #[test]
    fn covering_is_a_partial_order(a in position(), b in position(), c in position()) {
        prop_assert!(a.covers(&a));
        prop_assert!(!(a.covers(&b) && b.covers(&c)) || a.covers(&c));
        prop_assert_eq!(a.covers(&b) && b.covers(&a), a == b);
    }

    #[test]
    fn a_covering_position_misses_nothing(a in position(), b in position()) {
        let missing = a.behind(&b).map(|distance| serde_json::to_value(distance).unwrap());
        if let (true, Some(missing)) = (a.covers(&b), missing) {
            prop_assert_eq!(&missing["count"], 0);
        }
        if let Some(both) = a.union(&b) {
            prop_assert_eq!(Some(both), b.union(&a));
        }
    }

    #[test]
    fn no_text_breaks_the_parsers(text in ".{0,200}") {
        let _ = text.parse::<GtidSet>();
        let _ = text.parse::<GtidList>();
    }

    #[test]
    fn no_text_of_valid_letters_breaks_the_parsers(text in "[-0-9a-f:, \n]{0,120}") {
        let text = format!("{}{text}", uuid(1));
        if let Ok(set) = text.parse::<GtidSet>() {
            prop_assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), set);
        }
        let _ = text.parse::<GtidList>();
    }
}
