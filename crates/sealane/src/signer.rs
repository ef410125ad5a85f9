//! Tokens as text. They are signed, so that nobody can invent or change one.
//!
//! `sealane_core::CausalToken` is the content. (Rejected: no token after a mere read. This would
//! save cookies, but let a user go back in time between two instances.)

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sealane_core::{CausalToken, DecodeTokenError, Past, PastMismatch};
use sha2::Sha256;

use crate::ConnectError;

/// Length of a signature in bytes: half of HMAC-SHA-256's output, 128 bits.
const SIGNATURE_BYTES: usize = 16;
/// A longer text cannot be one of our tokens: the longest has about 1,400 characters.
const MAX_TEXT_BYTES: usize = 4096;
/// A shorter key could be guessed by trying. RFC 2104 recommends the length of the hash.
const LEAST_KEY_BYTES: usize = 32;
/// Part of every signature, so that a signature made with the same key for another purpose does not
/// match.
const PURPOSE: &[u8] = b"sealane causal token\0";

/// Why a token was refused. Its session begins anew: its reads miss nothing that the primary has at
/// that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// The configuration has no key for checking tokens.
    #[error("no key for tokens is configured")]
    NoKey,
    /// The text is not a token, or a truncated one.
    #[error("it is not a token")]
    Malformed,
    /// The token was changed, or it is not signed with a key that is configured here.
    #[error("it is not signed with a key of ours")]
    Forged,
    /// The token comes from a version of sealane with another token format.
    #[error("it is in format {0} of another version of sealane")]
    Version(u8),
    /// The token is older than allowed.
    #[error("it is {age:?} old")]
    Outdated {
        /// How long ago it was made, by the clocks of both processes.
        age: Duration,
    },
    /// The token belongs to another database.
    #[error("it is of another database")]
    OtherSystem,
    /// The token belongs to a timeline that a failover has ended: what it describes may be lost.
    #[error("it is from before a failover")]
    BeforeFailover,
    /// The token belongs to a timeline that this process has not seen yet: a failover has just
    /// happened, and all endpoints are probed to find the primary.
    #[error("it is from after a failover that was not seen here yet")]
    NewerTimeline,
    /// The token belongs to a timeline newer than the primary's. Tokens have named this timeline
    /// for a minute, but no probe here has seen it: the database was restored to a state before
    /// that timeline. (Or only this process still sees a replaced primary; then all other processes
    /// refuse its tokens as from before a failover.)
    #[error("it is of a timeline that does not exist any more")]
    TimelineGone,
}

impl From<PastMismatch> for TokenRefusal {
    fn from(mismatch: PastMismatch) -> Self {
        match mismatch {
            PastMismatch::OtherSystem => TokenRefusal::OtherSystem,
            PastMismatch::BeforeFailover => TokenRefusal::BeforeFailover,
            PastMismatch::NewerTimeline { .. } => TokenRefusal::NewerTimeline,
        }
    }
}

/// Signs tokens and checks them.
#[derive(Clone)]
pub(crate) struct Signer {
    /// The first key signs. All keys are used for checking, so that keys can be rotated.
    keys: Vec<Box<[u8]>>,
    max_age: Duration,
}

impl Default for Signer {
    fn default() -> Self {
        // Replicas in use are seconds behind, not hours, so an hour is enough for tokens. Cookies
        // live longer.
        Signer { keys: Vec::new(), max_age: Duration::from_secs(3600) }
    }
}

impl Signer {
    pub(crate) fn add_key(&mut self, key: &[u8]) {
        self.keys.push(key.into());
    }

    pub(crate) fn set_max_age(&mut self, max_age: Duration) {
        self.max_age = max_age;
    }

    /// The maximum age of a token; `None` without a key.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        (!self.keys.is_empty()).then_some(self.max_age)
    }

    /// # Errors
    /// A key is so short that it could be guessed.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        match self.keys.iter().map(|key| key.len()).find(|bytes| *bytes < LEAST_KEY_BYTES) {
            Some(bytes) => Err(ConnectError::WeakTokenKey { bytes, least: LEAST_KEY_BYTES }),
            None => Ok(()),
        }
    }

    /// A token with the current time as text: letters, digits, `-` and `_`. `None` without a key.
    pub(crate) fn sign(&self, past: Past) -> Option<String> {
        let key = self.keys.first()?;
        let mut bytes = CausalToken { issued: since_epoch(), past }.encode();
        let signature = mac(key, &bytes).finalize().into_bytes();
        bytes.extend(&signature[..SIGNATURE_BYTES]);
        Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Checks a text and returns its token. The signature is checked before anything else is
    /// parsed.
    pub(crate) fn open(&self, text: &str) -> Result<CausalToken, TokenRefusal> {
        if self.keys.is_empty() {
            return Err(TokenRefusal::NoKey);
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenRefusal::Malformed);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenRefusal::Malformed)?;
        let content = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(TokenRefusal::Malformed)?;
        let (content, signature) = bytes.split_at(content);
        // The comparison takes constant time for each key.
        let is_ours = |key: &[u8]| mac(key, content).verify_truncated_left(signature).is_ok();
        if !self.keys.iter().any(|key| is_ours(key)) {
            return Err(TokenRefusal::Forged);
        }
        let token = CausalToken::decode(content).map_err(|error| match error {
            DecodeTokenError::Version(version) => TokenRefusal::Version(version),
            DecodeTokenError::Malformed => TokenRefusal::Malformed,
        })?;
        // If the other process's clock is ahead of ours, the token only seems younger than it is.
        let age = since_epoch().saturating_sub(token.issued);
        if age > self.max_age { Err(TokenRefusal::Outdated { age }) } else { Ok(token) }
    }
}

