//! Whether clients send back the tokens that they get.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// So many tokens go out before the warning. Crawlers and health checks send none back either.
const GIVEN: u32 = 100;

/// Counts the tokens that go out until the first one comes back.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    given: AtomicU32,
    is_any: AtomicBool,
}

impl Returned {
    /// A request brought a token.
    pub(crate) fn note_returned(&self) {
        if !self.is_any.load(Ordering::Relaxed) {
            self.is_any.store(true, Ordering::Relaxed);
        }
    }

    /// A response carries a token. Warns once if many did and none came back.
    pub(crate) fn note_given(&self) {
        if self.is_one_too_many() {
            tracing::warn!(
                target: "sealane::session",
                "{GIVEN} responses gave a token to their clients, and no request brought one back: \
                 no client has a session; over plain HTTP, browsers keep the cookie only if it is \
                 SessionLayer::insecure, and clients without cookies need SessionLayer::header \
                 (this is said once)"
            );
        }
    }

    fn is_one_too_many(&self) -> bool {
        !self.is_any.load(Ordering::Relaxed)
            && self.given.load(Ordering::Relaxed) < GIVEN
            && self.given.fetch_add(1, Ordering::Relaxed) + 1 == GIVEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundredth_token_is_one_too_many_if_none_came_back() {
        let returned = Returned::default();
        let warned: Vec<_> = (1..=1_000).filter(|_| returned.is_one_too_many()).collect();
        assert_eq!(warned, [100]);
    }

    #[test]
    fn nothing_is_said_once_a_token_has_come_back() {
        let returned = Returned::default();
        assert!((1..100).all(|_| !returned.is_one_too_many()));
        returned.note_returned();
        assert!((1..1_000).all(|_| !returned.is_one_too_many()));
    }
}
