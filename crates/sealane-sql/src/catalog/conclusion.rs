//! From facts to conclusions.
//!
//! The definition of a view is judged like any statement, so what is found in
//! statements is found in views. What one view hides is hidden by all that read
//! it: a marking that is passed on until nothing changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{
    Callable, Catalog, CatalogFacts, FunctionFact, Known, Relation, RelationFact, Table, TableFact,
    TypeFact,
};
use crate::classify::classify_with;
use crate::dialect::Dialect;
use crate::table_name::TableName;

type Name<'a> = (&'a str, &'a str);

impl Catalog {
    /// Draws the conclusions from what a server said.
    #[must_use]
    pub fn new(facts: &CatalogFacts) -> Self {
        let mut catalog = Catalog { known: Arc::new(callables(facts)), in_doubt: false };
        let impure: Vec<&FunctionFact> =
            facts.functions.iter().filter(|fact| !all_pure(&fact.definitions, &catalog)).collect();
        impure.into_iter().for_each(|fact| note_impure(known_of(&mut catalog), fact));
        let types = active_types(&facts.types, &catalog);
        known_of(&mut catalog).types = types;
        known_of(&mut catalog).tables = facts.tables.as_deref().map(tables);
        // Sorted, so that equal facts in any order make equal catalogs.
        let mut judged: BTreeMap<Name<'_>, Judged> = BTreeMap::new();
        for fact in &facts.relations {
            let own = Judged::new(fact, &catalog);
            judged.entry((&fact.schema, &fact.name)).or_default().join(own);
        }
        let relations = &mut known_of(&mut catalog).relations;
        for (name, own) in &judged {
            let relation = with_all_below(*name, own, &judged);
            relations.entry(name.1.into()).or_default().push(relation);
        }
        catalog
    }
}

fn known_of(catalog: &mut Catalog) -> &mut Known {
    Arc::get_mut(&mut catalog.known).expect("nobody else has a catalog that is being made")
}

fn all_pure(definitions: &[String], catalog: &Catalog) -> bool {
    definitions.iter().all(|definition| {
        classify_with(definition, Dialect::PostgreSql, catalog).may_leave_primary()
    })
}

fn callables(facts: &CatalogFacts) -> Known {
    let mut known = Known { reads_unseen: facts.reads_unseen, ..Known::default() };
    for fact in &facts.functions {
        if fact.takes_one {
            known.attributes.entry(fact.name.as_str().into()).or_insert(false);
        }
        let overloads = known.functions.entry(fact.name.as_str().into()).or_default();
        if overloads.iter().all(|overload| *overload.schema != *fact.schema) {
            overloads.push(Callable {
                schema: fact.schema.as_str().into(),
                is_pure: true,
                is_shadowed: fact.shadowed,
            });
        }
        if fact.volatile {
            note_impure(&mut known, fact);
        }
    }
    for overloads in known.functions.values_mut() {
        overloads.sort_by(|one, other| one.schema.cmp(&other.schema));
    }
    for fact in &facts.operators {
        let is_pure = known.operators.entry(fact.symbol.as_str().into()).or_insert(true);
        *is_pure &= !fact.volatile;
        known.has_active_operators |= fact.volatile;
    }
    known
}

/// One overload is not pure, so none of that name and schema is known to be.
fn note_impure(known: &mut Known, fact: &FunctionFact) {
    for overload in known.functions.get_mut(fact.name.as_str()).into_iter().flatten() {
        overload.is_pure &= *overload.schema != *fact.schema;
    }
    if fact.takes_one {
        known.attributes.insert(fact.name.as_str().into(), true);
    }
}

fn tables(facts: &[TableFact]) -> HashMap<Box<str>, Table> {
    let mut tables: HashMap<Box<str>, Table> = HashMap::new();
    for fact in facts {
        let table = tables.entry(fact.name.as_str().into()).or_default();
        let spreads = [fact.on_insert, fact.on_update, fact.on_delete];
        table.spreads.iter_mut().zip(spreads).for_each(|(known, told)| *known |= told);
        if let Some(parent) = &fact.parent {
            tables.entry(parent.as_str().into()).or_default();
        }
    }
    for family in families(facts) {
        let spreads = family.iter().filter_map(|name| tables.get(*name)).map(|it| it.spreads);
        // An update may move a row from one to another: there it is deleted, here new.
        let [insert, update, delete] = spreads
            .fold([false; 3], |all, own| std::array::from_fn(|change| all[change] || own[change]));
        let spreads = [insert, insert || update || delete, delete];
        for name in &family {
            let known = tables.get_mut(*name).into_iter();
            known.for_each(|it| {
                (it.spreads, it.family) = (spreads, family.first().map(|&it| it.into()))
            });
        }
    }
    tables
}

/// The tables that are connected by parents, whatever their schemas; each family sorted.
fn families(facts: &[TableFact]) -> Vec<Vec<&str>> {
    let pairs = || facts.iter().filter_map(|fact| Some((&*fact.name, fact.parent.as_deref()?)));
    let mut relatives: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (child, parent) in pairs() {
        relatives.entry(child).or_default().push(parent);
        relatives.entry(parent).or_default().push(child);
    }
    let mut placed: HashSet<&str> = HashSet::new();
    let mut families = Vec::new();
    for &name in relatives.keys() {
        let mut family = Vec::new();
        let mut pending = vec![name];
        while let Some(name) = pending.pop() {
            if placed.insert(name) {
                family.push(name);
                pending.extend(&relatives[name]);
            }
        }
        family.sort_unstable();
        families.push(family);
    }
    families.retain(|family| !family.is_empty());
    families
}

/// Types that run what is not pure, and those made of them.
fn active_types(facts: &[TypeFact], catalog: &Catalog) -> HashSet<Box<str>> {
    let own = facts.iter().filter(|fact| fact.refused || !all_pure(&fact.definitions, catalog));
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
#[derive(Default)]
struct Judged {
    refused: Option<Box<str>>,
    is_defined: bool,
    reads: Vec<TableName>,
    hides_tables: bool,
}

impl Judged {
    fn new(fact: &RelationFact, catalog: &Catalog) -> Self {
        let mut refused = fact.refused.as_deref().map(Box::from);
        let mut reads: Vec<TableName> =
            fact.parts.iter().map(|(schema, name)| TableName::new(Some(schema), name)).collect();
        let mut hides_tables = false;
        for definition in &fact.definitions {
            let found = classify_with(definition, Dialect::PostgreSql, catalog);
            if let Some(finding) = found.decisive() {
                let why = || format!("in its definition, {}", finding.reason).into();
                refused.get_or_insert_with(why);
            }
            hides_tables |= !found.tables.complete;
            reads.extend(found.tables.read);
        }
        Self { refused, is_defined: !fact.definitions.is_empty(), reads, hides_tables }
    }

    /// Takes in what another fact says of the same relation.
    fn join(&mut self, other: Self) {
        self.refused = self.refused.take().or(other.refused);
        self.is_defined |= other.is_defined;
        self.reads.extend(other.reads);
        self.hides_tables |= other.hides_tables;
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
    let hides = |table: &&TableName| {
        let below = judged.get(&(table.schema().unwrap_or_default(), table.name()));
        below.is_some_and(|below| below.hides_tables)
    };
    Relation {
        schema: name.0.into(),
        hides_tables: own.hides_tables || reads.iter().any(hides),
        is_defined: own.is_defined,
        refused: own.refused.clone().or_else(|| reads.iter().find_map(refusal)),
        reads: reads.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
