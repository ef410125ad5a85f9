//! Plain SELECTs, proved without a tree.
//!
//! Most statements of an ORM are made of a few dozen harmless keywords, quoted
//! names, placeholders and operators, and of nothing else. Of such tokens no
//! server can make anything but a read, however it puts them together, so nobody
//! has to: one pass over the bytes is the proof, in a tenth of the time that a
//! tree takes. That matters for texts that come once, such as `IN` lists of every
//! length.
//!
//! Whatever is not on the lists below is left to the parser: any unquoted name, any
//! call but an aggregate, literals, comments, casts, subqueries, a second statement.

pub(crate) mod token;

use crate::bounds::MAX_TEXT_BYTES;
use crate::catalog::{Catalog, Purity};
use crate::classification::Classification;
use crate::cost::{Cost, Limit};
use crate::dialect::Dialect;
use crate::function;
use crate::relation;
use crate::table_name::{TableName, kept};
use token::{Token, Tokens, Word};

/// Deeper parentheses, and more keywords and operators, are the parser's to judge.
const MAX_DEPTH: usize = 30;
const MAX_WORDS: usize = 200;

/// The classification of `sql` if it is a plain SELECT; the same as the parser's.
pub(crate) fn classify(sql: &str, dialect: Dialect, catalog: &Catalog) -> Option<Classification> {
    if sql.len() > MAX_TEXT_BYTES || catalog.has_active_operators() {
        return None;
    }
    let mut tokens = Tokens::new(sql, dialect);
    if tokens.next()? != Token::Word(Word::Select) {
        return None;
    }
    let mut select = Select::new(dialect, catalog);
    while let Some(token) = tokens.next() {
        if token == Token::End {
            return select.finish();
        }
        let is_call = tokens.rest().starts_with('(');
        select.take(token, is_call, tokens.is_before_parenthesis())?;
    }
    None
}

/// The parts of a SELECT, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Clause {
    Select,
    From,
    Where,
    Group,
    Having,
    Order,
    Limit,
    Offset,
}

/// What was understood so far.
struct Select<'a> {
    dialect: Dialect,
    catalog: &'a Catalog,
    result: Classification,
    clause: Clause,
    before: Token<'a>,
    depth: usize,
    words: usize,
    counts: bool,
    /// A table's name, as far as it was read.
    table: Option<(Option<&'a str>, &'a str)>,
}

impl<'a> Select<'a> {
    fn new(dialect: Dialect, catalog: &'a Catalog) -> Self {
        Self {
            dialect,
            catalog,
            result: Classification::new(),
            clause: Clause::Select,
            before: Token::Word(Word::Select),
            depth: 0,
            words: 0,
            counts: false,
            table: None,
        }
    }

    /// `None` if the token is not one that a plain SELECT has at this place. A
    /// parenthesis follows it at once, or behind a blank.
    fn take(&mut self, token: Token<'a>, is_call: bool, before_parenthesis: bool) -> Option<()> {
        if self.clause >= Clause::Limit {
            self.count_of_rows(token)?;
        }
        if self.before == Token::Dot {
            self.must(matches!(token, Token::Name(_) | Token::Operator))?;
        }
        match token {
            Token::Name(name) => {
                // A call, or an alias with columns.
                self.must(!before_parenthesis)?;
                if self.before == Token::Dot {
                    self.attribute(kept(name, self.dialect))?;
                }
                self.name(name)?;
            }
            Token::Word(word) => self.word(word, is_call, before_parenthesis)?,
            Token::Open => {
                self.depth += 1;
                self.must(groups_after(self.before) && self.depth <= MAX_DEPTH)?;
            }
            Token::Close => self.depth = self.depth.checked_sub(1)?,
            // Several tables are joined with it.
            Token::Comma => self.must(self.clause != Clause::From || self.depth > 0)?,
            Token::Operator => self.words += 1,
            Token::Dot => self.must(matches!(self.before, Token::Name(_)))?,
            Token::Number(_) | Token::Placeholder | Token::End => {}
        }
        self.before = token;
        self.must(self.words <= MAX_WORDS)
    }

    fn must(&self, holds: bool) -> Option<()> {
        holds.then_some(())
    }

    /// Behind a dot: a column, or a call if there is none of that name.
    fn attribute(&mut self, name: &str) -> Option<()> {
        // It may read any table.
        self.result.tables.complete &= !self.catalog.may_be_call(name);
        self.must(!function::is_active_attribute(name, self.dialect, self.catalog))
    }

    fn name(&mut self, name: &'a str) -> Option<()> {
        match (self.before, self.table) {
            (Token::Word(Word::From | Word::Join), None) => self.table = Some((None, name)),
            (Token::Word(Word::From | Word::Join), Some(_)) => return None,
            (Token::Dot, Some((None, schema))) => self.table = Some((Some(schema), name)),
            // Three parts.
            (Token::Dot, Some((Some(_), _))) => return None,
            // An alias, or a column.
            (_, Some(_)) => self.end_of_table()?,
            (_, None) => {}
        }
        Some(())
    }

