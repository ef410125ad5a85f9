//! What a write to one table changes in other tables: by triggers and by cascading foreign keys.
//!
//! # What an ordinary role sees
//! `information_schema.TRIGGERS` shows a role the triggers of tables for which it has the privilege
//! TRIGGER, and a foreign key is shown to roles that may do more than read its table. A role that is
//! shown nothing cannot tell "none" from "hidden". So nothing is concluded unless the role has TRIGGER
//! on every schema that it sees (`GRANT ALL` on the application's database contains it). Only grants to
//! the user itself on one whole schema count: a grant on everything may be revoked for a schema
//! (`partial_revokes`), and privileges that come through a role are not listed.
//!
//! A foreign key that refers to a schema outside of these may be the end of a chain whose beginning is
//! hidden. Then nothing is concluded, either. A hidden table at the end of a chain does no harm: the role
//! cannot read it, and a view of somebody else that shows it is not known, so it is read on the primary.
//!
//! # What else could write
//! Defaults, generated columns and checks call no stored function on either server. Cascades run no
//! triggers. A MERGE table shares its rows with other tables; such a database is not tracked.

use std::collections::HashSet;

use sealane_sql::{RelationFact, TableFact};
use sqlx::MySqlConnection;

use super::{rows_of, text};

const GRANTED: &str = "SELECT table_schema AS pattern, privilege_type AS privilege \
     FROM information_schema.schema_privileges \
     WHERE grantee = CONCAT(QUOTE(LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - CHAR_LENGTH(\
         SUBSTRING_INDEX(CURRENT_USER(), '@', -1)) - 1)), '@', \
                            QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)))";
const TRIGGERS: &str = "SELECT event_object_schema AS its_schema, event_object_table AS its_name, \
     event_manipulation AS event FROM information_schema.triggers";
const KEYS: &str = "SELECT unique_constraint_schema AS its_schema, \
     referenced_table_name AS its_name, delete_rule AS on_delete, update_rule AS on_update \
     FROM information_schema.referential_constraints";

/// What the servers' answers say.
#[derive(Debug, Default)]
struct Told {
    /// Patterns of schemas, each with a privilege that the role has there.
    granted: Vec<(String, String)>,
    /// Schema, table and event.
    triggers: Vec<[String; 3]>,
    keys: Vec<Key>,
}

/// A foreign key.
#[derive(Debug)]
struct Key {
    /// The schema of the table that it refers to.
    schema: String,
    /// The table's name, which MariaDB hides from a role that may only read and insert.
    name: Option<String>,
    on_delete: String,
    on_update: String,
}

/// The tables whose writes change other tables; `None` if the role may not see all of this.
pub(super) async fn spread(
    connection: &mut MySqlConnection,
    relations: &[RelationFact],
) -> Result<Option<Vec<TableFact>>, sqlx::Error> {
    let mut told = Told::default();
    for row in rows_of(connection, GRANTED).await? {
        told.granted.push((text(&row, "pattern")?, text(&row, "privilege")?));
    }
    // To ask for foreign keys, MariaDB opens every table. In vain, if it may not show all of them.
    if !told.shows_all(relations) {
        return Ok(None);
    }
    for row in rows_of(connection, TRIGGERS).await? {
        told.triggers.push([
            text(&row, "its_schema")?,
            text(&row, "its_name")?,
            text(&row, "event")?,
        ]);
    }
    for row in rows_of(connection, KEYS).await? {
        told.keys.push(Key {
            schema: text(&row, "its_schema")?,
            name: text(&row, "its_name").ok(),
            on_delete: text(&row, "on_delete")?,
            on_update: text(&row, "on_update")?,
        });
    }
    Ok(told.tables(relations))
}

impl Told {
    fn tables(&self, relations: &[RelationFact]) -> Option<Vec<TableFact>> {
        let seen = self.schemas();
        if !self.shows_all(relations) {
            return None;
        }
        let mut tables = Vec::new();
        for [schema, name, event] in &self.triggers {
            let (schema, name) = (schema.clone(), name.clone());
            // A trigger for several events may be told in some other way.
            let is =
                |its: &str| event == its || !["INSERT", "UPDATE", "DELETE"].contains(&&**event);
            let (on_insert, on_update, on_delete) = (is("INSERT"), is("UPDATE"), is("DELETE"));
            tables.push(TableFact { schema, name, on_insert, on_update, on_delete, parent: None });
        }
        for key in &self.keys {
            let acts = |rule: &str| !matches!(rule, "RESTRICT" | "NO ACTION");
            let (on_delete, on_update) = (acts(&key.on_delete), acts(&key.on_update));
            if !on_delete && !on_update {
                continue;
            }
            if !seen.contains(&*key.schema) {
                return None;
            }
            let (schema, name) = (key.schema.clone(), key.name.clone()?);
            let fact = TableFact { schema, name, on_delete, on_update, ..TableFact::default() };
            tables.push(fact);
        }
        Some(tables)
    }

    /// Whether the role is shown the triggers and keys of all these tables.
    fn shows_all(&self, relations: &[RelationFact]) -> bool {
        let seen = self.schemas();
        relations.iter().all(|relation| seen.contains(&*relation.schema))
    }

