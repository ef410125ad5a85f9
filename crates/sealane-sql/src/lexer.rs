//! A second opinion on where literals, quoted names and comments end.
//!
//! Everything else is judged on the parser's syntax tree, so a tree that is not
//! the server's would prove nothing: a quote that the parser escapes and the
//! server does not can hide a whole statement. This lexer knows nothing but
//! quotes, comments and semicolons, written down from the servers' manuals. Where
//! it and the parser's tokenizer differ in a single place, or where the answer
//! depends on a server setting, the text is not judged at all.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use crate::catalog::{Catalog, Purity};
use crate::dialect::Dialect;
use crate::finding::Reason;

/// A piece of text whose end both lexers have to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal,
    QuotedName,
    Comment,
    Semicolon,
}

/// A piece, and the line and column (both from 1, in characters) after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    piece: Piece,
    line: u64,
    column: u64,
}

/// Why `tokens` may not be what the server sees in `sql`, if that is so.
pub(crate) fn disagreement(
    sql: &str,
    tokens: &[TokenWithSpan],
    dialect: Dialect,
    catalog: &Catalog,
) -> Option<Reason> {
    if depends_on_escape_setting(sql, dialect) {
        return Some(Reason::Ambiguous("a backslash before a quote"));
    }
    let mut scan = Scan::new(sql, dialect, catalog);
    match scan.run() {
        Err(why) => Some(Reason::Ambiguous(why)),
        Ok(()) if !scan.marks.iter().copied().eq(tokens.iter().filter_map(mark)) => {
            Some(Reason::Ambiguous("quotes or comments"))
        }
        Ok(()) => scan.unknown_operator.map(|symbol| Reason::Operator(symbol.to_owned())),
    }
}

/// Whether a server setting (`standard_conforming_strings`,
/// `NO_BACKSLASH_ESCAPES`) or the continuation of an `E''` literal over lines
/// decides where a literal ends. `ESCAPE '\'` is common and taken as PostgreSQL's
/// default reads it.
fn depends_on_escape_setting(sql: &str, dialect: Dialect) -> bool {
    let quotes: &[char] = match dialect {
        Dialect::PostgreSql => &['\''],
        Dialect::MySql => &['\'', '"'],
        Dialect::Sqlite => return false,
    };
    sql.match_indices('\\').any(|(at, _)| {
        let rest = &sql[at + 1..];
        let escape_clause = dialect == Dialect::PostgreSql
            && rest.starts_with('\'')
            && sql[..at]
                .get(at.saturating_sub(8)..)
                .is_some_and(|before| before.eq_ignore_ascii_case("escape '"));
        rest.starts_with(quotes) && !escape_clause && rest[1..].contains(quotes)
    })
}

/// The parser's view of the pieces.
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
}

impl<'a> Scan<'a> {
    fn new(sql: &'a str, dialect: Dialect, catalog: &'a Catalog) -> Self {
        let (before, marks) = ([' '; 2], Vec::new());
        let unknown_operator = None;
        Self { rest: sql, dialect, catalog, line: 1, column: 1, before, marks, unknown_operator }
    }

    fn run(&mut self) -> Result<(), &'static str> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\'' | '"' if self.has_unicode_escapes() => return Err("a Unicode escape"),
                '\'' => self.quoted(Piece::Literal, '\'', self.escapes())?,
                '"' if self.dialect == Dialect::MySql => self.quoted(Piece::Literal, '"', true)?,
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
                ' ' | '\t' | '\n' | '\r' => self.take(),
                c if c.is_whitespace() || c.is_control() => return Err("an unusual blank"),
                _ => self.take(),
            }
        }
        Ok(())
    }

    /// Whether the quote that begins here is one of PostgreSQL's `U&'…'` or `U&"…"`,
    /// which the parser takes for an operator.
    fn has_unicode_escapes(&self) -> bool {
        self.dialect == Dialect::PostgreSql && matches!(self.before, ['u' | 'U', '&'])
    }

    /// Whether a backslash escapes in the literal that begins here.
    fn escapes(&self) -> bool {
        match self.dialect {
            Dialect::MySql => true,
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
                self.take();
            } else if c == quote {
                if !self.rest.starts_with(quote) {
                    self.mark(piece);
                    return Ok(());
                }
                self.take();
            }
        }
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
        // MySQL wants a blank or a control character after the dashes.
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
                // Some servers end the comment here and some do not.
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

    /// An operator of PostgreSQL, as long as the server takes it (manual, section
    /// 4.1.3). The parser may see several in it, and none of the user's.
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
            // A sign at its end belongs to what follows.
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

    /// A placeholder, or a dollar-quoted literal of PostgreSQL.
    fn dollar(&mut self) -> Result<(), &'static str> {
        match self.dialect {
            // MySQL 9 quotes with `$$`, older servers take it for a name.
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

    /// SQLite lets a variable's name go on with `::` and `(...)`.
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

/// PostgreSQL's own operators (`pg_operator` of 15 to 18), and three marks that are none.
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
