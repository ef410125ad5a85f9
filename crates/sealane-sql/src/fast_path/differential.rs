//! Compares the fast path with the tree: every read of the fast path must be the same read for the
//! tree.
//!
//! The texts are random and consist of tokens that the fast path accepts. Most of them are nearly
//! right: sentences of a small grammar, changed in a few places. `SEALANE_FUZZ_SECONDS` (default:
//! 10) sets the duration, `SEALANE_FUZZ_SEED` selects the texts. A failure prints seed and text.

#![allow(clippy::disallowed_methods, reason = "tests measure and bound time")]

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::catalog::{Catalog, CatalogFacts, FunctionFact, RelationFact, TypeFact};
use crate::classification::Classification;
use crate::classify::classify_with;
use crate::dialect::Dialect;

const DEFAULT_SEED: u64 = 20_261_122;
const DIALECTS: [Dialect; 3] = [Dialect::PostgreSql, Dialect::MySql, Dialect::Sqlite];
/// A run of ten seconds that compares fewer reads proves too little. (A debug build on a busy
/// machine compares ten times as many.)
const MIN_COMPARED: u64 = 2_000;
/// A planted disagreement must be found within this many texts.
const MAX_TEXTS: u64 = 200_000;

/// The function under test: [`crate::fast_path::classify`], or a version with a fault.
type FastPath = fn(&str, Dialect, &Catalog) -> Option<Classification>;

#[test]
fn a_read_of_the_fast_path_is_the_same_read_for_the_tree() {
    let seed = variable("SEALANE_FUZZ_SEED").unwrap_or(DEFAULT_SEED);
    let seconds = variable("SEALANE_FUZZ_SECONDS").unwrap_or(10);
    let mut trial = Trial::new(crate::fast_path::classify, seed);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        if let Err(found) = trial.next() {
            panic!("SEALANE_FUZZ_SEED={seed}: {found}");
        }
    }
    println!("SEALANE_FUZZ_SEED={seed}: {} texts, {} reads compared", trial.texts, trial.compared);
    assert!(trial.compared >= MIN_COMPARED.min(seconds * MIN_COMPARED / 10), "too few");
}

#[test]
fn a_fast_path_with_a_fault_is_found_out() {
    let faults: [(&str, FastPath); 4] = [
        ("it forgets the catalog", |sql, dialect, _| {
            crate::fast_path::classify(sql, dialect, &Catalog::default())
        }),
        ("it takes one token for another", |sql, dialect, catalog| {
            crate::fast_path::classify(&sql.replace(" LIKE ", " + "), dialect, catalog)
        }),
        ("it overlooks a token", |sql, dialect, catalog| {
            crate::fast_path::classify(&sql.replace(" NOT ", " "), dialect, catalog)
        }),
        ("it loses a table", |sql, dialect, catalog| {
            let mut found = crate::fast_path::classify(sql, dialect, catalog)?;
            found.tables.read.truncate(2);
            Some(found)
        }),
    ];
    for (fault, faulty) in faults {
        let mut trial = Trial::new(faulty, DEFAULT_SEED);
        let found = (0..MAX_TEXTS).find_map(|_| trial.next().err());
        println!("{fault}: after {} texts", trial.texts);
        assert!(found.is_some(), "{fault}, and nobody noticed");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

struct Trial {
    fast: FastPath,
    rng: Rng,
    catalogs: [Catalog; 2],
    texts: u64,
    compared: u64,
}

impl Trial {
    fn new(fast: FastPath, seed: u64) -> Self {
        let catalogs = [Catalog::default(), catalog()];
        Self { fast, rng: Rng::with_seed(seed), catalogs, texts: 0, compared: 0 }
    }

    /// Compares one more text.
    fn next(&mut self) -> Result<(), String> {
        let dialect = DIALECTS[self.rng.usize(..DIALECTS.len())];
        let sql = text(dialect, &mut self.rng);
        self.texts += 1;
        for catalog in &self.catalogs {
            let Some(quick) = (self.fast)(&sql, dialect, catalog) else { continue };
            self.compared += 1;
            let full = classify_with(&sql, dialect, catalog);
            if quick != full {
                return Err(format!("{dialect:?}: {sql}\nfast: {quick:?}\ntree: {full:?}"));
            }
        }
        Ok(())
    }
}

/// A catalog that knows something about most names in the texts.
fn catalog() -> Catalog {
    let relation = |name: &str, definition: &str| RelationFact {
        schema: "public".into(),
        name: name.into(),
        definitions: vec![definition.into()],
        ..RelationFact::default()
    };
    let function = |name: &str, volatile| FunctionFact {
        schema: "public".into(),
        name: name.into(),
        volatile,
        shadowed: false,
        takes_one: true,
        definitions: Vec::new(),
    };
    Catalog::new(&CatalogFacts {
        relations: vec![
            relation("seen", "SELECT id FROM public.cake"),
            relation("hidden", "SELECT nextval('s')"),
            relation(r#"a"b"#, "SELECT nextval('s')"),
        ],
        functions: vec![
            function("label", false),
            function("cake", false),
            function("act", true),
            function("max", true),
        ],
        types: vec![TypeFact { name: "email".into(), refused: true, ..TypeFact::default() }],
        tables: Some(Vec::new()),
        ..CatalogFacts::default()
    })
}

const NAMES: &[&str] = &[
    "id",
    "name",
    "cake",
    "fruit",
    "seen",
    "hidden",
    "label",
    "act",
    "email",
    "max",
    "nextval",
    "SELECT",
    "temp",
    "pg_locks",
    "a b",
    "x@y",
    "@x",
    "/*!",
    "é",
    "sqlite_stmt",
    "pragma_x",
];
const SCHEMAS: &[&str] =
    &["public", "other", "cake", "pg_catalog", "information_schema", "mysql", "pg_temp"];
const TOKENS: &[&str] = &[
    "SELECT", "DISTINCT", "AS", "FROM", "JOIN", "INNER", "LEFT", "RIGHT", "OUTER", "ON", "WHERE",
    "GROUP", "BY", "HAVING", "ORDER", "LIMIT", "OFFSET", "AND", "OR", "NOT", "IN", "LIKE",
    "BETWEEN", "IS", "NULL", "TRUE", "FALSE", "ASC", "DESC", "COUNT", "COUNT(", "SUM(", "MAX(",
    "(", ")", ",", ".", "*", "=", "<", "<>", "+", "-", "%", "1", "2", "?", "$1", "CAST", "IN (",
    "=-",
];

fn pick<'a>(from: &[&'a str], rng: &mut Rng) -> &'a str {
    from[rng.usize(..from.len())]
}

