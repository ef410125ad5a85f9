//! Hostile sizes and shapes of texts: each gets an answer in bounded time on a small stack.

#![allow(clippy::disallowed_methods, reason = "tests measure and bound time")]

use rstest::rstest;
use sealane_sql::{Dialect, Intent, classify};

const DIALECTS: [Dialect; 3] = [Dialect::PostgreSql, Dialect::MySql, Dialect::Sqlite];

/// Smaller than the stack that any runtime gives its threads, so that all texts get a stack of their
/// own.
const STACK_BYTES: usize = 1024 * 1024;
/// Just enough for a flat text to be parsed on the thread's own stack.
const ENOUGH_IF_FLAT_BYTES: usize = STACK_BYTES + 64 * 1024;

fn on_small_stack(sql: String) -> Vec<Intent> {
    let answers = [STACK_BYTES, ENOUGH_IF_FLAT_BYTES].map(|bytes| on_stack(bytes, sql.clone()));
    assert_eq!(answers[0], answers[1]);
    answers[0].to_vec()
}

fn on_stack(bytes: usize, sql: String) -> [Intent; 3] {
    std::thread::Builder::new()
        .stack_size(bytes)
        .spawn(move || DIALECTS.map(|dialect| classify(&sql, dialect).intent))
        .expect("a thread")
        .join()
        .expect("no panic")
}

#[rstest]
#[case::explain("EXPLAIN ")]
#[case::describe("DESCRIBE ")]
#[case::desc("DESC ")]
#[case::options("EXPLAIN (ANALYZE) ")]
#[case::both("EXPLAIN ANALYZE DESC ")]
#[case::with("WITH a AS (SELECT 1) ")]
#[case::prepare("PREPARE p AS ")]
#[case::create("CREATE VIEW v AS ")]
#[case::begin("BEGIN ")]
#[case::case("CASE WHEN 1 THEN ")]
#[case::declare("DECLARE c CURSOR FOR ")]
#[case::copy("COPY (")]
#[case::insert("INSERT INTO t ")]
#[case::while_loop("WHILE 1 BEGIN ")]
#[case::if_block("IF 1 THEN ")]
#[case::body("CREATE PROCEDURE p AS BEGIN ")]
#[case::case_in_body("CREATE PROCEDURE p AS BEGIN CASE WHEN 1 THEN ")]
#[case::trigger("CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW BEGIN ")]
fn statements_in_statements_are_answered(#[case] unit: &str) {
    for count in [1, 2, 5, 8, 9, 10, 20, 40, 47, 48, 49, 50, 51, 100, 300, 1_000] {
        let sql = format!("{}SELECT (SELECT (1))", unit.repeat(count));
        let open = unit.matches('(').count() - unit.matches(')').count();
        on_small_stack(format!("{sql}{}", ")".repeat(open * count)));
    }
}

fn chain(count: usize, unit: &str, rest: &str) -> String {
    format!("SELECT {}{rest}", unit.repeat(count))
}

#[rstest]
#[case::parentheses(100_000, "(", "1")]
#[case::balanced_parentheses_are_too_long_as_well(140_000, "(", "1)")]
#[case::ors(100_000, "a OR ", "b")]
#[case::unary_minuses(100_000, "- ", "1")]
#[case::nots(60_000, "NOT ", "a")]
#[case::casts(30_000, "CAST(", "1")]
#[case::unions(100_000, "1 UNION SELECT ", "1")]
#[case::additions(100_000, "1+", "1")]
#[case::cases(30_000, "CASE WHEN 1 THEN ", "1")]
#[case::subqueries(20_000, "(SELECT ", "1")]
#[case::brackets(100_000, "a[", "1")]
#[case::remainders(60_000, "a MOD ", "1")]
#[case::is(60_000, "a IS ", "1")]
#[case::is_null(20_000, "a IS NULL IS NULL ", "")]
#[case::joins(100_000, "1 FROM (", "a")]
#[case::explains(100_000, "EXPLAIN ", "SELECT 1")]
#[case::describes(20_000, "DESCRIBE ", "SELECT 1")]
#[case::descs(30_000, "DESC ", "SELECT 1")]
#[case::explains_with_options(10_000, "EXPLAIN (ANALYZE) ", "SELECT 1")]
fn a_hostile_shape_is_unknown(#[case] count: usize, #[case] unit: &str, #[case] rest: &str) {
    // Once above the limit on the text's length, and once below it.
    for count in [count, count.min(200_000 / unit.len())] {
        let intents = on_small_stack(chain(count, unit, rest));
        assert_eq!(intents, [Intent::Unknown; 3], "{count} times {unit:?}");
    }
}

