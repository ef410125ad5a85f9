//! The statements, by the code that they provoke.

use sealane_tests::Engine;

use crate::case::{
    Case, Ends,
    Ends::{AtOnce, Next, OnPrimary},
};

/// Made once on the primary.
pub const FIXTURES: &str = "DROP TABLE IF EXISTS part; \
    CREATE TABLE part (id int) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10)); \
    INSERT INTO part VALUES (1), (2); \
    DROP TABLE IF EXISTS letters; \
    CREATE TABLE letters (a varchar(9) CHARACTER SET latin1 COLLATE latin1_german1_ci, \
        b varchar(9) CHARACTER SET latin1 COLLATE latin1_german2_ci, \
        d date, n bigint unsigned, g point, j text); \
    INSERT INTO letters VALUES ('a', 'b', '2026-11-22', 0, POINT(1, 1), 'x'); \
    DROP VIEW IF EXISTS broken; DROP TABLE IF EXISTS gone; CREATE TABLE gone (id int); \
    CREATE VIEW broken AS SELECT id FROM gone; DROP TABLE gone; \
    CREATE OR REPLACE DEFINER = ghost@'%' VIEW haunted AS SELECT id FROM harbour; \
    GRANT SELECT ON nosuch.* TO sealane@'%'";

/// What both servers answer alike, and what one of them says.
pub fn all(engine: Engine) -> Vec<Case> {
    let mut all: Vec<Case> =
        BOTH.iter().map(|(codes, ends, sql)| Case::new(codes, *ends, *sql)).collect();
    let own = if engine == Engine::Mysql { MYSQL } else { MARIADB };
    all.extend(own.iter().map(|(codes, ends, sql)| Case::new(codes, *ends, *sql)));
    // More tables than a join may have.
    let many: Vec<String> = (0..70).map(|n| format!("harbour h{n}")).collect();
    let join = format!("SELECT 1 FROM {}", many.join(", "));
    all.push(Case::new(&[1116], AtOnce, join));
    all
}

type Row = (&'static [u16], Ends, &'static str);

#[rustfmt::skip]
const BOTH: &[Row] = &[
    // A statement's own.
    (&[1044], AtOnce, "SHOW TABLES FROM mysql"),
    (&[1052], AtOnce, "SELECT id FROM harbour, boat"),
    (&[1056], AtOnce, "SELECT COUNT(*) AS n FROM harbour GROUP BY n"),
    (&[1060], AtOnce, "SELECT * FROM (SELECT id, id FROM harbour) AS t"),
    (&[1066], AtOnce, "SELECT 1 FROM harbour, harbour"),
    (&[1102], OnPrimary, "SELECT 1 FROM `a `.harbour"),
    (&[1103], OnPrimary, "SELECT 1 FROM `harbour `"),
    (&[1111], AtOnce, "SELECT id FROM harbour WHERE COUNT(*) > 1"),
    (&[1115], Next, "SELECT CONVERT(name USING nosuch) FROM harbour"),
    // The grant may not be replayed yet.
    (&[1142], Next, "SELECT User FROM mysql.user"),
    (&[1139, 3691], AtOnce, "SELECT 1 FROM harbour WHERE name REGEXP '('"),
    (&[1222], AtOnce, "SELECT id FROM harbour UNION SELECT id, name FROM boat"),
    (&[1241], AtOnce, "SELECT (SELECT id, name FROM harbour LIMIT 1)"),
    (&[1242], AtOnce, "SELECT (SELECT id FROM harbour)"),
    (&[1250], AtOnce, "SELECT id FROM harbour UNION SELECT id FROM boat ORDER BY harbour.id"),
    (&[1253], AtOnce, "SELECT name COLLATE latin1_german1_ci FROM harbour"),
    (&[1267], AtOnce, "SELECT 1 FROM letters WHERE a = b"),
    (&[1411, 1525, 1292], AtOnce, "SELECT DATE '2026-13-45' FROM harbour"),
    (&[1425, 1426], AtOnce, "SELECT CAST(1 AS DECIMAL(99, 2)) FROM harbour"),
    (&[1427], AtOnce, "SELECT CAST(1 AS DECIMAL(2, 4)) FROM harbour"),
    (&[1582], AtOnce, "SELECT ABS(1, 2) FROM harbour"),
    (&[1690], AtOnce, "SELECT n - 1 FROM letters"),
    // What a replica may lack.
    (&[1049, 1146], OnPrimary, "SELECT 1 FROM nosuch.harbour"),
    (&[1049], Next, "SHOW TABLES FROM nosuch"),
    (&[1054], Next, "SELECT nosuch FROM harbour"),
    (&[1146], OnPrimary, "SELECT 1 FROM nosuch"),
    (&[1176], Next, "SELECT 1 FROM harbour FORCE INDEX (nosuch)"),
    (&[1191], Next, "SELECT 1 FROM boat WHERE MATCH (name) AGAINST ('x')"),
    (&[1273], Next, "SELECT name COLLATE nosuch_ci FROM harbour"),
    (&[1356], OnPrimary, "SELECT * FROM broken"),
    (&[1735], Next, "SELECT 1 FROM part PARTITION (nosuch)"),
    (&[1193], OnPrimary, "SELECT @@nosuch FROM harbour"),
    (&[1305], OnPrimary, "SELECT nosuch(id) FROM harbour"),
    (&[1318], Next, "SELECT in_recovery(1) FROM harbour"),
    (&[1747], Next, "SELECT 1 FROM harbour PARTITION (p0)"),
    // Who may see that the definer is missing gets 1449.
    (&[1045], Next, "SELECT id FROM haunted"),
    // A privilege that no replica has more than the primary.
    (&[1227], OnPrimary, "SHOW BINARY LOGS"),
];

