//! What a replication filter of MySQL or MariaDB leaves out.
//!
//! The rules are those of MySQL's manual, section 19.2.5 ("How Servers Evaluate Replication
//! Filtering Rules"), for changes that are logged as rows. MariaDB has the same rules. Of changes that
//! are logged as statements (`STATEMENT`, and often `MIXED`, MariaDB's default), a filter on databases
//! checks the database that the writer uses, which no table name shows. So if it leaves out the
//! database that the application uses, every table counts as left out. What others write while they
//! use such a database is not noticed.
//!
//! Changes of the schema are always logged as statements, so replicas do not get them either. A view that
//! a filter leaves out is filtered like a table, also by its name, and a stored function by the database
//! that its author uses. Replicas keep the old ones.

use serde::Deserialize;

/// The filters of one server. Tables are written as `database.table`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReplicationFilter {
    /// If this list is not empty, only these databases are replicated.
    pub do_databases: Vec<String>,
    /// These databases are not replicated.
    pub ignore_databases: Vec<String>,
    /// If there are any tables to replicate, by name or by pattern, no other tables are replicated.
    pub do_tables: Vec<String>,
    /// These tables are not replicated.
    pub ignore_tables: Vec<String>,
    /// Patterns of tables to replicate, with `%`, `_` and `\`.
    pub wild_do_tables: Vec<String>,
    /// Patterns of tables that are not replicated.
    pub wild_ignore_tables: Vec<String>,
    /// Databases whose rows arrive under another name, and the other names.
    pub rewritten_databases: Vec<String>,
}

impl ReplicationFilter {
    /// Whether the filter leaves nothing out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same filter with all names in lower case, for servers that store them so.
    #[must_use]
    pub fn folded(mut self) -> Self {
        let lists = [
            &mut self.do_databases,
            &mut self.ignore_databases,
            &mut self.do_tables,
            &mut self.ignore_tables,
            &mut self.wild_do_tables,
            &mut self.wild_ignore_tables,
            &mut self.rewritten_databases,
        ];
        lists.into_iter().flatten().for_each(|name| *name = name.to_lowercase());
        self
    }

    /// Whether the filter leaves out the rows of a table.
    #[must_use]
    pub fn leaves_out(&self, schema: &str, name: &str) -> bool {
        self.leaves_out_database(schema) || self.leaves_out_table(&format!("{schema}.{name}"))
    }

    /// Whether the filter leaves out a whole database, whatever its tables are called.
    #[must_use]
    pub fn leaves_out_database(&self, schema: &str) -> bool {
        let has = |list: &[String]| list.iter().any(|it| it == schema);
        let is_left_out = match self.do_databases.is_empty() {
            true => has(&self.ignore_databases),
            false => !has(&self.do_databases),
        };
        is_left_out || has(&self.rewritten_databases)
    }

    /// Whether the filter may leave out a table of this database, also one that is made later.
    #[must_use]
    pub fn may_leave_out_of(&self, schema: &str) -> bool {
        // MariaDB compares tables case-insensitively, MySQL case-sensitively.
        let schema_folded = schema.to_lowercase();
        let is_its = |table: &String| {
            let of = table.split_once('.').map(|(of, _)| of.to_lowercase());
            of.is_none_or(|of| of.contains('%') || is_like(&schema_folded, &of))
        };
        let is_whole = |pattern: &String| {
            pattern.strip_suffix(".%").is_some_and(|of| of == schema && !of.contains('%'))
        };
        let has_lists = !(self.do_tables.is_empty() && self.wild_do_tables.is_empty());
        self.leaves_out_database(schema)
            || self.ignore_tables.iter().chain(&self.wild_ignore_tables).any(is_its)
            || has_lists && !self.wild_do_tables.iter().any(is_whole)
    }

    /// The first list that holds the table decides. If no list holds it, the table is left out if
    /// any list of tables to replicate exists.
    fn leaves_out_table(&self, table: &str) -> bool {
        // MariaDB compares case-insensitively here, MySQL case-sensitively. So this leaves out what
        // either server may leave out.
        let folded = table.to_lowercase();
        let has = |list: &[String]| list.iter().any(|it| it == table);
        let matches = |list: &[String]| list.iter().any(|it| is_like(table, it));
        let may_have = |list: &[String]| list.iter().any(|it| it.to_lowercase() == folded);
        let may_match =
            |list: &[String]| list.iter().any(|it| is_like(&folded, &it.to_lowercase()));
        if has(&self.do_tables) {
            return false;
        }
        if may_have(&self.ignore_tables) {
            return true;
        }
        if matches(&self.wild_do_tables) {
            return false;
        }
        may_match(&self.wild_ignore_tables)
            || !(self.do_tables.is_empty() && self.wild_do_tables.is_empty())
    }
}

/// `LIKE`, without folding case. Takes at most time in the product of both lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    // Which prefixes of the pattern match the text so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let skip_percents = |reached: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            if reached[at] && pattern[at] == '%' && !is_escaped(&pattern, at) {
                reached[at + 1] = true;
            }
        }
    };
    skip_percents(&mut reached);
    for character in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|at| reached[*at]) {
            match pattern[at] {
                '%' => next[at] = true,
                '_' => next[at + 1] = true,
                '\\' if at + 1 < pattern.len() => next[at + 2] |= pattern[at + 1] == character,
                plain => next[at + 1] |= plain == character,
            }
        }
        reached = next;
        skip_percents(&mut reached);
    }
    reached[pattern.len()]
}