#[rstest]
#[case::subquery("SELECT * FROM ", "SELECT 1")]
#[case::join("SELECT * FROM ", "a JOIN b ON true")]
#[case::expression("SELECT ", "SELECT 1")]
#[case::predicate("SELECT 1 WHERE a IN ", "SELECT 1")]
#[case::call("SELECT abs", "1")]
#[case::common("WITH a AS ", "SELECT 1")]
#[case::union("SELECT 1 UNION ", "SELECT 1")]
#[case::explain("EXPLAIN ", "SELECT 1")]
#[case::case("SELECT CASE WHEN ", "SELECT 1")]
#[case::interval("SELECT INTERVAL ", "1")]
#[case::statement("", "SELECT 1")]
#[case::real(r#"SELECT COUNT(*) AS n FROM "#, r#"SELECT "cake"."id" FROM "cake" WHERE "x" > 1"#)]
fn every_depth_of_parentheses_is_answered(#[case] before: &str, #[case] inside: &str) {
    for depth in 1..60 {
        for closed in [depth, depth / 2, 1, 0] {
            let sql = format!("{before}{}{inside}{} AS x", "(".repeat(depth), ")".repeat(closed));
            let started = std::time::Instant::now();
            on_small_stack(sql);
            assert!(started.elapsed().as_secs() < 5, "depth {depth}, {closed} closed");
        }
    }
}

#[rstest]
#[case::or("a OR ", "b")]
#[case::minus("- ", "1")]
#[case::not("NOT ", "a")]
#[case::union("1 UNION SELECT ", "1")]
#[case::union_after_commas("1, 2 UNION SELECT ", "1, 2")]
#[case::cast("a::", "int")]
#[case::between("a BETWEEN 1 AND ", "2")]
#[case::case("CASE WHEN 1 THEN ", "1")]
#[case::parenthesis("(", "1")]
#[case::function("abs(", "1")]
#[case::types("int(date(", "1")]
#[case::division("a DIV ", "1")]
#[case::interval("INTERVAL ", "1")]
#[case::remainder("a MOD ", "1")]
#[case::is("a IS ", "1")]
#[case::is_not("a IS NOT ", "1")]
#[case::from("1 FROM ((", "a")]
#[case::subquery("1 FROM (SELECT ", "a")]
#[case::exists("EXISTS(SELECT ", "1")]
#[case::arrow("a->", "b")]
fn every_length_up_to_the_bounds_is_answered(#[case] unit: &str, #[case] rest: &str) {
    for count in [1, 5, 10, 20, 23, 30, 45, 47, 100, 250, 330, 499, 500, 700, 999, 1_000, 1_100] {
        let open = unit.matches('(').count() * count;
        let sql = chain(count, unit, rest);
        let started = std::time::Instant::now();
        on_small_stack(format!("{sql}{}", ")".repeat(open)));
        assert!(started.elapsed().as_secs() < 5, "{count} times {unit:?} took too long");
    }
}

