//! The facts of a MySQL or MariaDB server.

use std::time::Duration;

use sealane_monitor::mysql::unbound;

use super::{clock, release};
use crate::{
    ask::{Line, TextRow, last_error, replica_status},
    check::facts::{Receiving, ServerFacts, Settings},
};

const IDENTITY: &str = "SELECT VERSION() AS version, DATABASE() AS `database`, \
     CURRENT_USER() AS user";
const SETTINGS: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_id', \
     'hostname', 'port', 'datadir', 'gtid_mode', 'enforce_gtid_consistency', 'log_bin', \
     'log_replica_updates', 'log_slave_updates', 'read_only', 'super_read_only', \
     'replica_preserve_commit_order', 'slave_preserve_commit_order', \
     'replica_parallel_workers', 'slave_parallel_workers', 'binlog_expire_logs_seconds', \
     'binlog_format', 'sync_binlog', 'innodb_flush_log_at_trx_commit', 'performance_schema', \
     'max_connections', 'aurora_version', 'innodb_read_only')";
const ENCRYPTION: &str = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
const CLOCK: &str = "SELECT UNIX_TIMESTAMP(NOW(6)) AS now";

const MARK: &str = "SET @sealane_check = 'kept'";
const MARKED: &str = "SELECT @sealane_check AS mark";
const UNMARK: &str = "SET @sealane_check = NULL";

/// Asks over the first line, and over the second one where it leads to.
pub(super) async fn ask(lines: &mut [Line; 2]) -> sqlx::Result<ServerFacts> {
    let [line, other] = lines;
    let identity = line.rows(IDENTITY).await?.into_iter().next().unwrap_or_default();
    let text = |name| identity.text(name).map(str::to_owned);
    let version = text("version").unwrap_or_default();
    let is_mariadb = version.to_ascii_lowercase().contains("mariadb");
    let settings = settings(line).await;
    let is_aurora = settings.text("aurora_version").is_some();
    let receiving = receiving(line.told(replica_status(is_mariadb)).await);
    let product = if is_mariadb { "MariaDB" } else { "MySQL" };
    Ok(ServerFacts {
        is_replica: is_read_only(&settings, is_aurora).unwrap_or(receiving.follows == Some(true)),
        release: release(&version),
        version: format!("{product} {}", version.split('-').next().unwrap_or_default()),
        is_mariadb,
        is_aurora,
        run: run(&settings),
        run_again: run(&self::settings(other).await),
        database: text("database"),
        user: text("user").map(|user| quoted(&user)),
        unbound_by: unbound_by(line, &version).await,
        clock: clock(line, CLOCK).await,
        is_encrypted: line
            .first(ENCRYPTION)
            .await
            .and_then(|row| row.text("Value").map(|cipher| !cipher.is_empty())),
        keeps_settings: keeps_settings(line, other).await,
        receiving,
        settings,
        ..ServerFacts::default()
    })
}

/// Our user's privileges by which it may write where `read_only` is on.
async fn unbound_by(line: &mut Line, version: &str) -> Vec<String> {
    let rows = line.told(unbound::GRANTS).await.unwrap_or_default();
    let privileges = unbound::privileges(rows.iter().filter_map(TextRow::only), version);
    privileges.into_iter().map(str::to_owned).collect()
}

async fn settings(line: &mut Line) -> Settings {
    let rows = line.told(SETTINGS).await.unwrap_or_default();
    Settings::from_rows(&rows, "Variable_name", "Value")
}

/// Whether the server refuses writes, by the setting that the library goes by; `None` if it does
/// not tell. MariaDB 12 has several kinds of read-only, such as `NO_LOCK`. On Aurora, `read_only`
/// may be off on a reader.
fn is_read_only(settings: &Settings, is_aurora: bool) -> Option<bool> {
    let name = if is_aurora { "innodb_read_only" } else { "read_only" };
    settings.text(name).map(|text| text != "0" && !text.eq_ignore_ascii_case("OFF"))
}

/// What no other running server shares. MariaDB has no identity that a copy does not share, but two
/// servers cannot share an address and a directory.
fn run(settings: &Settings) -> Option<String> {
    let names = ["server_uuid", "server_id", "hostname", "port", "datadir"];
    let parts: Vec<_> = names.iter().filter_map(|name| settings.text(name)).collect();
    (parts.len() >= 4).then(|| parts.join(" "))
}