    fn end_of_table(&mut self) -> Option<()> {
        let Some((schema, name)) = self.table.take() else {
            return Some(());
        };
        let folds = |name: &str| match self.dialect {
            Dialect::Sqlite => name.to_ascii_lowercase(),
            Dialect::PostgreSql | Dialect::MySql => kept(name, self.dialect).to_owned(),
        };
        let table = TableName::new(schema.map(folds).as_deref(), &folds(name));
        let is_pragma = self.dialect == Dialect::Sqlite && table.name().starts_with("pragma_");
        let is_refused = relation::refusal(&table, self.dialect).is_some()
            || self.catalog.refusal(&table).is_some();
        self.must(!is_pragma && !is_refused)?;
        self.result.tables.complete &= !self.catalog.hides_tables(&table);
        for below in self.catalog.reads_through(&table) {
            self.result.tables.add_read(below.clone());
        }
        self.result.tables.add_read(table);
        Some(())
    }

    fn word(&mut self, word: Word, is_call: bool, before_parenthesis: bool) -> Option<()> {
        self.words += 1;
        if word != Word::As {
            self.end_of_table()?;
        }
        let cost = &mut self.result.cost;
        match word {
            Word::Select
            | Word::Insert
            | Word::Into
            | Word::Values
            | Word::Default
            | Word::Update
            | Word::Set
            | Word::Delete
            | Word::Returning
            | Word::Conflict
            | Word::Do
            | Word::Nothing
            | Word::Cast => return None,
            Word::Distinct => cost.grouping |= self.before == Token::Word(Word::Select),
            Word::As | Word::Constant => self.must(!before_parenthesis)?,
            Word::Not => {}
            Word::Logic => self.must(self.is_behind_value() || self.is_behind_not())?,
            Word::Infix => {
                let stands_between = self.is_behind_value() || self.is_behind_not();
                self.must(stands_between && !before_parenthesis)?;
            }
            Word::Direction => {
                let is_key = self.clause == Clause::Order && self.is_behind_value();
                self.must(is_key && !before_parenthesis)?;
            }
            Word::From => self.begin(Clause::From, before_parenthesis)?,
            Word::Where => {
                cost.filtered = true;
                self.begin(Clause::Where, false)?;
            }
            Word::Group => {
                cost.grouping = true;
                self.begin(Clause::Group, before_parenthesis)?;
            }
            Word::Having => self.begin(Clause::Having, false)?,
            Word::Order => {
                cost.sorting = true;
                self.begin(Clause::Order, before_parenthesis)?;
            }
            Word::Limit => self.begin(Clause::Limit, before_parenthesis)?,
            Word::Offset => self.begin(Clause::Offset, before_parenthesis)?,
            Word::By => {
                self.must(matches!(self.before, Token::Word(Word::Group | Word::Order)))?;
            }
            Word::Join => {
                cost.joins = cost.joins.checked_add(1)?;
                self.among_tables(before_parenthesis)?;
            }
            Word::JoinKind => self.among_tables(before_parenthesis)?,
            Word::On => self.among_tables(false)?,
            Word::Count | Word::Aggregate => {
                cost.aggregates = cost.aggregates.checked_add(1)?;
                self.counts |= word == Word::Count;
                let names = if word == Word::Count { &["count"] } else { AGGREGATES };
                let is_own = |name| self.catalog.function(None, name) == Purity::Unknown;
                // Apart from its parenthesis MySQL may take it for a stored function.
                self.must(is_call && names.iter().copied().all(is_own))?;
            }
        }
        Some(())
    }

    fn is_behind_value(&self) -> bool {
        matches!(
            self.before,
            Token::Name(_)
                | Token::Number(_)
                | Token::Placeholder
                | Token::Close
                | Token::Word(Word::Constant)
        )
    }

    fn is_behind_not(&self) -> bool {
        self.before == Token::Word(Word::Not)
    }

    fn begin(&mut self, clause: Clause, before_parenthesis: bool) -> Option<()> {
        self.must(self.depth == 0 && clause > self.clause && !before_parenthesis)?;
        self.clause = clause;
        Some(())
    }

    fn among_tables(&self, before_parenthesis: bool) -> Option<()> {
        self.must(self.clause == Clause::From && self.depth == 0 && !before_parenthesis)
    }

    /// Behind `LIMIT` and `OFFSET`: one number or placeholder each.
    fn count_of_rows(&mut self, token: Token<'_>) -> Option<()> {
        let limit = match token {
            Token::Number(digits) => digits.parse().map_or(Limit::Computed, Limit::Rows),
            Token::Placeholder => Limit::Computed,
            Token::Word(Word::Offset) => return Some(()),
            _ => return None,
        };
        match self.before {
            Token::Word(Word::Limit) => self.result.cost.limit = limit,
            Token::Word(Word::Offset) => {}
            _ => return None,
        }
        Some(())
    }

    fn finish(mut self) -> Option<Classification> {
        self.end_of_table()?;
        let is_whole = self.is_behind_value() || self.before == Token::Word(Word::Direction);
        let Cost { unbounded_count, filtered, .. } = &mut self.result.cost;
        *unbounded_count = self.counts && !*filtered;
        self.result.tables.sort();
        self.result.footprint = self.catalog.footprint_of_read(&self.result.tables);
        (self.depth == 0 && is_whole && self.clause >= Clause::From).then_some(self.result)
    }
}

/// Whether a parenthesis behind this token groups values: it does not among tables,
/// nor where it would make a call.
fn groups_after(before: Token<'_>) -> bool {
    match before {
        Token::Open | Token::Comma | Token::Operator => true,
        Token::Word(word) => matches!(
            word,
            Word::Select
                | Word::Distinct
                | Word::On
                | Word::Where
                | Word::Having
                | Word::By
                | Word::Logic
                | Word::Not
                | Word::Count
                | Word::Aggregate
        ),
        _ => false,
    }
}

const AGGREGATES: &[&str] = &["sum", "min", "max", "avg"];