/// A sentence, unchanged or changed in a few places.
fn text(dialect: Dialect, rng: &mut Rng) -> String {
    let mut sentence = Sentence { dialect, rng, tokens: Vec::new() };
    sentence.select();
    let Sentence { mut tokens, rng, .. } = sentence;
    for token in tokens.iter_mut().filter(|token| matches!(token.as_str(), "?" | "$1")) {
        *token = if dialect == Dialect::PostgreSql { "$1" } else { "?" }.to_owned();
    }
    for _ in 0..[0, 0, 1, 1, 2, 3][rng.usize(..6)] {
        let (at, other) = (rng.usize(..tokens.len()), rng.usize(..tokens.len()));
        let strange = match rng.bool() {
            true => tokens[other].clone(),
            false => pick(TOKENS, rng).to_owned(),
        };
        match rng.u8(..4) {
            0 => tokens.insert(at, strange),
            1 => tokens[at] = strange,
            2 if tokens.len() > 1 => drop(tokens.remove(at)),
            _ => tokens.swap(at, other),
        }
    }
    let mut text = String::new();
    for token in tokens {
        // Sometimes leaves out a blank where none is needed.
        let may_touch = text.ends_with(['(', '.', ',']) || token.starts_with(['(', ')', '.', ',']);
        let touches = text.is_empty() || (may_touch && rng.u8(..8) > 0);
        if !touches {
            text.push_str(if rng.u8(..50) == 0 { "\n\t" } else { " " });
        }
        text.push_str(&token);
    }
    text
}

struct Sentence<'a> {
    dialect: Dialect,
    rng: &'a mut Rng,
    tokens: Vec<String>,
}

