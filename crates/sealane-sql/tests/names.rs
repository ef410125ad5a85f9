//! Names are compared as the server looks them up: unescaped, folded and cut.

use rstest::rstest;
use sealane_sql::{
    Catalog, CatalogFacts, Classification, Classifier, Dialect, FunctionFact, RelationFact,
    TableFact, TableName, TemporaryTables, TypeFact, classify, classify_with,
};

/// A name with a quote in it, and a name as long as PostgreSQL keeps it (63 bytes; the last letter
/// has two).
const QUOTED: &str = r#"a"b"#;
const LONG: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghié";

fn relation(name: &str) -> RelationFact {
    RelationFact { schema: "public".into(), name: name.into(), ..RelationFact::default() }
}

/// A database in which every object has this name and none may be read on a replica.
fn catalog(name: &str) -> Catalog {
    let written = name.replace('"', r#""""#);
    let mut facts = CatalogFacts::default();
    facts.functions.push(FunctionFact {
        schema: "public".into(),
        name: name.into(),
        volatile: true,
        shadowed: false,
        takes_one: true,
        definitions: Vec::new(),
    });
    let definition = format!(r#"SELECT 1 FROM public."{written}""#);
    facts.relations = vec![
        RelationFact { definitions: vec!["SELECT nextval('s')".into()], ..relation(name) },
        RelationFact { definitions: vec![definition], ..relation("above") },
    ];
    facts.types.push(TypeFact { name: name.into(), refused: true, ..TypeFact::default() });
    facts.tables = Some(vec![TableFact {
        schema: "public".into(),
        name: name.into(),
        ..TableFact::default()
    }]);
    Catalog::new(&facts)
}

/// Classifies with the fast path and with the tree, which must agree.
fn judged(sql: &str, name: &str) -> Classification {
    let classifier = Classifier::new(Dialect::PostgreSql);
    classifier.set_catalog(catalog(name), classifier.doubts());
    let quick = classifier.look_up(sql);
    assert_eq!(*quick, classify_with(sql, Dialect::PostgreSql, &catalog(name)), "{sql}");
    (*quick).clone()
}

#[rstest]
#[case::a_view(r#"SELECT "x"."id" FROM NAME AS "x""#)]
#[case::a_view_with_its_schema(r#"SELECT "id" FROM "public".NAME"#)]
#[case::a_view_above_it(r#"SELECT "id" FROM "above""#)]
#[case::a_join(r#"SELECT "t"."id" FROM "t" INNER JOIN NAME ON "t"."id" = NAME."id""#)]
#[case::a_table_by_itself(r#"TABLE NAME"#)]
#[case::a_copy(r#"COPY NAME TO STDOUT"#)]
#[case::a_column(r#"SELECT "x".NAME FROM "t" AS "x""#)]
#[case::an_attribute(r#"SELECT ("x").NAME FROM "t" AS "x""#)]
#[case::a_call(r#"SELECT NAME(1)"#)]
#[case::a_call_with_its_schema(r#"SELECT "public".NAME(1)"#)]
#[case::a_table_function(r#"SELECT * FROM NAME(1)"#)]
#[case::a_cast(r#"SELECT CAST($1 AS NAME)"#)]
#[case::another_cast(r#"SELECT $1::NAME"#)]
#[case::a_cast_with_its_schema(r#"SELECT $1::"public".NAME"#)]
#[case::an_array(r#"SELECT $1::NAME[]"#)]
#[case::a_literal(r#"SELECT NAME 'x'"#)]
#[case::a_literal_behind_a_comment(r#"SELECT NAME /* a */ E'x'"#)]
#[case::columns_of_a_function(r#"SELECT * FROM json_to_record($1) AS x (a NAME)"#)]
fn an_object_is_found_however_its_name_is_written(#[case] sql: &str) {
    let doubled = r#""a""b""#.to_owned();
    let unicode = [r#"U&"a\0022b""#, r#"u&"a!0022b" UESCAPE '!'"#].map(str::to_owned);
    let long = [format!("\"{LONG}\""), format!("\"{LONG}more\""), format!("{LONG}more")];
    let written = [doubled].into_iter().chain(unicode).map(|written| (written, QUOTED));
    let written = written.chain(long.into_iter().map(|written| (written, LONG)));
    for (written, name) in written {
        let sql = sql.replace("NAME", &written);
        let found = judged(&sql, name);
        assert!(!found.may_leave_primary(), "{sql}: {found}");
    }
}

#[test]
fn other_names_are_read_as_before() {
    for sql in [
        r#"SELECT "x"."a""c" FROM "a""c" AS "x""#,
        r#"SELECT CAST("a""c" AS "a""c") FROM "a""""b""#,
        r#"SELECT "id" FROM "a" "b""#,
    ] {
        let found = judged(sql, QUOTED);
        assert!(found.may_leave_primary(), "{sql}: {found}");
    }
    // One byte shorter than the cut name.
    let sql = format!("SELECT 1 FROM \"{}\"", &LONG[..61]);
    assert!(judged(&sql, LONG).may_leave_primary(), "{sql}");
}

#[rstest]
#[case(Dialect::PostgreSql, r#"SELECT 1 FROM "s""1"."a""b""#, r#"s"1"#, QUOTED)]
#[case(Dialect::PostgreSql, r#"SELECT 1 FROM S."A""B""#, "s", r#"A"B"#)]
#[case(Dialect::Sqlite, r#"SELECT 1 FROM "s""1"."A""b""#, r#"s"1"#, QUOTED)]
#[case(Dialect::Sqlite, "SELECT 1 FROM `s``1`.`A``b`", "s`1", "a`b")]
#[case(Dialect::Sqlite, "SELECT 1 FROM 's'.'it''s'", "s", "it's")]
#[case(Dialect::Sqlite, "SELECT 1 FROM [s\"1].[a]", "s\"1", "a")]
#[case(Dialect::MySql, "SELECT 1 FROM `s``1`.`A``b`", "s`1", "A`b")]
#[case(Dialect::PostgreSql, r#"DELETE FROM "s""1"."a""b""#, r#"s"1"#, QUOTED)]
fn a_table_has_the_name_that_the_server_looks_up(
    #[case] dialect: Dialect,
    #[case] sql: &str,
    #[case] schema: &str,
    #[case] name: &str,
) {
    let found = classify(sql, dialect);
    let mut tables = [found.tables.read, found.tables.written].concat();
    tables.dedup();
    assert_eq!(tables, [TableName::new(Some(schema), name)], "{sql}");
}

#[test]
fn a_name_is_cut_between_two_letters() {
    let name = &LONG.replace('é', "x");
    let sql = format!("SELECT $1::{name}éa, {name}é 'a'");
    assert!(!judged(&sql, name).may_leave_primary(), "{sql}");
}

#[test]
fn a_type_behind_a_dot_is_a_cast() {
    let mut facts = CatalogFacts::default();
    facts.types.push(TypeFact { name: "checked".into(), refused: true, ..TypeFact::default() });
    let catalog = Catalog::new(&facts);
    for sql in [r#"SELECT ("a").checked FROM t"#, r#"SELECT "t"."checked" FROM "t""#] {
        let found = classify_with(sql, Dialect::PostgreSql, &catalog);
        assert!(!found.may_leave_primary(), "{sql}");
    }
    let found = classify_with(r#"SELECT "t"."other" FROM "t""#, Dialect::PostgreSql, &catalog);
    assert!(found.may_leave_primary());
}

#[test]
fn a_common_table_expression_is_found_by_its_name_as_the_server_cuts_it() {
    let sql = format!("WITH \"{LONG}1\" AS (SELECT 1) SELECT * FROM {LONG}2");
    let found = judged(&sql, LONG);
    assert!(found.may_leave_primary() && found.tables.read.is_empty(), "{found:?}");
    let sql = r#"WITH "a""b" AS (SELECT 1) SELECT * FROM "a""b""#;
    assert!(judged(sql, QUOTED).may_leave_primary());
}

#[test]
fn a_temporary_table_with_an_escaped_name_is_no_other_table() {
    for (made, dropped) in [
        (r#"CREATE TEMP TABLE U&"boat" (id int)"#, "DROP TABLE u"),
        (r#"CREATE TEMP TABLE U&"\0062oat" (id int)"#, "DROP TABLE u"),
        (r#"CREATE TEMP TABLE "a""b" (id int)"#, r#"DROP TABLE "a""#),
    ] {
        let mut temporary = TemporaryTables::default();
        assert!(!temporary.may_change_schema(made, Dialect::PostgreSql), "{made}");
        assert!(temporary.may_change_schema(dropped, Dialect::PostgreSql), "{made}; {dropped}");
    }
}

#[test]
fn a_write_to_an_escaped_name_is_not_one_to_its_beginning() {
    let mut facts = CatalogFacts::default();
    facts.tables = Some(Vec::new());
    let classifier = Classifier::new(Dialect::PostgreSql);
    classifier.set_catalog(Catalog::new(&facts), classifier.doubts());
    for sql in [r#"DELETE FROM "a""b""#, r#"DELETE FROM U&"a""#] {
        assert!(classifier.written(sql).is_whole(), "{sql}");
    }
    assert!(!classifier.written(r#"DELETE FROM "a""#).is_whole());
}
