//! The layer that applications add.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use sealane::RoutedConnection;
use tower_layer::Layer;

use crate::{SessionLayerError, SessionService, TokenCookie, carrier::Carrier};

/// Gives every request the session of its user. See the [crate](crate).
///
/// A request that is in a session of the same database already, because a layer further
/// out put it there, stays in it. Several databases need a layer each, with different
/// names. A layer that hands requests to another task (tower's `Buffer`) belongs outside.
#[derive(Debug, Clone)]
pub struct SessionLayer {
    db: RoutedConnection,
    max_age: Duration,
    carrier: Arc<Carrier>,
}

impl SessionLayer {
    /// Sessions of `db`, with tokens in the default [`TokenCookie`]. What `db` asks for
    /// ([`with_consistency`](RoutedConnection::with_consistency) and the like) every
    /// request asks for. From now on there is one warning if work seems to leave the session
    /// of its request ([`RoutedConnection::warn_of_strays`]).
    ///
    /// # Errors
    /// `db` has no key for tokens. A connection made of one of SeaORM's own never has.
    pub fn new(db: &RoutedConnection) -> Result<Self, SessionLayerError> {
        let max_age = db.token_max_age().ok_or(SessionLayerError::NoTokenKey)?;
        let carrier = Arc::new(Carrier::Cookie(TokenCookie::default()));
        db.warn_of_strays();
        Ok(SessionLayer { db: db.clone(), max_age, carrier })
    }

    /// Tokens in this cookie.
    ///
    /// # Errors
    /// Its name or its domain is none.
    pub fn cookie(self, cookie: TokenCookie) -> Result<Self, SessionLayerError> {
        cookie.check()?;
        Ok(SessionLayer { carrier: Arc::new(Carrier::Cookie(cookie)), ..self })
    }

    /// Tokens in this header, of requests and of answers: for clients that are no browsers,
    /// and for gRPC, where it is metadata. The client sends the last token that it got with
    /// every request. It may send several, in several headers or separated by commas: then
    /// nothing is missed of any of them.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        SessionLayer { carrier: Arc::new(Carrier::Header(name)), ..self }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.db.clone(), self.max_age, Arc::clone(&self.carrier))
    }
}
