//! The house rule of length: a file has at most 400 lines of code, a function at most 70.
//!
//! Tests, documentation, comments and blank lines do not count: nobody is to save those. What is
//! longer today stands in `LONGER`, with its length. The list may only shrink: an entry that is
//! no longer true fails as well.

use std::collections::BTreeMap;

use anyhow::ensure;
use syn::visit::{self, Visit};
use syn::{ImplItemFn, ItemFn, Signature, TraitItemFn};

use super::source::{self, Module};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

/// What is longer than the rule says: the file, `::` and the function where it is one; and how
/// long it may be.
const LONGER: &[(&str, usize)] = &[];

/// Lengths above the limits, by what is so long.
type Lengths = BTreeMap<String, usize>;

/// Checks the product and this program.
///
/// # Errors
/// When something is too long, or something that was is no longer.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut roots = source::product()?;
    roots.push(source::root().join("xtask/src/main.rs"));
    let mut found = Lengths::new();
    for root in roots {
        for module in source::modules(&root)? {
            measure(&module, &mut found);
        }
    }
    let complaints = complaints(&found, LONGER);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn measure(module: &Module, found: &mut Lengths) {
    let shown = module.file.strip_prefix(source::root()).unwrap_or(&module.file);
    let file = shown.display().to_string();
    let lines: usize = module.items.iter().map(|item| source::code_lines(item).len()).sum();
    if lines > FILE_LINES {
        found.insert(file.clone(), lines);
    }
    let mut functions = Functions { file, found };
    for item in &module.items {
        functions.visit_item(item);
    }
}

fn complaints(found: &Lengths, known: &[(&str, usize)]) -> Vec<String> {
    let allowed: BTreeMap<&str, usize> = known.iter().copied().collect();
    let mut complaints = Vec::new();
    for (what, lines) in found {
        match allowed.get(what.as_str()) {
            Some(known) if known == lines => {}
            Some(known) if lines < known => {
                complaints
                    .push(format!("{what} has {lines} lines now: shorten its entry in the list"));
            }
            _ => complaints.push(format!(
                "{what} has {lines} lines of code; a file has at most {FILE_LINES}, a function at \
                 most {FUNCTION_LINES}"
            )),
        }
    }
    let gone = allowed.keys().filter(|what| !found.contains_key(**what));
    complaints
        .extend(gone.map(|what| format!("{what} is short enough now: remove it from the list")));
    complaints
}

/// Looks for functions that are too long.
struct Functions<'a> {
    file: String,
    found: &'a mut Lengths,
}

impl Functions<'_> {
    fn judge(&mut self, signature: &Signature, lines: usize) {
        if lines > FUNCTION_LINES {
            self.found.insert(format!("{}::{}", self.file, signature.ident), lines);
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.judge(&function.sig, body(&function.block));
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.judge(&function.sig, body(&function.block));
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.judge(&function.sig, body(block));
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// The lines between the braces, as clippy counts them: a long signature is no long function.
fn body(block: &syn::Block) -> usize {
    let all: usize = source::code_lines(block).len();
    all.saturating_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(text: &str) -> Lengths {
        let module = Module {
            path: Vec::new(),
            file: "planted.rs".into(),
            items: source::items(text).unwrap(),
        };
        let mut found = Lengths::new();
        measure(&module, &mut found);
        found
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    call();\n".repeat(lines))
    }

    #[test]
    fn a_function_that_is_too_long_is_found() {
        let text = function("fits", FUNCTION_LINES) + &function("planted", FUNCTION_LINES + 1);
        assert_eq!(lengths(&text), Lengths::from([("planted.rs::planted".to_owned(), 71)]));
        let method = format!("impl A {{\n{}\n}}", function("planted", 71));
        assert_eq!(lengths(&method).len(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let line = "const A: u8 = 1;\n";
        assert!(lengths(&line.repeat(FILE_LINES)).is_empty());
        let found = lengths(&line.repeat(FILE_LINES + 1));
        assert_eq!(found, Lengths::from([("planted.rs".to_owned(), 401)]));
        let with_tests = line.repeat(FILE_LINES) + "#[cfg(test)]\nmod tests {\nfn a() {}\n}\n";
        assert!(lengths(&with_tests).is_empty());
    }

    #[test]
    fn the_list_may_only_shrink() {
        let found = Lengths::from([("a".to_owned(), 70), ("b".to_owned(), 70)]);
        assert!(complaints(&found, &[("a", 70), ("b", 70)]).is_empty());
        for known in [[("a", 70), ("b", 69)], [("a", 70), ("b", 71)], [("a", 70), ("c", 70)]] {
            assert!(!complaints(&found, &known).is_empty(), "{known:?}");
        }
    }
}
