//! Which tables a plain INSERT, UPDATE or DELETE writes.
//!
//! Most writes of an ORM consist of a few keywords, quoted names, placeholders and operators. Such
//! a text writes the table that it names, and the other tables that, according to the catalog,
//! change with it. A text with anything else (a call, a subquery, a literal, a name without quotes)
//! may write any table.

use sealane_core::TableSet;

use crate::bounds::MAX_TEXT_BYTES;
use crate::catalog::{Catalog, Change};
use crate::dialect::Dialect;
use crate::function;
use crate::table_name::kept;
use sealane_core::TableName;

use super::token::{Token, Tokens, Word};

/// The tables that `sql` writes; [`TableSet::WHOLE`] if they are not known.
pub(crate) fn tables_written(sql: &str, dialect: Dialect, catalog: &Catalog) -> TableSet {
    let is_known = catalog.tells_tables()
        && !catalog.has_active_operators()
        && !catalog.has_active_types()
        && sql.len() <= MAX_TEXT_BYTES;
    let written = is_known.then(|| Write::read(sql, dialect, catalog)).flatten();
    written.map_or(TableSet::WHOLE, |Write { table, changes }| {
        catalog.tables_written(&table, &changes)
    })
}

/// A plain write.
struct Write {
    table: TableName,
    changes: Vec<Change>,
}

impl Write {
    fn read(sql: &str, dialect: Dialect, catalog: &Catalog) -> Option<Self> {
        let mut tokens = Tokens::new(sql, dialect);
        let change = match (tokens.next()?, dialect) {
            (Token::Word(Word::Insert), _) => Change::Insert,
            (Token::Word(Word::Update), _) => Change::Update,
            (Token::Word(Word::Delete), _) => Change::Delete,
            _ => return None,
        };
        match change {
            Change::Insert => expect(&mut tokens, Word::Into)?,
            Change::Update => {}
            Change::Delete => expect(&mut tokens, Word::From)?,
        }
        let table = table_name(&mut tokens, dialect)?;
        // A parenthesis here begins the list of columns. After any later name, a parenthesis would
        // be a call.
        let mut changes = vec![change];
        let mut before = Token::End;
        // MySQL's UPDATE may name several tables before SET.
        let mut names_tables = change == Change::Update;
        loop {
            let token = tokens.next()?;
            match token {
                Token::End => return Some(Self { table, changes }),
                Token::Comma if names_tables => return None,
                Token::Name(name) => {
                    let is_call = tokens.is_before_parenthesis();
                    let is_attribute = before == Token::Dot
                        && function::is_active_attribute(kept(name, dialect), dialect, catalog);
                    if is_call || is_attribute {
                        return None;
                    }
                }
                Token::Word(Word::Update) if before == Token::Word(Word::Do) => {
                    changes.push(Change::Update);
                }
                Token::Word(Word::Conflict) if before != Token::Word(Word::On) => return None,
                Token::Word(word) if tokens.is_before_parenthesis() && !takes_values(word) => {
                    return None;
                }
                Token::Word(word) if !is_harmless(word) => return None,
                Token::Word(Word::Set) => names_tables = false,
                _ => {}
            }
            before = token;
        }
    }
}

fn expect(tokens: &mut Tokens<'_>, word: Word) -> Option<()> {
    (tokens.next()? == Token::Word(word)).then_some(())
}

fn table_name(tokens: &mut Tokens<'_>, dialect: Dialect) -> Option<TableName> {
    let Token::Name(first) = tokens.next()? else {
        return None;
    };
    if !tokens.is_before('.') {
        return Some(TableName::new(None, kept(first, dialect)));
    }
    tokens.next()?;
    match tokens.next()? {
        Token::Name(name) if !tokens.is_before('.') => {
            Some(TableName::new(Some(kept(first, dialect)), kept(name, dialect)))
        }
        _ => None,
    }
}

/// Words that cannot name a function. A parenthesis behind them begins values or names.
fn takes_values(word: Word) -> bool {
    matches!(
        word,
        Word::Values
            | Word::Conflict
            | Word::Where
            | Word::And
            | Word::Or
            | Word::Not
            | Word::In
            | Word::Between
            | Word::Cast
            | Word::Returning
    )
}