impl Sentence<'_> {
    fn put(&mut self, words: &str) {
        self.tokens.extend(words.split(' ').map(str::to_owned));
    }

    fn put_one(&mut self, of: &[&str]) {
        let words = pick(of, self.rng);
        self.put(words);
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.rng.u8(..count) == 0
    }

    fn select(&mut self) {
        self.put("SELECT");
        if self.one_in(6) {
            self.put("DISTINCT");
        }
        self.list(3, Self::item);
        self.put("FROM");
        self.table();
        while self.one_in(3) {
            self.put_one(&["JOIN", "INNER JOIN", "LEFT JOIN", "LEFT OUTER JOIN", "RIGHT JOIN"]);
            self.table();
            self.put("ON");
            self.expression(2);
        }
        if self.rng.bool() {
            self.put("WHERE");
            self.expression(4);
        }
        if self.one_in(4) {
            self.put("GROUP BY");
            self.list(2, |sentence| sentence.expression(1));
        }
        if self.one_in(6) {
            self.put("HAVING");
            self.expression(2);
        }
        if self.one_in(3) {
            self.put("ORDER BY");
            self.list(2, |sentence| {
                sentence.expression(1);
                sentence.put_one(&["ASC", "DESC"]);
            });
        }
        if self.one_in(3) {
            self.put("LIMIT");
            self.put_one(&["1", "?", "$1", "99999999999999999999"]);
        }
        if self.one_in(5) {
            self.put("OFFSET");
            self.put_one(&["1", "?", "$1"]);
        }
    }

    fn list(&mut self, most: usize, part: fn(&mut Self)) {
        for at in 0..self.rng.usize(1..=most) {
            if at > 0 {
                self.put(",");
            }
            part(self);
        }
    }

    fn item(&mut self) {
        match self.rng.u8(..8) {
            0 => self.put("*"),
            1 => {
                self.column();
                self.put(". *");
            }
            2 | 3 => {
                self.expression(2);
                self.put("AS");
                self.name();
            }
            4 => {
                self.put_one(&["COUNT ( * )", "COUNT ( DISTINCT", "SUM (", "MAX ("]);
                if self.tokens.last().is_none_or(|last| last != ")") {
                    self.expression(1);
                    self.put(")");
                }
                let at = self.tokens.iter().rposition(|token| token == "(").expect("a call");
                // With a blank after the name, MySQL would not read it as a call.
                let opened = self.tokens.remove(at);
                self.tokens[at - 1].push_str(&opened);
            }
            _ => self.expression(1),
        }
    }

    fn name(&mut self) {
        let quote = match self.dialect {
            Dialect::PostgreSql => '"',
            Dialect::MySql => '`',
            Dialect::Sqlite => ['"', '`'][self.rng.usize(..2)],
        };
        let name = pick(NAMES, self.rng);
        let name = match self.rng.u8(..60) {
            0 => format!("a{quote}{quote}b"),
            1 => name.repeat(40),
            2 => name.to_uppercase(),
            _ => name.to_owned(),
        };
        self.tokens.push(format!("{quote}{name}{quote}"));
    }

    fn column(&mut self) {
        for _ in 0..pick(&["1", "2", "2", "2", "3"], self.rng).parse().expect("a number") {
            self.name();
            self.put(".");
        }
        self.tokens.pop();
    }

    fn table(&mut self) {
        if self.one_in(3) {
            let quote = if self.dialect == Dialect::MySql { '`' } else { '"' };
            let schema = pick(SCHEMAS, self.rng);
            self.tokens.push(format!("{quote}{schema}{quote}"));
            self.put(".");
        }
        self.name();
        if self.rng.bool() {
            if self.rng.bool() {
                self.put("AS");
            }
            self.name();
        }
    }

    /// An expression with at most `size` operators in a row, and at most `size` levels deep.
    fn expression(&mut self, size: usize) {
        self.operand(size);
        for _ in 0..self.rng.usize(..=size) {
            match self.rng.u8(..12) {
                0 => {
                    self.put_one(&["IN (", "NOT IN ("]);
                    self.list(3, |sentence| sentence.operand(1));
                    self.put(")");
                }
                1 => {
                    self.put_one(&["BETWEEN", "NOT BETWEEN"]);
                    self.operand(1);
                    self.put("AND");
                    self.operand(1);
                }
                2 => self.put_one(&[
                    "IS NULL",
                    "IS NOT NULL",
                    "IS TRUE",
                    "IS NOT FALSE",
                    "IS ?",
                    "IS NOT $1",
                ]),
                3 => {
                    self.put_one(&["LIKE", "NOT LIKE"]);
                    self.operand(1);
                }
                _ => {
                    self.put_one(&["AND", "OR", "=", "<>", "!=", "<", ">=", "+", "-", "*", "%"]);
                    self.operand(size - 1);
                }
            }
        }
    }

    fn operand(&mut self, size: usize) {
        match self.rng.u8(..16) {
            0 => {
                self.put("NOT");
                self.operand(size);
            }
            1 => {
                self.put("-");
                self.operand(size);
            }
            2..=4 if size > 0 => {
                // Sometimes deep, because the parser has a limit.
                let depth = if self.one_in(20) { self.rng.usize(1..40) } else { 1 };
                (0..depth).for_each(|_| self.put("("));
                self.list(3, |sentence| sentence.expression(1));
                (0..depth).for_each(|_| self.put(")"));
            }
            5 => self.put_one(&["NULL", "TRUE", "FALSE", "1", "42"]),
            6..=9 => self.put(if self.dialect == Dialect::PostgreSql { "$1" } else { "?" }),
            _ => self.column(),
        }
    }
}
