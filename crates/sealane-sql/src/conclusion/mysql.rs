//! What follows from the facts of MySQL and MariaDB.

use super::*;
use crate::catalog::ReplicationFilter;
use crate::classification::Classification;

fn relation(schema: &str, name: &str) -> RelationFact {
    RelationFact { schema: schema.into(), name: name.into(), ..RelationFact::default() }
}

fn view(name: &str, definition: &str) -> RelationFact {
    RelationFact { definitions: vec![definition.into()], ..relation("shop", name) }
}

fn refused(name: &str, why: &str) -> RelationFact {
    RelationFact { refused: Some(why.into()), ..relation("shop", name) }
}

fn function(name: &str, body: &str) -> FunctionFact {
    FunctionFact::of_routine("shop".into(), name.into(), Some(body), "STRICT_TRANS_TABLES")
}

fn facts(relations: Vec<RelationFact>, functions: Vec<FunctionFact>) -> CatalogFacts {
    let plain = [relation("shop", "boat"), relation("log", "entry")];
    CatalogFacts {
        relations: plain.into_iter().chain(relations).collect(),
        functions,
        has_all_relations: true,
        default_schema: Some("shop".into()),
        ..CatalogFacts::default()
    }
}

fn judged(facts: &CatalogFacts, sql: &str) -> Classification {
    let catalog = Catalog::of_mysql(facts);
    let found = classify_with(sql, Dialect::MySql, &catalog);
    if let Some(quick) = crate::fast_path::classify(sql, Dialect::MySql, &catalog) {
        assert_eq!(quick, found, "{sql}");
    }
    found
}

fn is_read(facts: &CatalogFacts, sql: &str) -> bool {
    judged(facts, sql).may_leave_primary()
}

#[test]
fn a_lock_behind_a_view_is_found_through_views_above_it() {
    let facts = facts(
        vec![
            view("held", "select get_lock('a',0) AS `got`"),
            view("above", "select `shop`.`held`.`got` AS `got` from `shop`.`held`"),
            view("good", "select `shop`.`boat`.`id` AS `id` from `shop`.`boat`"),
            view("chance", "select rand() AS `r`"),
            view("odd", "select frobnicate from ("),
            refused("secret", "its definition is not visible"),
        ],
        vec![],
    );
    for sql in [
        "SELECT * FROM boat",
        "SELECT `id` FROM `good`",
        "SELECT * FROM shop.good",
        "SELECT 1 FROM dual",
    ] {
        assert!(is_read(&facts, sql), "{sql}: {}", judged(&facts, sql));
    }
    // RAND() has no effect here, just as in a text.
    assert!(is_read(&facts, "SELECT * FROM chance"));
    for (sql, why) in [
        (
            "SELECT * FROM held",
            "reads held: in its definition, calls get_lock, which is not known to be pure",
        ),
        (
            "SELECT `got` FROM `HELD`",
            "reads HELD: in its definition, calls get_lock, which is not known to be pure",
        ),
        (
            "SELECT 1 FROM shop.above",
            "reads shop.above: it reads shop.held: in its definition, calls get_lock, which is not known to be pure",
        ),
        ("SELECT * FROM odd", "reads odd: in its definition, not parsed from here"),
        ("SELECT * FROM secret", "reads secret: its definition is not visible"),
        (
            "SELECT * FROM created_since",
            "reads created_since: the catalog does not know it, so it may be a view",
        ),
        (
            "SELECT * FROM other.boat",
            "reads other.boat: the catalog does not know it, so it may be a view",
        ),
        // A name without a schema belongs to the database in use only.
        ("SELECT * FROM entry", "reads entry: the catalog does not know it, so it may be a view"),
    ] {
        assert_eq!(judged(&facts, sql).to_string(), format!("Unknown: {why}"), "{sql}");
    }
    assert!(is_read(&facts, "SELECT * FROM log.entry"));
    assert!(is_read(&facts, "SELECT * FROM information_schema.tables"));
}

