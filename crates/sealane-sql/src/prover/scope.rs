//! Which common table expressions a part of a statement sees.
//!
//! Names in `FROM` are tables only where no `WITH` around them has said
//! otherwise. A scope is a place in a list of names, each of which points at the
//! name before it; nothing is copied when a query opens another one.

use sqlparser::ast::Ident;

/// The innermost name that is seen; the default sees none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scope(Option<usize>);

/// All names of one statement.
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

    /// Whether `scope` sees a name that `is_same` takes for the one in question.
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

    /// How many names there are, seen or not.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}
