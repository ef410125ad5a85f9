//! Sessions remember what one user wrote and saw, across tasks and processes.

use std::{sync::Arc, time::Duration};

use sealane_core::{
    CausalToken, Export, Past, PastMismatch, Position, Session, TableSet, Topology, WriteStamp,
};

use crate::{
    RoutedConnection,
    scope::{self, Here},
    signer::TokenRefusal,
};

/// How long a token waits for a position, which usually arrives after a few milliseconds. After
/// this time the token says that the position is unknown.
const POSITION_PATIENCE: Duration = Duration::from_millis(250);

/// A session that continues where a token was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The session. If the token was refused, the session reads nothing older than what the primary
    /// has now: it is never stale, but it reads on the primary for some milliseconds.
    pub session: RoutedConnection,
    /// Why the token was refused, if it was.
    pub refused: Option<TokenRefusal>,
}

/// How far a session has got, as far as other processes need to know. Two values are equal if a new
/// token would say nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress(Option<Export>);

/// Runs `future` with `session` bound to it. Everywhere in `future`, each handle from the same
/// [`connect`](crate::connect) without a separate session then uses `session`.
///
/// So the one `db` in an application's state serves each request in the request's own session.
/// Settings of a call ([`with_consistency`] and the like) override settings of `session`, and these
/// override the configuration. An inner scope replaces the outer one, unless it belongs to another
/// database.
///
/// A task spawned inside starts without a scope; use
/// [`in_current_scope`](crate::in_current_scope) to give it this one.
/// Without it, the task uses the shared session. It then misses none of the writes of `session`
/// ([`Config::shared_waits_for_sessions`]). But `session` does not wait for the task's writes, and
/// the task may read something older than `session` has read.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sea_orm::DbErr> {
/// # use sea_orm::ConnectionTrait;
/// # let dir = tempfile::tempdir().unwrap();
/// # let db = sealane::connect(sealane::Config::sqlite(dir.path().join("s.db"))).await?;
/// # let handler = async || db.execute_unprepared("CREATE TABLE boat (id INT)").await;
/// sealane::scope(db.session(), handler()).await?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
///
/// [`with_consistency`]: RoutedConnection::with_consistency
/// [`Config::shared_waits_for_sessions`]: crate::Config::shared_waits_for_sessions
pub async fn scope<F: Future>(session: RoutedConnection, future: F) -> F::Output {
    scope::bound(session.caller().clone(), future).await
}

impl RoutedConnection {
    /// A handle with a separate session. The session reads its own writes, and never anything older
    /// than it has already read (but see [`WhenAhead`](crate::WhenAhead)). Other sessions do not
    /// affect it. Clones of the handle share the session. Creating one is cheap enough for every
    /// request.
    ///
    /// The session starts without a past; see also [`fork`](Self::fork) and
    /// [`resume`](Self::resume).
    #[must_use]
    pub fn session(&self) -> Self {
        self.with_session(Session::own())
    }

    /// A handle with a separate session that starts where this session is. This session learns
    /// nothing of the new one unless they are [merged](Self::merge).
    #[must_use]
    pub fn fork(&self) -> Self {
        let here = self.here();
        self.with_caller(here.with_session(here.session_now().fork()))
    }

    /// Takes over what the session of `other` has written and seen: later reads of this session
    /// miss none of it. A session of another database changes nothing.
    ///
    /// One exception: `other` may have been resumed with a token from after a failover that this
    /// process has not seen yet. If this handle has a separate session, it then waits for the
    /// failover, as `other` does. The shared handle does not wait, because all its users would wait
    /// although they have seen nothing of what the token describes. As soon as the failover is
    /// seen, the shared handle misses none of it.
    pub fn merge(&self, other: &RoutedConnection) {
        let (here, other) = (self.here(), other.here());
        if Arc::ptr_eq(here.cluster(), other.cluster()) {
            let store = here.cluster().store();
            let merged = other.session_now();
            if merged.awaits_failover(&store.topology()) {
                // There is a primary that this process does not know. Ask for it now: the shared
                // handle does not wait, so it would not ask later.
                store.nudge_all();
            }
            here.session_ref().merge(&merged.view(), &store.topology(), store.clock());
        }
    }

