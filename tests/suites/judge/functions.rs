//! One call of every function that we take to be pure, as the server itself lists them.

use std::collections::HashSet;

use anyhow::Context;
use sealane_tests::{Engine, Server};

/// A value of each type that a call is made with. Of other types the call is made with NULL only,
/// which a strict function does not even look at.
const SAMPLES: &[(&str, &str)] = &[
    ("boolean", "t"),
    ("\"char\"", "a"),
    ("name", "cake"),
    ("text", "cake"),
    ("character", "a"),
    ("character varying", "a"),
    ("bytea", "a"),
    ("smallint", "1"),
    ("integer", "1"),
    ("bigint", "1"),
    ("real", "1"),
    ("double precision", "1"),
    ("numeric", "1"),
    ("money", "1"),
    ("oid", "1259"),
    ("regclass", "pg_class"),
    ("regtype", "int4"),
    ("regproc", "now"),
    ("regprocedure", "now()"),
    ("regrole", "sealane"),
    ("regnamespace", "public"),
    ("regconfig", "simple"),
    ("regdictionary", "simple"),
    ("date", "2024-01-01"),
    ("time without time zone", "10:00"),
    ("time with time zone", "10:00+00"),
    ("timestamp without time zone", "2024-01-01"),
    ("timestamp with time zone", "2024-01-01"),
    ("interval", "1 day"),
    ("json", "{\"a\": 1}"),
    ("jsonb", "{\"a\": 1}"),
    ("jsonpath", "$.a"),
    ("xml", "<a/>"),
    ("uuid", "00000000-0000-0000-0000-000000000000"),
    ("inet", "10.0.0.1"),
    ("cidr", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("macaddr8", "08:00:2b:01:02:03:04:05"),
    ("point", "(1,2)"),
    ("box", "(1,2),(3,4)"),
    ("circle", "<(1,2),3>"),
    ("line", "{1,2,3}"),
    ("lseg", "[(1,2),(3,4)]"),
    ("path", "[(1,2),(3,4)]"),
    ("polygon", "((1,2),(3,4),(5,6))"),
    ("tsvector", "a"),
    ("tsquery", "a"),
    ("bit", "1"),
    ("bit varying", "1"),
    ("pg_lsn", "0/1"),
    ("tid", "(0,1)"),
    ("xid", "1"),
    ("xid8", "1"),
    ("pg_snapshot", "1:1:"),
    ("txid_snapshot", "1:1:"),
    ("int4range", "[1,3)"),
    ("int4multirange", "{[1,3)}"),
];

/// The type that stands for one that may be any.
const ANY: &[(&str, &str)] = &[
    ("\"any\"", "integer"),
    ("anyelement", "integer"),
    ("anynonarray", "integer"),
    ("anycompatible", "integer"),
    ("anycompatiblenonarray", "integer"),
    ("anyarray", "integer[]"),
    ("anycompatiblearray", "integer[]"),
    ("anyrange", "int4range"),
    ("anycompatiblerange", "int4range"),
    ("anymultirange", "int4multirange"),
    ("anycompatiblemultirange", "int4multirange"),
    ("anyenum", "public.mood"),
];

/// Overloads as lines: name, kind, number of direct arguments or -1, whether variadic, types.
const OVERLOADS: &str = "
    SELECT string_agg(concat_ws('|', p.proname, p.prokind, coalesce(a.aggnumdirectargs, 0),
        coalesce(a.aggkind, 'n'), p.provariadic NOT IN (0, 2276), (
            SELECT string_agg(format_type(one.type, NULL), '|' ORDER BY one.place)
            FROM unnest(p.proargtypes) WITH ORDINALITY AS one (type, place)
        )), E'\\n' ORDER BY p.proname, p.oid)
    FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p'";

/// Every relation of the server's own.
const RELATIONS: &str = "
    SELECT string_agg(format('%I.%I', nspname, relname), E'\\n' ORDER BY nspname, relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname IN ('pg_catalog', 'information_schema') AND relkind IN ('r', 'v')";

/// Calls and reads of what the server has built in.
pub async fn statements(server: &Server) -> anyhow::Result<Vec<String>> {
    match server.engine {
        Engine::Postgres => postgres(server).await,
        _ => Ok(mysql()),
    }
}

async fn postgres(server: &Server) -> anyhow::Result<Vec<String>> {
    let listed = include_str!("../../../crates/sealane-sql/src/functions/postgres.txt");
    let listed: HashSet<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    let overloads: String = server.query_scalar(OVERLOADS).await?;
    let mut statements = Vec::new();
    for line in overloads.lines() {
        let overload = Overload::read(line).with_context(|| format!("not understood: {line}"))?;
        if listed.contains(overload.name) {
            statements.extend([overload.call(null), overload.call(sample)].into_iter().flatten());
        }
    }
    let relations: String = server.query_scalar(RELATIONS).await?;
    statements.extend(relations.lines().map(|name| format!("SELECT * FROM {name}")));
    Ok(statements)
}

/// The catalog does not tell what they take: up to three numbers or texts.
fn mysql() -> Vec<String> {
    let listed = include_str!("../../../crates/sealane-sql/src/functions/mysql.txt");
    let names = listed.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let arguments = ["", "1", "'a'", "1, 1", "'a', 'a'", "1, 1, 1", "'a', 'a', 'a'"];
    names
        .flat_map(|name| arguments.iter().map(move |given| format!("SELECT {name}({given})")))
        .collect()
}

#[derive(Clone, Copy)]
struct Overload<'a> {
    name: &'a str,
    kind: &'a str,
    direct: usize,
    /// `n`, or of aggregates `o` and `h` for those over an ordered set.
    aggregate: &'a str,
    is_variadic: bool,
    types: &'a str,
}

impl<'a> Overload<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(6, '|');
        Some(Overload {
            name: parts.next()?,
            kind: parts.next()?,
            direct: parts.next()?.parse().ok()?,
            aggregate: parts.next()?,
            is_variadic: parts.next()? == "t",
            types: parts.next().unwrap_or_default(),
        })
    }

    /// A statement with this call; `None` if no statement can have it.
    fn call(self, value: fn(&str) -> String) -> Option<String> {
        let types = self.types.split('|').filter(|name| !name.is_empty());
        let mut values: Vec<String> = types
            .map(|name| {
                let known = ANY.iter().find(|(any, _)| *any == name);
                let name = known.map_or(name, |(_, one)| *one);
                let is_callable = !matches!(name, "internal" | "cstring" | "trigger");
                is_callable.then(|| value(name))
            })
            .collect::<Option<_>>()?;
        if self.is_variadic
            && let Some(last) = values.last_mut()
        {
            last.insert_str(0, "VARIADIC ");
        }
        let name = self.name;
        Some(match (self.kind, self.aggregate) {
            ("w", _) => format!("SELECT pg_catalog.{name}({}) OVER ()", values.join(", ")),
            (_, "o" | "h") => {
                let ordered = values.split_off(self.direct.min(values.len()));
                let ordered = ordered.join(", ").replace("VARIADIC ", "");
                let direct = values.join(", ");
                format!("SELECT pg_catalog.{name}({direct}) WITHIN GROUP (ORDER BY {ordered})")
            }
            _ => format!("SELECT pg_catalog.{name}({})", values.join(", ")),
        })
    }
}

fn null(name: &str) -> String {
    if name == "record" { "ROW(1, 2)".to_owned() } else { format!("NULL::{name}") }
}

fn sample(name: &str) -> String {
    if let Some(element) = name.strip_suffix("[]") {
        return format!("ARRAY[{}]", sample(element));
    }
    match SAMPLES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => format!("'{text}'::{name}"),
        None => null(name),
    }
}
