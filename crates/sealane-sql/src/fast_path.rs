//! Answers without a syntax tree, for the statements that an ORM sends most.
//!
//! A tree costs ten times as much as a look at the tokens. So `select` proves on the tokens that a
//! plain SELECT is a read, and `written_tables` finds on the tokens which table a plain INSERT,
//! UPDATE or DELETE writes. Both share one small lexer (`token`). It gives up at the first token
//! that is not on its lists, and then the parser decides. The fast path always agrees with the
//! tree: `differential` compares the two on random texts.

#[cfg(test)]
mod differential;
mod select;
mod token;
mod written_tables;

pub(crate) use select::classify;
pub(crate) use written_tables::tables_written;
