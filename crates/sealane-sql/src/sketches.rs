//! Sketches of the texts that came before.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::dialect::Dialect;
use crate::sketch::Sketch;

/// Memory for texts with their sketches.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// What an entry costs in addition to its texts.
const ENTRY_BYTES: usize = size_of::<Sketch>() + 96;
/// Longer texts are sketched each time, because they rarely come twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;

/// A cache over [`Sketch::of`], for an application that traces every statement.
///
/// Threads share it by reference. Its memory is limited to 4 MiB; texts that come only once leave it
/// first.
pub struct Sketches {
    dialect: Dialect,
    cache: Cache<Box<str>, Arc<Sketch>, Bytes>,
}

impl Sketches {
    /// An empty cache for statements of `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        // As of a classifier's: typical statements are a few hundred bytes.
        let expected_entries = (CACHE_BYTES / 1024) as usize;
        Sketches { dialect, cache: Cache::with_weighter(expected_entries, CACHE_BYTES, Bytes) }
    }

    /// The sketch of `sql`. One look-up if `sql` came before.
    #[must_use]
    pub fn of(&self, sql: &str) -> Arc<Sketch> {
        if let Some(known) = self.cache.get(sql) {
            return known;
        }
        let sketch = Arc::new(Sketch::of(sql, self.dialect));
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            self.cache.insert(sql.into(), Arc::clone(&sketch));
        }
        sketch
    }
}

impl fmt::Debug for Sketches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sketches").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

/// The weight of an entry is its memory in bytes.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Box<str>, Arc<Sketch>> for Bytes {
    fn weight(&self, sql: &Box<str>, sketch: &Arc<Sketch>) -> u64 {
        let written = sketch.written.as_ref().map_or(0, String::len);
        let text = sketch.text.as_ref().map_or(0, String::len);
        (sql.len() + ENTRY_BYTES + sketch.operation.len() + written + text) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_came_before_has_the_same_sketch() {
        let sketches = Sketches::new(Dialect::PostgreSql);
        let sql = "SELECT id FROM boat WHERE name = 'Ida'";
        let first = sketches.of(sql);
        assert_eq!(*first, Sketch::of(sql, Dialect::PostgreSql));
        assert!(Arc::ptr_eq(&first, &sketches.of(sql)));
    }

    #[test]
    fn memory_is_limited() {
        let sketches = Sketches::new(Dialect::PostgreSql);
        for number in 0..20_000 {
            let sql = format!("SELECT {} FROM boat WHERE id = {number}", "a, ".repeat(100));
            assert!(sketches.of(&sql).text.as_deref().is_some_and(|text| text.ends_with("id = ?")));
        }
        assert!(sketches.cache.weight() <= CACHE_BYTES);
        let long = format!("SELECT '{}'", "x".repeat(MAX_CACHED_TEXT_BYTES));
        let before = sketches.cache.len();
        assert!(sketches.of(&long).text.is_some());
        assert_eq!(sketches.cache.len(), before);
    }
}
