//! What an administrator can do to one replica so that reads fail there and nowhere else.

use sealane_tests::{Engine, Log};

/// The database of these tests, made anew. It must not exist before. Tables in MyISAM have exact counts
/// of rows, and files that can be damaged one by one.
macro_rules! contents {
    () => {
        "CREATE DATABASE code_db; \
        CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1); \
        CREATE TABLE code_db.cargo (id int, list varchar(4000) CHARACTER SET latin1, KEY (id)) \
            ENGINE = MyISAM; \
        INSERT INTO code_db.cargo WITH RECURSIVE n (n) AS \
            (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 900) \
            SELECT n, REPEAT(CONCAT(n, ' barrels'), 300) FROM n; \
        CREATE DEFINER = coder@'%' FUNCTION code_db.doubled(n int) RETURNS int READS SQL DATA RETURN 2 * n; \
        CREATE DEFINER = pilot@'%' VIEW code_db.piloted AS SELECT id FROM code_db.harbour"
    };
}

/// The users of these tests and the database, on all servers.
pub const SETUP: &str = concat!(
    "DROP USER IF EXISTS coder@'%', pilot@'%'; DROP DATABASE IF EXISTS code_db; \
    CREATE USER coder@'%' IDENTIFIED BY 'coder'; GRANT ALL ON code_db.* TO coder@'%'; \
    CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; GRANT ALL ON code_db.* TO pilot@'%'; ",
    contents!()
);
/// Undoes it.
pub const TEARDOWN: &str = "DROP DATABASE code_db; DROP USER coder@'%', pilot@'%'";

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

impl Condition {
    /// The read that meets it.
    pub fn text(&self) -> String {
        match self.read {
            LARGE => format!("SELECT id FROM harbour /* {} */", "x".repeat(20_000)),
            MANY => format!("SELECT id FROM harbour WHERE id IN (1{})", ", id + 1".repeat(9_000)),
            DEEP => format!("SELECT id FROM harbour WHERE id < 2{}", " + id".repeat(400)),
            read => read.to_owned(),
        }
    }

    /// The lines of `log` about reads that met it. A server that refuses a connection before it has
    /// greeted sends no SQLSTATE.
    pub fn told(&self, log: &Log) -> Vec<String> {
        let with =
            |next| log.failures(&format!("error returned from database: {}{next}", self.code));
        [with(" ("), with(": ")].concat()
    }
}

pub const NAMES: &str = "SELECT id FROM harbour WHERE id = 1";
/// A statement of more than 16 KB, of which the packet is larger than the smallest limit.
const LARGE: &str = "large";
/// A statement whose syntax tree takes more than the smallest limit of 10 MB.
const MANY: &str = "many";
/// A statement that needs more stack than the smallest limit, and less than the default one.
pub const DEEP: &str = "deep";
const DOUBLED: &str = "SELECT doubled(id) AS id FROM harbour";
const PILOTED: &str = "SELECT id FROM piloted";
const JOINS: &str = "SELECT SUM(a.id + b.id) AS id FROM cargo a, cargo b";
const SORTS: &str = "SELECT id FROM cargo ORDER BY CONVERT(list USING utf8mb4), \
    CONCAT(list, list, list) LIMIT 1 OFFSET 800";
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
    one(1049, InStatus, "DROP DATABASE code_db", contents!(), NAMES),
    one(1226, InStatus, "ALTER USER coder@'%' WITH MAX_QUERIES_PER_HOUR 1", "ALTER USER coder@'%' WITH MAX_QUERIES_PER_HOUR 0; FLUSH USER_RESOURCES", NAMES),
    one(1205, InLog, "SET GLOBAL lock_wait_timeout = 1", "SET GLOBAL lock_wait_timeout = 86400", NAMES),
    one(1146, InLog, "DROP TABLE code_db.harbour", "CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1)", NAMES),
    one(1814, InLog, "ALTER TABLE code_db.harbour DISCARD TABLESPACE", "DROP TABLE code_db.harbour; CREATE TABLE code_db.harbour (id int); INSERT INTO code_db.harbour VALUES (1)", NAMES),
    one(1153, InLog, "SET GLOBAL max_allowed_packet = 1024", "SET GLOBAL max_allowed_packet = DEFAULT", LARGE),
    one(1038, InLog, "SET GLOBAL max_sort_length = 8388608; SET GLOBAL sort_buffer_size = 32768", "SET GLOBAL max_sort_length = DEFAULT; SET GLOBAL sort_buffer_size = DEFAULT", SORTS),
    one(1104, InLog, "SET GLOBAL max_join_size = 900; SET GLOBAL sql_big_selects = OFF", "SET GLOBAL max_join_size = DEFAULT; SET GLOBAL sql_big_selects = ON", JOINS),
    one(1356, InLog, "REVOKE ALL ON code_db.* FROM pilot@'%'", "GRANT ALL ON code_db.* TO pilot@'%'", PILOTED),
    one(1370, InLog, "REVOKE EXECUTE ON code_db.* FROM coder@'%'", "GRANT EXECUTE ON code_db.* TO coder@'%'", DOUBLED),
    one(3159, InStatus, "SET GLOBAL require_secure_transport = ON", "SET GLOBAL require_secure_transport = OFF", NAMES),
];

