//! What follows from the errors of MySQL 9 and MariaDB 11.8, as data.
//!
//! The numbers come from the servers' own lists: `perror` of MySQL, `errmsg.sys` of MariaDB, and for
//! those below 1000, which concern files and memory, `mysys_err.h` of both. From 120 on these are the
//! numbers of the storage engines (`my_base.h`): MyISAM and Aria give them to the client as they are.
//! Both servers use the same numbers up to 1877. Above that, one number may mean something else on
//! the other server. A number is listed here only if its other meaning is not an error that a read
//! can meet.
//!
//! An error that is not listed concerns the statement: it fails in the same way everywhere, and the
//! caller gets the error. Errors listed as [`Own`] look as if they concerned the server but concern
//! the statement.

use super::RetryDecision;
use crate::Role;

/// What an error says about the statement or the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// The statement is at fault.
    Own,
    /// The server cannot do this now, or cannot run this statement. It runs other statements, and
    /// other servers may run this one.
    Busy,
    /// The server does not let us in. If a statement gets this error, the statement is at fault.
    Refused,
    /// The server does nothing for us until somebody changes its settings.
    Unusable,
    /// The server is going away, or has not started yet.
    Away,
    /// This connection has ended; the server goes on.
    Closed,
    /// This connection had ended before the statement arrived; the server goes on.
    Idle,
    /// The server lacks something that the primary has, or has other settings: the primary decides.
    Lacks,
    /// The statement writes.
    Writes,
}

use Says::{Away, Busy, Closed, Idle, Lacks, Own, Refused, Unusable, Writes};

