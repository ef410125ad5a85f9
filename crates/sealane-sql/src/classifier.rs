//! Classifications remembered, and corrected by what servers say.
//!
//! An application sends few distinct texts, each many times, so the hot path is
//! one look-up. The cache is weighed in bytes of text, because an ORM's `IN`
//! lists make texts of very different sizes; one-off texts leave it first
//! (S3-FIFO). What a server refused as a write is kept apart from the cache: it
//! is knowledge that cannot be recomputed, so eviction must not lose it.

use std::fmt;

use dashmap::DashMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sealane_core::Intent;

use crate::classification::{Classification, Reason};
use crate::classify::classify;
use crate::dialect::Dialect;

/// Memory for cached texts and their entries.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry costs beside its text: key, value, list and hash slots.
const ENTRY_BYTES: u64 = 64;
/// Longer texts are classified each time: they rarely come twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;
/// How many refused texts are remembered. Past it nothing more is learned, so
/// that a flood of distinct texts cannot push out what was learned; the caller
/// still re-runs a refused statement on the primary, every time.
const MAX_LEARNED: usize = 10_000;

/// Classifies the statements of one database, remembering the answers.
///
/// Shared by reference between threads; every method takes `&self`.
pub struct Classifier {
    dialect: Dialect,
    cache: Cache<Box<str>, Intent, TextWeight>,
    learned: DashMap<Box<str>, ()>,
}

impl Classifier {
    /// An empty cache over [`classify`] for `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        // Typical ORM statements are a few hundred bytes.
        let expected_entries = (CACHE_BYTES / 512) as usize;
        Self {
            dialect,
            cache: Cache::with_weighter(expected_entries, CACHE_BYTES, TextWeight),
            learned: DashMap::new(),
        }
    }

    /// What `sql` does. One look-up and no allocation when it was seen before.
    #[must_use]
    pub fn intent(&self, sql: &str) -> Intent {
        if let Some(intent) = self.cache.get(sql) {
            return intent;
        }
        let intent = self.classify(sql).intent;
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            self.cache.insert(sql.into(), intent);
            // `learn_write` may have come in between: what was learned wins.
            if intent == Intent::Read && self.learned.contains_key(sql) {
                self.cache.insert(sql.into(), Intent::Write);
                return Intent::Write;
            }
        }
        intent
    }

    /// What `sql` does and why, from what was learned or else from the text.
    ///
    /// Parses each time: for explanations, not for the hot path.
    #[must_use]
    pub fn classify(&self, sql: &str) -> Classification {
        if self.learned.contains_key(sql) {
            return Classification::new(Intent::Write, Reason::Learned);
        }
        classify(sql, self.dialect)
    }

    /// Remembers that a server refused `sql` as a write.
    ///
    /// Bounded: past 10,000 distinct texts nothing more is learned beyond the
    /// cache, and a forgotten text is refused and re-run once more.
    pub fn learn_write(&self, sql: &str) {
        // A little over the bound under contention, which is harmless.
        if self.learned.len() < MAX_LEARNED {
            self.learned.insert(sql.into(), ());
        }
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            self.cache.insert(sql.into(), Intent::Write);
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier")
            .field("dialect", &self.dialect)
            .field("cached", &self.cache.len())
            .field("learned", &self.learned.len())
            .finish()
    }
}

/// Weighs an entry by its text.
#[derive(Debug, Clone)]
struct TextWeight;

impl Weighter<Box<str>, Intent> for TextWeight {
    fn weight(&self, sql: &Box<str>, _: &Intent) -> u64 {
        sql.len() as u64 + ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "SELECT audit_view.id FROM audit_view";

    #[test]
    fn what_was_learned_wins_over_the_text() {
        let classifier = Classifier::new(Dialect::PostgreSql);
        assert_eq!(classifier.intent(READ), Intent::Read);
        classifier.learn_write(READ);
        assert_eq!(classifier.intent(READ), Intent::Write);
        assert_eq!(classifier.classify(READ).reason, Reason::Learned);
    }

    #[test]
    fn what_was_learned_survives_eviction() {
        let classifier = Classifier::new(Dialect::PostgreSql);
        classifier.learn_write(READ);
        classifier.cache.clear();
        assert_eq!(classifier.intent(READ), Intent::Write);
    }

    #[test]
    fn a_long_text_is_learned_although_it_is_not_cached() {
        let classifier = Classifier::new(Dialect::PostgreSql);
        let sql = format!("SELECT 1 WHERE $1 IN ({}1)", "1, ".repeat(MAX_CACHED_TEXT_BYTES / 3));
        assert_eq!(classifier.intent(&sql), Intent::Read);
        assert_eq!(classifier.cache.len(), 0);
        classifier.learn_write(&sql);
        assert_eq!(classifier.intent(&sql), Intent::Write);
        assert_eq!(classifier.cache.len(), 0);
    }

    #[test]
    fn memory_is_bounded_by_the_bytes_of_the_texts() {
        let classifier = Classifier::new(Dialect::PostgreSql);
        // Unparsable, hence quick, and 16 KiB each: 32 MiB in all.
        let filler = "?".repeat(MAX_CACHED_TEXT_BYTES - 16);
        for n in 0..2_048 {
            let intent = classifier.intent(&format!("SELECT '{n}{filler}"));
            assert_eq!(intent, Intent::Unknown);
        }
        assert!(classifier.cache.weight() <= CACHE_BYTES, "{}", classifier.cache.weight());
    }

    #[test]
    fn learning_stops_at_its_bound_and_keeps_what_it_has() {
        let classifier = Classifier::new(Dialect::Sqlite);
        classifier.learn_write(READ);
        for n in 0..MAX_LEARNED + 10 {
            classifier.learn_write(&format!("SELECT {n}"));
        }
        assert_eq!(classifier.learned.len(), MAX_LEARNED);
        classifier.cache.clear();
        assert_eq!(classifier.intent(READ), Intent::Write);
    }
}
