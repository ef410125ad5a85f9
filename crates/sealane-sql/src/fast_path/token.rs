//! The few kinds of tokens in plain statements.

use crate::dialect::Dialect;

/// A token of a plain statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A quoted name, without its quotes.
    Name(&'a str),
    Word(Word),
    Number(&'a str),
    Placeholder,
    Comma,
    Dot,
    Open,
    Close,
    Operator(Operator),
    End,
}

/// The operators that a plain statement may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `=`, `<>` and the like.
    Comparison,
    Plus,
    Minus,
    /// `*`: multiplies, or stands for all columns.
    Star,
    Remainder,
}

/// The unquoted words that a plain statement may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Select,
    Distinct,
    As,
    From,
    Join,
    Inner,
    /// `LEFT`, `RIGHT`.
    Side,
    Outer,
    On,
    Where,
    Group,
    Having,
    Order,
    By,
    Limit,
    Offset,
    And,
    Or,
    Not,
    In,
    Like,
    Between,
    Is,
    /// `NULL`, `TRUE`, `FALSE`.
    Constant,
    /// `ASC`, `DESC`.
    Direction,
    Count,
    Aggregate,
    Insert,
    Into,
    Values,
    Default,
    Update,
    Set,
    Delete,
    Returning,
    Conflict,
    Do,
    Nothing,
    Cast,
}

const WORDS: &[(&str, Word)] = &[
    ("SELECT", Word::Select),
    ("DISTINCT", Word::Distinct),
    ("AS", Word::As),
    ("FROM", Word::From),
    ("JOIN", Word::Join),
    ("INNER", Word::Inner),
    ("LEFT", Word::Side),
    ("RIGHT", Word::Side),
    ("OUTER", Word::Outer),
    ("ON", Word::On),
    ("WHERE", Word::Where),
    ("GROUP", Word::Group),
    ("HAVING", Word::Having),
    ("ORDER", Word::Order),
    ("BY", Word::By),
    ("LIMIT", Word::Limit),
    ("OFFSET", Word::Offset),
    ("AND", Word::And),
    ("OR", Word::Or),
    ("NOT", Word::Not),
    ("IN", Word::In),
    ("LIKE", Word::Like),
    ("BETWEEN", Word::Between),
    ("IS", Word::Is),
    ("NULL", Word::Constant),
    ("TRUE", Word::Constant),
    ("FALSE", Word::Constant),
    ("ASC", Word::Direction),
    ("DESC", Word::Direction),
    ("COUNT", Word::Count),
    ("SUM", Word::Aggregate),
    ("MIN", Word::Aggregate),
    ("MAX", Word::Aggregate),
    ("AVG", Word::Aggregate),
    ("INSERT", Word::Insert),
    ("INTO", Word::Into),
    ("VALUES", Word::Values),
    ("DEFAULT", Word::Default),
    ("UPDATE", Word::Update),
    ("SET", Word::Set),
    ("DELETE", Word::Delete),
    ("RETURNING", Word::Returning),
    ("CONFLICT", Word::Conflict),
    ("DO", Word::Do),
    ("NOTHING", Word::Nothing),
    ("CAST", Word::Cast),
];

/// The tokens of a plain statement; `None` at the first token of another kind.
pub(super) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
    dialect: Dialect,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(sql: &'a str, dialect: Dialect) -> Self {
        Self { sql, at: 0, dialect }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    pub(super) fn is_before_parenthesis(&self) -> bool {
        self.is_before('(')
    }

    /// Whether `mark` follows, directly or after blanks.
    pub(super) fn is_before(&self, mark: char) -> bool {
        self.rest().trim_start_matches(is_blank).starts_with(mark)
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.rest().trim_start_matches(is_blank);
        self.at = self.sql.len() - rest.len();
        let Some(first) = rest.bytes().next() else {
            return Some(Token::End);
        };
        let (token, length) = match first {
            b'(' => (Token::Open, 1),
            b')' => (Token::Close, 1),
            b',' => (Token::Comma, 1),
            b'.' => (Token::Dot, 1),
            b'"' if self.dialect != Dialect::MySql => quoted(rest, '"')?,
            b'`' if self.dialect != Dialect::PostgreSql => quoted(rest, '`')?,
            b'$' if self.dialect == Dialect::PostgreSql => numbered(rest)?,
            b'?' if self.dialect != Dialect::PostgreSql => (Token::Placeholder, 1),
            b'0'..=b'9' => number(rest)?,
            b'a'..=b'z' | b'A'..=b'Z' => word(rest)?,
            _ => operator(rest)?,
        };
        self.at += length;
        // A character directly behind the token would belong to it and make it another kind of
        // token.
        let ends = match token {
            Token::Name(_) | Token::Word(_) | Token::Number(_) | Token::Placeholder => {
                !self.rest().starts_with(|c: char| is_name_part(c) || matches!(c, '\'' | '"' | '`'))
            }
            _ => true,
        };
        ends.then_some(token)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '@' | '#' | '?') || !c.is_ascii()
}

fn quoted(rest: &str, quote: char) -> Option<(Token<'_>, usize)> {
    let name = &rest[1..rest[1..].find(quote)? + 1];
    // In some modes a server reads a backslash differently, and the classifier takes `/*!` for code
    // anywhere.
    let is_odd = |c: char| c.is_control() || matches!(c, '\\' | '*');
    let is_plain = !name.is_empty() && !name.contains(is_odd);
    is_plain.then_some((Token::Name(name), name.len() + 2))
}

fn numbered(rest: &str) -> Option<(Token<'_>, usize)> {
    let digits = digits(&rest[1..]);
    (digits > 0).then_some((Token::Placeholder, digits + 1))
}

fn number(rest: &str) -> Option<(Token<'_>, usize)> {
    let length = digits(rest);
    // Fractions are rare, so they go to the parser.
    (!rest[length..].starts_with('.')).then_some((Token::Number(&rest[..length]), length))
}

fn digits(rest: &str) -> usize {
    rest.bytes().take_while(u8::is_ascii_digit).count()
}

fn word(rest: &str) -> Option<(Token<'_>, usize)> {
    let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let word = &rest[..length];
    let listed = WORDS.iter().find(|(listed, _)| listed.eq_ignore_ascii_case(word));
    listed.map(|(_, word)| (Token::Word(*word), length))
}

/// Reads an operator to the length to which servers read it: `<->` is one operator and not three.
fn operator(rest: &str) -> Option<(Token<'_>, usize)> {
    let is_part = |byte: &u8| b"+-*/<>=~!@#%^&|?:".contains(byte);
    let length = rest.bytes().take_while(is_part).count();
    let operator = match &rest[..length] {
        "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=" => Operator::Comparison,
        "+" => Operator::Plus,
        "-" => Operator::Minus,
        "*" => Operator::Star,
        "%" => Operator::Remainder,
        _ => return None,
    };
    Some((Token::Operator(operator), length))
}