/// The number, what it says, and the condition in words for people.
type Row = (u16, Says, &'static str);

/// Sorted by number.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    (1, Busy, "it cannot create a file"),
    (2, Busy, "it cannot read a file"),
    // MySQL: a temporary file, such as that of a sort, on a full disk.
    (3, Busy, "it cannot write a file"),
    (4, Busy, "it cannot close a file"),
    (5, Busy, "it is out of memory"),
    (9, Busy, "a file has ended too early"),
    (10, Busy, "it cannot lock a file"),
    (12, Busy, "it cannot read a directory"),
    (13, Busy, "it cannot find out about a file"),
    (14, Busy, "it cannot change the size of a file"),
    (15, Busy, "it cannot open a file"),
    (20, Busy, "its disk is full"),
    (22, Lacks, "it has no such character set"),
    (23, Busy, "it has too many open files"),
    (27, Busy, "it cannot write a file to its disk"),
    (28, Lacks, "it has no such collation"),
    (29, Busy, "a file is missing"),
    (33, Busy, "it cannot read at a place in a file"),
    // MariaDB only: of a temporary file; 201 and 202 of a temporary table.
    (41, Lacks, "its max_tmp_session_space_usage is too small"),
    (42, Busy, "max_tmp_total_space_usage is reached"),
    // Of a table in MyISAM or Aria whose files are damaged.
    (126, Busy, "an index is corrupt"),
    (127, Busy, "a file of a table is corrupt"),
    (130, Busy, "a file of a table is wrong"),
    (144, Busy, "a table is crashed, and its repair failed"),
    (145, Busy, "a table is marked as crashed"),
    (175, Busy, "a file of a table is too short"),
    (176, Busy, "a page of a table has a wrong checksum"),
    // MariaDB. On MySQL, only a DELETE or an UPDATE meets this number.
    (192, Busy, "it cannot decrypt a table"),
    (201, Lacks, "its max_tmp_session_space_usage is too small"),
    (202, Busy, "max_tmp_total_space_usage is reached"),
    (1015, Busy, "it cannot lock a file"),
    (1016, Busy, "it cannot open a file of a table"),
    (1017, Busy, "a file of a table is missing"),
    (1018, Busy, "it cannot read a directory"),
    // MariaDB: a conflict with a change applied in the meantime (innodb_snapshot_isolation).
    (1020, Busy, "a row has changed since it was read"),
    (1021, Busy, "its disk is full"),
    (1023, Busy, "it cannot close a file"),
    (1024, Busy, "it cannot read a file"),
    // This concerns a temporary file, such as that of a sort.
    (1026, Busy, "it cannot write a file"),
    (1030, Busy, "its storage engine failed"),
    (1033, Busy, "a file of a table is wrong"),
    (1034, Busy, "an index is corrupt"),
    (1035, Busy, "an index file is too old"),
    (1037, Busy, "it is out of memory"),
    // The size of the sort buffer is a setting. MySQL also reports this for rows that are too long.
    (1038, Lacks, "it is out of sort memory"),
    (1040, Busy, "it has too many connections"),
    (1041, Busy, "it is out of memory"),
    (1042, Refused, "it cannot tell our host's name"),
    (1043, Refused, "the handshake failed"),
    (1044, Refused, "we have no access to the database"),
    (1045, Refused, "it does not accept our password"),
    // A Galera node that is not ready. MySQL uses this number for an unknown command, which our
    // driver does not send.
    (1047, Away, "its node is not ready"),
    // The creation of the database may not be replayed yet: see `for_statement`. So it is with 1045.
    (1049, Refused, "it has no such database"),
    (1051, Lacks, "it has no such table"),
    (1053, Away, "it is shutting down"),
    (1054, Lacks, "it has no such column"),
    // sql_mode may differ between servers. The same holds for the similar errors below.
    (1055, Lacks, "its sql_mode refuses a column beside GROUP BY"),
    (1079, Away, "it has shut down"),
    // The server estimates this before it reads.
    (1104, Lacks, "its max_join_size is too small"),
    (1105, Own, "an error without a number"),
    // A temporary table that outgrew its file or its memory. The statement causes this, but the
    // limit is the server's.
    (1114, Busy, "a table is full"),
    (1115, Lacks, "it has no such character set"),
    (1119, Lacks, "its threads' stack is too small"),
    (1126, Busy, "it cannot open a library"),
    (1127, Lacks, "it has not such a function in a library"),
    (1128, Lacks, "it has no such loadable function"),
    (1129, Refused, "it has blocked our host"),
    (1130, Refused, "it does not allow our host"),
    (1135, Busy, "it cannot create a thread"),
    (1140, Lacks, "its sql_mode refuses an aggregate without GROUP BY"),
    // The grant may not be replayed yet. The same holds for 1143 and 1370.
    (1142, Lacks, "our user has no privilege for a table"),
    (1143, Lacks, "our user has no privilege for a column"),
    (1146, Lacks, "it has no such table"),
    (1152, Closed, "it has aborted the connection"),
    (1153, Lacks, "its max_allowed_packet is too small"),
    (1154, Closed, "it could not read from the connection"),
    (1155, Closed, "it could not use the connection"),
    // The driver has lost its place on the connection.
    (1156, Closed, "packets came out of order"),
    (1157, Closed, "it could not read from the connection"),
    (1158, Closed, "it could not read from the connection"),
    (1159, Closed, "it waited too long for the connection"),
    (1160, Closed, "it could not write to the connection"),
    (1161, Closed, "it waited too long for the connection"),
    (1162, Lacks, "its max_allowed_packet is too small"),
    (1176, Lacks, "it has no such index"),
    (1184, Closed, "it has aborted the connection"),
    (1191, Lacks, "it has no such full-text index"),
    (1193, Lacks, "it has no such variable"),
    (1194, Busy, "a table is marked as crashed"),
    (1195, Busy, "a table is marked as crashed"),
    (1203, Busy, "our user has too many connections"),
    // The statement waits for a change that is being applied, or for a backup.
    (1205, Busy, "a lock was not free in time"),
    (1206, Busy, "its table of locks is full"),
    (1213, Busy, "the read and what it applies waited for each other"),
    (1218, Busy, "it cannot connect to another server"),
    (1226, Busy, "our user has used up a resource"),
    (1227, Own, "no privilege for the statement"),
    // A proxy or a pooler has lost the prepared statement.
    (1243, Busy, "a prepared statement is gone"),
    (1251, Refused, "it does not accept our way to log in"),
    (1273, Lacks, "it has no such collation"),
    (1275, Refused, "it does not accept our way to log in"),
    (1286, Lacks, "it has no such storage engine"),
    // --read-only. Other options are reported in the same way; statements that they forbid are not
    // reads either.
    (1290, Writes, "an option forbids it, such as --read-only"),
    (1296, Busy, "its storage engine failed"),
    (1297, Busy, "its storage engine failed for now"),
    // Time zone tables are loaded on each server separately.
    (1298, Lacks, "it does not know the time zone"),
    (1305, Lacks, "it has no such routine"),
    // KILL QUERY: somebody who ends a statement does not want it to run again on another server.
    (1317, Own, "an administrator has ended the statement"),
    // The function was created anew, with other arguments.
    (1318, Lacks, "its routine takes other arguments"),
    (1356, Lacks, "its view refers to what it has not"),
    (1370, Lacks, "our user has no privilege for a routine"),
    (1390, Own, "too many parameters"),
    (1412, Busy, "the table was changed meanwhile"),
    (1429, Busy, "it cannot connect to another server"),
    (1436, Lacks, "its threads' stack is too small"),
    (1449, Lacks, "it has not the user that defines a view"),
    (1461, Busy, "max_prepared_stmt_count is reached"),
    (1524, Lacks, "a plugin is not loaded"),
    (1614, Busy, "the read and what it applies waited for each other"),
    (1615, Busy, "a prepared statement has to be prepared anew"),
    (1637, Busy, "it has too many transactions"),
    (1689, Busy, "a lock was given to what it applies"),
    (1698, Refused, "it does not let us log in in this way"),
    (1712, Busy, "an index is corrupt"),
    (1728, Busy, "a system table is corrupt"),
    (1735, Lacks, "it has no such partition"),
    (1747, Lacks, "its table has no partitions"),
    // A READ ONLY transaction.
    (1792, Writes, "the transaction reads only"),
    (1805, Busy, "a system table is corrupt"),
    (1812, Busy, "a tablespace is missing"),
    (1814, Busy, "a tablespace is discarded"),
    (1815, Busy, "an internal error"),
    (1816, Busy, "a tablespace is being imported"),
    (1817, Busy, "an index is corrupt"),
    (1820, Unusable, "our password has to be changed"),
    (1835, Own, "a packet that it does not understand, as with a value too few"),
    (1836, Writes, "it is in read-only mode"),
    (1862, Refused, "our password has expired"),
    (1873, Refused, "it does not accept our password"),
    (1874, Lacks, "its InnoDB is in read-only mode"),
    (1877, Busy, "a table is missing or corrupt"),
    (1878, Busy, "it cannot write a temporary file"),
    (1881, Busy, "it runs with innodb_force_recovery"),
    // The numbers up to 1969 exist on MariaDB only.
    (1927, Closed, "an administrator has ended the connection"),
    (1931, Own, "LIMIT ROWS EXAMINED was reached"),
    (1932, Busy, "a table is not in its storage engine"),
    (1969, Own, "max_statement_time was reached"),
    // Reported by a proxy, with the numbers of the client library.
    (2006, Away, "a proxy has no connection to it"),
    (2013, Away, "a proxy has lost the connection to it"),
    (3000, Busy, "a file is corrupt"),
    (3015, Busy, "its storage engine is out of memory"),
    (3019, Busy, "its undo log is full"),
    (3024, Own, "max_execution_time was reached"),
    (3032, Away, "it is in offline mode"),
    (3044, Busy, "it is out of memory"),
    (3087, Lacks, "its sql_mode refuses a column beside GROUP BY"),
    (3088, Lacks, "its sql_mode refuses an aggregate without GROUP BY"),
    (3118, Refused, "our account is locked"),
    (3159, Refused, "it wants TLS"),
    (3168, Away, "it is not available"),
    (3169, Closed, "an administrator has ended the connection"),
    (3170, Busy, "a limit of its memory is reached"),
    (3548, Lacks, "it has no such spatial reference system"),
    // Group Replication: the statement waits for consistency on a member that is not online.
    (3796, Busy, "its member is not in its group"),
    (3797, Busy, "its member did not get the others' transactions in time"),
    (3798, Busy, "its member did not get the others' transactions in time"),
    (3955, Refused, "our account is locked for a while"),
    (3985, Busy, "it has no room for locks"),
    (4031, Idle, "the connection was idle for too long"),
    (4081, Busy, "all connections together use too much memory"),
    // The statement would take as much memory on every other server.
    (4082, Own, "the connection uses too much memory"),
    (4094, Busy, "its group is choosing its primary"),
    // MariaDB only. On MySQL, these numbers are errors of bulk loads.
    (4150, Refused, "our user is blocked after wrong passwords"),
    (4151, Refused, "our account is locked"),
];

