//! What a server's catalog knows but a statement's text does not show.
//!
//! A view, a policy, an operator, a cast or an aggregate may hide a function that is not pure. A
//! user's own function may be pure. A replica may be unable to read a relation. The crate that has
//! a connection (`sealane-monitor`) queries the catalog and passes on the [`CatalogFacts`].
//! [`Catalog::new`] and [`Catalog::of_mysql`] draw the conclusions once, so that
//! judging a statement takes only a few look-ups.
//!
//! A fact either allows something or forbids it. A forbidding fact may be a little out of date,
//! because a replica refuses writes anyway. An allowing fact must not be out of date. So after a
//! schema change the catalog is [in doubt](Catalog::doubted) until it is loaded again.
//!
//! So there are three states. *Loaded*: facts allow and forbid. *In doubt*, after a schema change
//! or if the facts could not be loaded for three minutes: forbidding facts still apply, allowing
//! facts do not, and views are read on the primary. *Absent*: users' functions are unknown, and
//! relations count as tables.
//!
//! A generation number makes cached answers outdated, so the cache is not flushed. An answer that
//! was computed from old facts and stored late is therefore never used. (Rejected: `pg_depend`. It
//! does not record what depends on the server's own functions, such as `nextval`.)
//!
//! # What is believed
//! A function declared stable is believed to be stable. Volatile casts between two built-in types
//! are not looked for. In PostgreSQL, an attribute that does not exist is a function call
//! (`(value).name`), so names after a dot are compared with all impure functions.
//!
//! # MySQL and MariaDB
//! These servers show a view's definition and a function's body, but not what a function does. So
//! bodies are judged like texts (`routine`), and functions and views are judged in turns until
//! nothing changes. The facts name every relation. A relation that is not among them is read on the
//! primary, because it may be a new view, or a view that our role does not see. So a new view can
//! be mistaken for a table only before the first load, and never while the catalog is in doubt. A
//! name without a schema belongs to the database in use, and to no other. Names are compared
//! case-insensitively, because some servers do so. At worst, a table is mistaken for a view of
//! almost the same name.

mod facts;
mod filter;
mod routine;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use filter::ReplicationFilter;

pub use facts::{CatalogFacts, FunctionFact, OperatorFact, RelationFact, TableFact, TypeFact};

use sealane_core::TableSet;

use sealane_core::{TableName, Tables};

/// Why a relation is refused that the catalog should know but does not.
pub(crate) const NOT_KNOWN: &str = "the catalog does not know it, so it may be a view";

/// Conclusions from the [`CatalogFacts`] of one database.
///
/// An empty catalog knows nothing: it treats users' functions as not pure, and relations as tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    pub(crate) known: Arc<Known>,
    pub(crate) in_doubt: bool,
}

/// The conclusions, shared by a catalog and its doubted copy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) functions: HashMap<Box<str>, Vec<Callable>>,
    pub(crate) operators: HashMap<Box<str>, bool>,
    pub(crate) relations: HashMap<Box<str>, Vec<Relation>>,
    /// Types whose conversion may run a function that is not pure.
    pub(crate) types: HashSet<Box<str>>,
    /// Tables by name, whatever the schema; `None` if the tables were not queried.
    pub(crate) tables: Option<HashMap<Box<str>, Table>>,
    /// Functions that may be written like a column (`row.function`). The value is true if a
    /// function of this name is not pure.
    pub(crate) attributes: HashMap<Box<str>, bool>,
    /// Whether an operator, a cast, an ordering or a domain's condition may read tables that no
    /// text names.
    pub(crate) reads_unseen: bool,
    pub(crate) has_active_operators: bool,
    /// Whether names are stored in lower case. MySQL compares function names case-insensitively,
    /// and on some systems also table names.
    pub(crate) folds: bool,
    /// Whether a relation that is not in `relations` is refused.
    pub(crate) has_all_relations: bool,
    /// The only schema in which MySQL looks up names without a schema.
    pub(crate) default_schema: Option<Box<str>>,
    /// Why replicas may have other rows of some table, and show them.
    pub(crate) difference: Option<Box<str>>,
}

/// The functions of one name in one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Callable {
    pub(crate) schema: Box<str>,
    pub(crate) is_pure: bool,
    /// The server has a built-in function of this name, which the search path finds first.
    pub(crate) is_shadowed: bool,
}

