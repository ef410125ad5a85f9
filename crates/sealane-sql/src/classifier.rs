//! A cache of classifications, corrected by what servers refuse.
//!
//! An application sends few distinct texts, each many times, so the hot path is one look-up. The
//! cache is limited in bytes, because an ORM's `IN` lists make texts of very different sizes. Texts
//! that come only once leave the cache first (S3-FIFO), and certain writes never enter it. A text
//! that a server refused as a write is stored outside the cache. The refusal cannot be recomputed,
//! so eviction must not lose it.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sealane_core::{Intent, TableSet};

use crate::catalog::Catalog;
use crate::classification::Classification;
use crate::classify::classify_with;
use crate::dialect::Dialect;
use crate::fast_path;
use crate::finding::Reason;
use crate::first_words::FirstWords;

/// Memory for cached texts with their classifications.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry costs in addition to its text and lists: the classification itself, the key, and
/// the slots of list and hash table.
const ENTRY_BYTES: usize = size_of::<Classification>() + 96;
/// Longer texts are classified each time, because they rarely come twice.
const MAX_CACHED_TEXT_BYTES: usize = 16 * 1024;
/// How many refused texts are remembered, and how many bytes of them. Beyond these limits the
/// classifier learns nothing more, so that a flood of distinct texts cannot push out what it has
/// learned. The caller still runs a refused statement again on the primary, every time.
const MAX_LEARNED: usize = 10_000;
const MAX_LEARNED_BYTES: usize = 8 * 1024 * 1024;

/// Classifies the statements of one database and remembers the results.
///
/// Threads share it by reference: every method takes `&self`.
pub struct Classifier {
    dialect: Dialect,
    cache: Cache<Box<str>, Remembered, Bytes>,
    learned: DashMap<Box<str>, ()>,
    learned_bytes: AtomicUsize,
    catalog: ArcSwap<Catalog>,
    /// Grows with each change of the catalog. Classifications of an older generation are
    /// recomputed.
    generation: AtomicU64,
    /// How often the catalog was put in doubt. It is behind a lock because storing a catalog
    /// compares this number and replaces the catalog in one step. Look-ups never take the lock.
    doubts: Mutex<u64>,
}

