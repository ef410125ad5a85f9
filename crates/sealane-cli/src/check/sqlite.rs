//! What is wrong with an SQLite file, from its header: no connection, so nothing is created or
//! changed.
//!
//! The format: <https://sqlite.org/fileformat2.html#the_database_header>.

use std::{fs::File, io::Read};

use sealane::Target;

use super::{code, finding::Finding};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The version of the format for reading, when the journal is a write-ahead log.
const WAL: u8 = 2;
const READ_VERSION: usize = 19;

/// What the beginning of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Missing,
    /// Nothing was written yet.
    Empty,
    Wal,
    Rollback,
    Other,
}

pub(super) fn judge(target: &Target) -> Vec<Finding> {
    let path = target.address.split('?').next().unwrap_or_default();
    if path.is_empty()
        || path.contains(":memory:")
        || target.options.get_url().contains("mode=memory")
    {
        let found = "a database in memory is one connection, which serves everything";
        let remedy = "give the path of a file to have reads beside the writer";
        return vec![Finding::at(code::IN_MEMORY, &target.name, found, remedy)];
    }
    finding(&target.name, path, read(path)).into_iter().collect()
}

fn read(path: &str) -> Header {
    let mut header = Vec::with_capacity(100);
    match File::open(path).map(|file| file.take(100).read_to_end(&mut header)) {
        Err(_) => Header::Missing,
        Ok(_) => of(&header),
    }
}

fn of(header: &[u8]) -> Header {
    match header.get(READ_VERSION) {
        None if header.is_empty() => Header::Empty,
        Some(&version) if header.starts_with(MAGIC) => match version {
            WAL => Header::Wal,
            _ => Header::Rollback,
        },
        _ => Header::Other,
    }
}

fn finding(name: &str, path: &str, header: Header) -> Option<Finding> {
    Some(match header {
        Header::Wal | Header::Empty => return None,
        Header::Missing => Finding::at(
            code::NO_FILE,
            name,
            format!("{path} does not exist or cannot be read; the application would create it"),
            "correct the path (it is relative to the directory of the process), or let the \
             application create it",
        ),
        Header::Rollback => Finding::at(
            code::NOT_WAL,
            name,
            format!("{path} is not in WAL mode: readers and the writer wait for each other"),
            "PRAGMA journal_mode = WAL; sealane does it at its start, unless keep_journal_mode is set",
        ),
        Header::Other => Finding::at(
            code::NO_DATABASE_FILE,
            name,
            format!("{path} is no SQLite database, or an encrypted one"),
            "correct the path",
        ),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn header(version: u8) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend([16, 0, version, version]);
        header
    }

    #[rstest]
    #[case::wal(header(2), Header::Wal)]
    #[case::rollback(header(1), Header::Rollback)]
    #[case::new(Vec::new(), Header::Empty)]
    #[case::text(b"not a database at all".to_vec(), Header::Other)]
    #[case::half(MAGIC[..10].to_vec(), Header::Other)]
    fn the_header_tells_the_journal(#[case] bytes: Vec<u8>, #[case] header: Header) {
        assert_eq!(of(&bytes), header);
    }

    #[rstest]
    #[case(Header::Missing, Some("no-such-file"))]
    #[case(Header::Rollback, Some("journal-not-wal"))]
    #[case(Header::Other, Some("not-a-database-file"))]
    #[case(Header::Wal, None)]
    fn a_file_is_judged(#[case] header: Header, #[case] code: Option<&str>) {
        assert_eq!(finding("file", "shop.db", header).map(|it| it.code.name), code);
    }
}
