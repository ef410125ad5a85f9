//! Classifications remembered, and corrected by what servers say.
//!
//! An application sends few distinct texts, each many times, so the hot path is
//! one look-up. The cache is weighed in bytes, because an ORM's `IN` lists make
//! texts of very different sizes; texts that come once leave it first (S3-FIFO),
//! and those that are certainly writes never enter it. What a server refused as a
//! write is kept apart from the cache: it cannot be recomputed, so eviction must
//! not lose it.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sealane_core::{Footprint, Intent};

use crate::catalog::Catalog;
use crate::classification::Classification;
use crate::classify::classify_with;
use crate::dialect::Dialect;
use crate::finding::Reason;
use crate::leading::Leading;
use crate::plain;
use crate::written;

/// Memory for cached texts with their classifications.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry costs beside its text and lists: the classification itself, key,
/// value, list and hash slots.
const ENTRY_BYTES: usize = size_of::<Classification>() + 96;
/// Longer texts are classified each time: they rarely come twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;
/// How many refused texts are remembered, and how many bytes of them. Past it
/// nothing more is learned, so that a flood of distinct texts cannot push out what
/// was learned; the caller still re-runs a refused statement on the primary, every
/// time.
const MAX_LEARNED: usize = 10_000;
const MAX_LEARNED_BYTES: usize = 8 * 1024 * 1024;

/// Classifies the statements of one database, remembering the answers.
///
/// Shared by reference between threads; every method takes `&self`.
pub struct Classifier {
    dialect: Dialect,
    cache: Cache<Box<str>, Remembered, Bytes>,
    learned: DashMap<Box<str>, ()>,
    learned_bytes: AtomicUsize,
    catalog: ArcSwap<Catalog>,
    /// Grows with each change of the catalog: what was remembered before is
    /// decided anew.
    generation: AtomicU64,
    /// How often the catalog was put in doubt. Behind the lock, because what is
    /// loaded has to be compared and stored in one step; readers never take it.
    doubts: Mutex<u64>,
}

/// An answer, and the state of the catalog that it was given in.
#[derive(Clone)]
struct Remembered {
    generation: u64,
    classification: Arc<Classification>,
}

