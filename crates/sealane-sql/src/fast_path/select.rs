//! Proves plain SELECTs to be reads without a syntax tree.
//!
//! Most statements of an ORM consist only of a few dozen harmless keywords, quoted names,
//! placeholders and operators. This file knows their grammar and builds nothing: it reads the text
//! once, in a tenth of the time that a tree takes. This matters for texts that come only once, such
//! as `IN` lists of every length.
//!
//! The grammar is a subset of the parser's. So a read here is also a read for the parser, with the
//! same tables and costs; `differential.rs` searches for a text where the two differ. The parser
//! handles everything outside the grammar: unquoted names, calls except aggregates, literals,
//! comments, casts, subqueries, a second statement.
//!
//! ```text
//! select     = SELECT [DISTINCT] item {, item} FROM table {join} [WHERE expression]
//!              [GROUP BY expression {, expression}] [HAVING expression]
//!              [ORDER BY key {, key}] [LIMIT rows] [OFFSET rows]
//! item       = * | name . [name .] * | expression [[AS] name]
//! table      = name [. name] [[AS] name]
//! join       = [INNER | (LEFT | RIGHT) [OUTER]] JOIN table ON expression
//! key        = expression [ASC | DESC]
//! rows       = number | placeholder
//! expression = {NOT} operand {operation}
//! operation  = (AND | OR) {NOT} operand | (= | < | … | + | - | * | %) operand
//!            | [NOT] LIKE operand | [NOT] IN ( expression {, expression} )
//!            | [NOT] BETWEEN sum AND sum | IS [NOT] constant | IS [NOT] simple (SQLite)
//! sum        = operand {(+ | - | * | %) operand}
//! operand    = {+ | -} (simple | aggregate | ( expression {, expression} ))
//! aggregate  = COUNT(*) | (COUNT | SUM | …)( [DISTINCT] expression {, expression} )
//! simple     = constant | number | placeholder | name {. name}
//! ```

use super::token::{Operator, Token, Tokens, Word};
use crate::bounds::MAX_TEXT_BYTES;
use crate::catalog::{Catalog, Purity};
use crate::classification::Classification;
use crate::dialect::Dialect;
use crate::function;
use crate::relation;
use crate::table_name::kept;
use sealane_core::Limit;
use sealane_core::TableName;

/// The parser gives up at a depth of 50 calls, and it needs some of these for the statement itself.
const MAX_HEIGHT: u32 = 40;
/// A text with more keywords and operators goes to the parser, which limits their number.
const MAX_WORDS: usize = 200;

/// The classification of `sql` if it is a plain SELECT, equal to the one from the parser's tree.
pub(crate) fn classify(sql: &str, dialect: Dialect, catalog: &Catalog) -> Option<Classification> {
    if sql.len() > MAX_TEXT_BYTES || catalog.has_active_operators() {
        return None;
    }
    let mut tokens = Tokens::new(sql, dialect);
    let token = tokens.next()?;
    let mut select =
        Select { dialect, catalog, tokens, token, result: Classification::new(), words: 0 };
    select.whole()?;
    Some(select.result)
}

/// The part of the text understood so far. Each method consumes one part of the grammar, and
/// returns `None` if the text continues differently.
struct Select<'a> {
    dialect: Dialect,
    catalog: &'a Catalog,
    tokens: Tokens<'a>,
    /// The next token, already read from `tokens`.
    token: Token<'a>,
    result: Classification,
    words: usize,
}

