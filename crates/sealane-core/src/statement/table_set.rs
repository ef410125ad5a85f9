//! The tables that a statement touches, as a small set.

/// How many slots the names of tables share. Reads of two tables in one slot wait for each other's
/// writes. This sometimes sends a read to the primary, but it is never wrong.
pub(crate) const SLOTS: usize = 256;

/// The tables that a statement reads or writes, each as one of 256 slots. If the tables are
/// unknown, the set stands for all tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSet {
    slots: [u64; SLOTS / 64],
    whole: bool,
}

impl TableSet {
    /// No table.
    pub const NONE: TableSet = TableSet { slots: [0; SLOTS / 64], whole: false };
    /// Any table.
    pub const WHOLE: TableSet = TableSet { slots: [0; SLOTS / 64], whole: true };

    /// Adds the table `name`. Schemas do not count: tables with the same name share a slot, and so
    /// do names that differ only in case.
    pub fn add(&mut self, name: &str) {
        // FNV-1a is quick for short names, and an attacker gains nothing from a collision.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
        });
        let slot = ((hash ^ hash >> 32) & 0xFF) as usize;
        self.slots[slot / 64] |= 1 << (slot % 64);
    }

    /// The tables of both sets.
    #[must_use]
    pub fn with(mut self, other: &TableSet) -> TableSet {
        self.slots.iter_mut().zip(other.slots).for_each(|(ours, theirs)| *ours |= theirs);
        self.whole |= other.whole;
        self
    }

    /// Whether the set stands for all tables.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The slots in use, in ascending order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> + use<> {
        let bits = |word: u64| {
            std::iter::successors((word != 0).then_some(word), |left| {
                let left = left & (left - 1);
                (left != 0).then_some(left)
            })
        };
        let words = self.slots.into_iter().enumerate();
        words.flat_map(move |(index, word)| {
            bits(word).map(move |left| index * 64 + left.trailing_zeros() as usize)
        })
    }
}

impl<'a> FromIterator<&'a str> for TableSet {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut tables = TableSet::NONE;
        names.into_iter().for_each(|name| tables.add(name));
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_one_slot_however_it_is_written() {
        let [one, two] = ["boat", "BOAT"].map(|name| TableSet::from_iter([name]));
        assert_eq!(one, two);
        assert_eq!(one.slots().count(), 1);
    }

    #[test]
    fn slots_are_those_that_were_added() {
        let names = ["boat", "harbour", "voyage", "crew", "cargo"];
        let all = TableSet::from_iter(names);
        let mut each: Vec<_> =
            names.iter().flat_map(|name| TableSet::from_iter([*name]).slots()).collect();
        each.sort_unstable();
        assert_eq!(all.slots().collect::<Vec<_>>(), each);
        assert_eq!(each.len(), 5, "these names were chosen to have different slots");
        assert_eq!(TableSet::NONE.slots().count(), 0);
    }

    #[test]
    fn names_spread_over_the_slots() {
        let names: Vec<_> = (0..1000).map(|n| format!("table_{n}")).collect();
        let used = TableSet::from_iter(names.iter().map(String::as_str)).slots().count();
        assert!(used > SLOTS * 9 / 10, "{used}");
    }

    #[test]
    fn a_union_holds_the_tables_of_both_sets() {
        let (one, two) = (TableSet::from_iter(["boat"]), TableSet::from_iter(["crew"]));
        assert_eq!(one.with(&two), TableSet::from_iter(["crew", "boat"]));
        assert!(one.with(&TableSet::WHOLE).is_whole() && !one.with(&two).is_whole());
    }
}
