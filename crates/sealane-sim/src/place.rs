//! What a server tells of its place in the history, in the words of its kind.

use std::collections::BTreeMap;

use sealane_core::{Ancestry, GtidSet, Lsn, Position, Source, Transactions};

use crate::{plant::Plant, scenario::Kind, server::Server, world::State};

/// The system that all servers belong to.
const SYSTEM: u64 = 7_001;
/// How long a record is.
const RECORD_BYTES: usize = 112;
/// Servers that are made anew are numbered from that of the first on; see [`Server::source`].
const SOURCES: u64 = 1_000;

/// The place behind so many records.
pub(crate) fn lsn(len: usize) -> Lsn {
    Lsn::from_bytes(u64::try_from(len * RECORD_BYTES).unwrap_or(u64::MAX))
}

/// So much of a server's branch.
pub(crate) fn position(state: &State, its: &Server, len: usize) -> Position {
    match state.kind {
        Kind::Timelines => {
            let timeline = match state.plant {
                Plant::OneTimeline => 1,
                _ => state.history.branches[its.branch].timeline,
            };
            Position::Wal { system: SYSTEM, timeline, lsn: lsn(len) }
        }
        Kind::GtidSets => Position::GtidSet(set(state, its, len, |_, _| Vec::new())),
        Kind::GtidLists => {
            let last = state.history.sources(its.branch, len).find(|(_, from, until)| from < until);
            let text = last.map(|(source, _, until)| gtid(source, until)).unwrap_or_default();
            Position::GtidList(text.parse().unwrap_or_default())
        }
    }
}

/// A place in the history of another system.
pub(crate) fn elsewhere(kind: Kind) -> Position {
    match kind {
        Kind::Timelines => Position::Wal { system: SYSTEM + 1, timeline: 1, lsn: lsn(10) },
        Kind::GtidSets => {
            let text = "7f2b8c61-71ca-11e1-9e33-000000000001:1-10";
            Position::GtidSet(text.parse().unwrap_or_default())
        }
        Kind::GtidLists => Position::GtidList("9-77-10".parse().unwrap_or_default()),
    }
}

/// What a primary tells of the commits that it shows.
pub(crate) fn shown(state: &State, its: &Server) -> Transactions {
    let len = state.history.len(its.branch);
    match state.kind {
        Kind::Timelines => {
            let oldest = its.running.first().copied().unwrap_or(its.next_transaction);
            Transactions::Numbered { oldest, next: its.next_transaction }
        }
        Kind::GtidSets => {
            let hidden = |from, until| its.hidden.range(from..until).copied().collect();
            Transactions::Within(Position::GtidSet(set(state, its, len, hidden)))
        }
        Kind::GtidLists => {
            let oldest = its.hidden.first().copied().unwrap_or(len);
            Transactions::Numbered { oldest: oldest as u64, next: len as u64 }
        }
    }
}

/// Which history it writes, with so much of its branch.
pub(crate) fn ancestry(state: &State, its: &Server, len: usize) -> Option<Ancestry> {
    match state.kind {
        Kind::Timelines => None,
        Kind::GtidSets => Ancestry::mysql(&uuid(its.source)).ok(),
        Kind::GtidLists => {
            let len = if its.is_primary { state.history.len(its.branch) } else { len };
            let mut last = BTreeMap::new();
            for (source, from, until) in state.history.sources(its.branch, len) {
                if from < until {
                    let its = last.entry(server_id(source)).or_insert((source, until));
                    its.1 = until.max(its.1);
                }
            }
            let last: Vec<_> = last.values().map(|(source, until)| gtid(*source, *until)).collect();
            Ancestry::mariadb(server_id(its.source), &last.join(",")).ok()
        }
    }
}

/// The server that a replica says it receives from.
pub(crate) fn followed(state: &State, its: &Server) -> Option<Source> {
    let upstream = state.servers.get(its.upstream).filter(|_| !its.is_primary)?;
    match state.kind {
        Kind::Timelines => None,
        Kind::GtidSets => Source::mysql(&uuid(upstream.source)),
        Kind::GtidLists => Source::mariadb(server_id(upstream.source)),
    }
}

/// By what two addresses are known to lead to one server.
pub(crate) fn identity(state: &State, its: &Server) -> String {
    match state.kind {
        Kind::Timelines => SYSTEM.to_string(),
        Kind::GtidSets => uuid(its.source),
        Kind::GtidLists => format!("server {}, domain 0", server_id(its.source)),
    }
}

/// So much of a branch as a set, without the places that are left out.
fn set(
    state: &State,
    its: &Server,
    len: usize,
    left_out: impl Fn(usize, usize) -> Vec<usize>,
) -> GtidSet {
    let parts = state.history.sources(its.branch, len).filter(|(_, from, until)| from < until);
    let parts: Vec<_> = parts.collect();
    // A server that becomes a primary again numbers on from what it wrote before.
    let before = |number: usize, source: u64| -> usize {
        let older = parts[number + 1..].iter().filter(|(its, ..)| *its == source);
        older.map(|(_, from, until)| until - from).sum()
    };
    let sets: Vec<String> = parts
        .iter()
        .enumerate()
        .map(|(number, &(source, from, until))| {
            let first = before(number, source) + 1;
            let mut text = uuid(source);
            let mut next = from;
            for end in left_out(from, until).into_iter().chain([until]) {
                if next < end {
                    let (next, last) = (next - from + first, end - from + first - 1);
                    text.push_str(&format!(":{next}-{last}"));
                }
                next = end + 1;
            }
            text
        })
        .filter(|text| text.contains(':'))
        .collect();
    sets.join(",").parse().unwrap_or_default()
}

/// The last transaction before a place. MariaDB numbers on from what it has.
fn gtid(source: u64, until: usize) -> String {
    format!("0-{}-{until}", server_id(source))
}

/// MariaDB's number of a server is configured: it stays when the data are made anew.
fn server_id(source: u64) -> u32 {
    u32::try_from(source / SOURCES + 1).unwrap_or(u32::MAX)
}

fn uuid(source: u64) -> String {
    format!("3e11fa47-71ca-11e1-9e33-{:012x}", source + 1)
}
