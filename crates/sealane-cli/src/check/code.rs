//! All kinds of findings. The chapter on the command in the book explains each.

use super::finding::{Code, Severity};

const fn error(name: &'static str) -> Code {
    Code { name, severity: Severity::Error }
}

const fn warning(name: &'static str) -> Code {
    Code { name, severity: Severity::Warning }
}

const fn note(name: &'static str) -> Code {
    Code { name, severity: Severity::Note }
}

// Reaching the servers.
pub(super) const UNREACHABLE: Code = error("unreachable");
pub(super) const REFUSED: Code = error("login-refused");
pub(super) const TLS_REFUSED: Code = error("tls-refused");
pub(super) const NO_DATABASE: Code = error("no-database");
pub(super) const CONNECTIONS_USED_UP: Code = error("connections-used-up");
pub(super) const UNAVAILABLE: Code = error("unavailable");
pub(super) const PLAINTEXT: Code = warning("plaintext-to-remote");
pub(super) const POOL_TOO_LARGE: Code = warning("pool-too-large");

// Who is who.
pub(super) const NO_PRIMARY: Code = error("no-primary");
pub(super) const TWO_PRIMARIES: Code = error("two-primaries");
pub(super) const FIRST_IS_REPLICA: Code = warning("first-url-is-replica");
pub(super) const NO_REPLICAS: Code = note("no-replicas");
pub(super) const SAME_SERVER: Code = error("same-server");
pub(super) const OTHER_SYSTEM: Code = error("other-system");
pub(super) const OTHER_DATABASE: Code = error("other-database");
pub(super) const MIXED_ENGINES: Code = error("mixed-engines");
pub(super) const VERSIONS_DIFFER: Code = warning("versions-differ");
pub(super) const VERSION_UNSUPPORTED: Code = warning("version-unsupported");
pub(super) const SEVERAL_SERVERS: Code = error("several-servers-behind-url");
pub(super) const SETTINGS_LOST: Code = warning("session-settings-lost");
pub(super) const GUARD_DROPPED: Code = warning("read-only-guard-dropped");
pub(super) const GROUP: Code = warning("group-of-primaries");
pub(super) const CLOCKS_DIFFER: Code = warning("clocks-differ");
pub(super) const DOES_NOT_START: Code = error("does-not-start");

// Our role on the servers.
pub(super) const SUPERUSER: Code = warning("superuser");
pub(super) const STATISTICS_HIDDEN: Code = warning("statistics-hidden");
pub(super) const STATUS_HIDDEN: Code = warning("replication-status-hidden");

// Replication in general.
pub(super) const NOT_RECEIVING: Code = error("not-receiving");
pub(super) const NOT_APPLYING: Code = error("not-applying");
pub(super) const LAGGING: Code = warning("lagging");
pub(super) const DELAYED: Code = warning("replay-delayed");
pub(super) const OLD_TIMELINE: Code = error("old-timeline");
pub(super) const COPYING: Code = warning("copying");
pub(super) const PRIMARY_READ_ONLY: Code = error("primary-read-only");

// PostgreSQL.
pub(super) const WAL_LEVEL: Code = error("wal-level");
pub(super) const FSYNC_OFF: Code = error("fsync-off");
pub(super) const FEEDBACK_OFF: Code = note("hot-standby-feedback-off");
pub(super) const DELAY_UNBOUNDED: Code = warning("standby-delay-unbounded");
pub(super) const DELAY_LONG: Code = note("standby-delay-long");
pub(super) const DELAY_SHORT: Code = note("standby-delay-short");
pub(super) const WITHOUT_SLOT: Code = warning("replica-without-slot");
pub(super) const SLOT_INACTIVE: Code = warning("slot-inactive");
pub(super) const SLOT_LOST: Code = error("slot-lost");
pub(super) const SLOTS_UNBOUNDED: Code = warning("slots-unbounded");
pub(super) const SLOT_TIMEOUT_SHORT: Code = note("slot-timeout-short");
pub(super) const SYNC_NOBODY: Code = error("synchronous-standby-missing");
pub(super) const NO_SUBSCRIPTION: Code = error("subscription-missing");
pub(super) const SUBSCRIPTION_STOPPED: Code = error("subscription-stopped");
pub(super) const UNDECLARED_SUBSCRIBER: Code = error("subscriber-not-declared");

// MySQL and MariaDB.
pub(super) const GTID_OFF: Code = error("gtid-off");
pub(super) const GTID_UNENFORCED: Code = error("gtid-not-enforced");
pub(super) const BINLOG_OFF: Code = error("binlog-off");
pub(super) const UPDATES_NOT_LOGGED: Code = warning("replica-updates-not-logged");
pub(super) const REPLICA_WRITABLE: Code = error("replica-writable");
pub(super) const SUPER_WRITABLE: Code = note("super-read-only-off");
pub(super) const ORDER_NOT_KEPT: Code = warning("commit-order-not-kept");
pub(super) const BINLOG_SHORT: Code = warning("binlog-expires-early");
pub(super) const BINLOG_STATEMENT: Code = warning("binlog-format-statement");
pub(super) const BINLOG_NOT_SYNCED: Code = warning("binlog-not-synced");
pub(super) const COMMITS_NOT_FLUSHED: Code = warning("commits-not-flushed");
pub(super) const SAME_SERVER_ID: Code = error("same-server-id");
pub(super) const PERFORMANCE_SCHEMA: Code = note("performance-schema-off");
pub(super) const NOT_BOUND: Code = warning("not-bound-by-read-only");

// SQLite.
pub(super) const NO_FILE: Code = warning("no-such-file");
pub(super) const FILE_UNREADABLE: Code = error("file-unreadable");
pub(super) const NO_DATABASE_FILE: Code = error("not-a-database-file");
pub(super) const NOT_WAL: Code = warning("journal-not-wal");
pub(super) const IN_MEMORY: Code = note("in-memory");