/// The parser takes a join without a condition for the beginning of a nested one.
#[rstest]
#[case::join("a JOIN ")]
#[case::quoted("`a` JOIN ")]
#[case::inner("a INNER JOIN ")]
#[case::left("a LEFT JOIN ")]
#[case::full("a FULL OUTER JOIN ")]
#[case::cross("a CROSS JOIN ")]
#[case::natural("a NATURAL JOIN ")]
#[case::straight("a STRAIGHT_JOIN ")]
#[case::named_like_it("JOIN ")]
#[case::subquery("(SELECT 1) AS a JOIN ")]
fn joins_without_conditions_are_answered(#[case] unit: &str) {
    for count in
        [1, 5, 10, 20, 30, 40, 60, 80, 100, 120, 149, 150, 151, 300, 500, 999, 1_100, 20_000]
    {
        for (before, after) in [
            ("SELECT 1 FROM ", "a"),
            ("DELETE FROM ", "a"),
            ("SELECT 1 FROM ((((((", "a"),
            ("SELECT (SELECT (SELECT (SELECT 1 FROM ", "a"),
        ] {
            let joins = format!("{before}{}{after}", unit.repeat(count));
            let closed = ")".repeat(before.matches('(').count());
            let started = std::time::Instant::now();
            on_small_stack(format!("{joins}{}{closed}", " ON true".repeat(count)));
            on_small_stack(format!("{joins}{closed}"));
            assert!(started.elapsed().as_secs() < 10, "{count} times {unit:?} took too long");
        }
    }
}

#[test]
fn as_many_joins_as_servers_take_are_a_read() {
    let sql = format!("SELECT 1 FROM a{}", " LEFT JOIN b ON b.id = a.id".repeat(60));
    assert_eq!(on_small_stack(sql), [Intent::Read; 3]);
    for more in [101, 2_000] {
        let sql = format!("SELECT 1 FROM a{}", " LEFT JOIN b ON b.id = a.id".repeat(more));
        assert_eq!(on_small_stack(sql), [Intent::Unknown; 3]);
    }
}

#[test]
fn many_statements_are_unknown_and_a_few_are_a_read() {
    assert_eq!(on_small_stack("SELECT 1; ".repeat(100_000)), [Intent::Unknown; 3]);
    assert_eq!(on_small_stack("SELECT 1; ".repeat(20_000)), [Intent::Unknown; 3]);
    assert_eq!(on_small_stack("SELECT 1; ".repeat(50)), [Intent::Read; 3]);
}

#[test]
fn a_long_list_is_a_read() {
    let list = vec!["?"; 10_000].join(", ");
    let sql = format!("SELECT a FROM t WHERE a IN ({list})");
    assert_eq!(classify(&sql, Dialect::MySql).intent, Intent::Read);
    assert_eq!(classify(&sql, Dialect::Sqlite).intent, Intent::Read);

    let list: Vec<String> = (1..=10_000).map(|n| format!("${n}")).collect();
    let sql = format!("SELECT a FROM t WHERE a IN ({})", list.join(", "));
    assert_eq!(on_small_stack(sql)[0], Intent::Read);

    let list = vec!["(-1, 'a')"; 10_000].join(", ");
    let sql = format!("SELECT a FROM t WHERE (a, b) IN ({list})");
    assert_eq!(on_small_stack(sql), [Intent::Read; 3]);
}

#[test]
fn conditions_as_long_as_people_write_them_are_reads() {
    let sql = format!("SELECT a FROM t WHERE {}a = 1", "a = 1 OR ".repeat(300));
    assert_eq!(on_small_stack(sql), [Intent::Read; 3]);
}

#[test]
fn a_text_cut_or_garbled_anywhere_gets_an_answer() {
    let sql =
        r#"WITH a AS (SELECT "x" -> 'é' FROM t /* c */ WHERE b IN (?, $1)) SELECT * FROM a -- x"#;
    for dialect in DIALECTS {
        for at in (0..sql.len()).filter(|at| sql.is_char_boundary(*at)) {
            for filler in ["", "'", "\"", "`", "$", "\\", "/*", "*/", "--", "\0", "é", ";", "("] {
                let garbled = format!("{}{filler}{}", &sql[..at], &sql[at..]);
                let _ = classify(&garbled, dialect);
                let _ = classify(&sql[..at], dialect);
            }
        }
    }
}