    /// What this session wrote and saw, as a signed text for another process: for a cookie, a
    /// header or a message. The text consists of letters, digits, `-` and `_`. It has less than a
    /// hundred characters for PostgreSQL, and 1,400 at most.
    ///
    /// `None` if nothing happened in the session, or without a key
    /// ([`Config::token_key`](crate::Config::token_key)).
    ///
    /// The first token after a write, or after a read on the primary, costs one query to the
    /// primary. All sessions that wait for a token at that time share this query. If the query is
    /// not answered within 250 milliseconds, the token only says that something has happened. A
    /// session resumed from it reads nothing older than what the primary has at that time. Cancel
    /// safe.
    ///
    /// # Promises
    /// A session [resumed](Self::resume) from the token reads what this session wrote, and nothing
    /// older than this session has read. Reads at
    /// [`Consistency::Eventual`](crate::Consistency::Eventual) count too.
    ///
    /// The shared handle does not remember what it has read. Its token contains what all sessions of
    /// this process have written (unless
    /// [`Config::shared_waits_for_sessions`](crate::Config::shared_waits_for_sessions) is off).
    pub async fn token(&self) -> Option<String> {
        let here = self.here();
        let cluster = here.cluster();
        let view = here.session_now().view_of(&TableSet::WHOLE, 0);
        // Without a key there is no token, so no position is needed.
        self.token_max_age()?;
        let Export { stamp, server } = view.export(&cluster.store().topology())?;
        let position = match stamp {
            WriteStamp::NONE => view.carried().map(|carried| carried.position.clone()),
            stamp => {
                let known = |topology: &Topology| topology.sampled_stamp() >= stamp;
                let topology = cluster.store().topology();
                if !known(&topology) && topology.has_usable_primary() {
                    cluster.store().await_stamp(stamp);
                    if let Some(primary) = topology.primary()
                        && topology.covered_by_replicas() >= stamp
                    {
                        // No replica waits for a sample, so the primary must be asked to take one.
                        cluster.store().nudge(primary);
                    }
                    let sampled = cluster.store().until(known);
                    // After a timeout the position stays unknown.
                    let _ = tokio::time::timeout(POSITION_PATIENCE, sampled).await;
                }
                match cluster.store().position_at(stamp) {
                    // A single server needs no positions and knows none.
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

    /// The maximum age of a [`token`](Self::token)
    /// ([`Config::token_max_age`](crate::Config::token_max_age)). `None` without a key, because
    /// then there are no tokens.
    #[must_use]
    pub fn token_max_age(&self) -> Option<Duration> {
        self.cluster().signer.max_age()
    }

    /// Whether a surrounding [`scope`](crate::scope) gives this handle its session.
    #[must_use]
    pub fn is_scoped(&self) -> bool {
        matches!(self.here(), Here::Scoped(_))
    }

    /// How far this session has got. Compare two values to find out whether a new
    /// [`token`](Self::token) is needed. Of the shared handle, this counts only what was written
    /// through it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let here = self.here();
        let topology = here.cluster().store().topology();
        Progress(here.session_now().view().export(&topology))
    }

    /// Enables a warning, logged once, about a read through the shared handle that follows a fresh
    /// write of a session made from this handle. Without waiting, the read would miss this write
    /// (and it does miss it if
    /// [`Config::shared_waits_for_sessions`](crate::Config::shared_waits_for_sessions) is off).
    /// Such a read may be work of a request that has left the request's session: see
    /// [`in_current_scope`](crate::in_current_scope). It may also be a read that never belonged to
    /// a session; sealane cannot distinguish the two. Only reads with read-your-writes count.
    /// `sealane-tower` enables this.
    pub fn warn_of_strays(&self) {
        self.caller().session_ref().report_strays();
    }

    /// A handle with a separate session that continues where `token` was made, in this process or
    /// another one.
    ///
    /// This call asks no server anything; only using the session does. It never fails: a token that
    /// is forged, outdated, from another database or from before a failover is refused, and the
    /// session begins anew. It then reads nothing older than what the primary has now. (MariaDB's
    /// positions name no system, so only their domains distinguish databases there.)
    #[must_use]
    pub fn resume(&self, token: &str) -> Resumed {
        self.resume_all([token])
    }

    /// Like [`resume`](Self::resume) with several tokens, for jobs that combine the work of others.
    /// If one token is refused, the session begins anew; it then also misses nothing of the other
    /// tokens.
    #[must_use]
    pub fn resume_all<'t>(&self, tokens: impl IntoIterator<Item = &'t str>) -> Resumed {
        let (signer, store) = (&self.cluster().signer, self.cluster().store());
        let topology = store.topology();
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
                    Err(mismatch @ PastMismatch::NewerTimeline { .. })
                        if self.is_gone(&token.past, mismatch, &topology) =>
                    {
                        TokenRefusal::TimelineGone
                    }
                    Err(PastMismatch::NewerTimeline { .. }) => {
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
                // There is a primary that this process does not know. Statements wait for it.
                refused = Some(TokenRefusal::NewerTimeline);
                let session = Session::resume(&token.past, &topology, store.clock());
                if count > 1 {
                    // That primary has by now everything that the other tokens describe, or no
                    // server has it.
                    session.wrote_anything(store.clock());
                }
                session
            }
            // A single server holds everything.
            (None, _) if refused.is_some() && topology.is_always_current() => Session::own(),
            (None, _) if refused.is_some() => Session::anew(store.clock()),
            (None, Some(token)) => {
                let session = Session::resume(&token.past, &topology, store.clock());
                // Work that leaves the session must not miss what it brings along, either.
                self.caller().session_ref().hear_of(&session, &topology, store.clock());
                session
            }
            (None, None) => Session::own(),
        };
        Resumed { session: self.with_session(session), refused }
    }

    fn with_session(&self, session: Session) -> Self {
        self.with_caller(self.caller().with_session(session))
    }

    /// Whether the timeline of `past`, which is newer than the primary's, no longer exists because
    /// the primary was restored to an earlier state.
    fn is_gone(&self, past: &Past, mismatch: PastMismatch, topology: &Topology) -> bool {
        let (cluster, now) = (self.cluster(), self.cluster().store().now());
        topology.has_usable_primary() && cluster.resignation.is_gone(past, mismatch, topology, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sea_orm::DatabaseConnection;
    use sealane_core::{
        Endpoint, EndpointId, Engine, Incarnation, Lsn, Observation, Outcome, Report, Role,
    };
    use sealane_monitor::{Monitor, TopologyStore};

    use super::*;
    use crate::{cluster::Cluster, signer::Signer};

    fn signer() -> Signer {
        let mut signer = Signer::default();
        signer.add_key(&[7; 32]);
        signer
    }

    fn at(timeline: u32) -> Position {
        Position::Wal { system: 7, timeline, lsn: Lsn::from_bytes(100) }
    }

    /// A connection to a primary on timeline 3 that nobody probes.
    fn connected() -> RoutedConnection {
        let store = TopologyStore::new(Topology::new(vec![Endpoint::new("primary", "here")]));
        let now = store.now();
        let report = Report {
            position: Some(at(3)),
            ..Report::new(Role::Primary, Incarnation::new("a run"))
        };
        store.apply(&Observation {
            endpoint: EndpointId::FIRST,
            started: now,
            finished: now,
            stamp: WriteStamp::NONE,
            outcome: Outcome::Answered(report),
        });
        let alone = Cluster::alone("", "", Engine::Postgres, DatabaseConnection::default());
        let monitor = Monitor::idle(Arc::clone(&store));
        RoutedConnection::new(Cluster { monitor, signer: signer(), ..alone })
    }

    fn token_of(timeline: u32) -> String {
        let past = Past::Known { position: Some(at(timeline)), server: None };
        signer().sign(past).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_a_timeline_lost_by_a_restore_is_replaced() {
        let db = connected();
        let gone = token_of(5);
        assert_eq!(db.resume(&gone).refused, Some(TokenRefusal::NewerTimeline));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(db.resume(&gone).refused, Some(TokenRefusal::NewerTimeline));
        tokio::time::advance(Duration::from_secs(31)).await;
        // A token that comes for the first time may describe a failover that has just happened.
        assert_eq!(db.resume(&token_of(4)).refused, Some(TokenRefusal::NewerTimeline));
        let Resumed { session, refused } = db.resume(&gone);
        assert_eq!(refused, Some(TokenRefusal::TimelineGone));
        // The new session reports its progress like any other.
        let before = session.progress();
        session.note_write();
        assert_ne!(session.progress(), before);
        let replaced = session.token().await.unwrap();
        assert_eq!(db.resume(&replaced).refused, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_waits_for_no_position_of_a_primary_that_is_down() {
        let db = connected();
        let session = db.session();
        session.note_write();
        let failure = sealane_core::Failure::Timeout;
        let store = db.cluster().store();
        store.suspect(EndpointId::FIRST, store.now(), failure);
        let begun = tokio::time::Instant::now();
        let token = session.token().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(db.resume(&token).refused, None);
    }
}