/// MySQL looks up a name among the earlier expressions and the expression itself, also with
/// RECURSIVE.
#[test]
fn a_common_table_expression_hides_no_view_from_those_before_it() {
    let facts = facts(vec![view("held", "select get_lock('a',0) AS `got`")], vec![]);
    for (sql, is_one) in [
        ("WITH held AS (SELECT 1) SELECT * FROM held", true),
        ("WITH RECURSIVE held AS (SELECT 1), a AS (SELECT * FROM held) SELECT * FROM a", true),
        ("WITH RECURSIVE a AS (SELECT * FROM held), held AS (SELECT 1) SELECT * FROM a", false),
        ("WITH a AS (SELECT * FROM held), held AS (SELECT 1) SELECT * FROM a", false),
    ] {
        assert_eq!(is_read(&facts, sql), is_one, "{sql}: {}", judged(&facts, sql));
    }
}

#[test]
fn a_view_of_what_is_not_visible_is_not_read() {
    let facts = facts(
        vec![
            view("window", "select `hidden`.`t`.`id` AS `id` from `hidden`.`t`"),
            view(
                "meta",
                "select `information_schema`.`tables`.`TABLE_NAME` AS `n` from `information_schema`.`TABLES` `tables`",
            ),
            view("stats", "select `p`.`ID` AS `ID` from `information_schema`.`PROCESSLIST` `p`"),
        ],
        vec![],
    );
    assert!(!is_read(&facts, "SELECT * FROM window"));
    assert!(is_read(&facts, "SELECT * FROM meta"));
    assert!(!is_read(&facts, "SELECT * FROM stats"));
}

#[test]
fn tables_that_replicas_do_not_hold_are_refused_also_behind_views() {
    let facts = facts(
        vec![
            refused("cache", "its rows are lost when a server starts again"),
            view("cached", "select `shop`.`cache`.`id` AS `id` from `shop`.`cache`"),
        ],
        vec![function("cache_size", "RETURN (SELECT count(*) FROM cache)")],
    );
    for sql in ["SELECT * FROM cache", "SELECT `id` FROM `cached`", "SELECT shop.cache_size()"] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
}

#[test]
fn a_stored_function_is_judged_by_its_body() {
    let facts = facts(
        vec![
            view("priced", "select `price`(1) AS `p`"),
            view("noted", "select `note`(1) AS `n`"),
            view("locked", "select `outer_lock`() AS `n`"),
        ],
        vec![
            function("price", "RETURN (SELECT max(id) FROM boat) * 2"),
            function("note", "BEGIN INSERT INTO boat VALUES (1); RETURN 1; END"),
            function("Inner_Lock", "RETURN GET_LOCK('a', 0)"),
            function("outer_lock", "RETURN inner_lock() + price(1)"),
            function("elsewhere", "RETURN (SELECT max(id) FROM unheard_of)"),
            function("through_a_view", "RETURN (SELECT p FROM priced)"),
            function("to_a_lock", "RETURN (SELECT n FROM locked)"),
            function("sleep", "RETURN 1"),
            function("rest", "RETURN SLEEP(1)"),
            function("here", "RETURN @@global.read_only"),
            function("who", "RETURN concat(@@hostname, @@server_id)"),
            function("mine", "RETURN @tenant"),
            function("last", "RETURN @@identity"),
            function("both", "RETURN concat(@@hostname, @@identity)"),
            function("hidden_lock", "RETURN concat(@@hostname, get_lock('a', 0))"),
        ],
    );
    for sql in [
        "SELECT price(1), PRICE(2), shop.price(3), `shop`.`Price`(4)",
        "SELECT * FROM priced",
        "SELECT through_a_view()",
        "SELECT here(), who()",
        "SELECT shop.sleep(1)",
    ] {
        assert!(is_read(&facts, sql), "{sql}: {}", judged(&facts, sql));
    }
    for sql in [
        "SELECT note(1)",
        "SELECT * FROM noted",
        "SELECT inner_lock()",
        "SELECT outer_lock()",
        "SELECT * FROM locked",
        "SELECT elsewhere()",
        "SELECT to_a_lock()",
        // The server's own function, and a function that calls it.
        "SELECT sleep(1)",
        "SELECT `sleep`(1)",
        "SELECT rest()",
        "SELECT mine()",
        "SELECT last()",
        "SELECT both()",
        "SELECT hidden_lock()",
        "SELECT log.price(1)",
        "SELECT unheard_of(1)",
    ] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
}

