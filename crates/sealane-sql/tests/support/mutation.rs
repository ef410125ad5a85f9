//! Makes random texts from other texts.

use fastrand::Rng;

/// Words and characters that have fooled a parser before.
const WORDS: &[&str] = &[
    " ",
    "\n",
    "\t",
    "\r",
    "\0",
    "'",
    "''",
    "\"",
    "`",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ";",
    ",",
    ".",
    "*",
    "+",
    "-",
    "--",
    "-- x\n",
    "/*",
    "*/",
    "/* x */",
    "/*! x */",
    "/*+ x */",
    "#",
    "$$",
    "$a$",
    "$1",
    "?",
    "?1",
    ":a",
    "@a",
    "@@a",
    ":=",
    "::",
    "->",
    "->>",
    "<->",
    "\\",
    "\\'",
    "E'",
    "N'",
    "U&'",
    "x'",
    "_utf8'",
    "é",
    "\u{a0}",
    "\u{2028}",
    "1",
    "1e9",
    "0x1F",
    "NULL",
    "TRUE",
    "a",
    "t",
    "\"t\"",
    "public.t",
    "SELECT",
    "SELECT 1",
    "FROM",
    "FROM t",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "UNION ALL",
    "INTERSECT",
    "EXCEPT",
    "VALUES",
    "VALUES (1)",
    "TABLE",
    "TABLE t",
    "WITH",
    "WITH w AS (",
    "RECURSIVE",
    "MATERIALIZED",
    "AS",
    "AS (",
    "ON",
    "USING",
    "JOIN",
    "LATERAL",
    "NATURAL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "BETWEEN",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IN (",
    "EXISTS (",
    "ANY (",
    "CAST(",
    "INTERVAL",
    "EXTRACT(",
    "COLLATE",
    "OVER (",
    "FILTER (",
    "WITHIN GROUP (",
    "WINDOW",
    "ONLY",
    "INTO",
    "INTO t",
    "INTO OUTFILE 'x'",
    "INTO @a",
    "FOR UPDATE",
    "FOR NO KEY UPDATE",
    "FOR SHARE",
    "LOCK IN SHARE MODE",
    "SKIP LOCKED",
    "NOWAIT",
    "OF t",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "RETURNING a",
    "MERGE INTO t",
    "REPLACE INTO t VALUES (1)",
    "TRUNCATE t",
    "CREATE",
    "CREATE TABLE x (a int)",
    "CREATE TEMP TABLE x AS",
    "DROP TABLE t",
    "ALTER TABLE t",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "EXPLAIN (ANALYZE)",
    "EXPLAIN QUERY PLAN",
    "DESCRIBE",
    "SHOW",
    "SET a = 1",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "PRAGMA",
    "PRAGMA user_version = 1",
    "PRAGMA table_info(t)",
    "ATTACH 'x' AS y",
    "VACUUM",
    "COPY t TO STDOUT",
    "COPY t FROM STDIN",
    "CALL f()",
    "DO",
    "PREPARE p AS",
    "EXECUTE p",
    "DECLARE c CURSOR FOR",
    "LISTEN a",
    "NOTIFY a",
    "LOCK TABLE t",
    "HANDLER t OPEN",
    "nextval('s')",
    "pg_advisory_lock(1)",
    "set_config('a', 'b', false)",
    "get_lock('a', 1)",
    "sleep(0)",
    "last_insert_id()",
    "last_insert_rowid()",
    "load_extension('x')",
    "count(*)",
    "abs(",
    "lower(",
    "coalesce(",
    "OPERATOR(pg_catalog.+)",
    "AT TIME ZONE",
    "TABLESAMPLE SYSTEM (1)",
    "GROUPING SETS (",
    "/* sealane: primary */",
    "/* sealane: group=a */",
];

/// One of the `seeds`, changed in a few places.
pub fn mutated(seeds: &[String], rng: &mut Rng) -> String {
    let mut pieces = pieces(&seeds[rng.usize(..seeds.len())]);
    for _ in 0..rng.usize(1..=4) {
        change(&mut pieces, seeds, rng);
    }
    pieces.concat()
}

fn change(pieces: &mut Vec<String>, seeds: &[String], rng: &mut Rng) {
    let at = rng.usize(..=pieces.len());
    let word = WORDS[rng.usize(..WORDS.len())];
    match rng.u8(..9) {
        0 | 1 => pieces.insert(at, format!(" {word} ")),
        2 => pieces.insert(at, word.to_owned()),
        3 if at < pieces.len() => pieces[at] = word.to_owned(),
        4 if at < pieces.len() => drop(pieces.remove(at)),
        5 if at < pieces.len() => {
            let piece = pieces[at].repeat(rng.usize(2..40));
            pieces.insert(at, piece);
        }
        6 if at < pieces.len() => {
            let other = rng.usize(..pieces.len());
            pieces.swap(at, other);
        }
        // Replaces the rest of the text with the rest of another seed.
        7 => {
            let other = self::pieces(&seeds[rng.usize(..seeds.len())]);
            let from = rng.usize(..=other.len());
            pieces.truncate(at);
            pieces.extend_from_slice(&other[from..]);
        }
        // Inserts another seed as a subquery.
        _ => pieces.insert(at, format!(" ({}) ", seeds[rng.usize(..seeds.len())])),
    }
}

/// Splits a text into words and single characters.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || c == '_';
        match pieces.last_mut() {
            Some(last) if in_word && is_word => last.push(c),
            _ => pieces.push(c.to_string()),
        }
        in_word = is_word;
    }
    pieces
}
