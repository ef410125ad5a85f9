//! Where in requests and answers a token is.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::TokenCookie;

/// How a token travels.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    Cookie(TokenCookie),
    Header(HeaderName),
}

impl Carrier {
    /// All that the client sent for tokens, right or wrong.
    pub(crate) fn tokens<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h str> {
        match self {
            Carrier::Cookie(cookie) => cookie.values(headers),
            Carrier::Header(name) => headers
                .get_all(name)
                .iter()
                // What is no text is no token, and an empty one is refused.
                .flat_map(|value| value.to_str().unwrap_or_default().split(','))
                .map(str::trim)
                .collect(),
        }
    }

    /// Has an answer bring `token` to the client. Other cookies stay.
    #[allow(clippy::expect_used, reason = "see its text")]
    pub(crate) fn put(&self, token: &str, max_age: Duration, headers: &mut HeaderMap) {
        match self {
            Carrier::Cookie(cookie) => {
                headers.append(header::SET_COOKIE, unlogged(cookie.set(token, max_age)));
            }
            Carrier::Header(name) => {
                let value = HeaderValue::from_str(token);
                let value = value.expect("tokens are letters, digits, - and _");
                headers.insert(name, unlogged(value));
            }
        }
        keep_private(headers);
    }
}

/// Does not show in `Debug`, and so in no log.
fn unlogged(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// A shared cache must not store what is `private`, whatever else is said (RFC 9111,
/// section 3). It does store cookies, and would hand one user's token to all others.
fn keep_private(headers: &mut HeaderMap) {
    let is_kept = |value: &HeaderValue| {
        let directives = value.to_str().unwrap_or_default();
        let keeps = |it: &str| ["private", "no-store"].iter().any(|d| it.eq_ignore_ascii_case(d));
        // In quotes stand names of header fields, and some of them are like directives.
        !directives.contains('"') && directives.split(',').map(str::trim).any(keeps)
    };
    if !headers.get_all(header::CACHE_CONTROL).iter().any(is_kept) {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn header() -> Carrier {
        Carrier::Header(HeaderName::from_static("sealane-token"))
    }

    #[test]
    fn tokens_of_several_headers_and_of_one_are_found() {
        let mut headers = HeaderMap::new();
        assert!(header().tokens(&headers).is_empty());
        headers.append("sealane-token", HeaderValue::from_static("t1"));
        headers.append("sealane-token", HeaderValue::from_static("t2, t3"));
        headers.append("sealane-token", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(header().tokens(&headers), ["t1", "t2", "t3", ""]);
    }

    #[test]
    fn other_cookies_of_an_answer_stay() {
        let mut headers = HeaderMap::new();
        headers.append(header::SET_COOKIE, HeaderValue::from_static("theme=dark"));
        Carrier::Cookie(TokenCookie::default()).put("t1", MINUTE, &mut headers);
        let cookies: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 2);
        assert_eq!(cookies[0], "theme=dark");
    }

    #[rstest]
    #[case(header())]
    #[case(Carrier::Cookie(TokenCookie::default()))]
    fn a_token_shows_in_no_log(#[case] carrier: Carrier) {
        let mut headers = HeaderMap::new();
        carrier.put("t1", MINUTE, &mut headers);
        assert!(!format!("{headers:?}").contains("t1"), "{headers:?}");
    }

    #[rstest]
    #[case(None, &["private"])]
    #[case(Some("public, max-age=60"), &["public, max-age=60", "private"])]
    #[case(Some("Private, max-age=60"), &["Private, max-age=60"])]
    #[case(Some("no-store"), &["no-store"])]
    #[case(Some(r#"private="a, no-store, b""#), &[r#"private="a, no-store, b""#, "private"])]
    fn no_shared_cache_keeps_a_token(
        #[case] said: Option<&'static str>,
        #[case] expected: &[&str],
    ) {
        let mut headers = HeaderMap::new();
        if let Some(said) = said {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static(said));
        }
        header().put("t1", MINUTE, &mut headers);
        let found: Vec<_> = headers.get_all(header::CACHE_CONTROL).iter().collect();
        assert_eq!(found, expected);
    }
}
