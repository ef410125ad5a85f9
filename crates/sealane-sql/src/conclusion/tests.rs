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
        takes_one: false,
        definitions: Vec::new(),
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
fn hidden_code_of_a_view_is_found_through_views_above_it() {
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
    // A relation of the same name in another schema, and names that are not relations.
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
fn the_defaults_of_a_function_are_judged_with_it() {
    let with_default = |name: &str, default: &str| FunctionFact {
        definitions: vec![format!("SELECT {default}")],
        ..function("public", name, false)
    };
    let facts = CatalogFacts {
        functions: vec![
            with_default("counted", "nextval('s'::regclass)"),
            with_default("plain", "1, 'a'::text, now()"),
        ],
        ..CatalogFacts::default()
    };
    assert!(!is_read(&facts, "SELECT counted()"));
    assert!(is_read(&facts, "SELECT plain()"));
}

#[test]
fn comparisons_that_sql_makes_without_a_symbol_are_those_of_the_symbol() {
    let operator = |symbol: &str| OperatorFact { symbol: symbol.to_owned(), volatile: true };
    for symbol in ["=", "<", "~~"] {
        let facts = CatalogFacts { operators: vec![operator(symbol)], ..CatalogFacts::default() };
        assert!(!is_read(&facts, "SELECT a FROM t WHERE a IN (1, 2)"), "{symbol}");
        assert!(!is_read(&facts, "SELECT DISTINCT a FROM t JOIN u USING (id)"), "{symbol}");
    }
}

#[test]
fn types_that_the_parser_knows_by_name_are_looked_up_too() {
    let facts = CatalogFacts {
        types: vec![TypeFact { name: "datetime".to_owned(), refused: true, ..TypeFact::default() }],
        ..CatalogFacts::default()
    };
    assert!(!is_read(&facts, "SELECT CAST(a AS datetime) FROM t"));
    assert!(!is_read(&facts, "SELECT a::datetime[] FROM t"));
    assert!(is_read(&facts, "SELECT CAST(a AS timestamp) FROM t"));
}

#[test]
fn names_are_as_long_as_the_server_keeps_them() {
    let name = "n".repeat(63);
    let unlogged =
        RelationFact { refused: Some("it is unlogged".to_owned()), ..relation(&name, &[]) };
    let facts = facts_of_relations(vec![unlogged]);
    for sql in [format!("SELECT a FROM \"{name}zz\""), format!("SELECT * FROM {name}zz AS x")] {
        assert!(!is_read(&facts, &sql), "{sql}");
        let classifier = crate::Classifier::new(Dialect::PostgreSql);
        classifier.set_catalog(Catalog::new(&facts), classifier.doubts());
        assert!(!classifier.look_up(&sql).may_leave_primary(), "{sql}");
    }
}

#[test]
fn a_function_written_like_a_column_is_found() {
    let facts = CatalogFacts {
        functions: vec![FunctionFact { takes_one: true, ..function("public", "touch", true) }],
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

#[test]
fn a_function_that_may_be_written_like_a_column_may_read_any_table() {
    let facts = CatalogFacts {
        functions: vec![FunctionFact {
            takes_one: true,
            ..function("public", "crew_count", false)
        }],
        tables: Some(Vec::new()),
        ..CatalogFacts::default()
    };
    for (sql, is_whole) in [
        (r#"SELECT "boat"."crew_count" FROM "boat""#, true),
        (r#"SELECT "b"."crew_count" AS "n" FROM "boat" AS "b""#, true),
        ("SELECT lower(boat.crew_count) FROM boat", true),
        ("SELECT (b).crew_count FROM boat b", true),
        (r#"SELECT "boat"."name" FROM "boat""#, false),
        ("SELECT lower(boat.name) FROM boat", false),
    ] {
        let plain = crate::fast_path::classify(sql, Dialect::PostgreSql, &Catalog::new(&facts));
        for found in plain.into_iter().chain([judged(&facts, sql)]) {
            assert!(found.may_leave_primary(), "{sql}");
            assert_eq!(found.table_set.is_whole(), is_whole, "{sql}");
        }
    }
}

#[test]
fn reads_that_no_text_shows_may_read_any_table() {
    let known = CatalogFacts { tables: Some(Vec::new()), ..CatalogFacts::default() };
    assert!(!judged(&known, "SELECT * FROM boat").table_set.is_whole());
    let facts = CatalogFacts { reads_unseen: true, ..known.clone() };
    assert!(judged(&facts, "SELECT * FROM boat").table_set.is_whole());
    for own in ["pg_sequences", "pg_catalog.pg_class", "information_schema.tables"] {
        assert!(judged(&known, &format!("SELECT * FROM {own}")).table_set.is_whole(), "{own}");
    }
}

#[test]
fn families_are_connected_by_parents_of_all_kinds() {
    let fact = |name: &str, parent: &str| TableFact {
        name: name.to_owned(),
        parent: Some(parent.to_owned()),
        ..TableFact::default()
    };
    // Three levels; a table with two parents; a separate family.
    let facts = [fact("c", "b"), fact("b", "a"), fact("d", "b"), fact("d", "x"), fact("n", "m")];
    assert_eq!(families(&facts), [vec!["a", "b", "c", "d", "x"], vec!["m", "n"]]);
    let [first, last] = [0, facts.len() - 1].map(|at| facts[at..].iter().chain(&facts[..at]));
    let [first, last] =
        [first, last].map(|facts| tables(&facts.cloned().collect::<Vec<_>>(), false));
    assert_eq!(first, last, "in any order");
}
