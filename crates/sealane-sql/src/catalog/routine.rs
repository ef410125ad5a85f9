//! Stored functions of MySQL and MariaDB, judged by their bodies.
//!
//! Neither server says which functions have side effects. `DETERMINISTIC` and `READS SQL DATA` are
//! only what the author says, and authors say them because the binary log requires one of them. So
//! a body is judged like a text. A body that is one `RETURN` is judged as a `SELECT` of what it
//! returns. A body is not understood if it has several statements, if it is not visible, or if it
//! was written in another SQL mode.

use super::FunctionFact;

/// Modes in which the server reads a body differently from our parser. `IGNORE_SPACE`, which our
/// driver sets, is not among them. Without it, a space before a parenthesis makes fewer names
/// built-in functions.
const OTHER_MODES: &[&str] = &["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE"];

impl FunctionFact {
    /// A stored function of MySQL or MariaDB. `body` is its text, if the role may see it; the
    /// server reads it in `sql_mode`.
    #[must_use]
    pub fn of_routine(schema: String, name: String, body: Option<&str>, sql_mode: &str) -> Self {
        let is_our_mode = !sql_mode.split(',').any(|mode| OTHER_MODES.contains(&mode));
        let returned = body.filter(|_| is_our_mode).and_then(returned);
        FunctionFact {
            schema,
            name,
            volatile: returned.is_none(),
            shadowed: false,
            takes_one: false,
            definitions: returned.map(definition).into_iter().collect(),
        }
    }
}

/// The value that a body of one `RETURN` returns.
fn returned(body: &str) -> Option<&str> {
    let body = body.trim();
    let body = match behind(body, "BEGIN") {
        Some(block) => before_end(block)?,
        None => body,
    };
    behind(body, "RETURN")
}

/// The text after `word`, if `text` begins with it.
fn behind<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.get(word.len()..)?;
    let is_word = text.get(..word.len())?.eq_ignore_ascii_case(word)
        && !rest.starts_with(|c: char| is_of_name(c) || matches!(c, '@' | ':'));
    is_word.then(|| rest.trim_start())
}

fn before_end(block: &str) -> Option<&str> {
    let block = block.trim_end().trim_end_matches(';').trim_end();
    let start = block.len().checked_sub("END".len())?;
    let is_end = block.get(start..)?.eq_ignore_ascii_case("END");
    is_end.then(|| block[..start].trim_end().strip_suffix(';')).flatten()
}

/// Settings that a function may read, besides those read as `@@global`. They belong to the server,
/// or are the same in all sessions of a pool. A setting that depends on earlier statements of the
/// session, such as `@@identity`, is not among them.
const SETTINGS: &[&str] =
    &["hostname", "server_id", "session.transaction_read_only", "session.tx_read_only", "version"];

/// A query for what the function returns, without the settings that it reads.
///
/// In a statement, these settings are read on the primary, because the statement asks about that
/// server. Reading them in a function has no effect. It only describes the server that runs the
/// function.
fn definition(value: &str) -> String {
    let mut parts = value.split("@@");
    let mut definition = format!("SELECT {}", parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !is_of_name(c) && c != '.').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        match is_setting(&name.to_ascii_lowercase()) {
            true => definition.push_str("+NULL "),
            false => definition.extend(["@@", name]),
        }
        definition.push_str(rest);
    }
    definition
}

fn is_setting(name: &str) -> bool {
    let is_global = name.strip_prefix("global.").is_some_and(|it| !it.contains('.'));
    is_global || SETTINGS.contains(&name)
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("RETURN a + 1", Some("a + 1"))]
    #[case(" return\n(SELECT count(*) FROM t) ", Some("(SELECT count(*) FROM t)"))]
    #[case("BEGIN RETURN 1; END", Some("1"))]
    #[case("begin\n  return upper(a);\nend;", Some("upper(a)"))]
    // The judge of the query finds the second statement.
    #[case("BEGIN RETURN 1; DELETE FROM t; END", Some("1; DELETE FROM t"))]
    #[case("BEGIN DELETE FROM t; RETURN 1; END", None)]
    #[case("BEGIN DECLARE n int; RETURN n; END", None)]
    #[case("x: BEGIN RETURN 1; END", None)]
    #[case("BEGIN RETURN 1; END x", None)]
    #[case("RETURNING", None)]
    #[case("return_1", None)]
    #[case("", None)]
    #[case("é", None)]
    fn a_body_of_one_return_is_what_it_returns(#[case] body: &str, #[case] value: Option<&str>) {
        assert_eq!(returned(body), value);
    }

    #[rstest]
    #[case("@@global.read_only", "SELECT +NULL ")]
    #[case("concat(@@HOSTNAME, @@server_id)", "SELECT concat(+NULL , +NULL )")]
    // MySQL reads two dashes as a comment only before white space.
    #[case("1 --@@hostname + GET_LOCK('a', 0)", "SELECT 1 --+NULL  + GET_LOCK('a', 0)")]
    #[case("@@identity + @@global.x", "SELECT @@identity + +NULL ")]
    #[case("@@global.a.b, @@hostnames, @@", "SELECT @@global.a.b, @@hostnames, @@")]
    #[case("@@ global.x", "SELECT @@ global.x")]
    fn settings_of_the_server_may_be_read(#[case] value: &str, #[case] expected: &str) {
        assert_eq!(definition(value), expected);
    }

    #[rstest]
    #[case(Some("RETURN 1"), "STRICT_TRANS_TABLES,NO_ZERO_DATE", false)]
    #[case(Some("RETURN 1"), "PIPES_AS_CONCAT,IGNORE_SPACE", false)]
    #[case(Some("RETURN \"a\""), "PIPES_AS_CONCAT,ANSI_QUOTES", true)]
    #[case(Some("RETURN 'a\\'"), "NO_BACKSLASH_ESCAPES", true)]
    #[case(None, "", true)]
    #[case(Some("BEGIN SET @a = 1; RETURN 1; END"), "", true)]
    fn what_is_not_understood_is_not_pure(
        #[case] body: Option<&str>,
        #[case] sql_mode: &str,
        #[case] volatile: bool,
    ) {
        let fact = FunctionFact::of_routine("shop".into(), "f".into(), body, sql_mode);
        assert_eq!(fact.volatile, volatile);
        assert_eq!(fact.definitions.is_empty(), volatile);
    }
}
