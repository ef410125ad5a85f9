//! SQLite's `PRAGMA`, read from the tokens.
//!
//! The parser accepts only literals as arguments, but tools discover schemas with `PRAGMA
//! table_info(cake)`. The grammar is small enough to follow it here.

use sqlparser::ast::ObjectNamePart;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::prover::Found;

/// Pragmas that read, with or without an argument (sqlite.org/pragma.html).
const PRAGMAS_WITH_ARGUMENT: &[&str] = &[
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas that read only without an argument: with an argument they set a value.
const PRAGMAS_WITHOUT_ARGUMENT: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "encoding",
    "foreign_key_check",
    "freelist_count",
    "integrity_check",
    "quick_check",
    "function_list",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "schema_version",
    "table_list",
    "user_version",
];

/// Consumes a whole `PRAGMA` from `parser` and judges it. `None` if the statement is not a
/// `PRAGMA`, `Some(None)` if it only reads.
///
/// # Errors
/// The text after `PRAGMA` does not follow the grammar.
pub(crate) fn prove(parser: &mut Parser<'_>) -> Result<Option<Option<Found>>, ParserError> {
    if !parser.parse_keyword(Keyword::PRAGMA) {
        return Ok(None);
    }
    let name = parser.parse_object_name(false)?;
    let pragma = match name.0.last() {
        Some(ObjectNamePart::Identifier(pragma)) => pragma.value.to_ascii_lowercase(),
        _ => String::new(),
    };
    // `PRAGMA temp.x` reads objects that only this connection has.
    let is_temporary = match name.0.first() {
        Some(ObjectNamePart::Identifier(schema)) if name.0.len() > 1 => {
            schema.value.eq_ignore_ascii_case("temp")
        }
        _ => false,
    };
    let has_argument = parser.consume_token(&Token::LParen);
    if has_argument {
        parser.next_token();
        // A sign, as in `PRAGMA x(-1)`, sets a value; it is refused below.
        parser.next_token();
        if parser.get_current_token().token != Token::RParen {
            parser.expect_token(&Token::RParen)?;
        }
    } else if parser.consume_token(&Token::Eq) {
        while !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            parser.next_token();
        }
        return Ok(Some(Some(Found::session("PRAGMA"))));
    }
    let listed = if has_argument { PRAGMAS_WITH_ARGUMENT } else { PRAGMAS_WITHOUT_ARGUMENT };
    let reads = !is_temporary && listed.contains(&pragma.as_str());
    Ok(Some((!reads).then(|| Found::session("PRAGMA"))))
}
