//! What somebody with a connection has to find out.

use serde::Deserialize;

/// The catalog of one database, as far as it decides where statements may run.
///
/// The same for all servers of a cluster. Names are as the catalog holds them.
/// Deserialises from an object with these fields, which is how a server sends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CatalogFacts {
    /// Functions and aggregates that are not the server's own.
    pub functions: Vec<FunctionFact>,
    /// Operators that are not the server's own.
    pub operators: Vec<OperatorFact>,
    /// Relations that are more, or less, than a plain table.
    pub relations: Vec<RelationFact>,
    /// What writes to tables change besides, and which tables are parts of others;
    /// `None` if nobody has looked.
    pub tables: Option<Vec<TableFact>>,
    /// Whether an operator, a cast, an order or the condition of a domain may read tables.
    pub reads_unseen: bool,
    /// Types that run something when a value is converted from or to them.
    pub types: Vec<TypeFact>,
}

/// A function, one overload of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FunctionFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether the server takes it to have side effects (`provolatile = 'v'`);
    /// of an aggregate, whether one of its parts does.
    pub volatile: bool,
    /// Whether the server has a function of the same name itself.
    pub shadowed: bool,
    /// Whether it can be called with one argument, and so as `value.name`.
    pub takes_one: bool,
    /// Queries for what runs besides it: `SELECT` and the defaults of its arguments.
    #[serde(default)]
    pub definitions: Vec<String>,
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OperatorFact {
    /// Its symbol.
    pub symbol: String,
    /// Whether its function has side effects.
    pub volatile: bool,
}

/// A type that is more than its name says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TypeFact {
    /// Its name, whatever its schema.
    pub name: String,
    /// Whether a function that is not pure runs: of a cast, or to read or show it.
    pub refused: bool,
    /// Queries for what runs: `SELECT` and each condition of a domain.
    pub definitions: Vec<String>,
    /// Names of types that it is made of.
    pub parts: Vec<String>,
}

/// A table whose rows are not its own affair. There may be several facts of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether a new row may change other tables: by a trigger, a rule, or a function
    /// of the user's in a default or a check.
    pub on_insert: bool,
    /// Whether a changed row may: also by a foreign key that cascades.
    pub on_update: bool,
    /// Whether a deleted row may.
    pub on_delete: bool,
    /// The name of a table that shows its rows, too: of which it is a partition, or
    /// from which it inherits.
    pub parent: Option<String>,
}

/// A relation that is not a plain, logged table. There may be several facts of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RelationFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Why a replica cannot show it, whatever it holds: unlogged, temporary, foreign.
    pub refused: Option<String>,
    /// Queries that run when it is read: a view's definition; `SELECT` and the
    /// condition for each policy of row level security. Names of relations in it
    /// carry their schema.
    pub definitions: Vec<String>,
    /// A partition or child of it, or a relation behind it, by schema and name.
    pub parts: Vec<(String, String)>,
}
