//! MySQL and MariaDB: `SHOW REPLICA STATUS` (MariaDB: `SHOW ALL SLAVES STATUS`), `SHOW REPLICAS` and the binary log.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Receiver, Sender, Told, rate};
use crate::ask::{Line, TextRow, last_error, replica_status};

/// MySQL since 8.2, MariaDB since 10.5, MySQL before.
const LOG: [&str; 3] = ["SHOW BINARY LOG STATUS", "SHOW BINLOG STATUS", "SHOW MASTER STATUS"];
/// Needs the privilege REPLICATION SLAVE (MariaDB: REPLICATION MASTER ADMIN).
const REPLICAS: &str = "SHOW REPLICA HOSTS";
const NEW_REPLICAS: &str = "SHOW REPLICAS";
const VERSION: &str = "SELECT VERSION() AS version";
const POSITION: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
     ('gtid_executed', 'gtid_current_pos')";

pub(super) async fn ask(line: &mut Line, measure: Duration) -> Told {
    let (began, first) = (Instant::now(), log(line).await);
    let position = line.first(POSITION).await;
    let replicas = match line.told(NEW_REPLICAS).await {
        Some(rows) => Some(rows),
        None => line.told(REPLICAS).await,
    };
    let version = line.first(VERSION).await;
    let is_mariadb = version.is_some_and(|row| is_mariadb(&row));
    let receivers = line.told(replica_status(is_mariadb)).await;
    let mut told = Told {
        position: position
            .and_then(|row| row.text("Value").map(|text| text.replace('\n', "")))
            .filter(|text| !text.is_empty()),
        senders: replicas.map(|rows| rows.iter().map(sender).collect()),
        receivers: receivers.map(|rows| rows.iter().map(receiver).collect()),
        ..Told::default()
    };
    if let Some((file, before)) = first.filter(|_| !measure.is_zero()) {
        sleep(measure).await;
        if let Some((same, after)) = log(line).await
            && same == file
        {
            told.log_bytes_per_s = rate(before, after, began.elapsed());
        }
    }
    told
}

fn is_mariadb(row: &TextRow) -> bool {
    row.text("version").is_some_and(|text| text.to_ascii_lowercase().contains("mariadb"))
}

/// The newest file of the binary log, and its length.
async fn log(line: &mut Line) -> Option<(String, u64)> {
    for sql in LOG {
        if let Some(row) = line.first(sql).await {
            return Some((row.text("File")?.to_owned(), row.number("Position")?));
        }
    }
    None
}

fn sender(row: &TextRow) -> Sender {
    let name = row.text("Host").filter(|host| !host.is_empty());
    let id = row.any(&["Server_Id", "Server_id"]).unwrap_or_default();
    Sender { name: name.map_or_else(|| format!("server {id}"), str::to_owned), ..Sender::default() }
}

fn receiver(row: &TextRow) -> Receiver {
    let any = |columns: &[&str]| row.any(columns).map(str::to_owned).filter(|it| !it.is_empty());
    let runs = |columns: &[&str]| row.any(columns).map(|text| text == "Yes");
    let place =
        |file: &[&str], position: &[&str]| Some(format!("{}:{}", any(file)?, any(position)?));
    let lag = any(&["Seconds_Behind_Source", "Seconds_Behind_Master"]);
    Receiver {
        source: any(&["Source_Host", "Master_Host"]),
        receives: runs(&["Replica_IO_Running", "Slave_IO_Running"]),
        applies: runs(&["Replica_SQL_Running", "Slave_SQL_Running"]),
        received: place(
            &["Source_Log_File", "Master_Log_File"],
            &["Read_Source_Log_Pos", "Read_Master_Log_Pos"],
        ),
        applied: place(
            &["Relay_Source_Log_File", "Relay_Master_Log_File"],
            &["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"],
        ),
        reported_lag_s: lag.and_then(|text| text.parse().ok()),
        receive_error: last_error(row, "Last_IO_Errno", "Last_IO_Error"),
        apply_error: last_error(row, "Last_SQL_Errno", "Last_SQL_Error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mariadb_is_known_by_its_version() {
        assert!(is_mariadb(&TextRow::from([("version", "11.8.3-MariaDB-log")])));
        assert!(!is_mariadb(&TextRow::from([("version", "9.4.0")])));
    }

    #[test]
    fn both_spellings_are_read_and_only_real_errors_are_told() {
        let old = TextRow::from([
            ("Master_Host", "primary"),
            ("Slave_IO_Running", "Connecting"),
            ("Slave_SQL_Running", "Yes"),
            ("Master_Log_File", "binlog.2"),
            ("Read_Master_Log_Pos", "70"),
            ("Last_IO_Errno", "1236"),
            ("Last_IO_Error", "gone. Query: 'SET PASSWORD = 'tidewater''"),
            ("Last_SQL_Errno", "0"),
            ("Last_SQL_Error", ""),
        ]);
        let told = receiver(&old);
        assert_eq!((told.receives, told.applies), (Some(false), Some(true)));
        assert_eq!(told.received.as_deref(), Some("binlog.2:70"));
        assert_eq!(told.receive_error.as_deref(), Some("1236, gone."));
        assert_eq!((told.apply_error, told.applied), (None, None));
        let new = TextRow::from([("Replica_SQL_Running", "No"), ("Source_Host", "primary")]);
        assert_eq!(receiver(&new).applies, Some(false));
    }
}