    /// The schemas whose triggers and keys the role is shown.
    fn schemas(&self) -> HashSet<String> {
        let patterns: HashSet<&str> = self.granted.iter().map(|(it, _)| it.as_str()).collect();
        let with_triggers = self.granted.iter().filter(|(_, privilege)| privilege == "TRIGGER");
        let schemas = with_triggers.map(|(it, _)| it.replace("\\_", "_").replace("\\%", "%"));
        // Of several patterns that fit a name the server uses one, and this does not show which.
        let is_alone =
            |schema: &String| patterns.iter().filter(|pattern| fits(pattern, schema)).count() == 1;
        schemas.filter(is_alone).collect()
    }
}

/// Whether `name` is LIKE `pattern`, in any case: how names compare depends on the server.
fn fits(pattern: &str, name: &str) -> bool {
    let mut left = pattern.chars();
    let is = |one: char, other: char| one.to_lowercase().eq(other.to_lowercase());
    let mut rest = name.chars();
    match left.next() {
        None => name.is_empty(),
        Some('%') => {
            let left = left.as_str();
            name.char_indices().any(|(at, _)| fits(left, &name[at..])) || fits(left, "")
        }
        Some('_') => rest.next().is_some() && fits(left.as_str(), rest.as_str()),
        Some(first) => {
            let first = if first == '\\' { left.next().unwrap_or(first) } else { first };
            rest.next().is_some_and(|it| is(it, first)) && fits(left.as_str(), rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn relations(schemas: &[&str]) -> Vec<RelationFact> {
        let named = |schema: &&str| RelationFact {
            schema: (*schema).to_owned(),
            name: "boat".to_owned(),
            ..RelationFact::default()
        };
        schemas.iter().map(named).collect()
    }

    fn granted(grants: &[(&str, &str)]) -> Told {
        let grants = grants.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned()));
        Told { granted: grants.collect(), ..Told::default() }
    }

    fn key(schema: &str, on_delete: &str, on_update: &str) -> Key {
        let [schema, on_delete, on_update] = [schema, on_delete, on_update].map(str::to_owned);
        Key { schema, name: Some("harbour".to_owned()), on_delete, on_update }
    }

    #[rstest]
    #[case::on_the_schema(&[("shop", "SELECT"), ("shop", "TRIGGER")], &["shop"], true)]
    #[case::written_with_an_escape(&[("my\\_shop", "TRIGGER")], &["my_shop"], true)]
    #[case::not_granted(&[("shop", "SELECT")], &["shop"], false)]
    #[case::on_one_of_two(&[("shop", "TRIGGER"), ("log", "SELECT")], &["shop", "log"], false)]
    #[case::on_a_pattern(&[("sh%", "TRIGGER")], &["shop"], false)]
    #[case::beside_a_pattern(&[("app\\_%", "SELECT"), ("app_main", "TRIGGER")], &["app_main"], false)]
    #[case::beside_a_wider_pattern(&[("app%", "SELECT"), ("app_main", "TRIGGER")], &["app_main"], false)]
    #[case::beside_another_pattern(&[("log%", "SELECT"), ("app", "TRIGGER")], &["app"], true)]
    #[case::spelled_twice(&[("my_shop", "TRIGGER"), ("my\\_shop", "SELECT")], &["my_shop"], false)]
    #[case::through_a_role(&[], &["shop"], false)]
    fn tables_are_told_apart_only_where_all_triggers_show(
        #[case] grants: &[(&str, &str)],
        #[case] schemas: &[&str],
        #[case] are_told: bool,
    ) {
        let tables = granted(grants).tables(&relations(schemas));
        assert_eq!(tables.is_some(), are_told, "{tables:?}");
    }

    #[test]
    fn a_trigger_counts_for_its_event() {
        let mut told = granted(&[("shop", "TRIGGER")]);
        for event in ["UPDATE", "INSERT,DELETE"] {
            told.triggers.push(["shop", "boat", event].map(str::to_owned));
        }
        let tables = told.tables(&relations(&["shop"])).unwrap();
        let spreads = |it: &TableFact| [it.on_insert, it.on_update, it.on_delete];
        assert_eq!(spreads(&tables[0]), [false, true, false]);
        assert_eq!(spreads(&tables[1]), [true; 3]);
    }

    #[test]
    fn a_key_counts_for_the_table_that_it_refers_to_if_it_acts() {
        let mut told = granted(&[("shop", "TRIGGER")]);
        told.keys =
            vec![key("shop", "NO ACTION", "RESTRICT"), key("shop", "SET NULL", "NO ACTION")];
        let tables = told.tables(&relations(&["shop"])).unwrap();
        assert_eq!(tables.len(), 1, "{tables:?}");
        let fact = &tables[0];
        assert_eq!((&*fact.name, fact.on_delete, fact.on_update), ("harbour", true, false));
        // The table that it refers to may be changed by what nobody shows us.
        told.keys.push(key("hidden", "CASCADE", "RESTRICT"));
        assert_eq!(told.tables(&relations(&["shop"])), None);
    }

    #[test]
    fn a_key_to_a_table_without_a_name_may_act_on_any_table() {
        let mut told = granted(&[("shop", "TRIGGER")]);
        told.keys = vec![Key { name: None, ..key("shop", "RESTRICT", "NO ACTION") }];
        assert!(told.tables(&relations(&["shop"])).is_some());
        told.keys = vec![Key { name: None, ..key("shop", "CASCADE", "NO ACTION") }];
        assert_eq!(told.tables(&relations(&["shop"])), None);
    }
}
