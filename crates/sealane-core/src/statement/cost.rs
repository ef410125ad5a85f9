//! How much work a statement may be, judged by its text.
//!
//! A planner with statistics knows better. But rules such as "heavy reads go to the analytics
//! replicas" need an answer before any server is asked, and the same answer for every set of
//! values.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The parts that make a statement heavy, counted over the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// Joins, also those written with a comma.
    pub joins: u16,
    /// Subqueries and common table expressions, at any depth.
    pub subqueries: u16,
    /// `UNION`, `INTERSECT`, `EXCEPT`.
    pub set_operations: u16,
    /// Calls of aggregate functions that are not window functions.
    pub aggregates: u16,
    /// Calls of window functions.
    pub windows: u16,
    /// `GROUP BY`, or `DISTINCT`, which groups by everything.
    pub grouping: bool,
    /// `ORDER BY` of a query, but not inside a function call.
    pub sorting: bool,
    /// `WITH RECURSIVE`.
    pub recursion: bool,
    /// At least one query has a `WHERE`.
    pub filtered: bool,
    /// The text has a `COUNT` and no `WHERE`: it counts a whole table.
    pub unbounded_count: bool,
    /// How many rows the statement may return at most.
    pub limit: Limit,
}

/// The `LIMIT` of the outermost query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No limit.
    #[default]
    None,
    /// This many rows.
    Rows(u64),
    /// A parameter or an expression sets the limit.
    Computed,
}

/// A rough class of work.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CostClass {
    /// Look-ups and short lists: most statements of an application.
    #[default]
    Light,
    /// Some joining, sorting or counting, but not much of it together.
    Moderate,
    /// Reports: they count or group whole tables, join many tables, or recurse.
    Heavy,
}

impl Cost {
    /// The class follows from the sum of the weights of all components. Up to 3 is
    /// [`CostClass::Light`], up to 7 [`CostClass::Moderate`].
    ///
    /// | component | weight |
    /// |---|---|
    /// | each join, each common table expression or subquery | 1 |
    /// | each set operation | 1 |
    /// | aggregates, sorting without a limit | 1 |
    /// | neither `WHERE` nor `LIMIT` | 2 |
    /// | window functions, grouping | 3 |
    /// | an unbounded count, recursion | 5 |
    #[must_use]
    pub fn class(&self) -> CostClass {
        match self.weight() {
            0..=3 => CostClass::Light,
            4..=7 => CostClass::Moderate,
            _ => CostClass::Heavy,
        }
    }

    fn weight(&self) -> u32 {
        let counted = [self.joins, self.subqueries, self.set_operations];
        let unlimited = self.limit == Limit::None;
        let present = [
            (self.aggregates > 0, 1),
            (self.sorting && unlimited, 1),
            (!self.filtered && unlimited, 2),
            (self.windows > 0, 3),
            (self.grouping, 3),
            (self.unbounded_count, 5),
            (self.recursion, 5),
        ];
        counted.into_iter().map(u32::from).sum::<u32>()
            + present.into_iter().filter(|(holds, _)| *holds).map(|(_, weight)| weight).sum::<u32>()
    }

    /// Adds the cost of one more statement in the same text.
    pub fn join(&mut self, other: &Cost) {
        self.joins = self.joins.saturating_add(other.joins);
        self.subqueries = self.subqueries.saturating_add(other.subqueries);
        self.set_operations = self.set_operations.saturating_add(other.set_operations);
        self.aggregates = self.aggregates.saturating_add(other.aggregates);
        self.windows = self.windows.saturating_add(other.windows);
        self.grouping |= other.grouping;
        self.sorting |= other.sorting;
        self.recursion |= other.recursion;
        self.filtered |= other.filtered;
        self.unbounded_count |= other.unbounded_count;
        self.limit = other.limit;
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class())?;
        let counted = [
            (self.joins, "joins"),
            (self.subqueries, "subqueries"),
            (self.set_operations, "set operations"),
            (self.aggregates, "aggregates"),
            (self.windows, "windows"),
        ];
        for (count, what) in counted.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {what}: {count}")?;
        }
        let present = [
            (self.grouping, "grouped"),
            (self.sorting, "sorted"),
            (self.recursion, "recursive"),
            (self.unbounded_count, "unbounded count"),
            (!self.filtered, "no WHERE"),
        ];
        for (_, what) in present.into_iter().filter(|(holds, _)| *holds) {
            write!(f, ", {what}")?;
        }
        match self.limit {
            Limit::None => f.write_str(", no LIMIT"),
            Limit::Rows(rows) => write!(f, ", LIMIT {rows}"),
            Limit::Computed => f.write_str(", a computed LIMIT"),
        }
    }
}

impl fmt::Display for CostClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CostClass::Light => "light",
            CostClass::Moderate => "moderate",
            CostClass::Heavy => "heavy",
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// With so many joins, the component is just light, or just moderate.
    #[rstest]
    #[case::subquery(Cost { subqueries: 1, ..filtered() }, 1)]
    #[case::set_operation(Cost { set_operations: 1, ..filtered() }, 1)]
    #[case::aggregates(Cost { aggregates: 2, ..filtered() }, 1)]
    #[case::sorting(Cost { sorting: true, ..filtered() }, 1)]
    #[case::sorting_a_few(Cost { sorting: true, limit: Limit::Rows(9), ..filtered() }, 0)]
    #[case::everything(Cost::default(), 2)]
    #[case::windows(Cost { windows: 2, ..filtered() }, 3)]
    #[case::grouping(Cost { grouping: true, ..filtered() }, 3)]
    #[case::count(Cost { unbounded_count: true, ..filtered() }, 5)]
    #[case::recursion(Cost { recursion: true, ..filtered() }, 5)]
    fn each_component_has_its_weight(#[case] cost: Cost, #[case] weight: u16) {
        let class = |joins: u16| Cost { joins, ..cost.clone() }.class();
        if weight <= 3 {
            assert_eq!(
                [class(3 - weight), class(4 - weight)],
                [CostClass::Light, CostClass::Moderate]
            );
        }
        assert_eq!([class(7 - weight), class(8 - weight)], [CostClass::Moderate, CostClass::Heavy]);
        assert_eq!(CostClass::Heavy.to_string(), "heavy");
    }

    fn filtered() -> Cost {
        Cost { filtered: true, ..Cost::default() }
    }

    #[test]
    fn a_text_of_two_statements_has_what_either_has() {
        let one = Cost { grouping: true, joins: 1, ..Cost::default() };
        let other =
            Cost { sorting: true, recursion: true, filtered: true, joins: 1, ..Cost::default() };
        for (mut both, more) in [(one.clone(), &other), (other.clone(), &one)] {
            both.join(more);
            assert!(both.grouping && both.sorting && both.recursion && both.filtered);
            assert_eq!(both.joins, 2);
        }
    }
}