impl<'a> Select<'a> {
    fn whole(&mut self) -> Option<()> {
        self.expect(Word::Select)?;
        self.result.cost.grouping = self.skip(Word::Distinct)?;
        self.items()?;
        self.expect(Word::From)?;
        self.table()?;
        self.joins()?;
        if self.skip(Word::Where)? {
            self.result.cost.filtered = true;
            self.expression(0)?;
        }
        if self.skip(Word::Group)? {
            self.result.cost.grouping = true;
            self.expect(Word::By)?;
            self.expressions(0)?;
        }
        if self.skip(Word::Having)? {
            self.expression(0)?;
        }
        if self.skip(Word::Order)? {
            self.result.cost.sorting = true;
            self.expect(Word::By)?;
            self.keys()?;
        }
        if self.skip(Word::Limit)? {
            self.result.cost.limit = self.rows()?;
        }
        if self.skip(Word::Offset)? {
            self.rows()?;
        }
        must(self.token == Token::End)?;
        let (cost, tables) = (&mut self.result.cost, &mut self.result.tables);
        cost.unbounded_count &= !cost.filtered;
        tables.sort();
        self.result.table_set = self.catalog.table_set_of_read(tables);
        Some(())
    }

    fn items(&mut self) -> Option<()> {
        loop {
            if self.token == Token::Operator(Operator::Star) {
                self.step()?;
            } else if !self.columns_of_table()? {
                self.operations(0)?;
                self.alias()?;
            }
            if !self.skip_comma()? {
                return Some(());
            }
        }
    }

    /// Consumes the first operand of an item. Returns true if the whole item is `name.*`.
    fn columns_of_table(&mut self) -> Option<bool> {
        let Token::Name(_) = self.token else {
            self.prefixes(0)?;
            return Some(false);
        };
        let is_wildcard = self.column()?;
        Some(is_wildcard)
    }

    fn alias(&mut self) -> Option<()> {
        let is_told = self.skip(Word::As)?;
        match self.token {
            Token::Name(_) => {
                self.step()?;
                // A parenthesis here would begin an alias with columns.
                must(self.token != Token::Open)
            }
            _ => must(!is_told),
        }
    }

    fn table(&mut self) -> Option<()> {
        let first = self.name()?;
        let (schema, name) = match self.token {
            Token::Dot => {
                self.step()?;
                (Some(first), self.name()?)
            }
            _ => (None, first),
        };
        // A dot would begin a name of three parts, a parenthesis a function call.
        must(!matches!(self.token, Token::Dot | Token::Open))?;
        self.reads(schema, name)?;
        self.alias()
    }

    /// Records a table that the statement reads; gives up if the tree would record a finding for
    /// it.
    fn reads(&mut self, schema: Option<&str>, name: &str) -> Option<()> {
        let folds = |name: &str| match self.dialect {
            Dialect::Sqlite => name.to_ascii_lowercase(),
            Dialect::PostgreSql | Dialect::MySql => kept(name, self.dialect).to_owned(),
        };
        let table = TableName::new(schema.map(folds).as_deref(), &folds(name));
        let is_pragma = self.dialect == Dialect::Sqlite && table.name().starts_with("pragma_");
        let is_refused = relation::refusal(&table, self.dialect).is_some()
            || self.catalog.refusal(&table).is_some();
        must(!is_pragma && !is_refused)?;
        let tables = &mut self.result.tables;
        tables.complete &= !self.catalog.hides_tables(&table);
        for below in self.catalog.reads_through(&table) {
            tables.add_read(below.clone());
        }
        tables.add_read(table);
        Some(())
    }

    fn joins(&mut self) -> Option<()> {
        loop {
            match self.token {
                Token::Word(Word::Join) => {}
                Token::Word(Word::Inner) => self.step()?,
                Token::Word(Word::Side) => {
                    self.step()?;
                    self.skip(Word::Outer)?;
                }
                _ => return Some(()),
            }
            self.expect(Word::Join)?;
            let joins = &mut self.result.cost.joins;
            *joins = joins.checked_add(1)?;
            self.table()?;
            self.expect(Word::On)?;
            self.expression(0)?;
        }
    }

    fn keys(&mut self) -> Option<()> {
        loop {
            self.expression(0)?;
            self.skip(Word::Direction)?;
            if !self.skip_comma()? {
                return Some(());
            }
        }
    }

    fn rows(&mut self) -> Option<Limit> {
        let rows = match self.token {
            Token::Number(digits) => digits.parse().map_or(Limit::Computed, Limit::Rows),
            Token::Placeholder => Limit::Computed,
            _ => return None,
        };
        self.step()?;
        Some(rows)
    }