fn row(number: u16) -> Option<&'static Row> {
    TABLE.binary_search_by_key(&number, |(its, ..)| *its).ok().and_then(|at| TABLE.get(at))
}

fn says(code: &str) -> Says {
    code.parse().ok().and_then(row).map_or(Own, |(_, says, _)| *says)
}

/// The condition that `code` tells of its server, in words; `None` if the statement is at fault.
pub(super) fn condition(code: &str) -> Option<&'static str> {
    let (_, says, words) = code.parse().ok().and_then(row)?;
    (*says != Own && *says != Writes).then_some(*words)
}

/// Whether a statement or a COMMIT with this error may have been carried out: the server was
/// shutting down, or the connection was ended, while the statement ran. 4031 is not included,
/// because that connection had ended before the server read the statement.
pub(super) fn leaves_unknown(code: &str) -> bool {
    matches!(code, "1053" | "1160" | "1161" | "1180" | "1598" | "1927" | "2006" | "2013" | "3169")
}

/// What follows if opening a connection or beginning a transaction failed.
pub(super) fn for_opening(role: Role, code: &str) -> RetryDecision {
    match (says(code), role) {
        (Away, _) => RetryDecision::Suspect,
        (Closed | Idle, _) => RetryDecision::Reconnect,
        (_, Role::Primary) => RetryDecision::ReturnToCaller,
        (Refused | Unusable, _) => RetryDecision::Suspect,
        (Busy | Lacks, _) => RetryDecision::TryElsewhere,
        // Such errors come from other statements sent on connect, such as those of the
        // application's hook.
        (Own | Writes, _) => RetryDecision::ReturnToCaller,
    }
}