#[test]
fn reads_touch_the_tables_behind_views_and_any_table_behind_functions() {
    let mut facts = facts(
        vec![
            relation("shop", "crew"),
            view("fleet", "select `shop`.`boat`.`id` AS `id` from `shop`.`boat`"),
            view("above", "select `shop`.`fleet`.`id` AS `id` from `shop`.`fleet`"),
            view("priced", "select `price`(1) AS `p`"),
        ],
        vec![function("price", "RETURN (SELECT max(id) FROM boat)")],
    );
    let touched = |facts: &CatalogFacts, sql: &str| judged(facts, sql).table_set;
    assert!(touched(&facts, "SELECT * FROM boat").is_whole(), "tables were not asked for");
    facts.tables = Some(Vec::new());
    let set = |names: &str| names.split(' ').collect::<sealane_core::TableSet>();
    for (sql, names) in [
        ("SELECT * FROM boat", "boat"),
        ("SELECT `id` FROM `BOAT`", "boat"),
        ("SELECT * FROM fleet", "boat fleet"),
        ("SELECT * FROM above", "boat fleet above"),
        ("SELECT 1 FROM crew WHERE id IN (SELECT id FROM fleet)", "boat fleet crew"),
    ] {
        assert_eq!(touched(&facts, sql), set(names), "{sql}");
    }
    for sql in [
        "SELECT price(1)",
        "SELECT * FROM priced",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM performance_schema.threads",
        "SHOW TABLE STATUS",
        "SHOW INDEX FROM boat",
        "SHOW TABLES",
        "CHECKSUM TABLE boat",
    ] {
        let judged = judged(&facts, sql);
        assert!(!judged.may_leave_primary() || judged.table_set.is_whole(), "{sql}: {judged:?}");
    }
}

#[test]
fn what_a_filter_leaves_out_is_refused_also_behind_views() {
    let mut facts = facts(
        vec![
            relation("shop", "audit"),
            view("audited", "select `shop`.`audit`.`id` AS `id` from `shop`.`audit`"),
        ],
        vec![],
    );
    assert!(is_read(&facts, "SELECT * FROM audited"));
    facts.filters = vec![ReplicationFilter {
        ignore_tables: vec!["shop.audit".into()],
        ignore_databases: vec!["log".into()],
        ..ReplicationFilter::default()
    }];
    for sql in ["SELECT * FROM audit", "SELECT * FROM audited", "SELECT * FROM log.entry"] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
    assert!(is_read(&facts, "SELECT * FROM boat"));
}

#[test]
fn replicas_differ_by_a_filter_of_what_our_role_sees_or_by_a_table() {
    let ignoring = |database: &str| {
        let ignore_databases = vec![database.to_owned()];
        vec![ReplicationFilter { ignore_databases, ..ReplicationFilter::default() }]
    };
    let mut facts = facts(vec![relation("shop", "audit")], vec![]);
    let difference = |facts: &CatalogFacts| {
        let catalog = Catalog::of_mysql(facts).doubted();
        catalog.difference().map(str::to_owned)
    };
    assert_eq!(difference(&facts), None);
    facts.filters = ignoring("mysql");
    assert_eq!(difference(&facts), None);
    for database in ["shop", "log"] {
        facts.filters = ignoring(database);
        facts.default_schema = Some(database.to_owned());
        assert_eq!(difference(&facts).as_deref(), Some("a filter of replication"), "{database}");
    }
    facts.filters.clear();
    let lost = RelationFact {
        refused: Some("its rows are lost".to_owned()),
        replicas_differ: true,
        ..relation("shop", "scratch")
    };
    facts.relations.push(lost);
    assert_eq!(difference(&facts).as_deref(), Some("shop.scratch: its rows are lost"));
}

