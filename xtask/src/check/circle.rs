//! The house rule of direction: modules import downwards, never in a circle.
//!
//! An import leads from the module that says `use` to the module where the name is *defined*:
//! re-exports are followed, or everything would seem to need its parent. Compared are modules of
//! the same parent, and what one of their descendants imports counts for them. So the rooms of a
//! crate form no circle, and neither do the files of a room. A file and the files beneath it are
//! one unit: they may need each other.
//!
//! Paths in macros are not seen, and names that a `use` does not bring are seen only where they
//! begin with `crate`, `self` or `super`.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, ensure};

use super::source;
use imports::Imports;

/// Modules of one parent that need each other, with one import per way.
#[derive(Debug, Eq, PartialEq)]
struct Circle {
    members: BTreeSet<String>,
    ways: Vec<String>,
}

/// From a module to the modules that it imports from, each with one place where it does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Checks the product and this program.
///
/// # Errors
/// When modules need each other, or modules that did no longer do.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut roots = source::product()?;
    roots.push(source::root().join("xtask/src/main.rs"));
    let mut complaints = Vec::new();
    for root in roots {
        let name = crate_name(&root)?;
        let imports = Imports::of(&source::modules(&root)?);
        complaints.extend(circles(&imports).iter().map(|circle| circle.complaint(&name)));
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn crate_name(root: &Path) -> anyhow::Result<String> {
    let directory =
        root.ancestors().nth(2).and_then(Path::file_name).context("a crate's directory")?;
    Ok(directory.to_string_lossy().into_owned())
}

impl Circle {
    fn complaint(&self, name: &str) -> String {
        let (members, ways) = (&self.members, self.ways.join("\n    "));
        let members = members.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{name}: {members} import each other in a circle:\n    {ways}")
    }
}

fn circles(imports: &Imports) -> Vec<Circle> {
    let mut graphs: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for (from, to) in imports.edges() {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        // One is above the other, or they are the same.
        let (Some(one), Some(other)) = (from.get(..=shared), to.get(..=shared)) else { continue };
        let way = format!("{} → {}", from.join("::"), to.join("::"));
        let graph = graphs.entry(from[..shared].to_vec()).or_default();
        graph.entry(one.join("::")).or_default().entry(other.join("::")).or_insert(way);
    }
    graphs.values().flat_map(circles_among).collect()
}

fn circles_among(graph: &Graph) -> Vec<Circle> {
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|from| (from, reachable(graph, from))).collect();
    let mut circles = Vec::new();
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    for (from, to) in &reach {
        if !to.contains(from) || seen.contains(from) {
            continue;
        }
        let back = |other: &&&String| reach.get(**other).is_some_and(|way| way.contains(from));
        let members: BTreeSet<&String> = to.iter().filter(back).copied().collect();
        let ways = members.iter().flat_map(|member| &graph[*member]);
        let ways =
            ways.filter(|(to, _)| members.contains(to)).map(|(_, way)| way.clone()).collect();
        seen.extend(&members);
        circles.push(Circle { members: members.into_iter().cloned().collect(), ways });
    }
    circles
}

fn reachable<'a>(graph: &'a Graph, from: &String) -> BTreeSet<&'a String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(module) = open.pop() {
        if found.insert(module) {
            open.extend(graph.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::source::Module;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Circle> {
        let modules: Vec<Module> = files
            .iter()
            .map(|(path, text)| Module {
                path: path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
                file: "planted.rs".into(),
                items: source::items(text).unwrap(),
            })
            .collect();
        circles(&Imports::of(&modules))
    }

    fn members(circles: &[Circle]) -> Vec<Vec<&str>> {
        circles.iter().map(|circle| circle.members.iter().map(String::as_str).collect()).collect()
    }

    #[test]
    fn a_circle_of_two_is_found() {
        let planted =
            [("", ""), ("a", "use crate::b::B; struct A;"), ("b", "use super::a::A; struct B;")];
        assert_eq!(members(&found(&planted)), [["a", "b"]]);
    }

    #[test]
    fn a_circle_of_three_is_found_through_a_path_in_a_function() {
        let planted = [
            ("", ""),
            ("a", "use crate::b; fn f() {}"),
            ("b", "use crate::{c::{self, C}}; struct B;"),
            ("c", "struct C; fn g() { crate::a::f(); }"),
            ("d", "use crate::a; use crate::b;"),
        ];
        assert_eq!(members(&found(&planted)), [["a", "b", "c"]]);
    }

    #[test]
    fn a_circle_of_rooms_is_found_through_their_files_and_a_re_export() {
        let planted = [
            ("", "mod a; mod b; pub use b::inner::B;"),
            ("a", "mod inner;"),
            ("a::inner", "use crate::B; pub struct A;"),
            ("b", "mod inner;"),
            ("b::inner", "use crate::a::inner::A; pub struct B;"),
        ];
        assert_eq!(members(&found(&planted)), [["a", "b"]]);
    }

    #[test]
    fn imports_downwards_and_within_a_file_and_its_files_are_no_circle() {
        let sound = [
            ("", "mod a; mod b; pub use b::B;"),
            ("a", "mod inner; use inner::I; pub struct A;"),
            ("a::inner", "use super::A; use crate::B; pub struct I;"),
            ("b", "pub struct B;\n#[cfg(test)] mod tests { use crate::a::A; }"),
        ];
        assert!(found(&sound).is_empty());
    }
}
