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

pub use facts::{CatalogFacts, FunctionFact, OperatorFact, RelationFact, TypeFact};

use crate::table_name::TableName;

/// Conclusions from the [`CatalogFacts`] of one database.
///
/// An empty one knows nothing: functions of the user's are then not pure, and
/// relations are taken for tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    functions: HashMap<Box<str>, Vec<Callable>>,
    operators: HashMap<Box<str>, bool>,
    relations: HashMap<Box<str>, Vec<Relation>>,
    /// Types whose conversion may run a function that is not pure.
    types: HashSet<Box<str>>,
    /// Functions that are not pure and may be written like a column: `row.function`.
    attributes: HashSet<Box<str>>,
    has_active_operators: bool,
    in_doubt: bool,
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
    /// The tables that a view reads, through all views below it.
    reads: Vec<TableName>,
}

/// What is known of a function by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    Pure,
    Impure,
    /// Not in the catalog: the built-in list decides.
    Unknown,
}

impl Catalog {
    /// The same, but nothing of it allows any more: what only the catalog knew
    /// to be pure is not known to be.
    #[must_use]
    pub fn doubted(&self) -> Self {
        Self { in_doubt: true, ..self.clone() }
    }

    /// Whether both were drawn from the same facts, in doubt or not.
    pub(crate) fn has_same_facts(&self, other: &Self) -> bool {
        let Self { functions, operators, relations, types, attributes, .. } = self;
        *functions == other.functions
            && *operators == other.operators
            && *relations == other.relations
            && *types == other.types
            && *attributes == other.attributes
    }

    /// How many functions, operators, relations and types it knows something of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len() + self.operators.len() + self.relations.len() + self.types.len()
    }

    /// Whether it knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A function by its folded name, `schema` if the text names one.
    ///
    /// Without a schema the search path decides, which is not known here: so all
    /// functions of that name have to be pure.
    pub(crate) fn function(&self, schema: Option<&str>, name: &str) -> Purity {
        let Some(known) = self.functions.get(name) else {
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
        // With a schema it is this one; without, the server's own comes first.
        let is_own = schema.is_none() && is_shadowed;
        if is_own || self.in_doubt { Purity::Unknown } else { Purity::Pure }
    }

    /// An operator by its symbol, whatever its schema.
    pub(crate) fn operator(&self, symbol: &str) -> Purity {
        match self.operators.get(symbol) {
            Some(false) => Purity::Impure,
            Some(true) if !self.in_doubt => Purity::Pure,
            Some(true) | None => Purity::Unknown,
        }
    }

    /// Whether any operator has side effects, which is rare: then all are looked up.
    pub(crate) fn has_active_operators(&self) -> bool {
        self.has_active_operators
    }

    /// Whether a conversion to the type called `name` may run something.
    pub(crate) fn is_active_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// Whether `row.name` may call a function that is not pure.
    pub(crate) fn is_active_attribute(&self, name: &str) -> bool {
        !self.attributes.is_empty()
            && (self.attributes.contains(name)
                || self.attributes.contains(name.to_ascii_lowercase().as_str()))
    }

    /// Why `table` must not be read on a replica.
    pub(crate) fn refusal<'a>(&'a self, table: &'a TableName) -> Option<&'a str> {
        self.relations_called(table).find_map(|relation| relation.refused.as_deref())
    }

    /// What reading `table` reads beside itself.
    pub(crate) fn reads_through<'a>(
        &'a self,
        table: &'a TableName,
    ) -> impl Iterator<Item = &'a TableName> {
        self.relations_called(table).flat_map(|relation| &relation.reads)
    }

    fn relations_called<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a Relation> {
        let called = self.relations.get(table.name()).into_iter().flatten();
        called.filter(|it| table.schema().is_none_or(|schema| schema == &*it.schema))
    }
}