/// Replicas do not get a replacement of such a view or function.
#[test]
fn views_and_functions_that_a_filter_leaves_out_are_refused() {
    let in_log = |name: &str, body: &str| {
        FunctionFact::of_routine("log".into(), name.into(), Some(body), "STRICT_TRANS_TABLES")
    };
    let mut facts = facts(
        vec![
            view("one", "select 1 AS `one`"),
            view("above", "select `one`.`one` AS `one` from `shop`.`one`"),
            view("far", "select `log`.`rate`() AS `rate`"),
            RelationFact {
                definitions: vec!["select 1 AS `one`".into()],
                ..relation("log", "one")
            },
        ],
        vec![function("price", "RETURN 1"), in_log("rate", "RETURN 2")],
    );
    let all = [
        "SELECT * FROM one",
        "SELECT * FROM above",
        "SELECT * FROM far",
        "SELECT * FROM log.one",
        "SELECT price()",
        "SELECT log.rate()",
        "SELECT * FROM boat",
    ];
    type Change = fn(&mut ReplicationFilter);
    let cases: [(Change, [bool; 7]); 4] = [
        (|_| {}, [true; 7]),
        (
            |it| it.ignore_tables = vec!["shop.one".into()],
            [false, false, true, true, true, true, true],
        ),
        (
            |it| it.do_tables = vec!["shop.boat".into()],
            [false, false, false, false, true, true, true],
        ),
        (
            |it| it.ignore_databases = vec!["log".into()],
            [true, true, false, false, true, false, true],
        ),
    ];
    for (change, are_reads) in cases {
        let mut filter = ReplicationFilter::default();
        change(&mut filter);
        facts.filters = vec![filter];
        for (sql, is_one) in all.iter().zip(are_reads) {
            assert_eq!(is_read(&facts, sql), is_one, "{sql}: {:?}", facts.filters);
        }
    }
    // The database in use.
    let filter =
        ReplicationFilter { ignore_databases: vec!["shop".into()], ..ReplicationFilter::default() };
    facts.filters = vec![filter];
    for sql in all {
        assert!(!is_read(&facts, sql), "{sql}");
    }
}

/// Logged as statements, what is written into any table is left out then.
#[test]
fn if_a_filter_leaves_out_the_database_in_use_every_table_is_refused() {
    let mut facts = facts(vec![relation("log", "entry")], vec![]);
    let filters: [fn(&mut ReplicationFilter); 2] = [
        |filter| filter.ignore_databases = vec!["shop".into()],
        |filter| filter.do_databases = vec!["log".into()],
    ];
    for change in filters {
        assert!(is_read(&facts, "SELECT * FROM log.entry"));
        let mut filter = ReplicationFilter::default();
        change(&mut filter);
        facts.filters = vec![filter];
        assert!(!is_read(&facts, "SELECT * FROM log.entry"), "{:?}", facts.filters);
        facts.filters.clear();
    }
}

#[test]
fn in_doubt_tables_are_read_and_views_and_new_names_are_not() {
    let facts = facts(
        vec![view("good", "select `shop`.`boat`.`id` AS `id` from `shop`.`boat`")],
        vec![function("price", "RETURN 1")],
    );
    let catalog = Catalog::of_mysql(&facts).doubted();
    let is_read = |sql| classify_with(sql, Dialect::MySql, &catalog).may_leave_primary();
    assert!(is_read("SELECT * FROM boat"));
    for sql in ["SELECT * FROM good", "SELECT * FROM brand_new", "SELECT price(1)"] {
        assert!(!is_read(sql), "{sql}");
    }
}

#[test]
fn a_character_set_hides_nothing() {
    let facts = facts(vec![refused("secret", "it is")], vec![]);
    for sql in [
        "SELECT CHAR(65) charset FROM secret",
        "SELECT CAST(a AS CHAR CHARSET utf8mb4) charset FROM secret",
        "SELECT CAST(a AS CHAR CHARSET utf8mb4), get_lock('a', 0) FROM boat",
        "SELECT CAST((SELECT a FROM secret) AS CHAR(3) CHARSET utf8mb4)",
    ] {
        assert!(!is_read(&facts, sql), "{sql}");
    }
}

