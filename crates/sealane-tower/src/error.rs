//! Errors in the setup of a layer.

use std::fmt;

/// Why a [`SessionLayer`](crate::SessionLayer) could not be created. `Debug` says the same as `Display`,
/// because services mostly `unwrap` it at their start.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionLayerError {
    /// The connection has no key, so it cannot make tokens. Every request would forget what its
    /// user wrote in the request before.
    #[error(
        "the connection has no key for tokens; give it one with Config::token_key (Config::from_env and \
         sealane::orm read DATABASE_TOKEN_KEY)"
    )]
    NoTokenKey,
    /// A cookie cannot have this name.
    #[error("a cookie cannot be named {name:?}: letters, digits and !#$%&'*+-.^_`|~ only")]
    CookieName {
        /// The name.
        name: String,
    },
    /// The cookie breaks the promise of its name: `__Secure-` promises encrypted connections only,
    /// `__Host-` also a single host. Browsers ignore such a cookie.
    #[error("browsers ignore a cookie named {name:?} that is insecure, or has a domain")]
    CookiePrefix {
        /// The name.
        name: String,
    },
    /// A cookie cannot have this domain.
    #[error("a cookie cannot have the domain {domain:?}: letters, digits, dots and hyphens only")]
    CookieDomain {
        /// The domain.
        domain: String,
    },
}

impl fmt::Debug for SessionLayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
