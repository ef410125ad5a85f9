//! Turns the facts of a catalog into conclusions.
//!
//! A view's definition is judged like any statement, so whatever is found in statements is also
//! found in views. A view that reads another view inherits its refusal and its hidden tables,
//! through all levels.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::{
    Callable, Catalog, CatalogFacts, FunctionFact, Known, NOT_KNOWN, Relation, RelationFact, Table,
    TableFact, TypeFact, folded, is_mysqls_own,
};
use crate::classify::classify_with;
use crate::dialect::Dialect;
use crate::function;
use sealane_core::TableName;

/// Schema and name, as the catalog stores them.
type Name = (Box<str>, Box<str>);

impl Catalog {
    /// Draws the conclusions from the facts that a PostgreSQL server reported.
    #[must_use]
    pub fn new(facts: &CatalogFacts) -> Self {
        Self::of(facts, Dialect::PostgreSql)
    }

    /// Draws the conclusions from the facts that a MySQL or MariaDB server reported.
    #[must_use]
    pub fn of_mysql(facts: &CatalogFacts) -> Self {
        Self::of(facts, Dialect::MySql)
    }

    fn of(facts: &CatalogFacts, dialect: Dialect) -> Self {
        let known = Arc::new(callables(facts, dialect));
        let mut catalog = Catalog { known, in_doubt: false };
        note_all_impure(facts, dialect, &mut catalog);
        let types = active_types(&facts.types, dialect, &catalog);
        known_of(&mut catalog).types = types;
        let folds = catalog.known.folds;
        known_of(&mut catalog).tables = facts.tables.as_deref().map(|facts| tables(facts, folds));
        loop {
            let relations = relations(facts, dialect, &catalog);
            let known = known_of(&mut catalog);
            known.relations = relations;
            known.has_all_relations = facts.has_all_relations;
            // A function may read a view, and a view may call a function.
            if !note_all_impure(facts, dialect, &mut catalog) {
                // Set only now, because a name in a function's body belongs to the function's
                // schema.
                known_of(&mut catalog).default_schema =
                    facts.default_schema.as_deref().map(|it| folded(it, true).into());
                known_of(&mut catalog).difference = difference(facts);
                return catalog;
            }
            let known = known_of(&mut catalog);
            known.relations.clear();
            known.has_all_relations = false;
        }
    }
}

fn known_of(catalog: &mut Catalog) -> &mut Known {
    Arc::get_mut(&mut catalog.known).expect("a catalog under construction has one owner")
}

fn all_pure(definitions: &[String], dialect: Dialect, catalog: &Catalog) -> bool {
    definitions
        .iter()
        .all(|definition| classify_with(definition, dialect, catalog).may_leave_primary())
}

/// Marks functions whose definitions are not pure, and the functions that call them. Returns
/// whether there are any.
fn note_all_impure(facts: &CatalogFacts, dialect: Dialect, catalog: &mut Catalog) -> bool {
    let mut left: Vec<&FunctionFact> = facts.functions.iter().filter(|it| !it.volatile).collect();
    left.retain(|fact| !is_known_impure(fact, catalog));
    let before = left.len();
    loop {
        let (pure, impure): (Vec<_>, Vec<_>) = left
            .iter()
            .copied()
            .partition(|fact: &&FunctionFact| all_pure(&fact.definitions, dialect, catalog));
        impure.iter().for_each(|fact| note_impure(known_of(catalog), fact));
        left = pure;
        if impure.is_empty() {
            return left.len() < before;
        }
    }
}

fn is_known_impure(fact: &FunctionFact, catalog: &Catalog) -> bool {
    catalog.function(Some(&fact.schema), &fact.name) == crate::catalog::Purity::Impure
}