#[rustfmt::skip]
const MYSQL: &[Row] = &[
    (&[1055, 3065], Next, "SELECT name FROM harbour GROUP BY id + 1"),
    (&[1140], Next, "SELECT name, COUNT(*) FROM harbour"),
    (&[3024], AtOnce, "SELECT /*+ MAX_EXECUTION_TIME(1) */ COUNT(*) FROM information_schema.columns a, information_schema.columns b"),
    (&[3141], AtOnce, "SELECT JSON_EXTRACT('{', '$.a') FROM harbour"),
    (&[3143], AtOnce, "SELECT JSON_EXTRACT('{}', 'a') FROM harbour"),
    (&[3146], AtOnce, "SELECT JSON_EXTRACT(1, '$') FROM harbour"),
    (&[3579], AtOnce, "SELECT SUM(id) OVER nosuch FROM harbour"),
    (&[3593], AtOnce, "SELECT 1 FROM harbour WHERE ROW_NUMBER() OVER () = 1"),
    (&[3636], AtOnce, "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t"),
    (&[1298], OnPrimary, "SELECT CAST(TIMESTAMP'2026-11-25 12:00:00' AT TIME ZONE 'Nosuch' AS DATETIME) FROM harbour"),
    (&[3548], Next, "SELECT ST_GeomFromText('POINT(1 1)', 999999999) FROM harbour"),
    (&[3037], AtOnce, "SELECT ST_GeomFromText('POINT(1') FROM harbour"),
    (&[1248], AtOnce, "SELECT 1 FROM (SELECT 1)"),
];

#[rustfmt::skip]
const MARIADB: &[Row] = &[
    (&[1267, 1270], AtOnce, "SELECT CONCAT(a, b, a) = b FROM letters"),
    (&[4008, 4010, 4011, 4012], AtOnce, "SELECT SUM(id) OVER (w ORDER BY id) FROM harbour WINDOW w AS (ORDER BY name)"),
    (&[1247], AtOnce, "SELECT COUNT(*) AS n FROM harbour ORDER BY (SELECT n FROM boat WHERE SUM(n) > 1)"),
    (&[1235], AtOnce, "SELECT 1 FROM harbour WHERE id IN (SELECT id FROM boat LIMIT 1)"),
    (&[1054], Next, "SELECT 1 FROM harbour ORDER BY nosuch"),
    (&[4015, 4016], AtOnce, "SELECT 1 FROM harbour WHERE ROW_NUMBER() OVER () = 1"),
    (&[4009], AtOnce, "SELECT SUM(id) OVER nosuch FROM harbour"),
];