/// `app@%` as statements write it.
fn quoted(user: &str) -> String {
    match user.rsplit_once('@') {
        Some((name, host)) => format!("'{name}'@'{host}'"),
        None => user.to_owned(),
    }
}

/// See the same of PostgreSQL.
async fn keeps_settings(line: &mut Line, other: &mut Line) -> Option<bool> {
    let is_marked = |row: TextRow| row.text("mark") == Some("kept");
    line.rows(MARK).await.ok()?;
    other.rows("START TRANSACTION").await.ok()?;
    let theirs = other.first(MARKED).await.map(is_marked);
    let ours = line.first(MARKED).await.map(is_marked);
    let _ = other.rows("COMMIT").await;
    let _ = line.rows(UNMARK).await;
    Some(ours? && !theirs?)
}

/// `rows` is the status of all connections to sources, or `None` if it was refused.
fn receiving(rows: Option<Vec<TextRow>>) -> Receiving {
    let Some(rows) = rows else {
        return Receiving { is_visible: Some(false), ..Receiving::default() };
    };
    let visible = Receiving { is_visible: Some(true), ..Receiving::default() };
    if rows.is_empty() {
        // A user without the privilege gets an error, not an empty answer.
        return Receiving { follows: Some(false), ..visible };
    }
    let runs = |row: &TextRow, names: &[&str]| row.any(names) == Some("Yes");
    let receives = |row: &TextRow| runs(row, &["Replica_IO_Running", "Slave_IO_Running"]);
    let applies = |row: &TextRow| runs(row, &["Replica_SQL_Running", "Slave_SQL_Running"]);
    let error = |number, name| rows.iter().find_map(|row| last_error(row, number, name));
    let delay = rows.iter().filter_map(|row| row.number::<u64>("SQL_Delay")).max();
    Receiving {
        follows: Some(true),
        receives: Some(rows.iter().all(receives)),
        applies: Some(rows.iter().all(applies)),
        receive_error: error("Last_IO_Errno", "Last_IO_Error"),
        apply_error: error("Last_SQL_Errno", "Last_SQL_Error"),
        delay: delay.map(Duration::from_secs),
        ..visible
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_error_of_a_stopped_thread_is_told_without_its_statement() {
        let row = TextRow::from([
            ("Replica_SQL_Running", "No"),
            ("Last_SQL_Errno", "1396"),
            ("Last_SQL_Error", "failed on query. Query: 'CREATE USER a IDENTIFIED BY 'tidewater''"),
        ]);
        let told = receiving(Some(vec![row])).apply_error;
        assert_eq!(told.as_deref(), Some("1396, failed on query."));
    }

    #[rstest]
    #[case("ON", Some(true))]
    #[case("1", Some(true))]
    #[case("NO_LOCK", Some(true))]
    #[case("NO_LOCK_NO_ADMIN", Some(true))]
    #[case("OFF", Some(false))]
    #[case("0", Some(false))]
    fn every_kind_of_read_only_but_off_is_read_only(
        #[case] text: &str,
        #[case] wanted: Option<bool>,
    ) {
        let settings = |name: &str| Settings([(name.to_owned(), text.to_owned())].into());
        assert_eq!(is_read_only(&settings("read_only"), false), wanted);
        // A reader of Aurora is told by another setting.
        assert_eq!(is_read_only(&settings("innodb_read_only"), true), wanted);
        assert_eq!(is_read_only(&settings("read_only"), true), None);
        assert_eq!(is_read_only(&Settings::default(), false), None);
    }

    #[test]
    fn one_stopped_connection_of_several_is_told() {
        let row = |runs| TextRow::from([("Slave_IO_Running", runs), ("Slave_SQL_Running", "Yes")]);
        let told = receiving(Some(vec![row("Yes"), row("No")]));
        assert_eq!(
            (told.follows, told.receives, told.applies),
            (Some(true), Some(false), Some(true))
        );
        assert_eq!(receiving(Some(vec![])).follows, Some(false));
        let hidden = receiving(None);
        assert_eq!((hidden.is_visible, hidden.follows), (Some(false), None));
    }

    #[test]
    fn a_user_is_written_as_statements_want_it() {
        assert_eq!(quoted("app@%"), "'app'@'%'");
    }
}
