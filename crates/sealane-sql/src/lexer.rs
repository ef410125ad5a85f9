//! A second lexer that checks where literals, quoted names and comments end.
//!
//! Everything else is judged by the parser's syntax tree, so a tree that differs from the server's
//! would prove nothing. For example, a quote that the parser escapes and the server does not can
//! hide a whole statement. This lexer knows only quotes, comments and semicolons, and follows the
//! servers' manuals. If it differs from the parser's tokenizer in a single place, or if the answer
//! depends on a server setting, the text is not judged at all.

mod reading;

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use crate::catalog::{Catalog, Purity};
use crate::dialect::Dialect;
use crate::finding::Reason;
use reading::{Others, Reading};

/// A piece of text; both lexers must agree on its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal,
    QuotedName,
    Comment,
    Semicolon,
}

/// A piece, with the line and column (both from 1, in characters) after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    piece: Piece,
    line: u64,
    column: u64,
}

/// The reason to refuse a text in which a backslash may be read in two ways.
pub(crate) const BACKSLASH: Reason = Reason::Ambiguous("a backslash before a quote");

/// Compares `tokens` with what the server sees in `sql`. If a server in another mode would read
/// `sql` differently, returns a text with that reading, which must be judged as well.
///
/// # Errors
/// The reason why the server may see other tokens.
pub(crate) fn compare(
    sql: &str,
    tokens: &[TokenWithSpan],
    dialect: Dialect,
    catalog: &Catalog,
) -> Result<Option<String>, Reason> {
    if dialect == Dialect::PostgreSql && depends_on_escape_setting(sql) {
        return Err(BACKSLASH);
    }
    let mut scan = Scan::new(sql, dialect, catalog);
    scan.run().map_err(Reason::Ambiguous)?;
    if !scan.marks.iter().copied().eq(tokens.iter().filter_map(mark)) {
        return Err(Reason::Ambiguous("quotes or comments"));
    }
    if let Some(symbol) = scan.unknown_operator {
        return Err(Reason::Operator(symbol.to_owned()));
    }
    if !(dialect == Dialect::MySql && scan.escaped_quote) {
        return Ok(None);
    }
    match reading::others(sql, &scan.marks, catalog) {
        Others::None => Ok(None),
        Others::Text(other) => Ok(Some(other)),
        Others::Unclear => Err(BACKSLASH),
    }
}

/// Whether the end of a PostgreSQL literal depends on `standard_conforming_strings` or on an `E''`
/// literal that continues on another line. `ESCAPE '\'` is common, and is read as PostgreSQL reads
/// it by default.
fn depends_on_escape_setting(sql: &str) -> bool {
    sql.match_indices('\\').any(|(at, _)| {
        let rest = &sql[at + 1..];
        let escape_clause = sql[..at]
            .get(at.saturating_sub(8)..)
            .is_some_and(|before| before.eq_ignore_ascii_case("escape '"));
        rest.starts_with('\'') && !escape_clause && rest[1..].contains('\'')
    })
}

/// The piece that a token of the parser represents, if any.
fn mark(token: &TokenWithSpan) -> Option<Mark> {
    let span = token.span;
    let piece = match &token.token {
        Token::SemiColon => Piece::Semicolon,
        Token::Word(word) if word.quote_style.is_some() => Piece::QuotedName,
        Token::Whitespace(
            Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_),
        ) => Piece::Comment,
        // `0x1F` carries no quotes; `X'1F'` does.
        Token::HexStringLiteral(digits)
            if span.end.column.saturating_sub(span.start.column) <= digits.len() as u64 + 2 =>
        {
            return None;
        }
        Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::QuoteDelimitedStringLiteral(_)
        | Token::NationalQuoteDelimitedStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_) => Piece::Literal,
        _ => return None,
    };
    Some(Mark { piece, line: span.end.line, column: span.end.column })
}

/// One pass over the text.
struct Scan<'a> {
    rest: &'a str,
    dialect: Dialect,
    catalog: &'a Catalog,
    line: u64,
    column: u64,
    /// The two characters before the current one, newest last.
    before: [char; 2],
    marks: Vec<Mark>,
    /// The first operator that is neither the server's own nor known to be pure.
    unknown_operator: Option<&'a str>,
    /// How MySQL reads a backslash.
    reading: Reading,
    /// Whether a backslash kept a quote from ending its literal.
    escaped_quote: bool,
    /// Whether the scan stopped at a place where every server refuses the statement.
    is_refused_here: bool,
}

