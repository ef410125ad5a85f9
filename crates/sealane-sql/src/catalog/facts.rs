//! The facts about a database that a connection must query.

use serde::Deserialize;

use super::filter::ReplicationFilter;

/// The part of a database's catalog that decides where statements may run.
///
/// It is the same on all servers of a cluster. Names are spelled as the catalog stores them. A
/// server sends the facts as one JSON object with these fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CatalogFacts {
    /// Functions and aggregates that are not the server's own.
    pub functions: Vec<FunctionFact>,
    /// Operators that are not the server's own.
    pub operators: Vec<OperatorFact>,
    /// Relations that are not plain tables.
    pub relations: Vec<RelationFact>,
    /// What else a write to a table changes, and which tables are partitions or children of others;
    /// `None` if the tables were not queried.
    pub tables: Option<Vec<TableFact>>,
    /// Whether an operator, a cast, an ordering or a domain's condition may read tables.
    pub reads_unseen: bool,
    /// Types whose conversion, from or to them, runs a function.
    pub types: Vec<TypeFact>,
    /// Whether `relations` names every relation, including plain tables. If so, a name that is
    /// missing may be a view, and is read on the primary.
    pub has_all_relations: bool,
    /// The only schema in which a name without a schema is looked up; `None` if it may be in any
    /// schema.
    pub default_schema: Option<String>,
    /// What replication leaves out, for each server with replication filters.
    pub filters: Vec<ReplicationFilter>,
}

/// One overload of a function.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FunctionFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether the server marks it as having side effects (`provolatile = 'v'`). For an aggregate:
    /// whether one of its functions is marked so.
    pub volatile: bool,
    /// Whether the server has a built-in function of the same name.
    pub shadowed: bool,
    /// Whether one argument is enough to call it, so that it can be written `value.name`.
    pub takes_one: bool,
    /// Queries for what else a call runs: `SELECT` with the defaults of its arguments.
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

/// A type whose conversion runs more than the server's own code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TypeFact {
    /// Its name, whatever its schema.
    pub name: String,
    /// Whether a function that is not pure runs for a cast, for the input or for the output of a
    /// value.
    pub refused: bool,
    /// Queries for what a conversion runs: `SELECT` with each condition of a domain.
    pub definitions: Vec<String>,
    /// Names of the types that this type is made of.
    pub parts: Vec<String>,
}

/// A table whose rows are connected to other tables. One table may have several facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether an insert may change other tables: by a trigger, a rule, or a user's function in a
    /// default or a check.
    pub on_insert: bool,
    /// Whether an update may change other tables: also by a cascading foreign key.
    pub on_update: bool,
    /// Whether a delete may change other tables.
    pub on_delete: bool,
    /// The name of the table that also shows these rows: this table is a partition of it or
    /// inherits from it.
    pub parent: Option<String>,
}

/// A relation that is not a plain, logged table. One relation may have several facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RelationFact {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Why a replica cannot show it at all: unlogged, temporary or foreign.
    pub refused: Option<String>,
    /// Whether a replica nevertheless shows rows, which may be other ones than the primary's.
    pub replicas_differ: bool,
    /// Queries that run when the relation is read: a view's definition, and for each policy of row
    /// level security `SELECT` with its condition. Relations in these queries are named with their
    /// schema.
    pub definitions: Vec<String>,
    /// Its partitions, its children and the relations behind it, by schema and name.
    pub parts: Vec<(String, String)>,
}
