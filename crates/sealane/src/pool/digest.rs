//! A digest of rows, by which two answers are compared without keeping either.
//!
//! The digest is made of the values as the driver received them: both answers come by the same
//! protocol, so equal values are equal bytes. The digests of the rows are added up, because rows may
//! come in any order. The hash is the standard library's with its fixed keys; who sends us rows to
//! deceive the comparison deceives himself.

use std::hash::{DefaultHasher, Hasher};

use sea_orm::QueryResult;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
use sea_orm::sqlx::{ColumnIndex, Database, Decode, Row, Value, ValueRef};

/// Larger answers are not digested, because the caller of a read waits for the digest.
const MAX_ROWS: usize = 1_000;
const MAX_BYTES: usize = 1024 * 1024;

/// The digest of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) rows: usize,
    /// Of all values.
    pub(crate) values: u64,
    /// Of the values in the columns `id`; `None` if there is no such column.
    pub(crate) keys: Option<u64>,
}

/// The digests of one row, and its size.
#[derive(Debug, Default)]
struct RowDigest {
    values: DefaultHasher,
    key: Option<u64>,
    bytes: usize,
}

impl Digest {
    /// The digest of `rows`; `None` if they are too many, or of a driver whose values cannot be
    /// read.
    pub(crate) fn of(rows: &[QueryResult]) -> Option<Digest> {
        if rows.len() > MAX_ROWS {
            return None;
        }
        let mut digest = Digest { rows: rows.len(), values: 0, keys: Some(0) };
        let mut bytes = 0;
        for row in rows {
            let row = RowDigest::of(row)?;
            bytes += row.bytes;
            if bytes > MAX_BYTES {
                return None;
            }
            digest.values = digest.values.wrapping_add(row.values.finish());
            digest.keys = digest.keys.zip(row.key).map(|(all, one)| all.wrapping_add(one));
        }
        Some(digest)
    }
}

impl RowDigest {
    fn of(row: &QueryResult) -> Option<RowDigest> {
        #[cfg(feature = "postgres")]
        if let Some(row) = row.try_as_pg_row() {
            return RowDigest::of_columns(row);
        }
        #[cfg(feature = "mysql")]
        if let Some(row) = row.try_as_mysql_row() {
            return RowDigest::of_columns(row);
        }
        #[cfg(feature = "sqlite")]
        if let Some(row) = row.try_as_sqlite_row() {
            return RowDigest::of_columns(row);
        }
        #[cfg(feature = "assembly")]
        if let Some(row) = row.try_as_mock_row() {
            let mut digest = RowDigest::default();
            for (name, value) in row.clone().into_column_value_tuples() {
                digest.add(&name, Some(format!("{value:?}").as_bytes()));
            }
            return Some(digest);
        }
        let _ = row;
        None
    }

    #[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
    fn of_columns<R: Row>(row: &R) -> Option<RowDigest>
    where
        usize: ColumnIndex<R>,
        for<'r> &'r [u8]: Decode<'r, R::Database>,
        R::Database: Database,
    {
        use sea_orm::sqlx::Column;
        let mut digest = RowDigest::default();
        for (index, column) in row.columns().iter().enumerate() {
            // A copy: SQLite's values remember that somebody has borrowed their bytes, and cannot be
            // read as numbers any more.
            let value = ValueRef::to_owned(&row.try_get_raw(index).ok()?);
            let bytes: Option<&[u8]> = value.try_decode_unchecked().ok()?;
            if digest.bytes + bytes.map_or(0, <[u8]>::len) > MAX_BYTES {
                return None;
            }
            digest.add(column.name(), bytes);
        }
        Some(digest)
    }

    #[cfg(any(
        feature = "mysql",
        feature = "postgres",
        feature = "sqlite",
        feature = "assembly",
        test
    ))]
    fn add(&mut self, column: &str, value: Option<&[u8]>) {
        /// The name of the column by which rows are recognised.
        const KEY: &str = "id";
        // The length comes first, so that no two rows have the same bytes. NULL has none.
        let length = value.map_or(u64::MAX, |value| value.len() as u64);
        let add = |hasher: &mut DefaultHasher| {
            hasher.write_u64(length);
            hasher.write(value.unwrap_or_default());
        };
        add(&mut self.values);
        if column == KEY {
            let mut key = DefaultHasher::new();
            add(&mut key);
            self.key = Some(key.finish());
        }
        self.bytes += value.map_or(0, <[u8]>::len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&str>]) -> u64 {
        let mut digest = RowDigest::default();
        values.iter().for_each(|value| digest.add("name", value.map(str::as_bytes)));
        digest.values.finish()
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        let rows = [
            row(&[Some("ab"), Some("c")]),
            row(&[Some("a"), Some("bc")]),
            row(&[Some("abc"), None]),
            row(&[Some("abc"), Some("")]),
            row(&[Some("abc")]),
        ];
        for (index, one) in rows.iter().enumerate() {
            assert!(!rows[index + 1..].contains(one), "{index}");
        }
        assert_eq!(rows[0], row(&[Some("ab"), Some("c")]));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn what_was_digested_can_still_be_read() {
        use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let sql = "SELECT 7 AS id, 0.5 AS half, 'Ida' AS name, NULL AS missing, x'00FF' AS bytes";
        let row = db.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap();
        let rows = [row.unwrap()];
        assert!(Digest::of(&rows).is_some());
        let [row] = rows;
        assert_eq!(row.try_get::<i64>("", "id").unwrap(), 7);
        assert!((row.try_get::<f64>("", "half").unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(row.try_get::<String>("", "name").unwrap(), "Ida");
        assert_eq!(row.try_get::<Option<i64>>("", "missing").unwrap(), None);
        assert_eq!(row.try_get::<Vec<u8>>("", "bytes").unwrap(), [0, 255]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn rows_are_the_same_in_any_order_and_other_values_are_not() {
        use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let digest = async |values: &str| {
            let sql = format!("SELECT column1 AS id, column2 AS name FROM (VALUES {values})");
            let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await;
            Digest::of(&rows.unwrap()).unwrap()
        };
        let first = digest("(1, 'Ida'), (2, NULL), (3, 0.5)").await;
        assert_eq!(first, digest("(3, 0.5), (1, 'Ida'), (2, NULL)").await);
        let renamed = digest("(1, 'Ida'), (2, ''), (3, 0.5)").await;
        assert_ne!(first.values, renamed.values);
        assert_eq!((first.keys, first.rows), (renamed.keys, 3));
        assert_ne!(first.keys, digest("(1, 'Ida'), (2, NULL), (4, 0.5)").await.keys);
        let many = "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n LIMIT 1001) SELECT * FROM n";
        let many = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, many)).await.unwrap();
        assert_eq!(Digest::of(&many), None);
        assert_eq!(Digest::of(&many[1..]).unwrap().rows, MAX_ROWS);
    }
}