/// A classification, and the generation of the catalog that it was made with.
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

    /// The intent of `sql`. One look-up and no allocation if `sql` was seen before.
    #[must_use]
    pub fn intent(&self, sql: &str) -> Intent {
        self.look_up(sql).intent
    }

    /// Like [`classify`](Self::classify), but cached. One look-up and no allocation if `sql` was
    /// seen before.
    ///
    /// A text that begins with `INSERT`, `UPDATE`, `DELETE` or `REPLACE` is not parsed: the result
    /// then holds the intent, but no tables and no cost.
    #[must_use]
    pub fn look_up(&self, sql: &str) -> Arc<Classification> {
        if FirstWords::is_certain_write(sql, self.dialect) {
            return certain_write();
        }
        // The generation is read before the catalog. So a classification may come from a newer
        // catalog than its generation says, and is then recomputed needlessly. It never comes from
        // an older catalog.
        let generation = self.generation.load(Ordering::Acquire);
        let known = self.cache.get(sql);
        if let Some(known) = &known
            && known.generation == generation
        {
            return Arc::clone(&known.classification);
        }
        let classification = Arc::new(self.decide(sql));
        if let Some(known) = known {
            classification.pace.follow(&known.classification.pace);
            classification.usage.follow(&known.classification.usage);
        }
        if sql.len() <= MAX_CACHED_TEXT_BYTES {
            self.remember(sql, generation, &classification);
            // `learn_write` may have run in the meantime: what it learned wins.
            if classification.intent.is_read() && self.learned.contains_key(sql) {
                let learned = Arc::new(learned());
                self.remember(sql, generation, &learned);
                return learned;
            }
        }
        classification
    }

    /// Whether replicas may have other rows of some table. See [`Catalog::difference`].
    #[must_use]
    pub fn replicas_may_differ(&self) -> bool {
        self.catalog.load().difference().is_some()
    }

    /// The tables that `sql` writes, as far as the text and the catalog show. Takes one pass over
    /// the text.
    #[must_use]
    pub fn written(&self, sql: &str) -> TableSet {
        match self.dialect {
            Dialect::PostgreSql | Dialect::MySql => {
                fast_path::tables_written(sql, self.dialect, &self.catalog.load())
            }
            // No catalog says which other tables a write changes.
            Dialect::Sqlite => TableSet::WHOLE,
        }
    }

    /// The cached texts that have run, with what is known about them, in no order. Copies every such
    /// text: for reports, not for the hot path.
    pub fn remembered(&self) -> impl Iterator<Item = (Box<str>, Arc<Classification>)> + '_ {
        self.cache.iter().map(|(sql, known)| (sql, known.classification))
    }

    /// The full classification of `sql`, from what a server taught or else from the text.
    ///
    /// Parses each time: for explanations, not for the hot path.
    #[must_use]
    pub fn classify(&self, sql: &str) -> Classification {
        if self.learned.contains_key(sql) {
            return learned();
        }
        classify_with(sql, self.dialect, &self.catalog.load())
    }

    /// Like [`classify`](Self::classify), but takes the fast path where no syntax tree is needed.
    fn decide(&self, sql: &str) -> Classification {
        if self.learned.contains_key(sql) {
            return learned();
        }
        let catalog = self.catalog.load();
        fast_path::classify(sql, self.dialect, &catalog)
            .unwrap_or_else(|| classify_with(sql, self.dialect, &catalog))
    }

    /// Remembers that a server refused `sql` as a write.
    ///
    /// The memory is bounded: beyond 10,000 distinct texts, or 8 MiB of them, a new text is
    /// remembered in the cache only. If the cache evicts such a text, a server refuses it once more
    /// and it runs again. When the catalog changes, all refused texts are forgotten, because the
    /// change may have removed the reason for the refusal.
    pub fn learn_write(&self, sql: &str) {
        // Under contention the memory may exceed its limits a little, which is harmless.
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

    /// Forgets which texts servers refused, because the reason may be gone.
    pub fn forget_learned(&self) {
        self.learned.clear();
        self.learned_bytes.store(0, Ordering::Relaxed);
        // Cached classifications of these texts become outdated.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The current catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// A number that grows with every change of the catalog. A classification of an older
    /// generation may be wrong now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often the catalog was put in doubt. Read it before loading a catalog and pass it to
    /// [`set_catalog`](Self::set_catalog).
    #[must_use]
    pub fn doubts(&self) -> u64 {
        *self.lock()
    }

    /// Stores a catalog that was loaded after `doubts` was read from [`doubts`](Self::doubts). If
    /// the catalog was put in doubt in the meantime, the new one is in doubt as well.
    pub fn set_catalog(&self, catalog: Catalog, doubts: u64) {
        let now = self.lock();
        let catalog = if *now == doubts { catalog } else { catalog.doubted() };
        let known = self.catalog.load();
        if **known == catalog {
            return;
        }
        if !known.has_same_facts(&catalog) {
            self.forget_learned();
        }
        self.replace(catalog);
    }

    /// Puts the catalog in doubt because the schema is changing. Until the catalog is loaded again,
    /// nothing counts as pure that only the catalog knows to be pure.
    pub fn doubt_catalog(&self) {
        let mut doubts = self.lock();
        *doubts += 1;
        let known = self.catalog.load();
        if !known.is_empty() && !known.is_doubted() {
            self.replace(known.doubted());
        }
    }

    /// The caller holds the lock.
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

/// One shared value for all certain writes: only the first word was read.
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

/// The weight of a cache entry is its memory in bytes.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Box<str>, Remembered> for Bytes {
    fn weight(&self, sql: &Box<str>, known: &Remembered) -> u64 {
        (sql.len() + ENTRY_BYTES + known.classification.heap_bytes()) as u64
    }
}

#[cfg(test)]
mod tests;
