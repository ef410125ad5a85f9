//! What is refused before, and beside, the syntax tree.
//!
//! Two jobs on the token stream. First, bounds: `a OR b OR c …` builds a tree as
//! deep as the chain is long, and such a tree overflows the stack when it is
//! dropped, long before anyone visits it; so chains and nesting are measured on
//! the tokens, before there is a tree. Second, a backstop: a few words that no
//! pure read contains outside quotes are looked for here as well, so that a
//! clause which the parser swallows still stops the proof.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace, Word};

use crate::classification::{Classification, Reason};
use crate::dialect::Dialect;
use crate::function;

/// Longest text that is parsed: room for an `IN` list of tens of thousands.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Deepest nesting of parentheses and brackets.
const MAX_NESTING: usize = 48;
/// Most operators and keywords on one path from the root of the tree. A dropped
/// tree of this depth fits a stack of 1 MiB in a debug build, which tests prove.
const MAX_CHAIN: usize = 1_000;
/// The same where the parser copies the left side of an operator, and with it the
/// whole tree so far: a copy takes more stack than a drop, and quadratic time.
const MAX_COPIED_CHAIN: usize = 150;
/// Most statements in one text.
const MAX_STATEMENTS: usize = 100;
/// How deep the parser may recurse. Its own default; the parser grows the stack.
pub(crate) const PARSER_RECURSION: usize = 50;

/// Which bound the tokens exceed, if any.
pub(crate) fn exceeded(tokens: &[TokenWithSpan]) -> Option<Reason> {
    let mut levels = vec![Level::default()];
    let mut statements = 1;
    let max_chain = if tokens.iter().any(copies) { MAX_COPIED_CHAIN } else { MAX_CHAIN };
    // Sum over all open levels: an upper bound for the depth of the tree here.
    let mut depth = 0_usize;
    for token in tokens {
        let level = levels.last_mut()?;
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level::default()),
            Token::RParen | Token::RBracket | Token::RBrace => {
                depth -= level.total();
                levels.pop();
                if levels.is_empty() {
                    levels.push(Level::default());
                }
            }
            Token::SemiColon => {
                statements += 1;
                depth = 0;
                levels = vec![Level::default()];
            }
            // Neighbours in a list do not nest in each other.
            Token::Comma => {
                depth -= level.operators;
                level.operators = 0;
            }
            Token::Word(word) if nests_past_commas(word.keyword) => {
                level.clauses += 1;
                depth += 1;
            }
            token if chains(token) => {
                level.operators += 1;
                depth += 1;
            }
            _ => {}
        }
        if levels.len() > MAX_NESTING {
            return Some(Reason::TooComplex("nesting"));
        }
        if depth > max_chain {
            return Some(Reason::TooComplex("chain of operators"));
        }
        if statements > MAX_STATEMENTS {
            return Some(Reason::TooComplex("number of statements"));
        }
    }
    None
}

/// Why the tokens cannot be a read, whatever the tree says.
pub(crate) fn suspicion(tokens: &[TokenWithSpan], dialect: Dialect) -> Option<Classification> {
    let mut words = [Keyword::NoKeyword; 2];
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text))
                if text.starts_with('+') && text.to_ascii_lowercase().contains("set_var") =>
            {
                return Some(Classification::session("SET_VAR in an optimizer hint"));
            }
            Token::Whitespace(_) => continue,
            Token::Word(word) if word.quote_style.is_none() => {
                let rest = &tokens[at + 1..];
                if let Some(refusal) = suspicious_word(word, rest, words, dialect) {
                    return Some(refusal);
                }
                words = [words[1], word.keyword];
                continue;
            }
            Token::CustomBinaryOperator(_) => {
                return Some(Classification::not_listed("an operator of the user's"));
            }
            Token::Assignment | Token::AtSign if dialect == Dialect::MySql => {
                return Some(Classification::session("a variable"));
            }
            Token::NationalStringLiteral(_) if dialect == Dialect::Sqlite => {
                return Some(Classification::unknown(Reason::Ambiguous("a literal's prefix")));
            }
            Token::UnicodeStringLiteral(_) | Token::Char(_) | Token::Backslash => {
                return Some(Classification::unknown(Reason::Ambiguous("an unusual token")));
            }
            _ => {}
        }
        words = [Keyword::NoKeyword; 2];
    }
    None
}

/// How many statements the semicolons separate.
pub(crate) fn statements(tokens: &[TokenWithSpan]) -> usize {
    tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|part| {
            part.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        })
        .count()
}

/// Operators and clauses open at one depth of parentheses.
#[derive(Debug, Default)]
struct Level {
    operators: usize,
    clauses: usize,
}

impl Level {
    fn total(&self) -> usize {
        self.operators + self.clauses
    }
}

/// Keywords that build a deeper tree although commas stand between them.
fn nests_past_commas(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT
            | Keyword::MINUS
            | Keyword::CASE
            | Keyword::EXPLAIN
            | Keyword::WITH
            | Keyword::BETWEEN
            | Keyword::PREPARE
            | Keyword::BEGIN
            | Keyword::IF
    )
}

/// Operators of MySQL and SQLite before which the parser copies its operand.
fn copies(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(word) => {
            matches!(word.keyword, Keyword::DIV | Keyword::REGEXP | Keyword::MATCH)
        }
        _ => false,
    }
}

/// Whether the token may put one more node between the root and a leaf.
fn chains(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::EOF
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Period => false,
        _ => true,
    }
}

fn suspicious_word(
    word: &Word,
    rest: &[TokenWithSpan],
    before: [Keyword; 2],
    dialect: Dialect,
) -> Option<Classification> {
    let locking = |clause| Some(Classification::unknown(Reason::Locking(clause)));
    match (before, word.keyword) {
        (_, Keyword::INTO) => Some(Classification::unknown(Reason::Into)),
        ([_, Keyword::FOR], Keyword::UPDATE) => locking("FOR UPDATE"),
        ([_, Keyword::FOR], Keyword::SHARE) => locking("FOR SHARE"),
        ([_, Keyword::FOR], Keyword::NO) => locking("FOR NO KEY UPDATE"),
        ([_, Keyword::FOR], Keyword::KEY) => locking("FOR KEY SHARE"),
        ([_, Keyword::LOCK], Keyword::IN) => locking("LOCK IN SHARE MODE"),
        _ if dialect == Dialect::MySql && word.value.starts_with('@') => {
            Some(Classification::session("a variable"))
        }
        _ if dialect == Dialect::MySql
            && function::needs_tight_parenthesis(&word.value)
            && is_called_after_blank(rest) =>
        {
            Some(Classification::unknown(Reason::Function(word.value.clone())))
        }
        _ => None,
    }
}

fn is_called_after_blank(rest: &[TokenWithSpan]) -> bool {
    let mut code = rest.iter().skip_while(|token| matches!(token.token, Token::Whitespace(_)));
    matches!(rest.first().map(|token| &token.token), Some(Token::Whitespace(_)))
        && code.next().is_some_and(|token| token.token == Token::LParen)
}
