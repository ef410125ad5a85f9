//! Sessions: what one user wrote and saw, across tasks and processes.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    CausalToken, Export, Past, PastMismatch, Position, Session, Topology, WriteStamp,
};

use crate::{RoutedConnection, TokenRefusal, scope::Here};

/// A position is known a few milliseconds after it was asked for; a token does
/// not wait for longer, and says then that it does not know.
const POSITION_PATIENCE: Duration = Duration::from_millis(250);

/// A session that goes on where a token was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The session. If the token was refused, it reads nothing older than what the
    /// primary has by now: never stale, and on the primary for some milliseconds.
    pub session: RoutedConnection,
    /// Why the token was refused, if it was.
    pub refused: Option<TokenRefusal>,
}

/// How far a session has got, as far as other processes are concerned. Equal if a
/// new token would say nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress(Option<Export>);

impl RoutedConnection {
    /// A handle with a session of its own: it reads its own writes, and never
    /// something older than it has already read (but see [`WhenAhead`](crate::WhenAhead)).
    /// Other sessions do not affect it. Cheap enough for every request. Its clones are the same session.
    ///
    /// It begins with nothing; see [`fork`](Self::fork) and
    /// [`resume`](Self::resume).
    #[must_use]
    pub fn session(&self) -> Self {
        self.with_session(Session::own())
    }

    /// A handle with a session of its own that begins where this one is, and of
    /// which this one learns nothing unless they are [merged](Self::merge).
    #[must_use]
    pub fn fork(&self) -> Self {
        let here = Here::of(self);
        here.with_session(here.session_now().fork())
    }

    /// Takes over what the session of `other` has written and seen: later reads of
    /// this one miss none of it. A session of another database has nothing to
    /// tell, and changes nothing.
    ///
    /// One exception. If `other` was resumed with a token from after a failover that is not
    /// seen here yet, a session of its own waits for the failover, as `other` does. The
    /// handle for everybody does not: all its users would wait, who have seen nothing of
    /// what that token tells. It misses none of it from when the failover is seen.
    pub fn merge(&self, other: &RoutedConnection) {
        let (here, other) = (Here::of(self), Here::of(other));
        if Arc::ptr_eq(here.cluster(), other.cluster()) {
            let board = here.cluster().board();
            let view = other.session_now().view();
            here.session_ref().merge(&view, &board.topology(), board.clock());
        }
    }

    /// What this session wrote and saw, as a signed text for another process: for a
    /// cookie, a header, a message. Letters, digits, `-` and `_`; less than a
    /// hundred characters for PostgreSQL, 1,400 at most.
    ///
    /// `None` if there is nothing to tell, and without a key
    /// ([`Config::token_key`](crate::Config::token_key)).
    ///
    /// The first token after a write, or after a read on the primary, costs one
    /// query to the primary, which is shared with all who wait for one at that time.
    /// If it is not answered within 250 milliseconds the token says that something
    /// has happened, and whoever resumes it reads nothing older than what the primary
    /// has by then. Cancel safe.
    ///
    /// # Promises
    /// Whoever [resumes](Self::resume) it reads what this session wrote, and nothing
    /// older than this session has read. What was read at
    /// [`Consistency::Eventual`](crate::Consistency::Eventual) counts as read.
    pub async fn token(&self) -> Option<String> {
        let here = Here::of(self);
        let cluster = here.cluster();
        let view = here.session_now().view();
        // Nobody could read it: no need to ask for a position.
        self.token_max_age()?;
        let Export { stamp, server } = view.export(&cluster.board().topology())?;
        let position = match stamp {
            WriteStamp::NONE => view.carried().map(|carried| carried.position.clone()),
            stamp => {
                let known = |topology: &Topology| topology.sampled_stamp() >= stamp;
                let topology = cluster.board().topology();
                if !known(&topology) {
                    cluster.board().await_stamp(stamp);
                    if let Some(primary) = topology.primary()
                        && topology.covered_by_replicas() >= stamp
                    {
                        // No replica is in use that the primary would be sampled for.
                        cluster.board().nudge(primary);
                    }
                    let sampled = cluster.board().until(known);
                    // Out of patience: it is not known.
                    let _ = tokio::time::timeout(POSITION_PATIENCE, sampled).await;
                }
                match cluster.board().position_at(stamp) {
                    // One server alone needs no positions, and knows none.
                    Some(Position::Current) | None => return cluster.signer.sign(Past::Unknown),
                    position => position,
                }
            }
        };
        if position.is_none() && server.is_none() {
            return None;
        }
        cluster.signer.sign(Past::Known { position, server })
    }

