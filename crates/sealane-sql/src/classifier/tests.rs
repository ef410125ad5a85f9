use super::*;
use crate::catalog::{CatalogFacts, FunctionFact, RelationFact};

const READ: &str = "SELECT audit_view.id FROM audit_view";

fn function(name: &str, volatile: bool) -> FunctionFact {
    FunctionFact {
        schema: "public".to_owned(),
        name: name.to_owned(),
        volatile,
        shadowed: false,
        takes_one: false,
        definitions: Vec::new(),
    }
}

fn catalog_with(functions: Vec<FunctionFact>) -> Catalog {
    Catalog::new(&CatalogFacts { functions, ..CatalogFacts::default() })
}

#[test]
fn a_learned_write_wins_over_the_text() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    assert_eq!(classifier.intent(READ), Intent::Read);
    classifier.learn_write(READ);
    assert_eq!(classifier.intent(READ), Intent::Write);
    let found = classifier.classify(READ);
    assert_eq!(found.decisive().map(|finding| &finding.reason), Some(&Reason::Learned));
}

#[test]
fn a_hint_keeps_a_read_on_the_primary_also_if_it_is_not_understood() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let found = |hint: &str| {
        let found = classifier.classify(&format!("/* sealane: {hint} */ SELECT 1"));
        (found.may_leave_primary(), found.decisive().map(|finding| finding.reason.clone()))
    };
    assert_eq!(found("primary"), (false, Some(Reason::HintPrimary)));
    assert_eq!(found("pirmary"), (false, Some(Reason::HintNotUnderstood)));
    assert_eq!(found("group=near"), (true, None));
}

#[test]
fn a_learned_write_survives_eviction() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    classifier.learn_write(READ);
    classifier.cache.clear();
    assert_eq!(classifier.intent(READ), Intent::Write);
}

#[test]
fn a_long_text_is_learned_although_it_is_not_cached() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let sql = format!("SELECT 1 WHERE $1 IN ({}1)", "1, ".repeat(MAX_CACHED_TEXT_BYTES / 3));
    assert_eq!(classifier.intent(&sql), Intent::Read);
    assert_eq!(classifier.cache.len(), 0);
    classifier.learn_write(&sql);
    assert_eq!(classifier.intent(&sql), Intent::Write);
    assert_eq!(classifier.cache.len(), 0);
}

#[test]
fn memory_is_bounded_by_the_bytes_of_the_texts() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    // These texts cannot be parsed, so they are quick to judge. Each has 16 KiB: 32 MiB in all.
    let filler = "?".repeat(MAX_CACHED_TEXT_BYTES - 16);
    for n in 0..2_048 {
        let intent = classifier.intent(&format!("SELECT '{n}{filler}"));
        assert_eq!(intent, Intent::Unknown);
    }
    assert!(classifier.cache.weight() <= CACHE_BYTES, "{}", classifier.cache.weight());
}

#[test]
fn texts_that_come_once_do_not_push_out_those_that_come_often() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let hot: Vec<String> =
        (0..200).map(|n| format!("SELECT a, b, c FROM table_{n} WHERE id = $1")).collect();
    let missed = || {
        let missed = hot.iter().filter(|sql| classifier.cache.get(sql.as_str()).is_none()).count();
        hot.iter().for_each(|sql| drop(classifier.look_up(sql)));
        missed
    };
    assert_eq!(missed(), 200);
    assert_eq!(missed(), 0);
    let mut missed_since = 0;
    // Literals make each text a different one: together they need about 20 times the cache's
    // memory.
    for n in 0..200_000 {
        let one_off = format!("SELECT '{n}' {}", "?".repeat(300));
        classifier.remember(&one_off, 0, &certain_write());
        if n % 1_000 == 0 {
            missed_since += missed();
        }
    }
    assert!(missed_since <= 20, "{missed_since} of 40,000 look-ups of hot texts missed");
}