    fn expressions(&mut self, height: u32) -> Option<()> {
        loop {
            self.expression(height)?;
            if !self.skip_comma()? {
                return Some(());
            }
        }
    }

    /// `height` is the parser's depth at the start of the expression.
    fn expression(&mut self, height: u32) -> Option<()> {
        self.prefixes(height)?;
        self.operations(height)
    }

    /// An operand with all the `NOT`s before it.
    fn prefixes(&mut self, mut height: u32) -> Option<()> {
        while self.skip(Word::Not)? {
            height += 1;
        }
        self.operand(height)
    }

    /// The operators and operands after the first operand of an expression.
    fn operations(&mut self, height: u32) -> Option<()> {
        let mut open = Open::default();
        loop {
            let is_negated = match self.token {
                Token::Word(Word::Not) => {
                    self.step()?;
                    true
                }
                _ => false,
            };
            let token = self.token;
            let binds = binding(token).filter(|_| !is_negated || may_be_negated(token));
            let Some(binding) = binds else {
                return must(!is_negated);
            };
            open.enter(binding);
            let height = height + open.height();
            self.step()?;
            match token {
                Token::Word(Word::And | Word::Or) => self.prefixes(height)?,
                Token::Word(Word::In) => self.parenthesis(height)?,
                Token::Word(Word::Is) => self.behind_is(height)?,
                Token::Word(Word::Between) => {
                    self.sum(height)?;
                    self.expect(Word::And)?;
                    self.sum(height)?;
                }
                _ => self.operand(height)?,
            }
        }
    }

    /// Operands that are added or multiplied. An operator that binds less tightly would end this
    /// side of `BETWEEN`.
    fn sum(&mut self, height: u32) -> Option<()> {
        self.operand(height)?;
        while matches!(binding(self.token), Some(Binding::Sum | Binding::Product)) {
            self.step()?;
            // A sum and a product within it may be open here.
            self.operand(height + 2)?;
        }
        Some(())
    }

    fn behind_is(&mut self, height: u32) -> Option<()> {
        must(height <= MAX_HEIGHT)?;
        self.skip(Word::Not)?;
        let is_value = self.dialect == Dialect::Sqlite;
        match self.token {
            Token::Word(Word::Constant) => self.step()?,
            Token::Name(_) if is_value => must(!self.column()?)?,
            Token::Placeholder | Token::Number(_) if is_value => self.step()?,
            _ => return None,
        }
        must(self.token != Token::Open)
    }

    fn operand(&mut self, mut height: u32) -> Option<()> {
        while let Token::Operator(Operator::Plus | Operator::Minus) = self.token {
            height += 1;
            self.step()?;
        }
        must(height <= MAX_HEIGHT)?;
        match self.token {
            Token::Name(_) => {
                let is_wildcard = self.column()?;
                must(!is_wildcard)
            }
            Token::Number(_) | Token::Placeholder | Token::Word(Word::Constant) => {
                self.step()?;
                must(self.token != Token::Open)
            }
            Token::Open => self.parenthesis(height),
            Token::Word(word @ (Word::Count | Word::Aggregate)) => self.aggregate(word, height),
            _ => None,
        }
    }

    /// A value in parentheses, a row of values, or a list.
    fn parenthesis(&mut self, height: u32) -> Option<()> {
        must(self.token == Token::Open)?;
        self.step()?;
        self.expressions(height + 1)?;
        self.close()
    }

    fn aggregate(&mut self, word: Word, height: u32) -> Option<()> {
        // With a blank before the parenthesis, MySQL may take the name for a stored function.
        must(self.tokens.rest().starts_with('('))?;
        let names = if word == Word::Count { &["count"] } else { AGGREGATES };
        let is_own = |name| self.catalog.function(None, name) == Purity::Unknown;
        must(names.iter().copied().all(is_own))?;
        let cost = &mut self.result.cost;
        cost.aggregates = cost.aggregates.checked_add(1)?;
        cost.unbounded_count |= word == Word::Count;
        self.step()?;
        self.step()?;
        if word == Word::Count && self.token == Token::Operator(Operator::Star) {
            self.step()?;
        } else {
            self.skip(Word::Distinct)?;
            self.expressions(height + 1)?;
        }
        self.close()
    }

