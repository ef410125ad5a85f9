//! What the catalog of a server knows and the text of a statement does not show.
//!
//! A view, a policy, an operator, a cast or an aggregate may hide a function
//! that is not pure; a function of the user's may be pure; a relation may be one
//! that a replica cannot read. Somebody with a connection asks the catalog (for
//! PostgreSQL that is `sealane-monitor`) and hands the [`CatalogFacts`] over;
//! [`Catalog::new`] draws the conclusions, once, so that judging a statement is a
//! few look-ups.
//!
//! Facts allow and forbid. What forbids may be a little out of date: a server
//! refuses to write on a replica anyway. What allows may not, so after a change
//! of the schema a catalog is put [in doubt](Catalog::doubted) until it is loaded
//! anew.

mod conclusion;
mod facts;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use facts::{CatalogFacts, FunctionFact, OperatorFact, RelationFact, TableFact, TypeFact};

use sealane_core::Footprint;

use crate::table_name::{TableName, Tables};

/// Conclusions from the [`CatalogFacts`] of one database.
///
/// An empty one knows nothing: functions of the user's are then not pure, and
/// relations are taken for tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    known: Arc<Known>,
    in_doubt: bool,
}

/// The conclusions themselves, shared by a catalog and its doubted self.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    functions: HashMap<Box<str>, Vec<Callable>>,
    operators: HashMap<Box<str>, bool>,
    relations: HashMap<Box<str>, Vec<Relation>>,
    /// Types whose conversion may run a function that is not pure.
    types: HashSet<Box<str>>,
    /// By name, whatever the schema; `None` if nobody has looked.
    tables: Option<HashMap<Box<str>, Table>>,
    /// Functions that may be written like a column, `row.function`, and whether one of
    /// that name is not pure.
    attributes: HashMap<Box<str>, bool>,
    /// Whether an operator, a cast, an order or the condition of a domain may read tables, which
    /// no text shows.
    reads_unseen: bool,
    has_active_operators: bool,
}

/// The functions of one name in one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Callable {
    schema: Box<str>,
    is_pure: bool,
    /// The server has a function of that name itself, which is found first.
    is_shadowed: bool,
}

/// A relation worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relation {
    schema: Box<str>,
    /// Why it must not be read on a replica.
    refused: Option<Box<str>>,
    /// Whether queries of its own run when it is read: those of a view, or policies.
    is_defined: bool,
    /// The tables that a view reads, through all views below it.
    reads: Vec<TableName>,
    /// Whether functions in its definition may read more.
    hides_tables: bool,
}

/// The tables of one name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// What changes other tables, too.
    spreads: [bool; 3],
    /// Stands for all tables that show rows of this one, or whose rows it shows.
    family: Option<Box<str>>,
}

/// What a write does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Insert,
    Update,
    Delete,
}

/// What is known of a function by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    Pure,
    Impure,
    /// Not in the catalog: the built-in list decides.
    Unknown,
    /// The server has one of that name itself, and the types of the arguments decide which
    /// is meant: it is pure if that one is.
    Overloaded,
}

impl Catalog {
    /// The same, but nothing of it allows any more: what only the catalog knew
    /// to be pure is not known to be.
    #[must_use]
    pub fn doubted(&self) -> Self {
        Self { in_doubt: true, ..self.clone() }
    }

