//! One SQLite file: one connection that writes, several that read.
//!
//! In WAL mode readers do not wait for the writer, and a read that begins after
//! a commit sees it (<https://sqlite.org/wal.html>): no fence is needed.

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{Pools, routed};

/// Connections for reading unless configured: enough for the cores of a small
/// machine; each costs a page cache of some 2 MiB.
const READERS: u32 = 4;

/// Whether a URL leads to a database that only its own connection can see.
pub(crate) fn is_private(url: &str) -> bool {
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.trim_start_matches("//");
    path.is_empty() || path == ":memory:" || query.split('&').any(|pair| pair == "mode=memory")
}

/// A database that cannot be split: one pool for everything.
pub(crate) async fn open_private(options: &ConnectOptions) -> Result<DatabaseConnection, DbErr> {
    Database::connect(options.clone()).await
}

/// The writer's pools and the readers' pools of one file.
pub(crate) async fn open(options: &ConnectOptions) -> Result<(Pools, Pools), DbErr> {
    let options = routed(options);
    let settings = settings(&options).await?;

    let mut writer = options.clone();
    writer.max_connections(1);
    let writer_settings = settings.clone().journal_mode(SqliteJournalMode::Wal);
    writer.map_sqlx_sqlite_opts(move |_| writer_settings.clone());
    // Opened first: it makes the file and its log, which the readers only open.
    writer.connect_lazy(false);
    let writer = Database::connect(writer).await?;

    let mut readers = options;
    readers.max_connections(readers.get_max_connections().unwrap_or(READERS));
    let reader_settings = settings.create_if_missing(false).read_only(true);
    readers.map_sqlx_sqlite_opts(move |_| reader_settings.clone());
    let readers = Database::connect(readers).await?;

    // The file has one writer, whatever the endpoint.
    let readers = Pools { generation: 0, reads: readers, writes: writer.clone() };
    Ok((Pools::same(writer), readers))
}

/// The application's settings of a connection, its own hook applied.
async fn settings(options: &ConnectOptions) -> Result<SqliteConnectOptions, DbErr> {
    let mut options = options.clone();
    options.connect_lazy(true);
    let pattern = Database::connect(options).await?;
    let settings =
        SqliteConnectOptions::clone(&pattern.get_sqlite_connection_pool().connect_options());
    pattern.close().await?;
    Ok(settings)
}

/// The URL of the file at `path`, which is created if it is not there.
pub(crate) fn url(path: &std::path::Path) -> String {
    // The characters that would end the path in a URL, or begin an escape.
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}?mode=rwc")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("sqlite::memory:", true)]
    #[case("sqlite://:memory:", true)]
    #[case("sqlite:", true)]
    #[case("sqlite://", true)]
    #[case("sqlite:?mode=memory", true)]
    #[case("sqlite://shared?cache=shared&mode=memory", true)]
    #[case("sqlite://harbour.db", false)]
    #[case("sqlite:harbour.db?mode=rwc", false)]
    fn a_private_database_is_recognised(#[case] url: &str, #[case] private: bool) {
        assert_eq!(is_private(url), private);
    }
}
