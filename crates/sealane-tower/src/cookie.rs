//! The cookie that a token travels in.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::SessionLayerError;

/// The name of a cookie that was given no other.
const DEFAULT_NAME: &str = "sealane";

/// A cookie for the session's token: by default one named `sealane`, for the whole site
/// (`Path=/`), out of reach of scripts (`HttpOnly`) and of other sites' forms
/// (`SameSite=Lax`), over encrypted connections only (`Secure`). It is kept for twice as long
/// as its token is good (`Max-Age`): one that is outdated is refused, and its session begins
/// with all that the primary has; one that was forgotten would begin with nothing.
///
/// Other hosts of the domain can set a cookie of this name, too, and with it make every
/// session begin anew. Where they are not trusted, [name](Self::named) it `__Host-sealane`.
#[derive(Debug, Clone)]
pub struct TokenCookie {
    name: String,
    domain: Option<String>,
    secure: bool,
}

impl TokenCookie {
    /// The same under another name: needed where a service has several databases, each
    /// with a layer of its own.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        TokenCookie { name: name.into(), ..TokenCookie::default() }
    }

    /// Also for the hosts below `domain`, where instances have names of their own.
    /// Default: only the host that set it. Choose another name than the cookie had without
    /// a domain: browsers would go on sending both.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        TokenCookie { domain: Some(domain.into()), ..self }
    }

    /// Also over connections that are not encrypted. Browsers take `localhost` for one
    /// that is, most of them.
    #[must_use]
    pub fn insecure(self) -> Self {
        TokenCookie { secure: false, ..self }
    }

    /// # Errors
    /// The name or the domain would not survive in a header.
    pub(crate) fn check(&self) -> Result<(), SessionLayerError> {
        if !is_cookie_name(&self.name) {
            return Err(SessionLayerError::CookieName { name: self.name.clone() });
        }
        // Browsers ignore one that does not keep what its name promises (RFC 6265bis).
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

    /// The values of all cookies of this name. Bytes that are no text are none of ours, and
    /// become an empty value; other cookies may have them.
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

    /// The value of a `Set-Cookie` that brings `token`, good for `max_age`, to the client.
    #[allow(clippy::expect_used, reason = "see its text")]
    pub(crate) fn set(&self, token: &str, max_age: Duration) -> HeaderValue {
        let TokenCookie { name, domain, secure } = self;
        let domain = domain.as_ref().map_or_else(String::new, |it| format!("; Domain={it}"));
        let secure = if *secure { "; Secure" } else { "" };
        // None at all would make the browser drop it.
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

/// A token of RFC 9110, section 5.6.2, as RFC 6265 has it.
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
    fn another_cookie_that_is_no_text_hides_nothing() {
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
    fn what_would_break_a_header_is_refused(#[case] cookie: TokenCookie) {
        assert!(cookie.check().is_err());
    }

    #[test]
    fn what_the_prefix_of_a_name_promises_is_kept() {
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
