//! What `sealane-tower` does for a request, in three steps: for frameworks that are no `tower`
//! services, and know neither its layers nor the types of `http`.

use sealane::{Progress, RoutedConnection};

const COOKIE: &str = "sealane";

/// One request of a user, from its cookies to the cookie of its response.
#[derive(Debug)]
pub struct Visit {
    session: RoutedConnection,
    before: Progress,
}

impl Visit {
    /// Goes on with the session that the request's `Cookie` headers describe. Asks no server
    /// anything. A cookie that is forged or outdated begins a new session, which misses nothing
    /// that the primary has by now.
    pub fn begin<'c>(db: &RoutedConnection, cookies: impl IntoIterator<Item = &'c str>) -> Self {
        let pairs = cookies.into_iter().flat_map(|header| header.split(';'));
        let ours = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        let session = db.resume_all(ours).session;
        let before = session.progress();
        Visit { session, before }
    }

    /// Runs the request's work in the session, however deep in it `db` is used.
    pub async fn serve<F: Future>(&self, work: F) -> F::Output {
        sealane::scope(self.session.clone(), work).await
    }

    /// The `Set-Cookie` header of the response, if the session has something new to tell. A
    /// response with it must also be `Cache-Control: private`: a shared cache would hand the cookie
    /// to other users.
    pub async fn end(self) -> Option<String> {
        if self.session.progress() == self.before {
            return None;
        }
        let (token, age) = (self.session.token().await?, self.session.token_max_age()?.as_secs());
        // `Secure` goes to encrypted connections only: leave it out where you develop over HTTP.
        Some(format!("{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax; Secure"))
    }
}
