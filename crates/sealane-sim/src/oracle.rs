//! Holds what clients were told against what is true.
//!
//! # What is not asked for
//! - A commit that a crash or a promotion took away is missed by nobody. (With asynchronous
//!   replication a promotion may lose what was acknowledged.)
//! - A session that has seen more on a replica than the primary shows may go back to the primary:
//!   `WhenAhead::Primary` says so.
//! - Until a process has heard of a promotion, it may read on the replaced primary, or on the replica
//!   that this has become since, after it has read on a replica that follows the new one.
//! - Where servers tell no timelines, a primary that comes back while the newest one is away looks like a
//!   replica that was promoted and has lost the end, to whoever has never seen it as the primary.
//! - What a replica on an old timeline has shown to an eventual read, and the primary of its process
//!   lacks, later reads may miss. The process counts it as lost, even if the primary is the one that
//!   was replaced.
//! - Whoever resumes a token that is refused is told so, and begins anew.
//! - A process may have heard of a promotion and not believe it, or not yet: a server that was
//!   restarted and claims to be the primary beside one that answers may be a backup. Only after it
//!   has chosen the new primary must nothing be acknowledged by the old one.
//! - A bound on staleness is held against the branch of the server that answers: until a process
//!   has heard of a promotion, nobody can tell it what was written elsewhere.

use crate::{
    history::{CommitId, Snapshot, WriteId},
    violation::Violation,
    world::State,
};

/// What a session knows, so that it must not miss it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    /// Writes that were acknowledged, and were in nothing that was shown since.
    written: Vec<WriteId>,
    /// What was shown, none of it a part of another.
    seen: Vec<Snapshot>,
}

impl Knowledge {
    pub(crate) fn wrote(&mut self, id: WriteId) {
        self.written.push(id);
    }

    pub(crate) fn merge(&mut self, other: &Knowledge) {
        self.written.extend(
            other
                .written
                .iter()
                .filter(|id| !self.written.contains(id))
                .copied()
                .collect::<Vec<_>>(),
        );
        self.seen.extend(
            other.seen.iter().filter(|it| !self.seen.contains(it)).cloned().collect::<Vec<_>>(),
        );
    }

    /// Holds a read against what was written.
    pub(crate) fn read_writes(&mut self, state: &mut State, session: usize, shown: &Snapshot) {
        let server = shown.server;
        for id in &self.written {
            if let Some(commit) = missed(state, *id, shown) {
                note(state, Violation::MissedWrite { session, id: *id, server }, Some(commit));
            }
        }
    }

    /// Takes note of what a read has shown that asks for its own writes. When it began, its process
    /// had heard of `told_timeline` and older ones. `may_hide`: the primary may show later what a replica
    /// has shown.
    pub(crate) fn read(
        &mut self,
        state: &mut State,
        told_timeline: u32,
        session: usize,
        shown: &Snapshot,
        may_hide: bool,
    ) {
        let server = shown.server;
        self.read_writes(state, session, shown);
        for older in &self.seen {
            let timeline = state.history.branches[older.branch].timeline;
            if shown.by_primary && timeline > told_timeline {
                continue;
            }
            let is_ahead = may_hide && shown.by_primary && !older.by_primary;
            let back = state.history.missing(shown, older);
            if let Some(commit) = back.filter(|it| !(is_ahead && is_hidden(state, *it, shown))) {
                note(state, Violation::WentBack { session, commit, server }, Some(commit));
            }
        }
        self.see(state, shown);
    }

    /// Takes note of what any other read has shown: it counts for those that come.
    pub(crate) fn see(&mut self, state: &State, shown: &Snapshot) {
        self.written.retain(|id| missed(state, *id, shown).is_some());
        self.seen.retain(|older| state.history.missing(shown, older).is_some());
        self.seen.push(shown.clone());
    }
}

/// The commit of a write, if `shown` misses it though it is not lost.
fn missed(state: &State, id: WriteId, shown: &Snapshot) -> Option<CommitId> {
    let commits = state.commits_of.get(&id)?;
    let commit = commits.iter().copied().find(|it| !state.history.is_lost(*it))?;
    (!state.history.shows(shown, commit)).then_some(commit)
}

/// Whether a commit was written, and not shown yet.
fn is_hidden(state: &State, commit: CommitId, shown: &Snapshot) -> bool {
    let all = Snapshot { hidden: Vec::new(), ..shown.clone() };
    state.history.shows(&all, commit)
}

/// A read that asked for a bound has begun at `began_ms`.
pub(crate) fn check_bound(
    state: &mut State,
    session: usize,
    shown: &Snapshot,
    began_ms: u64,
    bound_ms: u64,
) {
    let Some(by_ms) = began_ms.checked_sub(bound_ms) else { return };
    if let Some(commit) = state.history.missing_since(shown, by_ms) {
        let server = shown.server;
        let violation = Violation::TooStale { session, commit, server, bound_ms };
        note(state, violation, Some(commit));
    }
}

/// The client of `process` is told that the write was carried out.
pub(crate) fn check_acknowledged(state: &mut State, process: usize, id: WriteId) {
    let Some(commit) = state.commits_of.get(&id).and_then(|it| it.last()).copied() else {
        return note(state, Violation::NotWritten { id }, None);
    };
    let branch = state.history.branch_of(commit);
    let Some(branch) = branch.map(|it| &state.history.branches[it]) else { return };
    let server = branch.author;
    if branch.timeline < state.elected_timeline[process] {
        note(state, Violation::AcknowledgedByReplaced { id, server }, Some(commit));
    }
}

/// At the end: what was written twice, and what of `refused` was written at all.
/// Where commits wait for a replica, nothing that was acknowledged may be lost.
pub(crate) fn check_writes(state: &mut State, refused: &[(WriteId, String)]) {
    if state.is_synchronous {
        check_kept(state);
    }
    let twice: Vec<_> =
        state.commits_of.iter().filter(|(_, it)| it.len() > 1).map(|(id, _)| *id).collect();
    for id in twice {
        note(state, Violation::WrittenTwice { id }, None);
    }
    for (id, told) in refused {
        if state.commits_of.contains_key(id) {
            note(state, Violation::WrittenThough { id: *id, told: told.clone() }, None);
        }
    }
}

fn check_kept(state: &mut State) {
    let is_lost = |id: &WriteId| {
        let commits = state.commits_of.get(id).into_iter().flatten();
        commits.copied().all(|commit| state.history.is_lost(commit))
    };
    let lost: Vec<_> = state.acknowledged.iter().copied().filter(is_lost).collect();
    for id in lost {
        note(state, Violation::AcknowledgedLost { id }, None);
    }
}

/// A process sends something to an address.
pub(crate) fn check_drained(state: &mut State, process: usize, address: usize) {
    if state.drained.contains(&(process, address)) {
        note(state, Violation::UsedThoughDrained { process, address }, None);
    }
}

pub(crate) fn note(state: &mut State, violation: Violation, commit: Option<CommitId>) {
    let commit = commit.map(|it| format!("; {:?}", state.history.commits[it]));
    state.trace.note(format_args!("VIOLATION {violation}{}", commit.unwrap_or_default()));
    state.violations.push(violation);
}