/// Words that cannot begin a write to another table or run anything that the text does not show.
/// `FROM` is not among them, because the table that it reads may be a view.
fn is_harmless(word: Word) -> bool {
    matches!(
        word,
        Word::As
            | Word::On
            | Word::Where
            | Word::And
            | Word::Or
            | Word::Not
            | Word::In
            | Word::Like
            | Word::Between
            | Word::Is
            | Word::Constant
            | Word::Values
            | Word::Default
            | Word::Set
            | Word::Returning
            | Word::Conflict
            | Word::Do
            | Word::Nothing
            | Word::Cast
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::catalog::{CatalogFacts, RelationFact, TableFact};

    fn catalog() -> Catalog {
        let table = |name: &str| TableFact {
            schema: "public".into(),
            name: name.into(),
            ..TableFact::default()
        };
        Catalog::new(&CatalogFacts {
            relations: vec![RelationFact {
                schema: "public".into(),
                name: "fleet".into(),
                definitions: vec!["SELECT * FROM public.boat".into()],
                ..RelationFact::default()
            }],
            tables: Some(vec![
                TableFact { on_delete: true, ..table("harbour") },
                TableFact { on_insert: true, ..table("audited") },
                TableFact { parent: Some("voyage".into()), ..table("voyage_2026") },
                TableFact { parent: Some("voyage_2026".into()), ..table("voyage_2026_01") },
                TableFact { parent: Some("archive".into()), ..table("voyage_2026_01") },
                TableFact { parent: Some("trip".into()), ..table("trip_2026") },
                TableFact { on_delete: true, ..table("trip_2026") },
            ]),
            ..CatalogFacts::default()
        })
    }

    fn tables<const N: usize>(names: [&str; N]) -> TableSet {
        names.into_iter().collect()
    }

    fn written(sql: &str) -> TableSet {
        tables_written(sql, Dialect::PostgreSql, &catalog())
    }

    #[rstest]
    #[case(r#"INSERT INTO "boat" ("name") VALUES ($1) RETURNING "id", "name""#)]
    #[case(r#"INSERT INTO "public"."boat" DEFAULT VALUES"#)]
    #[case(r#"INSERT INTO "boat" ("name") VALUES ($1), ($2) ON CONFLICT ("id") DO NOTHING"#)]
    #[case(
        r#"INSERT INTO "boat" ("id") VALUES ($1) ON CONFLICT ("id") DO UPDATE SET "id" = "excluded"."id""#
    )]
    #[case(r#"UPDATE "boat" SET "name" = $1, "kind" = CAST($2 AS "kind") WHERE "boat"."id" IN ($3, $4)"#)]
    #[case(r#"DELETE FROM "boat" WHERE "boat"."id" = $1 AND NOT ("name" IS NULL)"#)]
    #[case(r#"DELETE FROM "public" . "boat" WHERE ("id") IN ($1)"#)]
    fn a_plain_write_writes_its_table(#[case] sql: &str) {
        assert_eq!(written(sql), tables(["boat"]));
    }

    #[rstest]
    #[case::a_call(r#"UPDATE "boat" SET "name" = upper($1)"#)]
    #[case::a_quoted_call(r#"UPDATE "boat" SET "name" = "f"($1)"#)]
    #[case::a_call_behind_a_blank(r#"UPDATE "boat" SET "name" = "f" ($1)"#)]
    #[case::a_call_named_like_a_keyword(r#"UPDATE "boat" SET "name" = conflict($1)"#)]
    #[case::a_call_named_like_an_operator(r#"UPDATE "boat" SET "name" = like($1, $2)"#)]
    #[case::a_call_named_like_nothing(r#"DELETE FROM "boat" WHERE nothing ($1)"#)]
    #[case::a_second_table_that_may_be_a_view(
        r#"UPDATE "boat" SET "name" = $1 FROM "crew" WHERE "crew"."boat" = "boat"."id""#
    )]
    #[case::three_parts_with_blanks(r#"DELETE FROM "db" . "public" . "boat""#)]
    #[case::a_subquery(r#"DELETE FROM "boat" WHERE "id" IN (SELECT "id" FROM "crew")"#)]
    #[case::with(
        r#"INSERT INTO "boat" WITH "x" AS (DELETE FROM "crew" RETURNING *) SELECT * FROM "x""#
    )]
    #[case::a_second_statement(r#"DELETE FROM "boat"; DELETE FROM "crew""#)]
    #[case::no_quotes("DELETE FROM boat")]
    #[case::a_comment(r#"DELETE FROM "boat" /* all */"#)]
    #[case::three_parts(r#"DELETE FROM "db"."public"."boat""#)]
    #[case::something_else(r#"TRUNCATE "boat""#)]
    #[case::nothing("")]
    fn a_text_with_anything_else_may_write_any_table(#[case] sql: &str) {
        assert!(written(sql).is_whole(), "{sql}");
    }

    #[test]
    fn a_write_that_runs_triggers_may_write_any_table() {
        assert!(written(r#"DELETE FROM "harbour""#).is_whole());
        assert_eq!(written(r#"UPDATE "harbour" SET "a" = $1"#), tables(["harbour"]));
        assert!(written(r#"INSERT INTO "audited" ("a") VALUES ($1)"#).is_whole());
        assert_eq!(written(r#"DELETE FROM "audited""#), tables(["audited"]));
        let upsert = r#"INSERT INTO "audited" ("a") VALUES ($1) ON CONFLICT ("a") DO NOTHING"#;
        assert!(written(upsert).is_whole());
    }

    #[test]
    fn a_write_to_a_partition_writes_its_family_and_a_write_to_a_view_its_tables() {
        let families = ["voyage", "voyage_2026", "voyage_2026_01", "archive"];
        for name in families {
            let all = written(&format!(r#"DELETE FROM "{name}""#));
            assert_eq!(all, tables([name, "archive"]), "the name that stands for the family");
        }
        assert_eq!(written(r#"INSERT INTO "trip" ("a") VALUES ($1)"#), tables(["trip"]));
        let moved = r#"UPDATE "trip" SET "year" = $1"#;
        assert!(written(moved).is_whole(), "moving a row deletes it from its old partition");
        assert_eq!(written(r#"DELETE FROM "fleet""#), tables(["fleet", "boat"]));
    }

    fn written_on_mysql(sql: &str) -> TableSet {
        let relation = |name: &str| RelationFact {
            schema: "shop".into(),
            name: name.into(),
            ..RelationFact::default()
        };
        let definitions = vec!["select `shop`.`boat`.`id` AS `id` from `shop`.`boat`".into()];
        let table = |name: &str| TableFact {
            schema: "shop".into(),
            name: name.into(),
            ..TableFact::default()
        };
        let mut relations = Vec::from(["boat", "crew", "Harbour", "größe"].map(relation));
        relations.push(RelationFact { definitions, ..relation("fleet") });
        let facts = CatalogFacts {
            relations,
            tables: Some(vec![TableFact { on_delete: true, ..table("Harbour") }]),
            has_all_relations: true,
            default_schema: Some("shop".into()),
            ..CatalogFacts::default()
        };
        tables_written(sql, Dialect::MySql, &Catalog::of_mysql(&facts))
    }

    #[rstest]
    #[case("INSERT INTO `boat` (`name`) VALUES (?), (?)")]
    #[case("INSERT INTO `shop`.`Boat` (`name`) VALUES (?) RETURNING `id`")]
    #[case(
        "UPDATE `boat` AS `b` SET `name` = ?, `voyages` = `voyages` + 1 WHERE `b`.`id` IN (?, ?)"
    )]
    #[case("DELETE FROM `boat` WHERE `boat`.`id` = ? AND NOT (`name` IS NULL)")]
    fn a_plain_write_on_mysql_writes_its_table(#[case] sql: &str) {
        assert_eq!(written_on_mysql(sql), tables(["boat"]), "{sql}");
    }

    #[rstest]
    #[case::several_tables("UPDATE `boat`, `crew` SET `crew`.`name` = ?")]
    #[case::several_tables_with_aliases("UPDATE `boat` AS `b`, `crew` AS `c` SET `c`.`name` = ?")]
    #[case::a_join("UPDATE `boat` JOIN `crew` ON `crew`.`id` = `boat`.`id` SET `crew`.`name` = ?")]
    #[case::a_delete_by_a_join("DELETE `crew` FROM `boat` JOIN `crew` ON TRUE")]
    #[case::a_delete_with_using("DELETE FROM `crew` USING `boat` JOIN `crew` ON TRUE")]
    #[case::several_deletes("DELETE FROM `boat`, `crew` USING `boat` JOIN `crew` ON TRUE")]
    #[case::an_update_instead(
        "INSERT INTO `boat` (`id`) VALUES (?) ON DUPLICATE KEY UPDATE `id` = ?"
    )]
    #[case::a_replacement("REPLACE INTO `boat` (`id`) VALUES (?)")]
    #[case::a_query("INSERT INTO `boat` (`id`) SELECT `id` FROM `crew`")]
    #[case::a_call("UPDATE `boat` SET `name` = `f`(?)")]
    #[case::a_variable("UPDATE `boat` SET `name` = @a := ?")]
    #[case::a_comment_that_is_code("DELETE FROM `boat` /*! WHERE id = f() */")]
    #[case::a_string_or_a_name("DELETE FROM \"boat\"")]
    #[case::a_cascade("DELETE FROM `harbour`")]
    #[case::a_name_that_may_fold_otherwise("DELETE FROM `größe`")]
    #[case::an_unknown_table("DELETE FROM `unheard_of`")]
    #[case::another_schema("DELETE FROM `log`.`boat`")]
    #[case::the_servers_own("UPDATE `mysql`.`user` SET `a` = ?")]
    fn a_text_with_anything_else_may_write_any_table_on_mysql(#[case] sql: &str) {
        assert!(written_on_mysql(sql).is_whole(), "{sql}");
    }

    #[test]
    fn a_write_on_mysql_to_a_view_writes_its_tables_and_one_event_is_not_another() {
        assert_eq!(written_on_mysql("DELETE FROM `fleet`"), tables(["fleet", "boat"]));
        assert_eq!(written_on_mysql("UPDATE `harbour` SET `a` = ?"), tables(["harbour"]));
    }

    #[test]
    fn without_a_catalog_or_with_one_in_doubt_nothing_is_known() {
        let sql = r#"DELETE FROM "boat""#;
        assert!(tables_written(sql, Dialect::PostgreSql, &Catalog::default()).is_whole());
        assert!(tables_written(sql, Dialect::PostgreSql, &catalog().doubted()).is_whole());
    }
}