/// Judges the relations by the functions that are known so far.
fn relations(
    facts: &CatalogFacts,
    dialect: Dialect,
    catalog: &Catalog,
) -> HashMap<Box<str>, Vec<Relation>> {
    // Sorted, so that equal facts in any order make equal catalogs.
    let mut judged: BTreeMap<Name, Judged> = BTreeMap::new();
    for fact in &facts.relations {
        let own = Judged::new(fact, facts, dialect, catalog);
        let name = name(Some(&fact.schema), &fact.name, catalog.known.folds);
        judged.entry(name).or_default().join(own);
    }
    let mut relations: HashMap<Box<str>, Vec<Relation>> = HashMap::new();
    let below = Below { judged: &judged, folds: catalog.known.folds, facts };
    for (name, own) in &judged {
        relations.entry(name.1.clone()).or_default().push(below.relation(name, own));
    }
    relations
}

fn name(schema: Option<&str>, name: &str, folds: bool) -> Name {
    (folded(schema.unwrap_or_default(), folds).into(), folded(name, folds).into())
}

fn callables(facts: &CatalogFacts, dialect: Dialect) -> Known {
    let folds = dialect == Dialect::MySql;
    let mut known = Known { reads_unseen: facts.reads_unseen, folds, ..Known::default() };
    for fact in &facts.functions {
        if fact.takes_one {
            known.attributes.entry(fact.name.as_str().into()).or_insert(false);
        }
        let (schema, name) = name(Some(&fact.schema), &fact.name, folds);
        let is_shadowed = fact.shadowed || (folds && function::is_mysqls_own(&name));
        let overloads = known.functions.entry(name).or_default();
        if overloads.iter().all(|overload| overload.schema != schema) {
            overloads.push(Callable { schema, is_pure: true, is_shadowed });
        }
        // Replicas keep the old function when it is replaced.
        if fact.volatile || leaves_out_statements(facts, &fact.schema) {
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

/// Why replicas may have other rows of some table that our role can read.
fn difference(facts: &CatalogFacts) -> Option<Box<str>> {
    let of_functions = facts.functions.iter().map(|it| &*it.schema);
    let schemas = facts.relations.iter().map(|it| &*it.schema).chain(of_functions);
    let mut schemas = schemas.chain(facts.default_schema.as_deref());
    if schemas.any(|schema| facts.filters.iter().any(|it| it.may_leave_out_of(schema))) {
        return Some("a filter of replication".into());
    }
    let differing = facts.relations.iter().filter(|it| it.replicas_differ);
    let first = differing.min_by_key(|it| (&it.schema, &it.name))?;
    let why = first.refused.as_deref().unwrap_or("replicas may have other rows");
    Some(format!("{}.{}: {why}", first.schema, first.name).into())
}

/// Whether a filter of replication leaves out statements of somebody who uses the database `schema`, or
/// the database of our own connection: changes of the schema, and rows that are logged as statements.
fn leaves_out_statements(facts: &CatalogFacts, schema: &str) -> bool {
    let mut used = facts.default_schema.as_deref().into_iter().chain([schema]);
    used.any(|used| facts.filters.iter().any(|it| it.leaves_out_database(used)))
}

/// Records that this overload is not pure, so no function with its name and schema counts as pure.
fn note_impure(known: &mut Known, fact: &FunctionFact) {
    let (schema, name) = name(Some(&fact.schema), &fact.name, known.folds);
    for overload in known.functions.get_mut(&name).into_iter().flatten() {
        overload.is_pure &= overload.schema != schema;
    }
    if fact.takes_one {
        known.attributes.insert(fact.name.as_str().into(), true);
    }
}

fn tables(facts: &[TableFact], folds: bool) -> HashMap<Box<str>, Table> {
    let mut tables: HashMap<Box<str>, Table> = HashMap::new();
    for fact in facts {
        let table = tables.entry(folded(&fact.name, folds).into()).or_default();
        let spreads = [fact.on_insert, fact.on_update, fact.on_delete];
        table.spreads.iter_mut().zip(spreads).for_each(|(known, told)| *known |= told);
        if let Some(parent) = &fact.parent {
            tables.entry(parent.as_str().into()).or_default();
        }
    }
    for family in families(facts) {
        let spreads = family.iter().filter_map(|name| tables.get(*name)).map(|it| it.spreads);
        // An update may move a row to another partition: it deletes the row in one table and
        // inserts it in the other.
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

/// Groups the tables that parents connect, whatever their schemas. Each family is sorted.
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

/// Types whose conversion runs a function that is not pure, and the types made of them.
fn active_types(facts: &[TypeFact], dialect: Dialect, catalog: &Catalog) -> HashSet<Box<str>> {
    let is_active =
        |fact: &&TypeFact| fact.refused || !all_pure(&fact.definitions, dialect, catalog);
    let own = facts.iter().filter(is_active);
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

/// A relation, judged by its own definitions alone.
#[derive(Default)]
struct Judged {
    refused: Option<Box<str>>,
    is_defined: bool,
    reads: Vec<TableName>,
    hides_tables: bool,
}

impl Judged {
    fn new(fact: &RelationFact, facts: &CatalogFacts, dialect: Dialect, catalog: &Catalog) -> Self {
        let is_left_out = leaves_out_statements(facts, &fact.schema)
            || facts.filters.iter().any(|it| it.leaves_out(&fact.schema, &fact.name));
        let mut refused = fact.refused.as_deref().map(Box::from);
        // Also a view: its replacement does not reach the replicas, and they keep the old one.
        if is_left_out {
            refused.get_or_insert_with(|| "a filter of replication leaves it out".into());
        }
        let mut reads: Vec<TableName> =
            fact.parts.iter().map(|(schema, name)| TableName::new(Some(schema), name)).collect();
        let mut hides_tables = false;
        for definition in &fact.definitions {
            let found = classify_with(definition, dialect, catalog);
            if let Some(finding) = found.decisive() {
                let why = || format!("in its definition, {}", finding.reason).into();
                refused.get_or_insert_with(why);
            }
            hides_tables |= !found.tables.complete;
            reads.extend(found.tables.read);
        }
        Self { refused, is_defined: !fact.definitions.is_empty(), reads, hides_tables }
    }

    /// Adds what another fact says about the same relation.
    fn join(&mut self, other: Self) {
        self.refused = self.refused.take().or(other.refused);
        self.is_defined |= other.is_defined;
        self.reads.extend(other.reads);
        self.hides_tables |= other.hides_tables;
    }
}

/// All relations, judged by their own definitions, to look up what is behind a view.
struct Below<'a> {
    judged: &'a BTreeMap<Name, Judged>,
    folds: bool,
    facts: &'a CatalogFacts,
}

impl Below<'_> {
    fn name(&self, table: &TableName) -> Name {
        name(table.schema(), table.name(), self.folds)
    }

    /// Why a replica must not read `table`, by its own definition.
    fn refusal(&self, table: &TableName) -> Option<Box<str>> {
        let why = match self.judged.get(&self.name(table)) {
            Some(below) => below.refused.as_deref()?,
            None if self.facts.has_all_relations && !is_mysqls_own(table) => NOT_KNOWN,
            None => return None,
        };
        Some(format!("it reads {table}: {why}").into())
    }

    /// The relation, with the tables and the refusals of all relations that it reads.
    fn relation(&self, name: &Name, own: &Judged) -> Relation {
        let mut seen = HashSet::from([name.clone()]);
        let mut pending: Vec<&TableName> = own.reads.iter().collect();
        let mut reads = Vec::new();
        while let Some(table) = pending.pop() {
            let key = self.name(table);
            let below = self.judged.get(&key);
            if seen.insert(key) {
                reads.push(table);
                pending.extend(below.into_iter().flat_map(|below| &below.reads));
            }
        }
        reads.sort();
        let hides = |table: &&TableName| {
            self.judged.get(&self.name(table)).is_some_and(|it| it.hides_tables)
        };
        let refused = || reads.iter().find_map(|table| self.refusal(table));
        Relation {
            schema: name.0.clone(),
            hides_tables: own.hides_tables || reads.iter().any(hides),
            is_defined: own.is_defined,
            refused: own.refused.clone().or_else(refused),
            reads: reads.into_iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod mysql;
#[cfg(test)]
mod tests;