    fn close(&mut self) -> Option<()> {
        must(self.token == Token::Close)?;
        self.step()?;
        // A dot would read a field of the value; a second parenthesis is not in the grammar.
        must(!matches!(self.token, Token::Dot | Token::Open))
    }

    /// A column, perhaps with table and schema. Returns true if it is `name.*`.
    fn column(&mut self) -> Option<bool> {
        let mut name = self.name()?;
        let mut parts = 1;
        while self.token == Token::Dot {
            self.step()?;
            if self.token == Token::Operator(Operator::Star) {
                self.step()?;
                return Some(true);
            }
            name = self.name()?;
            parts += 1;
        }
        // A parenthesis would make the name a function call.
        must(self.token != Token::Open)?;
        if parts > 1 && self.dialect == Dialect::PostgreSql {
            self.attribute(kept(name, self.dialect))?;
        }
        Some(false)
    }

    /// The name after the last dot: a column, or a function call if no column has this name.
    fn attribute(&mut self, name: &str) -> Option<()> {
        // A call may read any table.
        self.result.tables.complete &= !self.catalog.may_be_call(name);
        must(!function::is_active_attribute(name, self.dialect, self.catalog))
    }

    fn name(&mut self) -> Option<&'a str> {
        let Token::Name(name) = self.token else {
            return None;
        };
        self.step()?;
        Some(name)
    }

    fn expect(&mut self, word: Word) -> Option<()> {
        let is_next = self.skip(word)?;
        must(is_next)
    }

    /// Consumes `word` if it is the next token.
    fn skip(&mut self, word: Word) -> Option<bool> {
        let is_next = self.token == Token::Word(word);
        if is_next {
            self.step()?;
        }
        Some(is_next)
    }

    fn skip_comma(&mut self) -> Option<bool> {
        let is_next = self.token == Token::Comma;
        if is_next {
            self.step()?;
        }
        Some(is_next)
    }

    /// Reads the next token.
    fn step(&mut self) -> Option<()> {
        self.words += usize::from(matches!(self.token, Token::Word(_) | Token::Operator(_)));
        self.token = self.tokens.next()?;
        must(self.words <= MAX_WORDS)
    }
}

fn must(holds: bool) -> Option<()> {
    holds.then_some(())
}

/// How tightly an operator binds: later variants bind more tightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binding {
    Or = 1,
    And = 2,
    Comparison = 4,
    Sum = 8,
    Product = 16,
}

/// The operator that `token` is when it follows a value.
fn binding(token: Token<'_>) -> Option<Binding> {
    Some(match token {
        Token::Word(Word::Or) => Binding::Or,
        Token::Word(Word::And) => Binding::And,
        Token::Word(Word::Is | Word::In | Word::Like | Word::Between)
        | Token::Operator(Operator::Comparison) => Binding::Comparison,
        Token::Operator(Operator::Plus | Operator::Minus) => Binding::Sum,
        Token::Operator(Operator::Star | Operator::Remainder) => Binding::Product,
        _ => return None,
    })
}

fn may_be_negated(token: Token<'_>) -> bool {
    matches!(token, Token::Word(Word::In | Word::Like | Word::Between))
}

/// The operators whose right side is still incomplete. Each is one more call on the parser's stack.
#[derive(Default)]
struct Open(u8);

impl Open {
    fn enter(&mut self, binding: Binding) {
        let bit = binding as u8;
        self.0 = self.0 & (bit - 1) | bit;
    }

    fn height(&self) -> u32 {
        // Servers differ in how comparisons bind each other: two of them may be open.
        let comparisons = u32::from(self.0 & Binding::Comparison as u8 != 0);
        self.0.count_ones() + comparisons
    }
}

const AGGREGATES: &[&str] = &["sum", "min", "max", "avg"];