#[rustfmt::skip]
const MYSQL: &[Condition] = &[
    one(1040, InLog, "SET GLOBAL max_connections = 1", "SET GLOBAL max_connections = 200", NAMES),
    one(1203, InLog, "SET GLOBAL max_user_connections = 1", "SET GLOBAL max_user_connections = 0", NAMES),
    one(1130, InStatus, "UPDATE mysql.user SET Host = '192.0.2.1' WHERE Host = '%'; FLUSH PRIVILEGES", "UPDATE mysql.user SET Host = '%' WHERE Host = '192.0.2.1'; FLUSH PRIVILEGES", NAMES),
    one(1524, InLog, "UPDATE mysql.user SET plugin = 'nosuch' WHERE User = 'coder'; FLUSH PRIVILEGES", "UPDATE mysql.user SET plugin = 'caching_sha2_password' WHERE User = 'coder'; FLUSH PRIVILEGES; ALTER USER coder@'%' IDENTIFIED BY 'coder'", NAMES),
    one(3170, InLog, "SET GLOBAL parser_max_mem_size = 10000000", "SET GLOBAL parser_max_mem_size = DEFAULT", MANY),
    one(3955, InStatus, "ALTER USER coder@'%' FAILED_LOGIN_ATTEMPTS 1 PASSWORD_LOCK_TIME 1", "ALTER USER coder@'%' ACCOUNT UNLOCK FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0", NAMES),
    one(3118, InStatus, "ALTER USER coder@'%' ACCOUNT LOCK", UNLOCK, NAMES),
    one(1862, InStatus, "ALTER USER coder@'%' PASSWORD EXPIRE", PASSWORD, NAMES),
    one(3032, InStatus, "SET GLOBAL offline_mode = ON", "SET GLOBAL offline_mode = OFF", NAMES),
    one(1044, InStatus, "REVOKE ALL ON code_db.* FROM coder@'%'", "GRANT ALL ON code_db.* TO coder@'%'", NAMES),
];

#[rustfmt::skip]
const MARIADB: &[Condition] = &[
    one(1130, InStatus, "UPDATE mysql.global_priv SET Host = '192.0.2.1' WHERE Host = '%'; FLUSH PRIVILEGES", "UPDATE mysql.global_priv SET Host = '%' WHERE Host = '192.0.2.1'; FLUSH PRIVILEGES", NAMES),
    one(1055, InLog, "SET GLOBAL sql_mode = 'ONLY_FULL_GROUP_BY'", "SET GLOBAL sql_mode = DEFAULT", "SELECT id FROM harbour GROUP BY id + 1"),
    one(1449, InLog, "DROP USER pilot@'%'; GRANT SET USER ON *.* TO coder@'%'", "REVOKE SET USER ON *.* FROM coder@'%'; CREATE USER pilot@'%' IDENTIFIED BY 'pilot'; GRANT ALL ON code_db.* TO pilot@'%'", PILOTED),
    one(1805, InLog, "ALTER TABLE mysql.proc ADD COLUMN more int", "ALTER TABLE mysql.proc DROP COLUMN more", DOUBLED),
    one(4150, InStatus, "SET GLOBAL max_password_errors = 1", "SET GLOBAL max_password_errors = DEFAULT; FLUSH PRIVILEGES", NAMES),
    one(4151, InStatus, "ALTER USER coder@'%' ACCOUNT LOCK", UNLOCK, NAMES),
    one(1698, InStatus, "ALTER USER coder@'%' IDENTIFIED VIA unix_socket", PASSWORD, NAMES),
    one(1862, InStatus, "SET GLOBAL disconnect_on_expired_password = ON; ALTER USER coder@'%' PASSWORD EXPIRE", "SET GLOBAL disconnect_on_expired_password = OFF; ALTER USER coder@'%' IDENTIFIED BY 'coder'", NAMES),
    one(1820, InStatus, "ALTER USER coder@'%' PASSWORD EXPIRE", PASSWORD, NAMES),
    one(1140, InLog, "SET GLOBAL sql_mode = 'ONLY_FULL_GROUP_BY'", "SET GLOBAL sql_mode = DEFAULT", "SELECT id, COUNT(*) FROM harbour"),
    one(1044, InStatus, "REVOKE ALL ON code_db.* FROM coder@'%'", "GRANT ALL ON code_db.* TO coder@'%'", NAMES),
];