    /// Whether it is in doubt.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.in_doubt
    }

    /// Whether both were drawn from the same facts, in doubt or not.
    pub(crate) fn has_same_facts(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known) || self.known == other.known
    }

    /// How many functions, operators, relations and types it knows something of.
    #[must_use]
    pub fn len(&self) -> usize {
        let Known { functions, operators, relations, types, .. } = &*self.known;
        functions.len() + operators.len() + relations.len() + types.len()
    }

    /// Whether it knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.known.tables.is_none()
    }

    /// A function by its folded name, `schema` if the text names one.
    ///
    /// Without a schema the search path decides, which is not known here: so all
    /// functions of that name have to be pure.
    pub(crate) fn function(&self, schema: Option<&str>, name: &str) -> Purity {
        let Some(known) = self.known.functions.get(name) else {
            return Purity::Unknown;
        };
        let mut found =
            known.iter().filter(|it| schema.is_none_or(|schema| schema == &*it.schema)).peekable();
        if found.peek().is_none() {
            return Purity::Unknown;
        }
        let mut is_shadowed = false;
        for function in found {
            if !function.is_pure {
                return Purity::Impure;
            }
            is_shadowed |= function.is_shadowed;
        }
        match (schema, is_shadowed) {
            (None, true) => Purity::Overloaded,
            _ if self.in_doubt => Purity::Unknown,
            _ => Purity::Pure,
        }
    }

    /// An operator by its symbol, whatever its schema.
    pub(crate) fn operator(&self, symbol: &str) -> Purity {
        match self.known.operators.get(symbol) {
            Some(false) => Purity::Impure,
            Some(true) if !self.in_doubt => Purity::Pure,
            Some(true) | None => Purity::Unknown,
        }
    }

    /// Whether any operator has side effects, which is rare: then all are looked up.
    pub(crate) fn has_active_operators(&self) -> bool {
        self.known.has_active_operators
    }

    /// Whether one of the comparisons that SQL makes without a symbol (`IN`,
    /// `BETWEEN`, `DISTINCT`, `LIKE`, joins by `USING`) may have side effects.
    pub(crate) fn has_active_comparisons(&self) -> bool {
        let comparisons = ["=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*"];
        self.known.has_active_operators
            && comparisons.iter().any(|symbol| self.operator(symbol) == Purity::Impure)
    }

    /// Whether there is a type that a conversion to may run something.
    pub(crate) fn has_active_types(&self) -> bool {
        !self.known.types.is_empty()
    }

    /// Whether a conversion to the type called `name` may run something.
    pub(crate) fn is_active_type(&self, name: &str) -> bool {
        self.known.types.contains(name)
    }

    /// Whether `row.name` may call a function that is not pure.
    pub(crate) fn is_active_attribute(&self, name: &str) -> bool {
        self.known.attributes.get(name) == Some(&true)
    }

    /// Whether `row.name` may call a function of the user's.
    pub(crate) fn may_be_call(&self, name: &str) -> bool {
        self.known.attributes.contains_key(name)
    }

    /// Why `table` must not be read on a replica.
    pub(crate) fn refusal<'a>(&'a self, table: &'a TableName) -> Option<&'a str> {
        let doubt = |relation: &Relation| {
            let is_doubtful = self.in_doubt && relation.is_defined;
            is_doubtful.then_some("the schema has changed, and its definition may have")
        };
        self.relations_called(table)
            .find_map(|relation| relation.refused.as_deref().or_else(|| doubt(relation)))
    }

    /// What reading `table` reads beside itself.
    pub(crate) fn reads_through<'a>(
        &'a self,
        table: &'a TableName,
    ) -> impl Iterator<Item = &'a TableName> {
        self.relations_called(table).flat_map(|relation| &relation.reads)
    }

    /// Whether reading `table` may read tables that are not known.
    pub(crate) fn hides_tables(&self, table: &TableName) -> bool {
        self.relations_called(table).any(|relation| relation.hides_tables)
    }

    /// Whether it is known which tables belong together, now.
    pub(crate) fn tells_tables(&self) -> bool {
        self.known.tables.is_some() && !self.in_doubt
    }

    /// The tables that a read touches, if all are known.
    pub(crate) fn footprint_of_read(&self, tables: &Tables) -> Footprint {
        if !tables.complete || !self.tells_tables() || self.known.reads_unseen {
            return Footprint::WHOLE;
        }
        let mut footprint = Footprint::NONE;
        for table in &tables.read {
            if is_of_the_server(table) {
                return Footprint::WHOLE;
            }
            self.add_family(table, &mut footprint);
        }
        footprint
    }

    /// The tables that such changes of `table` touch, if all are known.
    pub(crate) fn footprint_of_write(&self, table: &TableName, changes: &[Change]) -> Footprint {
        let mut footprint = Footprint::NONE;
        for table in std::iter::once(table).chain(self.reads_through(table)) {
            let spreads = |known: &Table| changes.iter().any(|it| known.spreads[*it as usize]);
            let runs_unseen = self.refusal(table).is_some() || self.hides_tables(table);
            if runs_unseen || self.table(table).is_some_and(spreads) {
                return Footprint::WHOLE;
            }
            self.add_family(table, &mut footprint);
        }
        footprint
    }

    fn add_family(&self, table: &TableName, footprint: &mut Footprint) {
        footprint.add(table.name());
        if let Some(family) = self.table(table).and_then(|known| known.family.as_deref()) {
            footprint.add(family);
        }
    }

    fn table(&self, table: &TableName) -> Option<&Table> {
        self.known.tables.as_ref()?.get(table.name())
    }

    fn relations_called<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a Relation> {
        let called = self.known.relations.get(table.name()).into_iter().flatten();
        called.filter(|it| table.schema().is_none_or(|schema| schema == &*it.schema))
    }
}

/// Whether it is one of the server's own relations: they show what statements do that
/// name other tables, or none.
fn is_of_the_server(table: &TableName) -> bool {
    let is_own_schema = matches!(table.schema(), Some("pg_catalog" | "information_schema"));
    is_own_schema || table.name().starts_with("pg_")
}