/// Whether an odd number of backslashes stands before this place.
fn is_escaped(pattern: &[char], at: usize) -> bool {
    pattern[..at].iter().rev().take_while(|it| **it == '\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&it| it.to_owned()).collect()
    }

    #[rstest]
    #[case("shop.boat", "shop.boat", true)]
    #[case("shop.boat", "shop.%", true)]
    #[case("shop.boat", "%.b__t", true)]
    #[case("shop.boat", "%", true)]
    #[case("shop.boat", "shop.bo", false)]
    #[case("shop.boat", "shop.boat_", false)]
    #[case("my_shop.boat", r"my\_shop.%", true)]
    #[case("my1shop.boat", r"my\_shop.%", false)]
    #[case("a%b", r"a\%b", true)]
    #[case("axb", r"a\%b", false)]
    #[case("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%a%a%a%c", false)]
    fn patterns_are_those_of_like(#[case] text: &str, #[case] pattern: &str, #[case] is: bool) {
        assert_eq!(is_like(text, pattern), is);
    }

    #[test]
    fn databases_are_filtered_by_the_list_that_there_is() {
        let only = ReplicationFilter { do_databases: list(&["shop"]), ..Default::default() };
        assert!(!only.leaves_out("shop", "boat") && only.leaves_out("log", "boat"));
        let but = ReplicationFilter { ignore_databases: list(&["log"]), ..Default::default() };
        assert!(!but.leaves_out("shop", "boat") && but.leaves_out("log", "boat"));
        let moved = ReplicationFilter { rewritten_databases: list(&["a", "b"]), ..only };
        assert!(moved.leaves_out("a", "t") && moved.leaves_out("b", "t"));
        assert!(!moved.leaves_out("shop", "t"));
    }

    #[test]
    fn tables_are_filtered_by_the_first_list_that_holds_them() {
        let filter = ReplicationFilter {
            ignore_tables: list(&["shop.audit", "shop.log_kept"]),
            wild_ignore_tables: list(&["shop.log%"]),
            wild_do_tables: list(&[r"shop.log\_%"]),
            do_tables: list(&["shop.audit"]),
            ..Default::default()
        };
        assert!(!filter.leaves_out("shop", "audit"), "it is in the first list, too");
        assert!(filter.leaves_out("shop", "log_kept"), "names come before patterns");
        assert!(!filter.leaves_out("shop", "log_1"));
        assert!(filter.leaves_out("shop", "logs"));
        assert!(filter.leaves_out("shop", "boat"), "there are lists of what to replicate");
        let ignores =
            ReplicationFilter { wild_ignore_tables: list(&["shop.log%"]), ..Default::default() };
        assert!(!ignores.leaves_out("shop", "boat") && ignores.leaves_out("shop", "logs"));
        assert!(!ReplicationFilter::default().leaves_out("shop", "boat"));
    }

    /// What a replica at RDS has, and what many servers have.
    #[test]
    fn filters_of_the_servers_own_tables_leave_out_nothing_of_a_users_database() {
        let own = ReplicationFilter {
            ignore_tables: list(&[
                "mysql.plugin",
                "mysql.rds_history",
                "innodb_memcache.config_options",
            ]),
            wild_ignore_tables: list(&["mysql.%", "performance_schema.%"]),
            ignore_databases: list(&["mysql", "test"]),
            ..Default::default()
        };
        assert!(!own.may_leave_out_of("shop"));
        assert!(own.may_leave_out_of("test") && own.may_leave_out_of("innodb_memcache"));
    }

    #[rstest]
    #[case("ignore", "shop.audit", true)]
    #[case("ignore", "SHOP.audit", true)]
    #[case("ignore", "log.audit", false)]
    #[case("wild ignore", "shop.a%", true)]
    #[case("wild ignore", "sh_p.a%", true)]
    #[case("wild ignore", "s%", true)]
    #[case("wild ignore", "%.audit", true)]
    #[case("wild ignore", "log.%", false)]
    #[case("do", "shop.audit", true)]
    #[case("do", "log.audit", true)]
    #[case("wild do", "shop.%", false)]
    #[case("wild do", "shop.a%", true)]
    #[case("wild do", "log.%", true)]
    fn a_filter_may_leave_out_a_table_of_a_database(
        #[case] kind: &str,
        #[case] table: &str,
        #[case] may: bool,
    ) {
        let mut filter = ReplicationFilter::default();
        let of_kind = match kind {
            "ignore" => &mut filter.ignore_tables,
            "wild ignore" => &mut filter.wild_ignore_tables,
            "do" => &mut filter.do_tables,
            "wild do" => &mut filter.wild_do_tables,
            _ => panic!("{kind}"),
        };
        of_kind.push(table.to_owned());
        assert_eq!(filter.may_leave_out_of("shop"), may);
    }

    #[test]
    fn filters_of_databases_leave_out_all_tables_of_some() {
        let only = ReplicationFilter { do_databases: list(&["shop"]), ..Default::default() };
        assert!(!only.may_leave_out_of("shop") && only.may_leave_out_of("log"));
        let moved = ReplicationFilter { rewritten_databases: list(&["a", "b"]), ..only };
        assert!(moved.may_leave_out_of("a") && !moved.may_leave_out_of("shop"));
    }
}
