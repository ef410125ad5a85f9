//! The cookie that carries a token.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::SessionLayerError;

/// The default name of the cookie.
const DEFAULT_NAME: &str = "sealane";

/// A cookie for the session's token. By default its name is `sealane`, and it is valid for the
/// whole site (`Path=/`), out of reach of scripts (`HttpOnly`) and of other sites' forms
/// (`SameSite=Lax`), and sent over encrypted connections only (`Secure`). The browser keeps it for
/// twice as long as its token is valid (`Max-Age`). The reason: an outdated token is refused, and
/// its session then sees everything that the primary has at that moment. Without any token, a
/// session would be promised nothing.
///
/// Other hosts of the domain can also set a cookie of this name, and so force every session to
/// start anew. If you do not trust these hosts, [name](Self::named) the cookie `__Host-sealane`.
#[derive(Debug, Clone)]
pub struct TokenCookie {
    name: String,
    domain: Option<String>,
    secure: bool,
}

impl TokenCookie {
    /// A cookie with another name. A service with several databases, each with its own layer, needs
    /// different names.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        TokenCookie { name: name.into(), ..TokenCookie::default() }
    }

    /// Sends the cookie also to the hosts below `domain`, for instances with their own host names.
    /// Default: only to the host that set it. When you add a domain, also change the cookie's name:
    /// browsers would otherwise send both the old and the new cookie.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        TokenCookie { domain: Some(domain.into()), ..self }
    }

    /// Sends the cookie also over unencrypted connections. For `localhost` most browsers do not
    /// need this: they treat it as encrypted.
    #[must_use]
    pub fn insecure(self) -> Self {
        TokenCookie { secure: false, ..self }
    }

    /// # Errors
    /// The name or the domain is not valid in a header.
    pub(crate) fn check(&self) -> Result<(), SessionLayerError> {
        if !is_cookie_name(&self.name) {
            return Err(SessionLayerError::CookieName { name: self.name.clone() });
        }
        // Browsers ignore a cookie that breaks the promise of its name's prefix (RFC 6265bis).
        let promises = |prefix: &str| {
            let name = self.name.as_bytes().get(..prefix.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let is_for_one_host = self.domain.is_none();
        if (promises("__Secure-") && !self.secure)
            || (promises("__Host-") && !(self.secure && is_for_one_host))
        {
            return Err(SessionLayerError::CookiePrefix { name: self.name.clone() });
        }
        match &self.domain {
            Some(domain) if !is_domain(domain) => {
                Err(SessionLayerError::CookieDomain { domain: domain.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The values of all cookies of this name. A value that is not text cannot be a token and
    /// becomes an empty one. Other cookies may hold any bytes.
    pub(crate) fn values<'h>(&self, headers: &'h HeaderMap) -> Vec<&'h str> {
        let name = self.name.as_bytes();
        headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|cookies| cookies.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|cookie| cookie.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
            .map(|value| str::from_utf8(value).unwrap_or_default())
            .collect()
    }

    /// The value of the `Set-Cookie` header for `token`, which is valid for `max_age`.
    #[allow(clippy::expect_used, reason = "its text states the invariant")]
    pub(crate) fn set(&self, token: &str, max_age: Duration) -> HeaderValue {
        let TokenCookie { name, domain, secure } = self;
        let domain = domain.as_ref().map_or_else(String::new, |it| format!("; Domain={it}"));
        let secure = if *secure { "; Secure" } else { "" };
        // With zero the browser would drop the cookie.
        let max_age = max_age.as_secs().saturating_mul(2).max(1);
        let attributes = format!("Path=/{domain}; Max-Age={max_age}; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(format!("{name}={token}; {attributes}{secure}"))
            .expect("name and domain were checked, and tokens are letters, digits, - and _")
    }
}

impl Default for TokenCookie {
    fn default() -> Self {
        TokenCookie { name: DEFAULT_NAME.to_owned(), domain: None, secure: true }
    }
}

/// Whether `name` is a token (RFC 9110, section 5.6.2), as RFC 6265 requires.
fn is_cookie_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

fn is_domain(domain: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    !domain.is_empty() && domain.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], &[])]
    #[case::other(&["theme=dark; sealanes=no; xsealane=no"], &[])]
    #[case::alone(&["sealane=t1"], &["t1"])]
    #[case::among_others(&["theme=dark; sealane=t1; lang=de"], &["t1"])]
    #[case::without_space(&["theme=dark;sealane=t1;lang=de"], &["t1"])]
    #[case::split_by_http_2(&["theme=dark", "sealane=t1"], &["t1"])]
    #[case::twice(&["sealane=t1; sealane=t2"], &["t1", "t2"])]
    #[case::twice_in_two(&["sealane=t1", "sealane=t2"], &["t1", "t2"])]
    #[case::empty(&["sealane="], &[""])]
    #[case::without_value(&["sealane"], &[])]
    #[case::names_have_case(&["Sealane=t1"], &[])]
    #[case::rubbish(&[";;=;  ; =x; sealane=a=b"], &["a=b"])]
    fn cookies_are_found(#[case] headers: &[&'static str], #[case] expected: &[&str]) {
        let map = headers.iter().map(|it| (header::COOKIE, HeaderValue::from_static(it)));
        let map: HeaderMap = map.fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        });
        assert_eq!(TokenCookie::default().values(&map), expected);
    }

    #[test]
    fn another_cookie_that_is_not_text_hides_no_token() {
        let value = HeaderValue::from_bytes(b"theme=d\xff\xfe; sealane=t1").unwrap();
        let map = HeaderMap::from_iter([(header::COOKIE, value)]);
        assert_eq!(TokenCookie::default().values(&map), ["t1"]);
        let value = HeaderValue::from_bytes(b"sealane=\xff").unwrap();
        let map = HeaderMap::from_iter([(header::COOKIE, value)]);
        assert_eq!(TokenCookie::default().values(&map), [""]);
    }

    #[rstest]
    #[case(
        TokenCookie::default(),
        "sealane=t1; Path=/; Max-Age=120; HttpOnly; SameSite=Lax; Secure"
    )]
    #[case(
        TokenCookie::named("h").domain("example.org").insecure(),
        "h=t1; Path=/; Domain=example.org; Max-Age=120; HttpOnly; SameSite=Lax"
    )]
    fn a_cookie_has_its_attributes(#[case] cookie: TokenCookie, #[case] expected: &str) {
        assert_eq!(cookie.set("t1", Duration::from_secs(60)), expected);
    }

    #[rstest]
    #[case(TokenCookie::named(""))]
    #[case(TokenCookie::named("a b"))]
    #[case(TokenCookie::named("a=b"))]
    #[case(TokenCookie::named("a;b"))]
    #[case(TokenCookie::named("a\r\nb"))]
    #[case(TokenCookie::named("ä"))]
    #[case(TokenCookie::default().domain(""))]
    #[case(TokenCookie::default().domain("a; Secure"))]
    #[case(TokenCookie::default().domain("a\n"))]
    fn names_and_domains_that_would_break_a_header_are_refused(#[case] cookie: TokenCookie) {
        assert!(cookie.check().is_err());
    }

    #[test]
    fn a_cookie_must_keep_the_promise_of_its_prefix() {
        let [host, secure] = ["__Host-sealane", "__secure-sealane"];
        assert_eq!(TokenCookie::named(host).check(), Ok(()));
        assert_eq!(TokenCookie::named(secure).domain("example.org").check(), Ok(()));
        for cookie in [
            TokenCookie::named(host).insecure(),
            TokenCookie::named(host).domain("example.org"),
            TokenCookie::named(secure).insecure(),
        ] {
            let refused = Err(SessionLayerError::CookiePrefix { name: cookie.name.clone() });
            assert_eq!(cookie.check(), refused);
        }
    }
}
