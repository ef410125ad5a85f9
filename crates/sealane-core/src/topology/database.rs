//! The database that a connection leads to.

use std::{fmt, sync::Arc};

/// One of the databases of a server.
///
/// A cluster has one log, and so one position, for all its databases. So positions alone do not
/// show that a URL leads to another database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: Arc<str>,
    /// Its number, if the engine has one that replicas share (PostgreSQL's `oid`). A database that
    /// is dropped and created again gets a new number.
    pub number: Option<u64>,
}

impl Database {
    /// Whether both are the same database on two servers with the same data. If both have numbers,
    /// the numbers decide, because a name can change.
    #[must_use]
    pub fn is(&self, other: &Database) -> bool {
        match (self.number, other.number) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => self.name == other.name,
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{} (number {number})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn database(name: &str, number: impl Into<Option<u64>>) -> Database {
        Database { name: name.into(), number: number.into() }
    }

    #[rstest]
    #[case::same(database("shop", 5), database("shop", 5), true)]
    #[case::renamed_and_not_replayed(database("shop", 5), database("store", 5), true)]
    #[case::created_again(database("shop", 5), database("shop", 6), false)]
    #[case::names_decide_without_numbers(database("shop", None), database("shop", None), true)]
    #[case::other_names(database("shop", None), database("Shop", None), false)]
    fn a_number_tells_more_than_a_name(
        #[case] a: Database,
        #[case] b: Database,
        #[case] same: bool,
    ) {
        assert_eq!((a.is(&b), b.is(&a)), (same, same));
    }
}
