//! The house rule of skips: a test that does nothing on some engine is not run there.
//!
//! A test that returns early where it does not apply passes without having tested, and nobody can
//! tell it from one that tested. So no test returns `Ok(())` out of an `if` or a `match`, and none
//! hides its whole body in an `if`. What only some engines have is in a suite of its own, whose
//! engines stand in the manifest; the summary of a run counts it as not for this engine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprReturn, ImplItemFn, Item, ItemFn, Stmt};

use super::source;

/// Where tests are that run on servers, or need something that a machine may lack.
const DIRECTORIES: [&str; 8] = [
    "tests/suites",
    "crates/sealane/tests",
    "crates/sealane-core/tests",
    "crates/sealane-monitor/tests",
    "crates/sealane-sim/tests",
    "crates/sealane-sql/tests",
    "crates/sealane-tower/tests",
    "docs/tests",
];

/// Tests that return early for a good reason. The list may only shrink.
const KNOWN: &[&str] = &[
    // Programs that another test starts, and that it sees succeed.
    "as_somebody_who_may_not_write",
    "in_the_current_folder",
    "on_a_small_disk",
    "the_second_process",
    // Says so where a user may not mount a disk. For root it is an error.
    "what_was_answered_on_a_disk_that_filled_up_is_there",
    // The PgBouncer of the oldest release knows one of the five cases, and the output tells which.
    "replicas_serve_behind_pgbouncer",
];

/// Checks all suites and tests.
///
/// # Errors
/// When a test may pass without having tested.
pub(crate) fn check() -> anyhow::Result<()> {
    let (mut tests, mut skips) = (0, Vec::new());
    for file in DIRECTORIES.iter().map(|name| source::root().join(name)).flat_map(files) {
        let text = fs::read_to_string(&file)?;
        let found = judge(&text).with_context(|| format!("in {}", file.display()))?;
        tests += found.tests;
        skips.extend(found.skips);
    }
    let complaints = complaints(&skips, KNOWN);
    ensure!(tests > 300, "only {tests} tests are found: the search is broken");
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn complaints(skips: &[String], known: &[&str]) -> Vec<String> {
    let unknown = skips.iter().filter(|name| !known.contains(&name.as_str()));
    let mut complaints: Vec<String> = unknown
        .map(|name| format!("`{name}` may pass without having tested; give it a suite"))
        .collect();
    let gone = known.iter().filter(|name| !skips.iter().any(|skip| skip == *name));
    complaints.extend(gone.map(|name| format!("`{name}` is no skip any more: the list")));
    complaints
}

fn files(directory: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(path));
        } else if path.extension() == Some(Path::new("rs").as_os_str()) {
            found.push(path);
        }
    }
    found
}

/// What a file has.
#[derive(Debug, Default)]
struct Found {
    tests: usize,
    skips: Vec<String>,
}

fn judge(text: &str) -> anyhow::Result<Found> {
    let mut tests = Tests::default();
    // Not without tests, as `source::items` gives them.
    syn::parse_file(text).context("not Rust")?.items.iter().for_each(|item| tests.visit_item(item));
    Ok(tests.0)
}

#[derive(Default)]
struct Tests(Found);

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let is_test = function.attrs.iter().any(|attribute| {
            let name = attribute.path().segments.last().map(|segment| segment.ident.to_string());
            matches!(name.as_deref(), Some("test" | "rstest"))
        });
        if is_test {
            self.0.tests += 1;
            let mut returns = Returns(false);
            returns.visit_block(&function.block);
            if returns.0 || is_hidden(&function.block) {
                self.0.skips.push(function.sig.ident.to_string());
            }
        }
    }
}

/// Looks for `return Ok(())` and `return`, except in what the test calls later.
struct Returns(bool);

impl<'ast> Visit<'ast> for Returns {
    fn visit_expr_return(&mut self, expression: &'ast ExprReturn) {
        let value = expression.expr.to_token_stream().to_string().replace(' ', "");
        self.0 |= value.is_empty() || value == "Ok(())";
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        if !matches!(expression, Expr::Closure(_) | Expr::Async(_)) {
            visit::visit_expr(self, expression);
        }
    }

    fn visit_item(&mut self, _: &'ast Item) {}

    fn visit_impl_item_fn(&mut self, _: &'ast ImplItemFn) {}
}

/// Whether all that the test asserts stands in one `if` that asks for the engine.
fn is_hidden(block: &Block) -> bool {
    let asks = |statement: &Stmt| match statement {
        Stmt::Expr(Expr::If(condition), _) => {
            condition.else_branch.is_none()
                && condition.cond.to_token_stream().to_string().contains("engine")
        }
        _ => false,
    };
    let preparation = |statement: &Stmt| {
        let text = statement.to_token_stream().to_string().replace(' ', "");
        matches!(statement, Stmt::Local(_)) || text == "Ok(())"
    };
    block.stmts.iter().any(asks) && block.stmts.iter().all(|one| asks(one) || preparation(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skips(body: &str) -> Vec<String> {
        let text = format!("#[tokio::test]\nasync fn planted() -> anyhow::Result<()> {{ {body} }}");
        let found = judge(&text).unwrap();
        assert_eq!(found.tests, 1);
        found.skips
    }

    #[test]
    fn an_early_return_is_found() {
        let planted = "let c = one().await?; if c.engine() != Engine::Postgres { return Ok(()); } \
                       ensure!(c.works()); Ok(())";
        assert_eq!(skips(planted), ["planted"]);
        assert_eq!(skips("let Ok(c) = one() else { return Ok(()) }; test(c)"), ["planted"]);
    }

    #[test]
    fn a_body_in_one_condition_is_found() {
        let planted = "let c = one().await?; if c.engine() == Engine::Mysql { test(c)?; } Ok(())";
        assert_eq!(skips(planted), ["planted"]);
    }

    #[test]
    fn the_list_may_only_shrink() {
        let found = ["a".to_owned(), "b".to_owned()];
        assert!(complaints(&found, &["a", "b"]).is_empty());
        assert_eq!(complaints(&found, &["a"]).len(), 1);
        assert_eq!(complaints(&found, &["a", "b", "c"]).len(), 1);
    }

    #[test]
    fn a_test_that_always_tests_is_left_alone() {
        let sound = "let c = one().await?; let f = async || { if c.a() { return Ok(()); } bail!() }; \
                     if c.engine() == Engine::Mysql { more(c)?; } eventually(f).await";
        assert!(skips(sound).is_empty());
        assert!(judge("fn helper() { return; }").unwrap().skips.is_empty());
    }
}
