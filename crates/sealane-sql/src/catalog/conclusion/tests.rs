use super::*;
use crate::catalog::{FunctionFact, OperatorFact};
use crate::classification::Classification;

fn relation(name: &str, definitions: &[&str]) -> RelationFact {
    RelationFact {
        schema: "public".to_owned(),
        name: name.to_owned(),
        definitions: definitions.iter().map(|&it| it.to_owned()).collect(),
        ..RelationFact::default()
    }
}

fn function(schema: &str, name: &str, volatile: bool) -> FunctionFact {
    FunctionFact {
        schema: schema.to_owned(),
        name: name.to_owned(),
        volatile,
        shadowed: false,
        takes_row: false,
    }
}

fn judged(facts: &CatalogFacts, sql: &str) -> Classification {
    classify_with(sql, Dialect::PostgreSql, &Catalog::new(facts))
}

fn is_read(facts: &CatalogFacts, sql: &str) -> bool {
    judged(facts, sql).may_leave_primary()
}

fn facts_of_relations(relations: Vec<RelationFact>) -> CatalogFacts {
    CatalogFacts { relations, ..CatalogFacts::default() }
}

#[test]
fn what_a_view_hides_is_found_through_views_above_it() {
    let facts = facts_of_relations(vec![
        relation("peak", &["SELECT id FROM public.middle"]),
        relation("middle", &["SELECT id FROM public.bottom, public.cake"]),
        relation("bottom", &["SELECT nextval('s'::regclass) AS id"]),
        relation("good", &["SELECT id FROM public.cake"]),
    ]);
    for sql in
        ["SELECT * FROM peak", "SELECT 1 FROM public.middle", "SELECT (SELECT 1 FROM bottom)"]
    {
        assert!(!is_read(&facts, sql), "{sql}");
    }
    let good = judged(&facts, "SELECT * FROM good");
    assert!(good.may_leave_primary());
    let tables: Vec<String> = good.tables.read.iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["good", "public.cake"]);
    let why = judged(&facts, "SELECT * FROM peak").to_string();
    assert_eq!(
        why,
        "Unknown: reads peak: it reads public.bottom: in its definition, calls nextval, which is not known to be pure"
    );
    // Another schema's relation of that name, and names that are no relations.
    for sql in [
        "SELECT * FROM other.peak",
        "WITH peak AS (SELECT 1) SELECT * FROM peak",
        "SELECT peak FROM cake AS peak",
    ] {
        assert!(is_read(&facts, sql), "{sql}");
    }
}

#[test]
fn a_common_table_expression_hides_a_view_only_where_it_is_seen() {
    let facts = facts_of_relations(vec![relation("peak", &["SELECT nextval('s')"])]);
    assert!(is_read(&facts, "WITH peak AS (SELECT 1) SELECT * FROM peak"));
    assert!(is_read(
        &facts,
        "WITH RECURSIVE peak AS (SELECT 1 UNION SELECT * FROM peak) SELECT * FROM peak"
    ));
    assert!(is_read(&facts, "WITH peak AS (SELECT 1), a AS (SELECT * FROM peak) SELECT * FROM a"));
    for sql in [
        "WITH peak AS (SELECT * FROM peak) SELECT * FROM peak",
        "WITH a AS (SELECT * FROM peak), peak AS (SELECT 1) SELECT * FROM a",
        "SELECT * FROM (WITH peak AS (SELECT 1) SELECT * FROM peak) a, peak",
        "WITH \"PEAK\" AS (SELECT 1) SELECT * FROM peak",
        "WITH peak AS (SELECT 1) SELECT * FROM public.peak",
        "WITH a AS (WITH peak AS (SELECT 1) SELECT * FROM peak) SELECT * FROM a, peak",
    ] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
}

#[test]
fn a_users_function_is_pure_if_all_of_that_name_are() {
    let facts = CatalogFacts {
        functions: vec![
            function("public", "price", false),
            function("public", "log_it", true),
            function("public", "mixed", false),
            function("audit", "mixed", true),
            function("public", "abs", true),
            FunctionFact { shadowed: true, ..function("public", "pg_sleep", false) },
            FunctionFact { shadowed: true, ..function("public", "lower", false) },
        ],
        ..CatalogFacts::default()
    };
    for sql in [
        "SELECT price(1), public.price(2), PRICE(3), \"price\"(4)",
        "SELECT public.mixed(1)",
        "SELECT pg_catalog.abs(1), lower('A')",
        "SELECT * FROM price(1)",
    ] {
        assert!(is_read(&facts, sql), "{sql}");
    }
    for sql in [
        "SELECT log_it(1)",
        "SELECT public.log_it(1)",
        "SELECT mixed(1)",
        "SELECT audit.mixed(1)",
        "SELECT abs(1)",
        "SELECT pg_sleep(1)",
        "SELECT other.price(1)",
        "SELECT \"Price\"(1)",
        "SELECT * FROM log_it(1)",
    ] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
    assert!(!is_read(&CatalogFacts::default(), "SELECT price(1)"));
}