/// What follows if a statement failed.
pub(super) fn for_statement(role: Role, code: &str) -> RetryDecision {
    match (says(code), role) {
        (Away, _) => RetryDecision::Suspect,
        (Closed, _) => RetryDecision::Reconnect,
        (Idle, _) => RetryDecision::Renew,
        (_, Role::Primary) => RetryDecision::ReturnToCaller,
        (Unusable, _) => RetryDecision::Suspect,
        // The database was created a moment ago, and the text names it; or a view's definer was, of
        // whom only administrators are told (1449). Who logs in without a password gets 1698.
        (Refused, _) if matches!(code, "1045" | "1049" | "1698") => RetryDecision::AskPrimary,
        (Own | Refused, _) => RetryDecision::ReturnToCaller,
        (Busy, _) => RetryDecision::TryElsewhere,
        (Lacks, _) => RetryDecision::AskPrimary,
        (Writes, _) => RetryDecision::LearnWrite,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use RetryDecision::{
        AskPrimary, LearnWrite, Reconnect, Renew, ReturnToCaller, Suspect, TryElsewhere,
    };

    #[test]
    fn the_table_is_sorted_and_says_why() {
        assert!(TABLE.is_sorted_by(|(a, ..), (b, ..)| a < b));
        assert!(TABLE.iter().all(|(_, _, words)| words.len() > 8));
    }

    #[rstest]
    // Failures of the server itself.
    #[case(&["1461", "1814", "1226", "1114", "1021", "1030", "1203", "1040"], TryElsewhere)]
    #[case(&["3", "1", "20", "42", "202", "29"], TryElsewhere)]
    #[case(&["126", "127", "130", "144", "145", "175", "176", "192"], TryElsewhere)]
    #[case(&["41", "201"], AskPrimary)]
    #[case(&["1812", "1877", "1194", "1932", "1016", "1024", "1026", "1037", "1135"], TryElsewhere)]
    // Conflicts with changes that are being applied.
    #[case(&["1205", "1213", "1689", "1412", "1020"], TryElsewhere)]
    // Something that is not replayed yet, or is set differently.
    #[case(&["1146", "1054", "1305", "1045", "1698", "1049", "1176", "1191", "1735"], AskPrimary)]
    #[case(&["1104", "1318", "1747", "3548"], AskPrimary)]
    #[case(&["1140", "1055", "3087", "3088", "1153", "1162", "1298", "1193", "1273"], AskPrimary)]
    #[case(&["1820", "1053", "1047", "3032", "3168", "2006", "2013"], Suspect)]
    #[case(&["1142", "1143", "1370"], AskPrimary)]
    #[case(&["1927", "3169", "1158", "1160"], Reconnect)]
    #[case(&["4031"], Renew)]
    #[case(&["1290", "1792", "1836"], LearnWrite)]
    // Errors of the statement, even if they look like errors of the server.
    #[case(&["1044", "1227"], ReturnToCaller)]
    #[case(&["1835", "1210", "1064", "1317", "3024", "1969", "1365", "1690"], ReturnToCaller)]
    #[case(&["no number", "", "99999"], ReturnToCaller)]
    fn what_follows_for_a_read_on_a_replica(
        #[case] codes: &[&str],
        #[case] decision: RetryDecision,
    ) {
        for code in codes {
            assert_eq!(for_statement(Role::Replica, code), decision, "{code}");
        }
    }

    #[rstest]
    #[case(&["1044", "1045", "1049", "1129", "1130", "1698", "1820", "1862"], Suspect)]
    #[case(&["3118", "4150", "4151", "3955", "3159", "1251", "1053"], Suspect)]
    #[case(&["1040", "1203", "1226", "1135"], TryElsewhere)]
    #[case(&["1064", "1146x"], ReturnToCaller)]
    fn what_follows_for_a_connection_to_a_replica(
        #[case] codes: &[&str],
        #[case] decision: RetryDecision,
    ) {
        for code in codes {
            assert_eq!(for_opening(Role::Replica, code), decision, "{code}");
        }
    }

    #[rstest]
    #[case(&["1053", "3032", "1047"], Suspect)]
    #[case(&["1927"], Reconnect)]
    #[case(&["1045", "1142", "1370", "1461", "1146", "1140", "1290", "1820", "1040"], ReturnToCaller)]
    fn the_primarys_own_errors_go_to_the_caller(
        #[case] codes: &[&str],
        #[case] decision: RetryDecision,
    ) {
        for code in codes {
            assert_eq!(for_statement(Role::Primary, code), decision, "{code}");
            assert_eq!(for_opening(Role::Primary, code), decision, "{code}");
        }
    }

    #[test]
    fn a_connection_that_was_idle_too_long_has_run_nothing() {
        for role in [Role::Primary, Role::Replica] {
            assert_eq!(for_statement(role, "4031"), Renew);
            assert_eq!(for_opening(role, "4031"), Reconnect);
        }
        assert!(!leaves_unknown("4031"));
    }

    #[test]
    fn what_ends_while_it_runs_may_have_been_carried_out() {
        for code in ["1053", "1160", "1161", "1927", "2006", "2013", "3169"] {
            assert!(leaves_unknown(code), "{code}");
        }
        for code in ["1213", "1205", "1062", "1290", "1317", "1047", "", "x"] {
            assert!(!leaves_unknown(code), "{code}");
        }
    }

    #[test]
    fn a_condition_is_named_if_it_is_the_servers() {
        assert_eq!(condition("1461"), Some("max_prepared_stmt_count is reached"));
        assert_eq!(condition("4151"), Some("our account is locked"));
        assert_eq!((condition("1835"), condition("1290"), condition("1064")), (None, None, None));
    }
}
