//! The common table expressions that a part of a statement sees.
//!
//! A name in `FROM` means a table only if no surrounding `WITH` defines it. A scope is an index
//! into a list of names, and each name points at the scope around it. So opening an inner scope
//! copies nothing.

use sqlparser::ast::Ident;

/// The innermost visible name; the default sees no names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scope(Option<usize>);

/// All common table expressions of one statement.
#[derive(Debug, Default)]
pub(super) struct Scopes<'a> {
    names: Vec<(&'a Ident, Scope)>,
}

impl<'a> Scopes<'a> {
    /// `scope` with one more name.
    pub(super) fn with(&mut self, scope: Scope, name: &'a Ident) -> Scope {
        self.names.push((name, scope));
        Scope(Some(self.names.len() - 1))
    }

    /// Whether `scope` sees a name for which `is_same` returns true.
    pub(super) fn sees(&self, scope: Scope, is_same: impl Fn(&Ident) -> bool) -> bool {
        let mut next = scope.0;
        while let Some((name, outer)) = next.and_then(|at| self.names.get(at)) {
            if is_same(name) {
                return true;
            }
            next = outer.0;
        }
        false
    }

    /// The number of all names, visible or not.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}
