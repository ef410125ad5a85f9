//! The source of a crate as the house rules see it: its files, parsed, without tests.
//!
//! The rules read the syntax tree and not the text, because a brace in a string, a raw string or a
//! nested comment deceives a search in the text. The files are those that the crate's own `mod`
//! declarations lead to, so a file that nobody compiles does not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item};

/// One file of a crate, which is one module.
pub(crate) struct Module {
    /// The way from the crate's root, without `crate`; empty for the root itself.
    pub(crate) path: Vec<String>,
    /// Where the file is, for people.
    pub(crate) file: PathBuf,
    /// What stands in the file, without tests.
    pub(crate) items: Vec<Item>,
}

/// All modules of the crate whose root is `file`, the root first.
///
/// # Errors
/// When a file cannot be read or parsed.
pub(crate) fn modules(file: &Path) -> anyhow::Result<Vec<Module>> {
    let directory = file.parent().context("a root without a directory")?;
    let mut found = vec![Module { path: Vec::new(), file: file.to_owned(), items: parse(file)? }];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].path.clone();
        for name in declared(&found[next].items) {
            let mut path = parent.clone();
            path.push(name);
            let file = directory.join(path.join("/")).with_extension("rs");
            let items = parse(&file)?;
            found.push(Module { path, file, items });
        }
        next += 1;
    }
    Ok(found)
}

/// The items of a file, without tests.
///
/// # Errors
/// When the file cannot be read or parsed.
pub(crate) fn parse(file: &Path) -> anyhow::Result<Vec<Item>> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    items(&text).with_context(|| format!("in {}", file.display()))
}

/// The items of `text`, without tests.
///
/// # Errors
/// When it is not Rust.
pub(crate) fn items(text: &str) -> anyhow::Result<Vec<Item>> {
    let mut items = syn::parse_file(text).context("not Rust")?.items;
    remove_tests(&mut items);
    Ok(items)
}

/// The numbers of lines with code: neither blank nor only a comment, and no documentation.
pub(crate) fn code_lines(code: &impl ToTokens) -> BTreeSet<usize> {
    let mut lines = BTreeSet::new();
    collect(code.to_token_stream(), &mut lines);
    lines
}

/// The directories of this repository, seen from the root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The roots of all crates of the product.
///
/// # Errors
/// When there are none, which means that the rules would see nothing.
pub(crate) fn product() -> anyhow::Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    for entry in fs::read_dir(root().join("crates")).context("cannot read `crates`")? {
        let file = entry?.path().join("src/lib.rs");
        if file.exists() {
            roots.push(file);
        }
    }
    roots.sort();
    ensure!(roots.len() >= 5, "of the crates only {} are found", roots.len());
    Ok(roots)
}

fn declared(items: &[Item]) -> Vec<String> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    });
    modules.collect()
}

fn collect(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let TokenTree::Punct(punct) = &token
            && punct.as_char() == '#'
        {
            let bang =
                |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == '!');
            tokens.next_if(bang);
            if tokens.next_if(is_documentation).is_some() {
                continue;
            }
        }
        let span = token.span();
        match token {
            TokenTree::Group(group) => {
                lines.insert(group.span_open().start().line);
                lines.insert(group.span_close().end().line);
                collect(group.stream(), lines);
            }
            _ => lines.extend(span.start().line..=span.end().line),
        }
    }
}

fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket
        && matches!(first, Some(TokenTree::Ident(name)) if name == "doc")
}

fn remove_tests(items: &mut Vec<Item>) {
    items.retain(|item| !attributes(item).iter().any(is_test));
    for item in items {
        match item {
            Item::Mod(module) => {
                if let Some((_, inner)) = &mut module.content {
                    remove_tests(inner);
                }
            }
            Item::Impl(block) => {
                let is_tested = |item: &ImplItem| matches!(item, ImplItem::Fn(f) if f.attrs.iter().any(is_test));
                block.items.retain(|item| !is_tested(item));
            }
            _ => {}
        }
    }
}

/// Whether the attribute says that something exists only in tests.
fn is_test(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let text = attribute.meta.to_token_stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let items = items(text).unwrap();
        items.iter().flat_map(code_lines).collect()
    }

    #[test]
    fn comments_blanks_and_documentation_are_no_code() {
        assert_eq!(
            lines("//! Of it.\n\n/// One.\n// Two.\nfn f() {\n    // Three.\n\n}\n"),
            [5, 8]
        );
    }

    #[test]
    fn all_lines_of_a_text_are_code() {
        assert_eq!(lines("const A: &str = \"{\n\n// no comment\n}\";"), [1, 2, 3, 4]);
    }

    #[test]
    fn an_attribute_is_code() {
        assert_eq!(lines("#[derive(Debug)]\nstruct A;"), [1, 2]);
    }

    #[test]
    fn tests_are_not_seen() {
        let text = "#[cfg(test)]\nmod tests {}\nimpl A {\n#[cfg(test)]\nfn of() {}\n}\n\
                    #[cfg(not(test))]\nfn g() {}\n";
        assert_eq!(lines(text), [3, 6, 7, 8]);
    }

    #[test]
    fn this_crate_is_found_by_its_declarations() {
        let modules = modules(&root().join("xtask/src/main.rs")).unwrap();
        let names: Vec<String> = modules.iter().map(|module| module.path.join("::")).collect();
        assert_eq!(names[0], "");
        assert!(names.contains(&"check::source".to_owned()), "{names:?}");
    }
}