    /// How old a [`token`](Self::token) may get
    /// ([`Config::token_max_age`](crate::Config::token_max_age)). `None` without a key:
    /// then there are no tokens.
    #[must_use]
    pub fn token_max_age(&self) -> Option<Duration> {
        self.cluster().signer.max_age()
    }

    /// Whether a [`scope`](crate::scope) gives this handle its session here.
    #[must_use]
    pub fn is_scoped(&self) -> bool {
        matches!(Here::of(self), Here::Scoped(_))
    }

    /// How far this session has got: compare two to learn whether a new
    /// [`token`](Self::token) is due.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let here = Here::of(self);
        let topology = here.cluster().board().topology();
        Progress(here.session_now().view().export(&topology))
    }

    /// Has a warning logged, once, when a read through the handle for everybody would miss
    /// what a session made from it has just written, if it did not wait for it (or does miss
    /// it, where [`Config::shared_waits_for_sessions`](crate::Config::shared_waits_for_sessions)
    /// is off). Such a read may be the work of a request that has left the request's session:
    /// see [`in_current_scope`](crate::in_current_scope). It may as well be one that never
    /// was in any; the two cannot be told apart. Reads of other consistencies than
    /// read-your-writes do not count. `sealane-tower` asks for this.
    pub fn warn_of_strays(&self) {
        self.session_ref().report_strays();
    }

    /// A handle with a session of its own that goes on where `token` was made, in
    /// this process or another one.
    ///
    /// Never fails: a token that is forged, outdated, of another database or from
    /// before a failover is refused, and the session begins anew. It then reads
    /// nothing older than what the primary has by now. (MariaDB's positions name no
    /// system: there, databases are told apart by their domains only.)
    #[must_use]
    pub fn resume(&self, token: &str) -> Resumed {
        self.resume_all([token])
    }

    /// As [`resume`](Self::resume), where several came together: for jobs that join
    /// what others did. One that is refused makes the session begin anew, which
    /// misses nothing of the others either.
    #[must_use]
    pub fn resume_all<'t>(&self, tokens: impl IntoIterator<Item = &'t str>) -> Resumed {
        let (signer, board) = (&self.cluster().signer, self.cluster().board());
        let topology = board.topology();
        let (mut known, mut unseen): (Option<CausalToken>, Option<CausalToken>) = (None, None);
        let (mut refused, mut count) = (None, 0);
        for text in tokens {
            count += 1;
            let refusal = match signer.open(text) {
                Err(refusal) => refusal,
                Ok(token) => match token.past.check(&topology) {
                    Ok(()) => {
                        known = Some(known.map_or_else(|| token.clone(), |it| it.merge(&token)));
                        continue;
                    }
                    Err(PastMismatch::NewerTimeline) => {
                        unseen = Some(
                            unseen.map_or_else(|| token.clone(), |it| it.later(&token).clone()),
                        );
                        continue;
                    }
                    Err(mismatch) => mismatch.into(),
                },
            };
            tracing::debug!(target: "sealane::session", %refusal, "token refused");
            refused = Some(refusal);
        }
        let session = match (unseen, known) {
            (Some(token), _) => {
                refused = Some(TokenRefusal::NewerTimeline);
                // There is a primary that we do not know of. Reads wait for it.
                board.nudge_all();
                let session = Session::resume(&token.past, &topology, board.clock());
                if count > 1 {
                    // Whatever the others tell of, that primary has by now, or nobody has.
                    session.wrote_anything(board.clock());
                }
                session
            }
            (None, _) if refused.is_some() => Session::anew(board.clock()),
            (None, Some(token)) => Session::resume(&token.past, &topology, board.clock()),
            (None, None) => Session::own(),
        };
        Resumed { session: self.with_session(session), refused }
    }
}
