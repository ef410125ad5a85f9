//! Where requests and responses carry tokens.

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
    /// Everything that the client sent as a token, valid or not.
    pub(crate) fn tokens<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h str> {
        match self {
            Carrier::Cookie(cookie) => cookie.values(headers),
            Carrier::Header(name) => headers
                .get_all(name)
                .iter()
                // A value that is not text becomes an empty token, which is then refused.
                .flat_map(|value| value.to_str().unwrap_or_default().split(','))
                .map(str::trim)
                .collect(),
        }
    }

    /// Adds `token` to the headers of a response. Other cookies stay.
    #[allow(clippy::expect_used, reason = "its text states the invariant")]
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

/// Marks the value as sensitive: it then appears neither in `Debug` nor in logs.
fn unlogged(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Keeps the response out of shared caches. A shared cache must not store a `private` response,
/// whatever other directives say (RFC 9111, section 3). Without it, the cache would store the
/// cookie and hand one user's token to all other users.
///
/// A cache that finds its own header field ignores `Cache-Control`. So such fields are made private
/// too, if they are present: targeted fields such as `CDN-Cache-Control` (RFC 9213), their
/// predecessors, and fields of single products.
fn keep_private(headers: &mut HeaderMap) {
    let is_kept = |value: &HeaderValue| {
        let directives = value.to_str().unwrap_or_default();
        let keeps = |it: &str| ["private", "no-store"].iter().any(|d| it.eq_ignore_ascii_case(d));
        // Quoted text names header fields, and such a name may look like a directive.
        !directives.contains('"') && directives.split(',').map(str::trim).any(keeps)
    };
    if !headers.get_all(header::CACHE_CONTROL).iter().any(is_kept) {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    let targeted: Vec<_> =
        headers.keys().filter_map(|name| Some((name.clone(), forbidding(name)?))).collect();
    for (name, value) in targeted {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The value that keeps a response out of the caches that read this field. `None` if no cache reads
/// it, and for `Cache-Control`, which all caches read.
fn forbidding(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "cache-control" => None,
        // Fields of Fastly and other surrogates, and of Akamai.
        "surrogate-control" | "edge-control" => Some("private, no-store"),
        // A field of nginx, which prefers it to all others. The value is a number of seconds.
        "x-accel-expires" => Some("0"),
        name if name.ends_with("-cache-control") => Some("private, no-store"),
        _ => None,
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

    #[rstest]
    #[case("cdn-cache-control", "max-age=3600", "private, no-store")]
    #[case("Surrogate-Control", "max-age=3600", "private, no-store")]
    #[case("cloudflare-cdn-cache-control", "public, max-age=60", "private, no-store")]
    #[case("edge-control", "cache-maxage=1h", "private, no-store")]
    #[case("x-accel-expires", "3600", "0")]
    #[case("expires", "0", "0")]
    fn fields_of_single_caches_keep_tokens_out_of_them(
        #[case] name: &'static str,
        #[case] said: &'static str,
        #[case] expected: &str,
    ) {
        let mut headers = HeaderMap::new();
        headers.append(name, HeaderValue::from_static(said));
        header().put("t1", MINUTE, &mut headers);
        let found: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(found, [expected]);
        assert_eq!(headers[header::CACHE_CONTROL], "private");
    }
}
