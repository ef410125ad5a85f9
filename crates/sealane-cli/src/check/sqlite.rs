//! What is wrong with an SQLite file, from its header: no connection, so nothing is created or
//! changed.
//!
//! The format: <https://sqlite.org/fileformat2.html#the_database_header>.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use sealane::Target;

use super::{
    code,
    finding::{Finding, Severity},
};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The version of the format for reading, when the journal is a write-ahead log.
const WAL: u8 = 2;
const READ_VERSION: usize = 19;

/// What the beginning of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Header {
    Missing,
    /// It is there, and this is why it cannot be read.
    Unreadable(String),
    /// Nothing was written yet.
    Empty,
    Wal,
    Rollback,
    Other,
}

pub(super) fn judge(target: &Target) -> Vec<Finding> {
    let path = &*target.address;
    if path.is_empty()
        || path.contains(":memory:")
        || target.options.get_url().contains("mode=memory")
    {
        let found = "a database in memory is one connection, which serves everything";
        let remedy = "give the path of a file to have reads beside the writer";
        return vec![Finding::at(code::IN_MEMORY, &target.name, found, remedy)];
    }
    let may_create = may_create(target.options.get_url());
    finding(&target.name, path, &read(path), may_create).into_iter().collect()
}

/// Whether the driver makes a file that is not there. Its default is not to.
fn may_create(url: &str) -> bool {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    parameters.split('&').any(|parameter| parameter == "mode=rwc")
}

fn read(path: &str) -> Header {
    let mut header = Vec::with_capacity(100);
    // A folder can be opened, but not read.
    match File::open(path).and_then(|file| file.take(100).read_to_end(&mut header)) {
        Ok(_) => of(&header),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Header::Missing,
        Err(error) => Header::Unreadable(error.to_string()),
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

fn finding(name: &str, path: &str, header: &Header, may_create: bool) -> Option<Finding> {
    Some(match header {
        Header::Wal | Header::Empty => return None,
        Header::Missing => missing(name, path, may_create),
        Header::Unreadable(cause) => Finding::at(
            code::FILE_UNREADABLE,
            name,
            format!("{path} cannot be read: {cause}"),
            "correct the path (it is relative to the directory of the process), or the rights of \
             the file and its folder",
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

/// A file that does not exist, and whether the application makes it.
fn missing(name: &str, path: &str, may_create: bool) -> Finding {
    let folder = Path::new(path).parent().filter(|it| !it.as_os_str().is_empty());
    let (found, remedy) = match folder.filter(|it| !it.is_dir()) {
        Some(folder) => (
            format!("{path} does not exist, nor does the folder {}", folder.display()),
            "correct the path (it is relative to the directory of the process), or make the folder",
        ),
        None if !may_create => (
            format!("{path} does not exist, and without mode=rwc in the URL nobody makes it"),
            "correct the path (it is relative to the directory of the process), or add ?mode=rwc \
             to the URL",
        ),
        None => {
            let found = format!("{path} does not exist; the application would create it");
            let remedy = "correct the path (it is relative to the directory of the process), or \
                          let the application create it";
            return Finding::at(code::NO_FILE, name, found, remedy);
        }
    };
    // The application does not start.
    Finding { severity: Severity::Error, ..Finding::at(code::NO_FILE, name, found, remedy) }
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
    #[case(Header::Unreadable("denied".into()), Some("file-unreadable"))]
    #[case(Header::Rollback, Some("journal-not-wal"))]
    #[case(Header::Other, Some("not-a-database-file"))]
    #[case(Header::Wal, None)]
    fn a_file_is_judged(#[case] header: Header, #[case] code: Option<&str>) {
        let found = finding("file", "shop.db", &header, true);
        assert_eq!(found.map(|it| it.code.name), code);
    }

    #[rstest]
    #[case::made("shop.db", true, Severity::Warning, "let the application create it")]
    #[case::not_made("shop.db", false, Severity::Error, "?mode=rwc")]
    #[case::no_folder("no-such-folder/shop.db", true, Severity::Error, "make the folder")]
    #[case::neither("no-such-folder/shop.db", false, Severity::Error, "make the folder")]
    fn a_file_that_nobody_makes_is_an_error(
        #[case] path: &str,
        #[case] may_create: bool,
        #[case] severity: Severity,
        #[case] remedy: &str,
    ) {
        let found = finding("file", path, &Header::Missing, may_create).unwrap();
        assert_eq!((found.code.name, found.severity), ("no-such-file", severity));
        assert!(found.remedy.contains(remedy), "{}", found.remedy);
    }

    #[rstest]
    #[case("sqlite://shop.db?mode=rwc", true)]
    #[case("sqlite://shop.db?cache=shared&mode=rwc", true)]
    #[case("sqlite://shop.db?mode=rw", false)]
    #[case("sqlite://shop.db", false)]
    fn the_url_says_whether_a_file_is_made(#[case] url: &str, #[case] may: bool) {
        assert_eq!(may_create(url), may);
    }

    #[test]
    fn a_folder_is_no_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(matches!(read(path), Header::Unreadable(_)), "{:?}", read(path));
        let below = format!("{path}/shop.db");
        assert_eq!(read(&below), Header::Missing);
        std::fs::write(&below, "").unwrap();
        assert_eq!(read(&below), Header::Empty);
    }
}
