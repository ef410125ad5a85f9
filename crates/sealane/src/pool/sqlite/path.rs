//! Converts paths of files to URLs.

use std::{fmt::Write, path::Path};

/// SQLite's own name for a database in memory.
const MEMORY: &str = ":memory:";

/// The URL of the file at `path`, which is created if it does not exist. `:memory:` means a
/// database in memory, as everywhere in SQLite.
pub(crate) fn url(path: &Path) -> String {
    let encoded = match path.to_str() {
        Some(MEMORY) => return format!("sqlite:{MEMORY}"),
        // SQLite does not read a name with this beginning as a path.
        Some(path) if path.starts_with("file:") || path.starts_with(':') => {
            encode(format!("./{path}").as_bytes())
        }
        Some(path) => encode(path.as_bytes()),
        // The driver accepts only text, but SQLite decodes any bytes from its own URLs.
        None => {
            let bytes = path.as_os_str().as_encoded_bytes();
            encode(format!("file:{}", encode(bytes)).as_bytes())
        }
    };
    format!("sqlite://{encoded}?mode=rwc")
}

/// The database that a URL leads to, for people.
pub(crate) fn shown(url: &str) -> String {
    let path = url.trim_start_matches("sqlite://").trim_start_matches("sqlite:");
    let path = path.split('?').next().unwrap_or_default();
    let decoded = decode(path);
    match decoded.strip_prefix("file:") {
        Some(path) => decode(path),
        None => decoded,
    }
}

/// Leaves only characters that mean themselves in every URL.
fn encode(path: &[u8]) -> String {
    path.iter().fold(String::new(), |mut encoded, byte| {
        let is_plain = byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        let _ = match is_plain {
            true => write!(encoded, "{}", char::from(*byte)),
            false => write!(encoded, "%{byte:02X}"),
        };
        encoded
    })
}

fn decode(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("shop.db", "sqlite://shop.db?mode=rwc")]
    #[case("my file.db", "sqlite://my%20file.db?mode=rwc")]
    #[case("/a%20b?c#d:e", "sqlite:///a%2520b%3Fc%23d%3Ae?mode=rwc")]
    #[case("file:x", "sqlite://.%2Ffile%3Ax?mode=rwc")]
    #[case(":memory:", "sqlite::memory:")]
    fn a_path_is_itself_in_a_url(#[case] path: &str, #[case] expected: &str) {
        let expected = expected.replace("%2F", "/");
        assert_eq!(url(Path::new(path)), expected);
        let shown = shown(&expected);
        assert_eq!(shown.trim_start_matches("./"), path);
    }
}
