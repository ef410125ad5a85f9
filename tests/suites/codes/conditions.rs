//! What an administrator can do to one replica so that reads fail there and nowhere else.

use sealane_tests::Engine;

/// Something that is wrong with one replica alone.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    pub code: u16,
    pub apply: &'static str,
    pub undo: &'static str,
    pub read: &'static str,
    pub shows: Shows,
}

/// Where people find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The replica goes on; the log names what happened to the read.
    InLog,
    /// The replica is out of use, and its status says why.
    InStatus,
}

use Shows::{InLog, InStatus};

const fn one(
    code: u16,
    shows: Shows,
    apply: &'static str,
    undo: &'static str,
    read: &'static str,
) -> Condition {
    Condition { code, apply, undo, read, shows }
}

const NAMES: &str = "SELECT id FROM harbour WHERE id = 1";
/// A statement of more than 16 KB, of which the packet is larger than the smallest limit.
pub const LARGE: &str = "large";
const UNLOCK: &str = "ALTER USER coder@'%' ACCOUNT UNLOCK";
const PASSWORD: &str = "ALTER USER coder@'%' IDENTIFIED BY 'coder'";

pub fn all(engine: Engine) -> Vec<Condition> {
    let own = if engine == Engine::Mysql { MYSQL } else { MARIADB };
    BOTH.iter().chain(own).copied().collect()
}

#[rustfmt::skip]
const BOTH: &[Condition] = &[
    one(1461, InLog, "SET GLOBAL max_prepared_stmt_count = 0", "SET GLOBAL max_prepared_stmt_count = 16382", NAMES),
    one(1045, InStatus, "ALTER USER coder@'%' IDENTIFIED BY 'other'", PASSWORD, NAMES),
    one(1049, InStatus, "DROP DATABASE code_db", "CREATE DATABASE code_db; CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1)", NAMES),
    one(1226, InStatus, "ALTER USER coder@'%' WITH MAX_QUERIES_PER_HOUR 1", "ALTER USER coder@'%' WITH MAX_QUERIES_PER_HOUR 0; FLUSH USER_RESOURCES", NAMES),
    one(1205, InLog, "SET GLOBAL lock_wait_timeout = 1", "SET GLOBAL lock_wait_timeout = 86400", NAMES),
    one(1146, InLog, "DROP TABLE code_db.harbour", "CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1)", NAMES),
    one(1814, InLog, "ALTER TABLE code_db.harbour DISCARD TABLESPACE", "DROP TABLE code_db.harbour; CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1)", NAMES),
    one(1153, InLog, "SET GLOBAL max_allowed_packet = 1024", "SET GLOBAL max_allowed_packet = DEFAULT", LARGE),
];

#[rustfmt::skip]
const MYSQL: &[Condition] = &[
    one(1040, InLog, "SET GLOBAL max_connections = 1", "SET GLOBAL max_connections = 200", NAMES),
    one(1203, InLog, "SET GLOBAL max_user_connections = 1", "SET GLOBAL max_user_connections = 0", NAMES),
    one(1130, InStatus, "UPDATE mysql.user SET Host = '192.0.2.1' WHERE Host = '%'; FLUSH PRIVILEGES", "UPDATE mysql.user SET Host = '%' WHERE Host = '192.0.2.1'; FLUSH PRIVILEGES", NAMES),
    one(3118, InStatus, "ALTER USER coder@'%' ACCOUNT LOCK", UNLOCK, NAMES),
    one(1862, InStatus, "ALTER USER coder@'%' PASSWORD EXPIRE", PASSWORD, NAMES),
    one(3032, InStatus, "SET GLOBAL offline_mode = ON", "SET GLOBAL offline_mode = OFF", NAMES),
    one(1044, InStatus, "REVOKE ALL ON code_db.* FROM coder@'%'", "GRANT ALL ON code_db.* TO coder@'%'", NAMES),
];

#[rustfmt::skip]
const MARIADB: &[Condition] = &[
    one(1130, InStatus, "UPDATE mysql.global_priv SET Host = '192.0.2.1' WHERE Host = '%'; FLUSH PRIVILEGES", "UPDATE mysql.global_priv SET Host = '%' WHERE Host = '192.0.2.1'; FLUSH PRIVILEGES", NAMES),
    one(4151, InStatus, "ALTER USER coder@'%' ACCOUNT LOCK", UNLOCK, NAMES),
    one(1698, InStatus, "ALTER USER coder@'%' IDENTIFIED VIA unix_socket", PASSWORD, NAMES),
    one(1862, InStatus, "SET GLOBAL disconnect_on_expired_password = ON; ALTER USER coder@'%' PASSWORD EXPIRE", "SET GLOBAL disconnect_on_expired_password = OFF; ALTER USER coder@'%' IDENTIFIED BY 'coder'", NAMES),
    one(1820, InStatus, "ALTER USER coder@'%' PASSWORD EXPIRE", PASSWORD, NAMES),
    one(1140, InLog, "SET GLOBAL sql_mode = 'ONLY_FULL_GROUP_BY'", "SET GLOBAL sql_mode = DEFAULT", "SELECT id, COUNT(*) FROM harbour"),
    one(1044, InStatus, "REVOKE ALL ON code_db.* FROM coder@'%'", "GRANT ALL ON code_db.* TO coder@'%'", NAMES),
];
