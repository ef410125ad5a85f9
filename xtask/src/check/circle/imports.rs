//! Which module of a crate imports from which.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, UseTree};

use crate::check::source::Module;

/// A module or an item, by the way from the crate's root.
type Path = Vec<String>;

/// Re-exports of re-exports end somewhere.
const DEPTH: u32 = 16;

/// All imports within a crate.
#[derive(Debug, Default)]
pub(super) struct Imports {
    modules: BTreeMap<Path, Names>,
    edges: BTreeSet<(Path, Path)>,
}

/// The names that a module has.
#[derive(Debug, Default)]
struct Names {
    /// Names that come from elsewhere in the crate.
    aliases: BTreeMap<String, Path>,
    /// Where `use …::*` leads.
    globs: Vec<Path>,
    /// What the module defines itself.
    own: BTreeSet<String>,
}

impl Imports {
    pub(super) fn of(modules: &[Module]) -> Self {
        let mut imports = Self::default();
        let mut used = Vec::new();
        for module in modules {
            let mut paths =
                Paths { module: &module.path, inline: 0, uses: Vec::new(), named: Vec::new() };
            module.items.iter().for_each(|item| paths.visit_item(item));
            let mut names =
                Names { own: module.items.iter().filter_map(name).collect(), ..Names::default() };
            for (name, path) in &paths.uses {
                match name {
                    Some(name) => _ = names.aliases.insert(name.clone(), path.clone()),
                    None => names.globs.push(path.clone()),
                }
            }
            let uses = paths.uses.into_iter().map(|(_, path)| path);
            used.extend(uses.chain(paths.named).map(|path| (module.path.clone(), path)));
            imports.modules.insert(module.path.clone(), names);
        }
        imports.edges = used
            .into_iter()
            .map(|(from, path)| (from, imports.home(&path, DEPTH)))
            .filter(|(from, to)| from != to)
            .collect();
        imports
    }

    /// From a module, and to a module that has what it imports.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&[String], &[String])> {
        self.edges.iter().map(|(from, to)| (from.as_slice(), to.as_slice()))
    }

    /// The module that defines what `path` names.
    fn home(&self, path: &[String], depth: u32) -> Path {
        let mut at = Path::new();
        for (index, name) in path.iter().enumerate() {
            let mut inner = at.clone();
            inner.push(name.clone());
            if self.modules.contains_key(&inner) {
                at = inner;
                continue;
            }
            let Some(names) = self.modules.get(&at).filter(|_| depth > 0) else { return at };
            if let Some(elsewhere) = names.aliases.get(name) {
                let mut whole = elsewhere.clone();
                whole.extend_from_slice(&path[index + 1..]);
                return self.home(&whole, depth - 1);
            }
            return self.through_globs(names, name, depth).unwrap_or(at);
        }
        at
    }

    fn through_globs(&self, names: &Names, name: &str, depth: u32) -> Option<Path> {
        if names.own.contains(name) {
            return None;
        }
        names.globs.iter().find_map(|glob| {
            let home = self.home(glob, depth - 1);
            self.modules.get(&home).filter(|names| names.own.contains(name)).map(|_| home.clone())
        })
    }
}

/// The paths of one file that lead into its crate.
struct Paths<'a> {
    module: &'a [String],
    /// How deep in modules that stand in this file.
    inline: usize,
    /// What is imported, with the name that it has here; a glob has no name.
    uses: Vec<(Option<String>, Path)>,
    /// What is named without an import.
    named: Vec<Path>,
}

impl Paths<'_> {
    /// The path from the root of the crate, if it leads into the crate.
    fn absolute(&self, path: &[String]) -> Option<Path> {
        let first = path.first()?;
        if first == "crate" {
            return Some(path[1..].to_vec());
        }
        let ups = path.iter().take_while(|name| *name == "super").count();
        if ups == 0 && first != "self" {
            return None;
        }
        let mut absolute = self.module.to_vec();
        absolute.truncate(self.module.len().saturating_sub(ups.saturating_sub(self.inline)));
        absolute.extend_from_slice(&path[ups.max(1)..]);
        Some(absolute)
    }

    fn walk(&mut self, tree: &UseTree, mut prefix: Path) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.walk(&path.tree, prefix);
            }
            UseTree::Name(name) => {
                self.imported(name.ident.to_string(), name.ident.to_string(), prefix)
            }
            UseTree::Rename(name) => {
                self.imported(name.ident.to_string(), name.rename.to_string(), prefix);
            }
            UseTree::Glob(_) => {
                if let Some(path) = self.absolute(&prefix) {
                    self.uses.push((None, path));
                }
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.walk(tree, prefix.clone()));
            }
        }
    }

    fn imported(&mut self, name: String, mut alias: String, mut path: Path) {
        if name == "self" {
            if alias == "self" {
                alias = path.last().cloned().unwrap_or_default();
            }
        } else {
            path.push(name);
        }
        // `pub use child::Name`: a path that begins with a module of this file.
        let path = match self.absolute(&path) {
            Some(path) => path,
            None => [self.module, &path].concat(),
        };
        self.uses.push((Some(alias), path));
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.walk(&item.tree, Path::new());
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.inline += 1;
        visit::visit_item_mod(self, module);
        self.inline -= 1;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.named.extend(self.absolute(&names).filter(|path| !path.is_empty()));
        visit::visit_path(self, path);
    }
}

/// The name of what an item defines.
fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}
