//! Limits on size and nesting, checked before the text is parsed.
//!
//! `a OR b OR c …` builds a tree as deep as the chain is long. Such a tree overflows the stack when
//! it is dropped, even if nothing has walked over it. So chains and nesting are measured on the
//! tokens.
//!
//! The parser recurses, and it grows its stack only in some of its functions. So a deep text is
//! parsed on a stack of its own (`with_stack`), and a deeper text is refused without parsing.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::finding::Reason;

/// Longest text that is parsed: enough for an `IN` list with tens of thousands of values.
pub(crate) const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Deepest nesting of parentheses, brackets and braces.
const MAX_NESTING: usize = 48;
/// Most operators and keywords on one path from the root of the tree. Dropping a tree of this depth
/// needs less than 1 MiB of stack in a debug build; tests prove it.
const MAX_CHAIN: usize = 1_000;
/// The same limit for operators whose left side the parser copies, and with it the whole tree so
/// far. A copy takes more stack than a drop, and the copies together take quadratic time.
const MAX_COPIED_CHAIN: usize = 150;
/// Up to this nesting and chain length, a text is [`Shape::Flat`].
const FLAT_NESTING: usize = 6;
const FLAT_CHAIN: usize = 150;
/// Up to this number of joins, too.
const FLAT_JOINS: usize = 6;
/// Most joins in one statement. The parser takes `a JOIN b JOIN …` for nested joins, and needs far
/// more stack for each than for an operator: up to 100 KiB in a debug build. (MySQL joins at most 61
/// tables, SQLite 64.)
const MAX_JOINS: usize = 100;
/// Enough stack for a flat text in a debug build; half of what tokio gives its threads.
const FLAT_STACK_BYTES: usize = 1024 * 1024;
/// Enough stack for a text that reaches all limits at once in a debug build; tests prove it.
const DEEP_STACK_BYTES: usize = 32 * 1024 * 1024;
/// Most `EXPLAIN`s and `PREPARE`s in one text: each contains another statement.
const MAX_EXPLAINS: usize = 8;
/// Most statements in one text.
const MAX_STATEMENTS: usize = 100;
/// How deep the parser may recurse. This is the parser's own default; it grows the stack itself.
pub(crate) const PARSER_RECURSION: usize = 50;

/// Refuses a statement that contains other statements. The parser descends into each of them and
/// takes more stack for it than for a parenthesis. No read is a block of statements. A few nested
/// `EXPLAIN`s are allowed, because they may be reads.
fn statements_within(tokens: &[TokenWithSpan]) -> Option<Reason> {
    let mut before = None;
    let mut explains = 0;
    for token in tokens {
        let keyword = match &token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon => {
                before = None;
                continue;
            }
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        match (keyword, before) {
            (Keyword::CASE | Keyword::IF | Keyword::WHILE, None) | (Keyword::BEGIN, Some(_)) => {
                return Some(Reason::NotListed("a block of statements"));
            }
            (Keyword::EXPLAIN | Keyword::DESCRIBE | Keyword::PREPARE, _) => explains += 1,
            // In any other place, `DESC` belongs to `ORDER BY`.
            (Keyword::DESC, Some(Keyword::EXPLAIN | Keyword::DESCRIBE | Keyword::DESC))
            | (Keyword::DESC, Some(Keyword::ANALYZE | Keyword::VERBOSE | Keyword::EXTENDED)) => {
                explains += 1;
            }
            _ => {}
        }
        before = Some(keyword);
    }
    (explains > MAX_EXPLAINS).then_some(Reason::TooComplex("explanations of explanations"))
}

/// Measures how deep the tokens nest.
///
/// # Errors
/// The limit that the tokens exceed.
pub(crate) fn measure(tokens: &[TokenWithSpan]) -> Result<Shape, Reason> {
    if let Some(reason) = statements_within(tokens) {
        return Err(reason);
    }
    let mut shape = Shape::Flat;
    let mut levels = vec![Level::default()];
    let (mut statements, mut joins) = (1, 0);
    let max_chain = if tokens.iter().any(copies) { MAX_COPIED_CHAIN } else { MAX_CHAIN };
    // Sum over all open levels: at this token, the tree is at most this deep.
    let mut depth = 0_usize;
    for token in tokens {
        let Some(level) = levels.last_mut() else {
            break;
        };
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
                (depth, joins) = (0, 0);
                levels = vec![Level::default()];
            }
            // The elements of a list do not nest in each other.
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
            return Err(Reason::TooComplex("nesting"));
        }
        if depth > max_chain {
            return Err(Reason::TooComplex("chain of operators"));
        }
        joins += usize::from(is_join(&token.token));
        if joins > MAX_JOINS {
            return Err(Reason::TooComplex("number of joins"));
        }
        if statements > MAX_STATEMENTS {
            return Err(Reason::TooComplex("number of statements"));
        }
        if levels.len() > FLAT_NESTING || depth > FLAT_CHAIN || joins > FLAT_JOINS {
            shape = Shape::Deep;
        }
    }
    Ok(shape)
}

/// Roughly how much stack the parser needs for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// What people and ORMs usually write: a part of any thread's stack is enough.
    Flat,
    /// Anything deeper.
    Deep,
}

/// Runs `work`, which parses, walks and drops a tree of this shape, with enough stack.
///
/// The parser grows the stack itself, but only in some of its functions. Between two of these
/// functions it may use more stack than it kept in reserve. So a deep text gets its whole stack at
/// the start. Allocating a stack takes a few microseconds, and only the part that is used takes
/// memory.
pub(crate) fn with_stack<T>(shape: Shape, work: impl FnOnce() -> T) -> T {
    match shape {
        Shape::Flat => stacker::maybe_grow(FLAT_STACK_BYTES, DEEP_STACK_BYTES, work),
        Shape::Deep => stacker::grow(DEEP_STACK_BYTES, work),
    }
}

/// How many statements the text holds, separated by semicolons; empty ones do not count.
pub(crate) fn statements(tokens: &[TokenWithSpan]) -> usize {
    tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|part| {
            part.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        })
        .count()
}

/// Operators and clauses that are open at one level of parentheses.
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

fn is_join(token: &Token) -> bool {
    matches!(token, Token::Word(word) if matches!(word.keyword, Keyword::JOIN | Keyword::STRAIGHT_JOIN))
}

/// Operators of MySQL and SQLite whose left operand the parser copies.
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