#[allow(clippy::expect_used, reason = "HMAC accepts keys of any length (RFC 2104)")]
fn mac(key: &[u8], content: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    mac.chain_update(PURPOSE).chain_update(content)
}

#[allow(clippy::disallowed_methods, reason = "the ages of tokens are told by wall clocks")]
fn since_epoch() -> Duration {
    // If this clock shows a time before 1970, every token counts as young.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl fmt::Debug for Signer {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("keys", &self.keys.len())
            .field("max_age", &self.max_age)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use sealane_core::{Incarnation, Lsn, Position, ServerMark};

    use super::*;

    fn signer(key: &str) -> Signer {
        let mut signer = Signer::default();
        signer.add_key(key.repeat(32).as_bytes());
        signer
    }

    fn past() -> Past {
        let position = Position::Wal { system: 7, timeline: 3, lsn: Lsn::from_bytes(0x1234) };
        let server = ServerMark::of(&Incarnation::new("a run"));
        Past::Known { position: Some(position), server: Some(server) }
    }

    #[test]
    fn a_token_can_be_read_back_and_fits_a_cookie_and_a_header() {
        let signer = signer("k");
        let text = signer.sign(past()).unwrap();
        assert_eq!(signer.open(&text).unwrap().past, past());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert!(text.len() < 100, "{} characters", text.len());
    }

    #[test]
    fn every_bit_flipped_is_refused() {
        let signer = signer("k");
        let text = signer.sign(past()).unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
        for (index, bit) in (0..bytes.len()).flat_map(|i| (0..8).map(move |bit| (i, bit))) {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << bit;
            let changed = BASE64_URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(signer.open(&changed), Err(TokenRefusal::Forged), "bit {bit} of {index}");
        }
    }

    #[test]
    fn every_character_changed_is_refused() {
        let signer = signer("k");
        let text = signer.sign(past()).unwrap();
        for index in 0..text.len() {
            for other in "Aa0-_ =%\"".chars() {
                let mut changed = text.clone();
                changed.replace_range(index..=index, &other.to_string());
                assert!(changed == text || signer.open(&changed).is_err(), "{other} at {index}");
            }
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let signer = signer("k");
        let text = signer.sign(past()).unwrap();
        assert!((0..text.len()).all(|length| signer.open(&text[..length]).is_err()));
        assert!((1..text.len()).all(|begin| signer.open(&text[begin..]).is_err()));
        assert_eq!(signer.open(&"A".repeat(5_000)), Err(TokenRefusal::Malformed));
        assert_eq!(signer.open(&format!("{text}{text}")), Err(TokenRefusal::Forged));
    }

    #[test]
    fn a_replaced_key_still_checks_tokens() {
        let old = signer("o");
        let mut both = signer("n");
        both.add_key("o".repeat(32).as_bytes());
        assert!(both.open(&old.sign(past()).unwrap()).is_ok());
        assert_eq!(old.open(&both.sign(past()).unwrap()), Err(TokenRefusal::Forged));
    }

    #[test]
    fn an_old_token_is_refused_with_its_age() {
        let mut signer = signer("k");
        signer.set_max_age(Duration::from_secs(60));
        let sign = |issued| {
            let mut bytes = CausalToken { issued, past: past() }.encode();
            let signature = mac(&signer.keys[0], &bytes).finalize().into_bytes();
            bytes.extend(&signature[..SIGNATURE_BYTES]);
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        };
        let opened = signer.open(&sign(since_epoch() - Duration::from_secs(100)));
        assert!(matches!(opened, Err(TokenRefusal::Outdated { age }) if age.as_secs() >= 100));
        assert!(signer.open(&sign(since_epoch() + Duration::from_secs(100))).is_ok());
    }

    #[test]
    fn without_a_key_no_token_is_signed_or_accepted() {
        let text = signer("k").sign(past()).unwrap();
        assert_eq!(Signer::default().sign(past()), None);
        assert_eq!(Signer::default().open(&text), Err(TokenRefusal::NoKey));
    }

    #[test]
    fn a_short_key_is_refused_and_no_key_is_shown() {
        let mut short = Signer::default();
        short.add_key(b"tide");
        assert!(matches!(short.check(), Err(ConnectError::WeakTokenKey { bytes: 4, least: 32 })));
        assert!(!format!("{short:?} {}", short.check().unwrap_err()).contains("tide"));
    }
}
