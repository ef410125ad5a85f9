//! The last error of a thread of MySQL's replication, without the data that it quotes.
//!
//! The server quotes the statement that failed, and the key that was there twice. Both are data of
//! the application, and a statement may even contain a password. What a person needs in order to
//! act is the number, the kind of error and the place in the log: these are kept.

use sealane_core::printable;

use super::TextRow;

/// How the server begins the statement that it quotes; the statement is the end of the message.
/// <https://dev.mysql.com/doc/mysql-errors/9.4/en/server-error-reference.html>: the messages of
/// 3002 to 3004 and of their predecessors differ in the blank.
const QUERIES: [&str; 2] = ["Query: '", "Query:'"];
/// What is around the value of a key (error 1062).
const ENTRY: (&str, &str) = ("Duplicate entry '", "' for key");

/// The error that the columns `number` and `text` tell. `None` if the number is 0.
pub(crate) fn last_error(row: &TextRow, number: &str, text: &str) -> Option<String> {
    let code: u32 = row.number(number).filter(|code| *code != 0)?;
    let told = without_data(row.text(text).unwrap_or_default());
    Some(format!("{code}, {}", printable(&told)))
}

fn without_data(text: &str) -> String {
    let end = QUERIES.iter().filter_map(|query| text.find(query)).min().unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default().trim_end();
    let (before, after) = ENTRY;
    // A value may contain quotes, and even what follows it: the last one is its end.
    match (text.find(before).map(|at| at + before.len()), text.rfind(after)) {
        (Some(begin), Some(end)) if begin <= end => {
            format!("{}…{}", &text[..begin], &text[end..])
        }
        (Some(begin), _) => format!("{}…", &text[..begin]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn told(number: &str, text: &str) -> Option<String> {
        let row = TextRow::from([("Last_SQL_Errno", number), ("Last_SQL_Error", text)]);
        last_error(&row, "Last_SQL_Errno", "Last_SQL_Error")
    }

    #[test]
    fn no_error_has_the_number_zero() {
        assert_eq!(told("0", ""), None);
        assert_eq!(told("1236", "gone").as_deref(), Some("1236, gone"));
    }

    #[rstest]
    #[case::statement(
        "Error 'Operation CREATE USER failed for 'app'' on query. Default database: 'shop'. \
         Query: 'CREATE USER app IDENTIFIED BY 'tidewater''",
        "1396, Error 'Operation CREATE USER failed for 'app'' on query. Default database: \
         'shop'."
    )]
    #[case::without_a_blank(
        "Query caused different errors on source and replica. Default database:'shop'. \
         Query:'SET PASSWORD = 'tidewater''",
        "1396, Query caused different errors on source and replica. Default database:'shop'."
    )]
    #[case::key(
        "Could not execute Write_rows event on table shop.boat; Duplicate entry 'tide' for key \
         'water' for key 'boat.name', Error_code: 1062; end_log_pos 500",
        "1396, Could not execute Write_rows event on table shop.boat; Duplicate entry '…' for key \
         'boat.name', Error_code: 1062; end_log_pos 500"
    )]
    #[case::cut_key("Duplicate entry 'tidewa", "1396, Duplicate entry '…")]
    #[case::terminal("one\n\u{1b}[2Jtwo", "1396, one\\n\\u{1b}[2Jtwo")]
    fn data_and_what_a_terminal_obeys_are_not_told(#[case] text: &str, #[case] wanted: &str) {
        assert_eq!(told("1396", text).as_deref(), Some(wanted));
    }
}
