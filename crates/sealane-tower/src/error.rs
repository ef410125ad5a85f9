//! What can be wrong with a layer.

/// Why a [`SessionLayer`](crate::SessionLayer) could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionLayerError {
    /// Without a key there are no tokens, and every request would forget what its user
    /// wrote in the one before.
    #[error("the connection has no key for tokens; give it one with Config::token_key")]
    NoTokenKey,
    /// A cookie cannot have this name.
    #[error("a cookie cannot be named {name:?}: letters, digits and !#$%&'*+-.^_`|~ only")]
    CookieName {
        /// The name.
        name: String,
    },
    /// The name promises what the cookie does not keep: `__Secure-` encrypted connections
    /// only, `__Host-` also a single host. Browsers ignore such a cookie.
    #[error("browsers ignore a cookie named {name:?} that is insecure, or has a domain")]
    CookiePrefix {
        /// The name.
        name: String,
    },
    /// A cookie cannot have this domain.
    #[error("{domain:?} is no domain for a cookie: letters, digits, dots and hyphens only")]
    CookieDomain {
        /// The domain.
        domain: String,
    },
}
