//! Named groups of replicas, such as "analytics".

use sealane_core::{EndpointId, EndpointSet};
use sealane_sql::Classification;

/// Which replicas a statement may choose from.
///
/// A replica in a group serves only statements that ask for the group: it is
/// there to keep heavy reads away from the others, and the others' reads from it.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    named: Vec<(Box<str>, EndpointSet)>,
    /// Members of no group.
    others: EndpointSet,
}

impl Groups {
    /// From each endpoint's group, in the order of the configuration.
    pub(crate) fn new<'a>(groups: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut found = Groups::default();
        for (index, group) in groups.into_iter().enumerate() {
            let Some(id) = EndpointId::from_index(index) else { break };
            match group {
                None => found.others.insert(id),
                Some(name) => found.insert(name, id),
            }
        }
        found
    }

    fn insert(&mut self, name: &str, id: EndpointId) {
        match self.named.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, members)) => members.insert(id),
            None => self.named.push((name.into(), EndpointSet::from_iter([id]))),
        }
    }

    /// The members of the group called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<EndpointSet> {
        self.named.iter().find(|(known, _)| **known == *name).map(|(_, members)| *members)
    }

    /// The replicas for a read: none if something keeps it on the primary, those of
    /// the group that it asks for, or those of no group. So also if its group does
    /// not exist: a hint may choose among replicas, not take them away.
    pub(crate) fn readers(&self, read: &Classification) -> EndpointSet {
        if !read.may_leave_primary() {
            return EndpointSet::EMPTY;
        }
        read.group.as_deref().and_then(|name| self.get(name)).unwrap_or(self.others)
    }

    /// The group that a read asks for and that does not exist.
    pub(crate) fn unknown(&self, read: &Classification) -> Option<String> {
        let group = read.group.as_deref()?;
        self.get(group).is_none().then(|| group.to_owned())
    }

    /// The replicas for reads that ask for nothing.
    pub(crate) fn others(&self) -> EndpointSet {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use sealane_sql::{Dialect, classify};

    use super::*;

    const NONE: [usize; 0] = [];

    fn readers(sql: &str) -> Vec<usize> {
        let groups =
            Groups::new([None, None, Some("analytics"), Some("reports"), Some("analytics")]);
        let found = classify(sql, Dialect::PostgreSql);
        groups.readers(&found).iter().map(EndpointId::index).collect()
    }

    #[test]
    fn a_read_goes_to_its_group_or_else_to_replicas_of_none() {
        assert_eq!(readers("SELECT 1"), [0, 1]);
        assert_eq!(readers("/* sealane: group=analytics */ SELECT 1"), [2, 4]);
        assert_eq!(readers("/* sealane: group=typo */ SELECT 1"), [0, 1]);
    }

    #[test]
    fn a_hint_for_the_primary_leaves_no_replica_and_no_hint_makes_a_read() {
        assert_eq!(readers("/* sealane: primary */ SELECT 1"), NONE);
        assert_eq!(readers("/* sealane: whatever */ SELECT 1"), NONE);
        assert_eq!(readers("/* sealane: group=analytics */ SELECT nextval('s')"), NONE);
    }
}