/// Definitions as MySQL 9 and MariaDB 11.8 print them.
#[test]
fn definitions_are_understood_as_the_servers_print_them() {
    for (at, definition) in [
        r"select concat(`b`.`name`,'x','it\'s') AS `c`,cast(`b`.`id` as char charset utf8mb4) AS `s` from `shop`.`boat` `b`",
        "select cast(`b`.`id` as char(9) charset latin1) AS `s`, cast(`b`.`id` as char) AS `t` from `shop`.`boat` `b`",
        "select (`b`.`d` + interval 1 day) AS `dd`,ifnull(`b`.`name`,'') AS `n` from `shop`.`boat` `b`",
        "select convert(`b`.`name` using utf8mb4) AS `u`,count(0) OVER (PARTITION BY `b`.`name` ORDER BY `b`.`id` )  AS `w` from `shop`.`boat` `b`",
        "select count(0) over ( partition by `b`.`name` order by `b`.`id`) AS `w` from `shop`.`boat` `b`",
        "select (case when (`b`.`id` between 1 and 2) then 'a' else 'b' end) AS `k`,json_extract(`b`.`j`,'$.a') AS `ja`,(`b`.`id` in (1,2)) AS `i` from `shop`.`boat` `b`",
        "select (`b`.`d` > (now() - interval 3 month)) AS `m`,extract(year from `b`.`d`) AS `y`,trim(leading 'x' from `b`.`name`) AS `t` from `shop`.`boat` `b`",
        "select `b`.`d` > current_timestamp() - interval 3 month AS `m`,date_format(`b`.`d`,'%Y') AS `df` from `shop`.`boat` `b`",
        "select cast(`b`.`id` as decimal(10,2)) AS `de`,cast(`b`.`id` as signed) AS `sg`,cast(`b`.`id` as unsigned) AS `us`,cast(`b`.`d` as date) AS `cd` from `shop`.`boat` `b`",
        "select if((`b`.`id` > 1),1,0) AS `f`,NULL AS `z`,true AS `tr`,(`b`.`id` DIV 2) AS `dv`,(`b`.`id` % 2) AS `md` from `shop`.`boat` `b`",
        "select `b`.`name` regexp 'a' AS `re`,`b`.`id` DIV 2 AS `dv`,`b`.`id` MOD 2 AS `md`,`b`.`id` & 1 AS `ba`,`b`.`id` <=> 1 AS `ns` from `shop`.`boat` `b`",
        "select cast(`b`.`name` as char charset binary) AS `bn`,curdate() AS `cur`,exists(select 1 from `log`.`entry` limit 1) AS `ex` from `shop`.`boat` `b`",
        "select `shop`.`boat`.`id` AS `id` from `shop`.`boat` union all select `log`.`entry`.`id` AS `id` from `log`.`entry`",
        "with `x` as (select `shop`.`boat`.`id` AS `id` from `shop`.`boat`) select `x`.`id` AS `id`,`q`.`z` AS `z` from (`x` join (select 1 AS `z`) `q`)",
        "with x as (select `shop`.`boat`.`id` AS `id` from `shop`.`boat`)select `x`.`id` AS `id`,`q`.`z` AS `z` from (`x` join (select 1 AS `z`) `q`)",
        "select `t`.`id` AS `id`,`x`.`n` AS `n` from `shop`.`boat` `t` join (select max(`shop`.`boat`.`name`) AS `n` from `shop`.`boat`) `x` where (`t`.`id` = (select min(`shop`.`boat`.`id`) from `shop`.`boat` where (`shop`.`boat`.`name` = `x`.`n`)))",
        "select `a`.`id` AS `id`,group_concat(distinct `b`.`name` order by `b`.`id` DESC separator ';') AS `g` from (`shop`.`boat` `a` left join `shop`.`boat` `b` on((`a`.`id` = `b`.`id`))) where (`a`.`id` > 0) group by `a`.`id` having (`c` > 0) order by `g` limit 3",
    ]
    .into_iter()
    .enumerate()
    {
        let facts = facts(vec![view("v", definition)], vec![]);
        assert!(is_read(&facts, "SELECT * FROM v"), "{at}: {}", judged(&facts, "SELECT * FROM v"));
    }
}
