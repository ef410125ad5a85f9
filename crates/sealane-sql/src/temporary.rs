//! Temporary tables, which only their own connection sees.
//!
//! A temporary table can be created, filled, indexed and dropped without any effect on other
//! connections, so none of this changes the schema. The statement that creates the table says that
//! it is temporary; the statements that index or drop it do not. So a transaction remembers the
//! names. Outside a transaction it is unknown which connection a statement gets, so `DROP TABLE`
//! counts as a schema change.
//!
//! A temporary table may have the same name as a permanent table, which it then hides on its
//! connection. Within a transaction this does no harm: all statements run on that connection.
//! Outside a transaction the next statement may get another connection in any case, with or without
//! sealane.

use crate::dialect::Dialect;
use crate::first_words::{FirstWords, behind_temporary, may_change_schema, skip_blanks, words};

/// The temporary tables that a transaction has created.
///
/// It forgets all names at each statement that controls transactions, such as `ROLLBACK TO
/// SAVEPOINT`, because a name may then mean a permanent table again. A caller that rolls back to a
/// savepoint in another way must create a new value.
#[derive(Debug, Default)]
pub struct TemporaryTables(Vec<Box<str>>);

impl TemporaryTables {
    /// Like [`may_change_schema`](crate::may_change_schema), for the transaction's next statement.
    pub fn may_change_schema(&mut self, sql: &str, dialect: Dialect) -> bool {
        let rest = skip_blanks(sql, dialect);
        if FirstWords::of(sql, dialect).is_some_and(FirstWords::is_transaction_control) {
            self.0.clear();
        }
        if !may_change_schema(sql, dialect) {
            self.0.extend(made(rest).map(Into::into));
            return false;
        }
        let is_one = rest.trim_end_matches([' ', '\t', '\r', '\n', ';']).find(';').is_none();
        !(is_one && (self.are_dropped(rest) || self.are_indexed(rest)))
    }

    /// Whether `rest` drops temporary tables only. Forgets their names.
    fn are_dropped(&mut self, rest: &str) -> bool {
        let Some(rest) = words(rest, &["DROP", "TABLE"]) else { return false };
        let mut rest = words(rest, &["IF", "EXISTS"]).unwrap_or(rest);
        let mut dropped = Vec::new();
        loop {
            let Some((name, after)) = name(rest) else { return false };
            if !self.knows(&name) {
                return false;
            }
            dropped.push(name);
            rest = after.trim_ascii_start();
            match rest.strip_prefix(',') {
                Some(others) => rest = others,
                None => break,
            }
        }
        self.0.retain(|known| !dropped.iter().any(|name| **name == **known));
        // CASCADE is harmless: only temporary objects can depend on a temporary table.
        let rest = rest.trim_end_matches([' ', '\t', '\r', '\n', ';']);
        ["", "CASCADE", "RESTRICT"].iter().any(|end| end.eq_ignore_ascii_case(rest))
    }

    /// Whether `rest` creates an index on a temporary table.
    fn are_indexed(&self, rest: &str) -> bool {
        let indexed = words(rest, &["CREATE", "INDEX"])
            .or_else(|| words(rest, &["CREATE", "UNIQUE", "INDEX"]))
            .and_then(|rest| {
                let rest = words(rest, &["IF", "NOT", "EXISTS"]).unwrap_or(rest);
                // The index's name is optional, and it cannot be `ON`.
                words(rest, &["ON"]).or_else(|| words(name(rest)?.1, &["ON"]))
            })
            .and_then(|rest| name(words(rest, &["ONLY"]).unwrap_or(rest)));
        indexed.is_some_and(|(name, _)| self.knows(&name))
    }

    fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|known| **known == *name)
    }
}

/// The temporary table that `rest` creates.
fn made(rest: &str) -> Option<String> {
    let rest = words(behind_temporary(rest)?, &["TABLE"])?;
    Some(name(words(rest, &["IF", "NOT", "EXISTS"]).unwrap_or(rest))?.0)
}