/// A relation about which the catalog says more than "a plain table".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) schema: Box<str>,
    /// Why a replica must not read it.
    pub(crate) refused: Option<Box<str>>,
    /// Whether reading it runs queries of its own: a view's definition, or policies.
    pub(crate) is_defined: bool,
    /// The tables that a view reads, through all views below it.
    pub(crate) reads: Vec<TableName>,
    /// Whether functions in its definition may read further tables.
    pub(crate) hides_tables: bool,
}

/// What is known about all tables with one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Whether an insert, an update or a delete also changes other tables (indexed by [`Change`]).
    pub(crate) spreads: [bool; 3],
    /// The name that stands for all tables that share rows with this one (partitions, inheritance).
    pub(crate) family: Option<Box<str>>,
}

/// What a write does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Insert,
    Update,
    Delete,
}

/// What the catalog says about a function name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purity {
    Pure,
    Impure,
    /// The catalog does not have the function: the built-in list decides.
    Unknown,
    /// The server also has a built-in function of this name, and the arguments' types decide which
    /// one is called. The user's function is pure, so the call is pure if the built-in one is.
    Overloaded,
}

impl Catalog {
    /// A copy whose facts no longer allow anything. What only the catalog knew to be pure now
    /// counts as unknown.
    #[must_use]
    pub fn doubted(&self) -> Self {
        Self { in_doubt: true, ..self.clone() }
    }

