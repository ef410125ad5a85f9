//! The book is complete, and what it says of the configuration is true.

#![allow(clippy::unwrap_used, reason = "a test may end there")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sealane::{Config, HealthPolicy};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap()
}

/// The chapters in `src`, by file name.
fn chapters() -> BTreeSet<String> {
    let names = fs::read_dir(folder().join("src")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "SUMMARY.md").collect()
}

/// The blocks of a chapter in this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let rest = text.split(&begin).skip(1);
    rest.map(|it| it.split("```").next().unwrap().to_owned()).collect()
}

fn parse(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealane.toml");
    fs::write(&path, text).unwrap();
    let config = Config::from_toml_file(&path);
    assert!(config.is_ok(), "{:?}\n{text}", config.err());
    config.unwrap()
}

#[test]
fn every_chapter_is_in_the_summary_and_its_samples_are_compiled() {
    let (summary, samples) = (read("src/SUMMARY.md"), read("samples.rs"));
    let chapters = chapters();
    assert!(chapters.len() >= 15, "{chapters:?}");
    for name in &chapters {
        assert!(summary.contains(&format!("]({name})")), "{name} is not in SUMMARY.md");
        assert!(samples.contains(&format!("\"src/{name}\"")), "{name} is not in samples.rs");
    }
    for link in summary.split("](").skip(1) {
        let name = link.split(')').next().unwrap();
        assert!(chapters.contains(name), "SUMMARY.md names {name}");
    }
}

/// The anchor that mdBook and code hosts make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let mut files: Vec<_> = chapters().iter().map(|name| folder().join("src").join(name)).collect();
    let root = folder().parent().unwrap().to_owned();
    files.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|it| root.join(it)));
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{link} in {}", file.display());
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter_map(|it| it.strip_prefix('#'));
                let found = headings
                    .map(|it| anchor(it.trim_start_matches('#')))
                    .any(|anchor| anchor == heading);
                assert!(found, "{link} in {}", file.display());
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count} links");
}

#[test]
fn no_sample_is_taken_for_rust_by_mistake() {
    for name in chapters() {
        let text = read(&format!("src/{name}"));
        let fences = text.lines().filter(|it| it.starts_with("```"));
        // Every other fence begins a block.
        for fence in fences.step_by(2) {
            assert_ne!(fence, "```", "a block without a language in {name}");
        }
        assert!(
            text.lines().filter(|it| it.starts_with("```")).count().is_multiple_of(2),
            "{name}"
        );
    }
}

#[test]
fn every_file_of_the_reference_is_a_configuration() {
    let blocks = blocks(&read("src/configuration.md"), "toml");
    assert!(blocks.len() >= 2);
    for block in blocks {
        parse(&block);
    }
}

#[test]
fn every_file_of_a_recipe_is_a_configuration() {
    let blocks = blocks(&read("src/recipes.md"), "toml");
    assert!(blocks.len() >= 4);
    for block in blocks {
        // A test cannot set variables: that is not safe beside other threads.
        let parts = block.split("${").enumerate().map(|(place, part)| match part.split_once('}') {
            Some((_, rest)) if place > 0 => format!("{}{rest}", "v".repeat(32)),
            _ => part.to_owned(),
        });
        parse(&parts.collect::<String>());
    }
}

/// The first file of the examples that a section names.
fn example(section: &str) -> Option<PathBuf> {
    let name = section.split('`').find(|it| it.starts_with("examples/"))?;
    Some(folder().join("..").join(name))
}

/// A text without the indentation of its lines.
fn flat(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

/// The samples of a chapter that are not passages of the file that their section names.
fn strays(text: &str) -> (usize, Vec<String>) {
    let (mut count, mut strays) = (0, Vec::new());
    for section in text.split("\n## ") {
        for block in blocks(section, "rust,ignore") {
            count += 1;
            let source = example(section).map(|file| fs::read_to_string(file).unwrap());
            if !source.is_some_and(|source| flat(&source).contains(&flat(&block))) {
                strays.push(block);
            }
        }
    }
    (count, strays)
}

#[test]
fn the_samples_of_the_recipes_are_passages_of_what_the_tests_run() {
    let text = read("src/recipes.md");
    let (count, found) = strays(&text);
    assert!(count >= 12 && found.is_empty(), "{count} samples; nowhere: {found:#?}");
    // Somebody changes a sample, and not the file.
    let changed = text.replacen(".await", ".await?", 1);
    assert_eq!(strays(&changed).1.len(), 1);
}

#[test]
fn the_defaults_of_the_reference_are_the_defaults() {
    let blocks = blocks(&read("src/configuration.md"), "toml");
    let text = blocks.first().unwrap();
    let bare = Config::new("postgres://app@db-1/shop");
    assert_eq!(format!("{:?}", parse(text)), format!("{bare:?}"));

    // `Debug` does not show these.
    let table: toml::Table = text.parse().unwrap();
    let health = |key: &str| table["health"][key].clone();
    let millis =
        |key: &str| Duration::from_millis(health(key).as_integer().unwrap().try_into().unwrap());
    let default = HealthPolicy::default();
    assert_eq!(health("down_after").as_integer(), Some(default.down_after.into()));
    assert_eq!(health("down_ratio").as_float(), Some(default.down_ratio));
    assert_eq!(health("up_after").as_integer(), Some(default.up_after.into()));
    assert_eq!(millis("back_off_ms"), default.back_off);
    assert_eq!(millis("back_off_cap_ms"), default.back_off_cap);
    assert_eq!(millis("forgiven_after_ms"), default.forgiven_after);
    assert_eq!(millis("lagging_above_ms"), default.lagging_above);
    assert_eq!(millis("lagging_until_ms"), default.lagging_until);
    assert_eq!(millis("replaced_after_ms"), default.replaced_after);
    assert_eq!(table["routing"]["primary_wait_ms"].as_integer(), Some(5000));
}

/// The names behind `before` in the lines of a source file that begin with it.
fn names(source: &Path, before: &str) -> Vec<String> {
    let text = fs::read_to_string(source).unwrap();
    let name = |line: &str| {
        let name = line.strip_prefix(before)?;
        Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    };
    text.lines().filter_map(name).collect()
}

#[test]
fn every_method_and_every_key_is_in_the_reference() {
    let reference = read("src/configuration.md");
    let sources = folder().join("../crates/sealane/src");
    let methods = names(&sources.join("config.rs"), "    pub fn ");
    assert!(methods.len() > 20, "{methods:?}");
    for method in methods {
        assert!(
            reference.contains(&format!("{method}(")),
            "Config::{method} is not in docs/src/configuration.md"
        );
    }
    // The keys of a file are the fields of the structs that it is read into.
    let mut keys = 0;
    for file in ["config/file.rs", "config/file/rule.rs"] {
        let source = fs::read_to_string(sources.join(file)).unwrap();
        for line in source.lines().take_while(|line| !line.contains("fn ")) {
            let Some((key, _)) = line.strip_prefix("    ").and_then(|it| it.split_once(": "))
            else {
                continue;
            };
            if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                assert!(
                    reference.contains(key),
                    "the key {key} is not in docs/src/configuration.md"
                );
                keys += 1;
            }
        }
    }
    assert!(keys > 30, "{keys} keys");
}

#[test]
fn every_alert_is_in_the_book() {
    let rules = fs::read_to_string(folder().join("../ops/prometheus/alerts.yml")).unwrap();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let book = read("src/operations.md");
    let missing: Vec<_> = alerts.filter(|name| !book.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty() && rules.matches("- alert: ").count() >= 7, "{missing:?}");
}