/// A name as the server stores it, without `pg_temp`, and the text after it. `None` if the name has
/// another schema or anything unusual.
fn name(rest: &str) -> Option<(String, &str)> {
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix("pg_temp.").unwrap_or(rest);
    let (name, after) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (name, after) = quoted.split_once('"')?;
            (name.to_owned(), after)
        }
        None => {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            (rest[..end].to_ascii_lowercase(), &rest[end..])
        }
    };
    // These characters would continue the name; `&` does in `U&"name"`.
    let goes_on = |c: char| !c.is_ascii() || matches!(c, '.' | '"' | '$' | '&');
    let is_whole = !name.is_empty() && !after.starts_with(goes_on);
    is_whole.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// For each statement of one transaction: whether it may change the schema.
    fn changes(statements: &[&str]) -> Vec<bool> {
        let mut tables = TemporaryTables::default();
        let change = |sql: &&str| tables.may_change_schema(sql, Dialect::PostgreSql);
        statements.iter().map(change).collect()
    }

    #[rstest]
    #[case("CREATE TEMP TABLE t (id int)")]
    #[case("create  temporary\ntable t as select 1")]
    #[case("/* a */ CREATE LOCAL TEMP TABLE IF NOT EXISTS t (id int) ON COMMIT DROP;")]
    #[case("CREATE GLOBAL TEMPORARY TABLE t (id int)")]
    #[case("CREATE OR REPLACE TEMP VIEW v AS SELECT 1")]
    #[case("CREATE TEMP SEQUENCE s")]
    #[case("CREATE TEMP TABLE t (id int) ON COMMIT DROP; INSERT INTO t VALUES (1)")]
    #[case("SELECT 1 INTO TEMP t")]
    #[case("DISCARD TEMP")]
    #[case("DISCARD ALL")]
    fn a_temporary_object_changes_no_schema(#[case] sql: &str) {
        assert!(!may_change_schema(sql, Dialect::PostgreSql), "{sql}");
    }

    #[rstest]
    #[case("CREATE TABLE temp (id int)")]
    #[case("CREATE TEMP TABLE t (id int); CREATE TABLE u (id int)")]
    #[case("CREATE TABLE temporary AS SELECT 1")]
    #[case("CREATE /* a */ TEMP TABLE t (id int)")]
    #[case("CREATE TEMPTABLE t (id int)")]
    #[case("CREATE UNLOGGED TABLE t (id int)")]
    #[case("DROP TABLE t")]
    fn a_permanent_object_changes_the_schema(#[case] sql: &str) {
        assert!(may_change_schema(sql, Dialect::PostgreSql), "{sql}");
    }

    #[test]
    fn mysql_and_sqlite_have_temporary_objects_too() {
        for sql in [
            "CREATE TEMPORARY TABLE t (id int)",
            "CREATE OR REPLACE TEMPORARY TABLE t (id int)",
            "DROP TEMPORARY TABLE t",
        ] {
            assert!(!may_change_schema(sql, Dialect::MySql), "{sql}");
        }
        assert!(may_change_schema("/*! CREATE TEMPORARY */ TABLE t", Dialect::MySql));
        assert!(!may_change_schema("CREATE TEMP TABLE t (id int)", Dialect::Sqlite));
    }

    #[rstest]
    #[case(r#"DROP TABLE t"#)]
    #[case(r#"drop table if exists T;"#)]
    #[case(r#"DROP TABLE "t" CASCADE"#)]
    #[case(r#"DROP TABLE pg_temp.t"#)]
    #[case(r#"DROP TABLE t , u"#)]
    #[case(r#"CREATE INDEX ON t (id)"#)]
    #[case(r#"CREATE UNIQUE INDEX IF NOT EXISTS t_id ON ONLY "t"(id)"#)]
    fn a_transaction_knows_its_temporary_tables(#[case] sql: &str) {
        let made = ["CREATE TEMP TABLE t (id int)", r#"CREATE TEMP TABLE "u" AS SELECT 1"#];
        assert_eq!(changes(&[made[0], made[1], sql]), [false; 3], "{sql}");
        assert_eq!(changes(&[sql]), [true], "without them");
    }

    #[rstest]
    #[case::another(r#"DROP TABLE u"#)]
    #[case::one_of_another(r#"DROP TABLE t, u"#)]
    #[case::of_a_schema(r#"DROP TABLE public.t"#)]
    #[case::of_a_quoted_schema(r#"DROP TABLE "public"."t""#)]
    #[case::another_case(r#"DROP TABLE "T""#)]
    #[case::longer(r#"DROP TABLE t$"#)]
    #[case::not_ascii(r#"DROP TABLE tö"#)]
    #[case::two_statements(r#"DROP TABLE t; DROP TABLE boat"#)]
    #[case::a_view(r#"DROP VIEW t"#)]
    #[case::something_behind(r#"DROP TABLE t -- ,boat"#)]
    #[case::an_index_of_another(r#"CREATE INDEX t ON boat (id)"#)]
    #[case::a_trigger(r#"CREATE TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()"#)]
    #[case::altered(r#"ALTER TABLE t RENAME TO u"#)]
    fn any_other_statement_may_change_the_schema(#[case] sql: &str) {
        assert_eq!(changes(&["CREATE TEMP TABLE t (id int)", sql]), [false, true], "{sql}");
    }

    #[test]
    fn a_name_is_remembered_until_its_table_is_gone() {
        let (make, drop) = ("CREATE TEMP TABLE t (id int)", "DROP TABLE t");
        assert_eq!(changes(&[make, drop, drop]), [false, false, true]);
        let undone = ["SAVEPOINT a", make, "ROLLBACK TO SAVEPOINT a", drop];
        assert_eq!(changes(&undone), [false, false, false, true]);
    }
}