#[test]
fn certain_writes_do_not_enter_the_cache() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    for sql in ["INSERT INTO t VALUES (1)", "  update t SET a = 1", "DELETE FROM t"] {
        let found = classifier.look_up(sql);
        assert_eq!(found.intent, Intent::Write);
        assert!(!found.may_leave_primary());
    }
    assert_eq!(classifier.cache.len(), 0);
}

#[test]
fn learning_stops_at_its_bound_and_keeps_what_it_has() {
    let classifier = Classifier::new(Dialect::Sqlite);
    classifier.learn_write(READ);
    for n in 0..MAX_LEARNED + 10 {
        classifier.learn_write(&format!("SELECT {n}"));
    }
    assert_eq!(classifier.learned.len(), MAX_LEARNED);
    classifier.cache.clear();
    assert_eq!(classifier.intent(READ), Intent::Write);
}

#[test]
fn a_new_catalog_decides_remembered_texts_anew() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let sql = "SELECT price(id) FROM cake";
    assert_eq!(classifier.intent(sql), Intent::Unknown);
    classifier.set_catalog(catalog_with(vec![function("price", false)]), classifier.doubts());
    assert_eq!(classifier.intent(sql), Intent::Read);
    classifier.set_catalog(catalog_with(vec![function("price", true)]), classifier.doubts());
    assert_eq!(classifier.intent(sql), Intent::Unknown);
}

#[test]
fn the_same_catalog_again_forgets_nothing() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let facts = || catalog_with(vec![function("price", false)]);
    classifier.set_catalog(facts(), classifier.doubts());
    classifier.learn_write(READ);
    let before = classifier.look_up("SELECT 1");
    classifier.set_catalog(facts(), classifier.doubts());
    assert!(Arc::ptr_eq(&before, &classifier.look_up("SELECT 1")));
    assert_eq!(classifier.intent(READ), Intent::Write);
}

#[test]
fn a_catalog_in_doubt_allows_nothing_and_forbids_as_before() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let hidden = RelationFact {
        schema: "public".to_owned(),
        name: "audit_view".to_owned(),
        definitions: vec!["SELECT pg_advisory_lock(1)".to_owned()],
        ..RelationFact::default()
    };
    let facts = CatalogFacts {
        functions: vec![function("price", false)],
        relations: vec![hidden],
        ..CatalogFacts::default()
    };
    classifier.set_catalog(Catalog::new(&facts), classifier.doubts());
    let intents = || [classifier.intent("SELECT price(1)"), classifier.intent(READ)];
    assert_eq!(intents(), [Intent::Read, Intent::Unknown]);
    // The catalog was loaded before the doubt and is stored after it.
    let doubts = classifier.doubts();
    classifier.doubt_catalog();
    assert_eq!(intents(), [Intent::Unknown, Intent::Unknown]);
    classifier.set_catalog(Catalog::new(&facts), doubts);
    assert_eq!(intents(), [Intent::Unknown, Intent::Unknown]);
    classifier.set_catalog(Catalog::new(&facts), classifier.doubts());
    assert_eq!(intents(), [Intent::Read, Intent::Unknown]);
}

#[test]
fn a_catalog_that_knows_tables_only_can_be_doubted_too() {
    let classifier = Classifier::new(Dialect::PostgreSql);
    let facts = CatalogFacts { tables: Some(Vec::new()), ..CatalogFacts::default() };
    classifier.set_catalog(Catalog::new(&facts), classifier.doubts());
    let read = || classifier.look_up("SELECT * FROM boat").table_set;
    let written = || classifier.written(r#"DELETE FROM "boat""#);
    assert!(!read().is_whole() && !written().is_whole());
    let generation = classifier.generation();
    classifier.doubt_catalog();
    assert!(read().is_whole() && written().is_whole());
    assert_ne!(classifier.generation(), generation);
}

#[test]
fn a_learned_write_can_be_forgotten() {
    let classifier = Classifier::new(Dialect::Sqlite);
    let is_read = || classifier.intent("SELECT name FROM boat").is_read();
    assert!(is_read());
    classifier.learn_write("SELECT name FROM boat");
    assert!(!is_read());
    classifier.forget_learned();
    assert!(is_read());
}
