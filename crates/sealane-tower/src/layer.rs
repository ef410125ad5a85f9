//! The layer that an application adds to its service.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use sealane::RoutedConnection;
use tower_layer::Layer;

use crate::{SessionLayerError, SessionService, TokenCookie, carrier::Carrier, service::Settings};

/// Gives every request the session of its user. See the [crate](crate).
///
/// If an outer layer has already put the request into a session of the same database, the request
/// stays in that session. With several databases, each needs its own layer, and the layers' cookies
/// or headers need different names.
#[derive(Debug, Clone)]
pub struct SessionLayer {
    db: RoutedConnection,
    settings: Arc<Settings>,
}

impl SessionLayer {
    /// Sessions of `db`, with tokens in the default [`TokenCookie`]. The settings of `db`
    /// ([`with_consistency`](RoutedConnection::with_consistency) and the like) apply to every
    /// request. From now on sealane logs one warning if work seems to leave the session of its
    /// request ([`RoutedConnection::warn_of_strays`]).
    ///
    /// # Errors
    /// `db` has no key for tokens. A connection that wraps one of SeaORM's own never has a key.
    pub fn new(db: &RoutedConnection) -> Result<Self, SessionLayerError> {
        let max_age = db.token_max_age().ok_or(SessionLayerError::NoTokenKey)?;
        let carrier = Carrier::Cookie(TokenCookie::default());
        db.warn_of_strays();
        let settings = Settings {
            max_age,
            carrier,
            limit: None,
            unsafe_on_primary: false,
            returned: Arc::default(),
        };
        Ok(SessionLayer { db: db.clone(), settings: Arc::new(settings) })
    }

    /// Carries tokens in this cookie.
    ///
    /// # Errors
    /// The cookie's name or domain is not valid.
    pub fn cookie(self, cookie: TokenCookie) -> Result<Self, SessionLayerError> {
        cookie.check()?;
        Ok(self.with(|settings| settings.carrier = Carrier::Cookie(cookie)))
    }

    /// Carries tokens in the default cookie, also over unencrypted connections: for development. A
    /// service behind a proxy that encrypts does not need this.
    #[must_use]
    pub fn insecure(self) -> Self {
        let cookie = TokenCookie::default().insecure();
        self.with(|settings| settings.carrier = Carrier::Cookie(cookie))
    }

    /// Carries tokens in this header of requests and responses: for clients that are not browsers,
    /// and for gRPC, where the header is metadata. The client sends the last token that it received
    /// with every request. It may send several tokens, in several headers or separated by commas;
    /// the session then misses nothing of any of them.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.carrier = Carrier::Header(name))
    }

    /// If the inner service does not answer within `limit`, drops its future and answers with 504
    /// and a token. Making the token takes up to 250 milliseconds more. Default: no limit.
    ///
    /// Use it behind a proxy with a time limit of its own: the proxy's 504 carries no token, so the
    /// user might not see what the request has written. Choose a shorter limit than the proxy's. (A
    /// time limit inside the service works as well, if it is inside this layer; see the
    /// [crate](crate#among-other-layers).)
    #[must_use]
    pub fn answer_within(self, limit: Duration) -> Self {
        self.with(|settings| settings.limit = Some(limit))
    }

    /// Requests whose method is not [safe](http::Method::is_safe) (POST, PUT, PATCH, DELETE, …) read
    /// on the primary, as Rails does it. Default: they read on replicas that have replayed what
    /// their session has written and seen.
    ///
    /// Use it for handlers that read something in order to change it and must not miss what other
    /// users have written meanwhile, or while you move an application over. A handle with a
    /// consistency of its own
    /// ([`with_consistency`](RoutedConnection::with_consistency)) keeps it. Not for gRPC and GraphQL, where
    /// all requests are POST.
    #[must_use]
    pub fn unsafe_methods_on_primary(self) -> Self {
        self.with(|settings| settings.unsafe_on_primary = true)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.settings);
        change(&mut settings);
        SessionLayer { settings: Arc::new(settings), ..self }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.db.clone(), Arc::clone(&self.settings))
    }
}
