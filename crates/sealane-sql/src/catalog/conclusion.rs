//! From facts to conclusions.
//!
//! The definition of a view is judged like any statement, so what is found in
//! statements is found in views. What one view hides is hidden by all that read
//! it: a marking that is passed on until nothing changes.

use std::collections::{BTreeMap, HashSet};

use super::{Callable, Catalog, CatalogFacts, Relation, RelationFact, TypeFact};
use crate::classify::classify_with;
use crate::dialect::Dialect;
use crate::table_name::TableName;

type Name<'a> = (&'a str, &'a str);

impl Catalog {
    /// Draws the conclusions from what a server said.
    #[must_use]
    pub fn new(facts: &CatalogFacts) -> Self {
        let mut catalog = callables(facts);
        catalog.types = active_types(&facts.types, &catalog);
        // Sorted, so that equal facts in any order make equal catalogs.
        let mut judged: BTreeMap<Name<'_>, Judged> = BTreeMap::new();
        for fact in &facts.relations {
            judged.insert((&fact.schema, &fact.name), Judged::new(fact, &catalog));
        }
        for (name, own) in &judged {
            let relation = with_all_below(*name, own, &judged);
            catalog.relations.entry(name.1.into()).or_default().push(relation);
        }
        catalog
    }
}

fn callables(facts: &CatalogFacts) -> Catalog {
    let mut catalog = Catalog::default();
    for fact in &facts.functions {
        let overloads = catalog.functions.entry(fact.name.as_str().into()).or_default();
        match overloads.iter_mut().find(|known| *known.schema == *fact.schema) {
            Some(known) => known.is_pure &= !fact.volatile,
            None => overloads.push(Callable {
                schema: fact.schema.as_str().into(),
                is_pure: !fact.volatile,
                is_shadowed: fact.shadowed,
            }),
        }
        if fact.volatile && fact.takes_row {
            catalog.attributes.insert(fact.name.as_str().into());
        }
    }
    for overloads in catalog.functions.values_mut() {
        overloads.sort_by(|one, other| one.schema.cmp(&other.schema));
    }
    for fact in &facts.operators {
        let is_pure = catalog.operators.entry(fact.symbol.as_str().into()).or_insert(true);
        *is_pure &= !fact.volatile;
        catalog.has_active_operators |= fact.volatile;
    }
    catalog
}

/// Types that run what is not pure, and those made of them.
fn active_types(facts: &[TypeFact], catalog: &Catalog) -> HashSet<Box<str>> {
    let is_pure = |definition: &String| {
        classify_with(definition, Dialect::PostgreSql, catalog).may_leave_primary()
    };
    let own = facts.iter().filter(|fact| fact.refused || !fact.definitions.iter().all(is_pure));
    let mut active: HashSet<Box<str>> = own.map(|fact| fact.name.as_str().into()).collect();
    loop {
        let has_active = |fact: &&TypeFact| fact.parts.iter().any(|part| active.contains(&**part));
        let made: Vec<Box<str>> =
            facts.iter().filter(has_active).map(|fact| fact.name.as_str().into()).collect();
        let before = active.len();
        active.extend(made);
        if active.len() == before {
            return active;
        }
    }
}

/// A relation by its own definitions alone.
struct Judged {
    refused: Option<Box<str>>,
    reads: Vec<TableName>,
}

impl Judged {
    fn new(fact: &RelationFact, catalog: &Catalog) -> Self {
        let mut refused = fact.refused.as_deref().map(Box::from);
        let mut reads: Vec<TableName> =
            fact.parts.iter().map(|(schema, name)| TableName::new(Some(schema), name)).collect();
        for definition in &fact.definitions {
            let found = classify_with(definition, Dialect::PostgreSql, catalog);
            if let Some(finding) = found.decisive() {
                let why = || format!("in its definition, {}", finding.reason).into();
                refused.get_or_insert_with(why);
            }
            reads.extend(found.tables.read);
        }
        Self { refused, reads }
    }
}

/// The relation with the tables and the refusals of all that it reads.
fn with_all_below<'a>(
    name: Name<'a>,
    own: &'a Judged,
    judged: &'a BTreeMap<Name<'a>, Judged>,
) -> Relation {
    let mut seen: HashSet<Name<'_>> = HashSet::from([name]);
    let mut pending: Vec<&TableName> = own.reads.iter().collect();
    let mut reads = Vec::new();
    while let Some(table) = pending.pop() {
        let key = (table.schema().unwrap_or_default(), table.name());
        if seen.insert(key) {
            reads.push(table);
            pending.extend(judged.get(&key).into_iter().flat_map(|below| &below.reads));
        }
    }
    reads.sort();
    let refusal = |table: &&TableName| {
        let below = judged.get(&(table.schema().unwrap_or_default(), table.name()))?;
        let why = below.refused.as_deref()?;
        Some(format!("it reads {table}: {why}").into_boxed_str())
    };
    Relation {
        schema: name.0.into(),
        refused: own.refused.clone().or_else(|| reads.iter().find_map(refusal)),
        reads: reads.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