impl<'a> Scan<'a> {
    fn new(sql: &'a str, dialect: Dialect, catalog: &'a Catalog) -> Self {
        Self {
            rest: sql,
            dialect,
            catalog,
            line: 1,
            column: 1,
            before: [' '; 2],
            marks: Vec::new(),
            unknown_operator: None,
            reading: Reading::Escapes,
            escaped_quote: false,
            is_refused_here: false,
        }
    }

    fn run(&mut self) -> Result<(), &'static str> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\'' | '"' if self.has_unicode_escapes() => return Err("a Unicode escape"),
                '\'' => self.quoted(Piece::Literal, '\'', self.escapes())?,
                '"' if self.dialect == Dialect::MySql => {
                    self.quoted(Piece::Literal, '"', self.reading.escapes_in('"'))?;
                }
                '"' => self.quoted(Piece::QuotedName, '"', false)?,
                '`' if self.dialect != Dialect::PostgreSql => {
                    self.quoted(Piece::QuotedName, '`', false)?;
                }
                '[' if self.dialect == Dialect::Sqlite => self.bracketed()?,
                '#' if self.dialect == Dialect::MySql => self.line_comment()?,
                '-' if self.starts_line_comment() => self.line_comment()?,
                '/' if self.rest.starts_with("/*") => self.block_comment()?,
                '$' => self.dollar()?,
                '@' | ':' if self.dialect == Dialect::Sqlite => self.sqlite_variable()?,
                ';' => {
                    self.take();
                    self.mark(Piece::Semicolon);
                }
                _ if self.dialect == Dialect::PostgreSql && is_operator_part(c) => {
                    self.operator();
                }
                '\\' if self.dialect == Dialect::MySql && !self.rest.starts_with("\\N") => {
                    self.is_refused_here = true;
                    return Err("a backslash outside of quotes");
                }
                ' ' | '\t' | '\n' | '\r' => self.take(),
                c if c.is_whitespace() || c.is_control() => return Err("an unusual blank"),
                _ => self.take(),
            }
        }
        Ok(())
    }

    /// Whether the quote here begins PostgreSQL's `U&'…'` or `U&"…"`, whose `&` the parser takes
    /// for an operator.
    fn has_unicode_escapes(&self) -> bool {
        self.dialect == Dialect::PostgreSql && matches!(self.before, ['u' | 'U', '&'])
    }

    /// Whether a backslash escapes in the literal that begins here.
    fn escapes(&self) -> bool {
        match self.dialect {
            Dialect::MySql => self.reading.escapes_in('\''),
            Dialect::Sqlite => false,
            Dialect::PostgreSql => {
                matches!(self.before[1], 'e' | 'E') && !is_name_part(self.before[0])
            }
        }
    }

    fn quoted(&mut self, piece: Piece, quote: char, escapes: bool) -> Result<(), &'static str> {
        self.take();
        while let Some(c) = self.rest.chars().next() {
            self.take();
            if c == '\0' {
                return Err("a null character");
            } else if escapes && c == '\\' {
                self.escaped_quote |= self.rest.starts_with(quote);
                self.take();
            } else if c == quote {
                if !self.rest.starts_with(quote) {
                    self.mark(piece);
                    return Ok(());
                }
                self.take();
            }
        }
        self.is_refused_here = true;
        Err("an open quote")
    }

    fn bracketed(&mut self) -> Result<(), &'static str> {
        self.skip_past("]", "an open bracket")?;
        self.mark(Piece::QuotedName);
        Ok(())
    }

    fn starts_line_comment(&self) -> bool {
        let Some(after) = self.rest.strip_prefix("--") else {
            return false;
        };
        // MySQL requires a blank or a control character after the dashes.
        self.dialect != Dialect::MySql
            || after.chars().next().is_none_or(|c| c.is_ascii_whitespace() || c.is_control())
    }

    fn line_comment(&mut self) -> Result<(), &'static str> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\n' => break,
                '\r' if self.rest.starts_with("\r\n") => match self.dialect {
                    Dialect::PostgreSql => break,
                    Dialect::MySql | Dialect::Sqlite => {}
                },
                // Some servers end the comment here, others do not.
                '\r' => return Err("a carriage return in a comment"),
                c if c != '\t' && c.is_control() => return Err("a control character"),
                _ => {}
            }
            self.take();
        }
        self.mark(Piece::Comment);
        Ok(())
    }

    fn block_comment(&mut self) -> Result<(), &'static str> {
        let mut depth = 0_usize;
        loop {
            let nests = self.dialect == Dialect::PostgreSql || depth == 0;
            if nests && self.rest.starts_with("/*") {
                depth += 1;
                self.take();
                self.take();
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take();
                self.take();
                if depth == 0 {
                    self.mark(Piece::Comment);
                    return Ok(());
                }
            } else if self.rest.is_empty() || self.rest.starts_with('\0') {
                return Err("an open comment");
            } else {
                self.take();
            }
        }
    }

    /// Reads an operator of PostgreSQL to the length to which the server reads it (manual, section
    /// 4.1.3). The parser may split it into several operators and so miss a user's operator.
    fn operator(&mut self) {
        let mut length = 0;
        while self.rest[length..].starts_with(is_operator_part)
            && !self.rest[length..].starts_with("--")
            && !self.rest[length..].starts_with("/*")
        {
            length += 1;
        }
        let run: &'a str = &self.rest[..length];
        let is_special = |c: char| "~!@#%^&|`?".contains(c);
        let symbol = if run.contains(is_special) {
            run
        } else {
            // A sign at the end belongs to the operand that follows.
            let kept = run.trim_end_matches(['+', '-']);
            if kept.is_empty() { &run[..1] } else { kept }
        };
        let is_known =
            POSTGRES_OPERATORS.contains(&symbol) || self.catalog.operator(symbol) == Purity::Pure;
        for _ in 0..symbol.len() {
            self.take();
        }
        if !is_known {
            self.unknown_operator.get_or_insert(symbol);
        }
    }

    /// A placeholder, or a dollar-quoted literal in PostgreSQL.
    fn dollar(&mut self) -> Result<(), &'static str> {
        match self.dialect {
            // MySQL 9 quotes with `$$`; older servers read it as a name.
            Dialect::MySql if self.rest.starts_with("$$") => Err("two dollar signs"),
            Dialect::MySql => {
                self.take();
                Ok(())
            }
            Dialect::Sqlite => self.sqlite_variable(),
            Dialect::PostgreSql => {
                let after = &self.rest[1..];
                let length = after.find(|c| !is_name_part(c) || c == '$').unwrap_or(after.len());
                let is_quote = after[length..].starts_with('$')
                    && !after.starts_with(|c: char| c.is_ascii_digit())
                    && !is_name_part(self.before[1]);
                if !is_quote {
                    self.take();
                    return Ok(());
                }
                let tag = &self.rest[..length + 2];
                for _ in tag.chars() {
                    self.take();
                }
                self.skip_past(tag, "an open dollar quote")?;
                self.mark(Piece::Literal);
                Ok(())
            }
        }
    }

    /// In SQLite a variable's name may continue with `::` and `(...)`.
    fn sqlite_variable(&mut self) -> Result<(), &'static str> {
        self.take();
        while self.rest.starts_with(is_name_part) {
            self.take();
        }
        if self.rest.starts_with('(') || self.rest.starts_with("::") {
            return Err("a variable with a suffix");
        }
        Ok(())
    }

    fn skip_past(&mut self, end: &str, open: &'static str) -> Result<(), &'static str> {
        let length = self.rest.find(end).ok_or(open)? + end.len();
        let stop = self.rest.len() - length;
        while self.rest.len() > stop {
            if self.rest.starts_with('\0') {
                return Err("a null character");
            }
            self.take();
        }
        Ok(())
    }

    fn take(&mut self) {
        let mut chars = self.rest.chars();
        if let Some(c) = chars.next() {
            self.rest = chars.as_str();
            self.before = [self.before[1], c];
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
    }

    fn mark(&mut self, piece: Piece) {
        self.marks.push(Mark { piece, line: self.line, column: self.column });
    }
}

fn is_operator_part(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

/// PostgreSQL's own operators (`pg_operator` of 15 to 18), and three marks that are not operators.
const POSTGRES_OPERATORS: &[&str] = &[
    "!!", "!=", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "%", "&", "&&", "&<",
    "&<|", "&>", "*", "*<", "*<=", "*<>", "*=", "*>", "*>=", "+", "-", "->", "->>", "-|-", "/",
    "<", "<->", "<<", "<<=", "<<|", "<=", "<>", "<@", "<^", "=", "=>", ">", ">=", ">>", ">>=",
    ">^", "?", "?#", "?&", "?-", "?-|", "?|", "?||", "@", "@-@", "@>", "@?", "@@", "@@@", "^",
    "^@", "|", "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~", "~=", "~>=~", "~>~",
    "~~", "~~*",
];

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}