impl Classifier {
    /// An empty cache over [`classify`](crate::classify) for `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        // Typical ORM statements are a few hundred bytes.
        let expected_entries = (CACHE_BYTES / 1024) as usize;
        Self {
            dialect,
            cache: Cache::with_weighter(expected_entries, CACHE_BYTES, Bytes),
            learned: DashMap::new(),
            learned_bytes: AtomicUsize::new(0),
            catalog: ArcSwap::default(),
            generation: AtomicU64::new(0),
            doubts: Mutex::new(0),
        }
    }

    /// The dialect of the statements.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What `sql` does. One look-up and no allocation when it was seen before.
    #[must_use]
    pub fn intent(&self, sql: &str) -> Intent {
        self.look_up(sql).intent
    }

    /// As [`classify`](Self::classify), remembered. One look-up and no allocation
    /// when `sql` was seen before.
    ///
    /// Of a text that begins with `INSERT`, `UPDATE`, `DELETE` or `REPLACE` only the
    /// intent is told, without parsing it.
    #[must_use]
    pub fn look_up(&self, sql: &str) -> Arc<Classification> {
        if Leading::is_certain_write(sql, self.dialect) {
            return certain_write();
        }
        // Before the catalog: an answer may then be from a newer catalog than it
        // says, and be decided once more, but never from an older one.
        let generation = self.generation.load(Ordering::Acquire);
        if let Some(known) = self.cache.get(sql)
            && known.generation == generation
        {
            return known.classification;
        }
        let classification = Arc::new(self.decide(sql));
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            self.remember(sql, generation, &classification);
            // `learn_write` may have come in between: what was learned wins.
            if classification.intent.is_read() && self.learned.contains_key(sql) {
                let learned = Arc::new(learned());
                self.remember(sql, generation, &learned);
                return learned;
            }
        }
        classification
    }

    /// The tables that `sql` writes, as far as its text and the catalog tell. One pass
    /// over the text.
    #[must_use]
    pub fn written(&self, sql: &str) -> Footprint {
        match self.dialect {
            Dialect::PostgreSql => written::footprint(sql, self.dialect, &self.catalog.load()),
            // No catalog tells what writes change besides.
            Dialect::MySql | Dialect::Sqlite => Footprint::WHOLE,
        }
    }

    /// All about `sql`, from what was learned or else from the text.
    ///
    /// Parses each time: for explanations, not for the hot path.
    #[must_use]
    pub fn classify(&self, sql: &str) -> Classification {
        if self.learned.contains_key(sql) {
            return learned();
        }
        classify_with(sql, self.dialect, &self.catalog.load())
    }

    /// As [`classify`](Self::classify), quicker where nobody needs a tree.
    fn decide(&self, sql: &str) -> Classification {
        if self.learned.contains_key(sql) {
            return learned();
        }
        let catalog = self.catalog.load();
        plain::classify(sql, self.dialect, &catalog)
            .unwrap_or_else(|| classify_with(sql, self.dialect, &catalog))
    }

    /// Remembers that a server refused `sql` as a write.
    ///
    /// Bounded: past 10,000 distinct texts, or 8 MiB of them, nothing more is learned beyond the
    /// cache, and a forgotten text is refused and re-run once more. Forgotten when
    /// the catalog changes, which may be the reason that it was refused.
    pub fn learn_write(&self, sql: &str) {
        // A little over the bounds under contention, which is harmless.
        let bytes = self.learned_bytes.load(Ordering::Relaxed);
        let has_room = self.learned.len() < MAX_LEARNED && bytes + sql.len() <= MAX_LEARNED_BYTES;
        if has_room && self.learned.insert(sql.into(), ()).is_none() {
            self.learned_bytes.fetch_add(sql.len(), Ordering::Relaxed);
        }
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            let generation = self.generation.load(Ordering::Acquire);
            self.remember(sql, generation, &Arc::new(learned()));
        }
    }

    /// What is known of the catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Grows whenever what is known of the catalog changes: an answer of before may
    /// then be no longer right.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be read before the catalog is loaded, for [`set_catalog`](Self::set_catalog).
    #[must_use]
    pub fn doubts(&self) -> u64 {
        *self.lock()
    }

    /// Takes a catalog that was loaded after `doubts` was read from
    /// [`doubts`](Self::doubts). If it was put in doubt since, it stays so.
    pub fn set_catalog(&self, catalog: Catalog, doubts: u64) {
        let now = self.lock();
        let catalog = if *now == doubts { catalog } else { catalog.doubted() };
        let known = self.catalog.load();
        if **known == catalog {
            return;
        }
        if !known.has_same_facts(&catalog) {
            self.learned.clear();
            self.learned_bytes.store(0, Ordering::Relaxed);
        }
        self.replace(catalog);
    }

    /// Says that the schema is changing: until the catalog is loaded anew, what
    /// only it knew to be pure is not.
    pub fn doubt_catalog(&self) {
        let mut doubts = self.lock();
        *doubts += 1;
        let known = self.catalog.load();
        if !known.is_empty() && !known.is_doubted() {
            self.replace(known.doubted());
        }
    }

    /// Under the lock.
    fn replace(&self, catalog: Catalog) {
        self.catalog.store(Arc::new(catalog));
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn remember(&self, sql: &str, generation: u64, classification: &Arc<Classification>) {
        let classification = Arc::clone(classification);
        self.cache.insert(sql.into(), Remembered { generation, classification });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        // A counter has no broken state.
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn learned() -> Classification {
    let mut classification = Classification::new();
    classification.tables.complete = false;
    classification.found(Intent::Write, Reason::Learned, None);
    classification
}

/// The same for all of them: nobody has looked at more than the first word.
fn certain_write() -> Arc<Classification> {
    static CERTAIN_WRITE: LazyLock<Arc<Classification>> = LazyLock::new(|| {
        let mut classification = Classification::new();
        classification.tables.complete = false;
        classification.found(Intent::Write, Reason::Writes("a statement that changes data"), None);
        Arc::new(classification)
    });
    Arc::clone(&CERTAIN_WRITE)
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classifier")
            .field("dialect", &self.dialect)
            .field("cached", &self.cache.len())
            .field("learned", &self.learned.len())
            .field("catalog", &self.catalog.load().len())
            .finish()
    }
}

/// Weighs an entry by its memory.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Box<str>, Remembered> for Bytes {
    fn weight(&self, sql: &Box<str>, known: &Remembered) -> u64 {
        (sql.len() + ENTRY_BYTES + known.classification.heap_bytes()) as u64
    }
}

#[cfg(test)]
mod tests;