    /// Whether the catalog is in doubt.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.in_doubt
    }

    /// Why replicas may have other rows of some table, and show them without an error. If there is a
    /// reason, a replica must not run statements that nobody judges, such as those of a read-only
    /// transaction.
    #[must_use]
    pub fn difference(&self) -> Option<&str> {
        self.known.difference.as_deref()
    }

    /// Whether both come from the same facts, in doubt or not.
    pub(crate) fn has_same_facts(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known) || self.known == other.known
    }

    /// How many functions, operators, relations and types the catalog knows.
    #[must_use]
    pub fn len(&self) -> usize {
        let Known { functions, operators, relations, types, .. } = &*self.known;
        functions.len() + operators.len() + relations.len() + types.len()
    }

    /// Whether the catalog knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.known.tables.is_none() && !self.known.has_all_relations
    }

    /// Looks up a function by its folded name, and by `schema` if the text names one.
    ///
    /// Without a schema the search path decides, and the search path is not known here. So all
    /// functions of this name must be pure.
    pub(crate) fn function(&self, schema: Option<&str>, name: &str) -> Purity {
        let Some(known) = self.known.functions.get(&*self.folded(name)) else {
            return Purity::Unknown;
        };
        let is_called = |it: &&Callable| schema.is_none_or(|name| self.folded(name) == *it.schema);
        let mut found = known.iter().filter(is_called).peekable();
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

    /// Looks up an operator by its symbol, whatever its schema.
    pub(crate) fn operator(&self, symbol: &str) -> Purity {
        match self.known.operators.get(symbol) {
            Some(false) => Purity::Impure,
            Some(true) if !self.in_doubt => Purity::Pure,
            Some(true) | None => Purity::Unknown,
        }
    }

    /// Whether any operator has side effects. This is rare, and only then are operators looked up.
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

    /// Whether the conversion to some type may run a function.
    pub(crate) fn has_active_types(&self) -> bool {
        !self.known.types.is_empty()
    }

    /// Whether the conversion to the type `name` may run a function.
    pub(crate) fn is_active_type(&self, name: &str) -> bool {
        self.known.types.contains(name)
    }

    /// Whether `value.name` may call a function that is not pure, or may convert to a type whose
    /// conversion runs a function. Both can be written like a column.
    pub(crate) fn is_active_attribute(&self, name: &str) -> bool {
        self.known.attributes.get(name) == Some(&true) || self.is_active_type(name)
    }

    /// Whether `row.name` may call a user's function.
    pub(crate) fn may_be_call(&self, name: &str) -> bool {
        self.known.attributes.contains_key(name)
    }

    /// Why a replica must not read `table`.
    pub(crate) fn refusal<'a>(&'a self, table: &'a TableName) -> Option<&'a str> {
        let doubt = |relation: &Relation| {
            let is_doubtful = self.in_doubt && relation.is_defined;
            is_doubtful.then_some("the schema has changed, and its definition may have")
        };
        let mut called = self.relations_called(table).peekable();
        if self.known.has_all_relations && called.peek().is_none() && !is_mysqls_own(table) {
            return Some(NOT_KNOWN);
        }
        called.find_map(|relation| relation.refused.as_deref().or_else(|| doubt(relation)))
    }

    /// The other tables that a read of `table` also reads.
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

    /// Whether the catalog knows, and is not in doubt about, which tables belong together.
    pub(crate) fn tells_tables(&self) -> bool {
        self.known.tables.is_some() && !self.in_doubt
    }

    /// The tables that a read touches, if all are known.
    pub(crate) fn table_set_of_read(&self, tables: &Tables) -> TableSet {
        if !tables.complete || !self.tells_tables() || self.known.reads_unseen {
            return TableSet::WHOLE;
        }
        if self.known.folds && tables.read.is_empty() {
            // MySQL's SHOW reads tables that it does not name as such.
            return TableSet::WHOLE;
        }
        let mut found = TableSet::NONE;
        for table in &tables.read {
            if is_of_the_server(table) || is_mysqls_own(table) {
                return TableSet::WHOLE;
            }
            self.add_family(table, &mut found);
        }
        found
    }

    /// The tables that these `changes` of `table` touch; [`TableSet::WHOLE`] unless all of them are
    /// known.
    pub(crate) fn tables_written(&self, table: &TableName, changes: &[Change]) -> TableSet {
        let mut tables = TableSet::NONE;
        for table in std::iter::once(table).chain(self.reads_through(table)) {
            let spreads = |known: &Table| changes.iter().any(|it| known.spreads[*it as usize]);
            let runs_unseen =
                self.refusal(table).is_some() || self.hides_tables(table) || is_mysqls_own(table);
            if runs_unseen || self.table(table).is_some_and(spreads) {
                return TableSet::WHOLE;
            }
            self.add_family(table, &mut tables);
        }
        tables
    }

    fn add_family(&self, table: &TableName, tables: &mut TableSet) {
        if self.known.folds && !table.name().is_ascii() {
            // The set folds ASCII letters only, and some servers fold others, too.
            *tables = TableSet::WHOLE;
        }
        tables.add(table.name());
        if let Some(family) = self.table(table).and_then(|known| known.family.as_deref()) {
            tables.add(family);
        }
    }

    fn table(&self, table: &TableName) -> Option<&Table> {
        self.known.tables.as_ref()?.get(&*self.folded(table.name()))
    }

    fn relations_called<'a>(&'a self, table: &'a TableName) -> impl Iterator<Item = &'a Relation> {
        let called = self.known.relations.get(&*self.folded(table.name())).into_iter().flatten();
        let schema = table.schema().or(self.known.default_schema.as_deref());
        called.filter(move |it| schema.is_none_or(|schema| self.folded(schema) == *it.schema))
    }

    /// A name as the catalog stores it.
    fn folded<'n>(&self, name: &'n str) -> Cow<'n, str> {
        folded(name, self.known.folds)
    }
}

pub(crate) fn folded(name: &str, folds: bool) -> Cow<'_, str> {
    match folds && name.chars().any(char::is_uppercase) {
        true => name.to_lowercase().into(),
        false => name.into(),
    }
}

/// Whether `table` is one of MySQL's own tables. No catalog lists them;
/// [`relation`](crate::relation) knows them.
pub(crate) fn is_mysqls_own(table: &TableName) -> bool {
    let schemas = ["information_schema", "mysql", "performance_schema", "sys", "ndbinfo"];
    match table.schema() {
        Some(schema) => schemas.iter().any(|own| own.eq_ignore_ascii_case(schema)),
        None => table.name().eq_ignore_ascii_case("dual"),
    }
}

/// Whether `table` is one of the server's own relations. Their content changes with statements that
/// name other tables, or no table at all.
fn is_of_the_server(table: &TableName) -> bool {
    let is_own_schema = matches!(table.schema(), Some("pg_catalog" | "information_schema"));
    is_own_schema || table.name().starts_with("pg_")
}