#[test]
fn a_function_written_like_a_column_is_found() {
    let facts = CatalogFacts {
        functions: vec![FunctionFact { takes_row: true, ..function("public", "touch", true) }],
        ..CatalogFacts::default()
    };
    assert!(!is_read(&facts, "SELECT cake.touch FROM cake"));
    assert!(!is_read(&facts, "SELECT (cake).touch FROM cake"));
    assert!(!is_read(&facts, "SELECT c.Touch FROM cake c"));
    assert!(is_read(&facts, "SELECT cake.id FROM cake"));
}

fn domain(name: &str, condition: &str, parts: &[&str]) -> TypeFact {
    TypeFact {
        name: name.to_owned(),
        refused: false,
        definitions: vec![condition.to_owned()],
        parts: parts.iter().map(|&part| part.to_owned()).collect(),
    }
}

#[test]
fn operators_and_types_are_judged_by_what_they_run() {
    let operator = |symbol: &str, volatile| OperatorFact { symbol: symbol.to_owned(), volatile };
    let facts = CatalogFacts {
        operators: vec![operator("%%", false), operator("!!!", true), operator("<->", true)],
        types: vec![
            TypeFact { name: "audited".to_owned(), refused: true, ..TypeFact::default() },
            domain("email", "SELECT (VALUE ~ '^.+@.+$'::text)", &[]),
            domain("counted", "SELECT (VALUE > nextval('s'::regclass))", &[]),
            domain("twice", "SELECT (VALUE > 0)", &["counted"]),
        ],
        ..CatalogFacts::default()
    };
    assert!(is_read(&facts, "SELECT a %% b FROM t"));
    assert!(is_read(&facts, "SELECT a OPERATOR(public.%%) b FROM t"));
    assert!(is_read(&facts, "SELECT a OPERATOR(pg_catalog.+) b FROM t"));
    assert!(is_read(&facts, "SELECT a + b, CAST(a AS mood), a::email FROM t"));
    for sql in [
        "SELECT a !!! b FROM t",
        "SELECT a <-> b FROM t",
        "SELECT a OPERATOR(public.!!!) b FROM t",
        "SELECT a %%% b FROM t",
        "SELECT CAST(a AS audited) FROM t",
        "SELECT a::public.audited FROM t",
        "SELECT a::audited[] FROM t",
        "SELECT a::counted FROM t",
        "SELECT a::twice FROM t",
    ] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
    assert!(!is_read(&CatalogFacts::default(), "SELECT a %% b FROM t"));
}

#[test]
fn relations_that_replicas_cannot_show_are_refused_with_their_parents() {
    let part = RelationFact { refused: Some("it is unlogged".to_owned()), ..relation("part", &[]) };
    let parent = RelationFact {
        parts: vec![("public".to_owned(), "part".to_owned())],
        ..relation("parent", &[])
    };
    let facts = facts_of_relations(vec![part, parent]);
    let found = judged(&facts, "SELECT * FROM part").to_string();
    assert_eq!(found, "Unknown: reads part: it is unlogged");
    assert!(!is_read(&facts, "SELECT * FROM parent"));
    assert!(!is_read(&facts, "TABLE parent"));
    assert!(!is_read(&facts, "COPY part TO STDOUT"));
}

#[test]
fn equal_facts_in_another_order_make_equal_catalogs() {
    let mut facts = facts_of_relations(vec![
        relation("a", &["SELECT 1 FROM public.b", "SELECT 1 FROM public.c"]),
        relation("b", &["SELECT nextval('s')"]),
        relation("c", &["SELECT setval('s', 1)"]),
    ]);
    facts.functions = vec![function("x", "f", false), function("y", "f", true)];
    let one = Catalog::new(&facts);
    facts.relations.reverse();
    facts.functions.reverse();
    assert!(one.has_same_facts(&Catalog::new(&facts)));
}

#[test]
fn a_cycle_of_definitions_ends() {
    let facts = facts_of_relations(vec![
        relation("a", &["SELECT 1 FROM public.b"]),
        relation("b", &["SELECT 1 FROM public.a"]),
    ]);
    assert!(is_read(&facts, "SELECT * FROM a"));
}
