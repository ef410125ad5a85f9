//! Which history a primary writes, for engines that do not number histories.

use std::sync::Arc;

use super::{
    GtidList, GtidSet, ParseGtidError, Position,
    gtid_list::{Gtid, parse_gtids},
    gtid_set::Part,
    gtid_text::parse_uuid,
};

/// What a MySQL or MariaDB primary says about the history that it writes.
///
/// A history consists of *streams*. A stream is what one server wrote (on MariaDB, in one domain).
/// A stream has one order and grows at its end. Only a primary adds to its own stream. So data at
/// some position belongs to the primary's history if, in each stream that the primary does not
/// write, it holds nothing that the primary lacks. In the primary's own stream, the data may be
/// ahead of the primary's last answer.
///
/// A stream of which the primary has nothing is not part of its history: a replica may have other
/// sources, and transactions of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestry(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// MySQL: the UUID of the server. The server's position tells everything else.
    Source(u128),
    /// MariaDB: the server, and the last transaction that it has of each stream. Its position tells
    /// only the last transaction of each domain.
    Server { id: u32, passed: Arc<[Gtid]> },
}

/// A MySQL or MariaDB server, as its replicas name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(Name);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Uuid(u128),
    Number(u32),
}

impl Source {
    /// The MySQL server with this `server_uuid`; `None` if the text is not a UUID. (It is empty until
    /// a replica has connected for the first time.)
    #[must_use]
    pub fn mysql(server_uuid: &str) -> Option<Self> {
        parse_uuid(server_uuid).map(|uuid| Source(Name::Uuid(uuid)))
    }

    /// The MariaDB server with this `server_id`; `None` for 0, which a replica reports until it has
    /// connected.
    #[must_use]
    pub fn mariadb(server_id: u32) -> Option<Self> {
        (server_id != 0).then_some(Source(Name::Number(server_id)))
    }
}

impl Ancestry {
    /// The ancestry of the MySQL server with this `server_uuid`.
    ///
    /// # Errors
    /// The text is not a UUID.
    pub fn mysql(server_uuid: &str) -> Result<Self, ParseGtidError> {
        let uuid = parse_uuid(server_uuid);
        let source = uuid.ok_or_else(|| ParseGtidError::Uuid(server_uuid.to_owned()))?;
        Ok(Ancestry(Kind::Source(source)))
    }

    /// The ancestry of the MariaDB server with this `server_id` and this `gtid_binlog_state`. The
    /// state lists, for each domain, the last transaction of each server that the binary log holds,
    /// or held before it was purged.
    ///
    /// # Errors
    /// The text is not such a list.
    pub fn mariadb(server_id: u32, binlog_state: &str) -> Result<Self, ParseGtidError> {
        let passed = parse_gtids(binlog_state)?.into();
        Ok(Ancestry(Kind::Server { id: server_id, passed }))
    }

    /// Whether data at position `other` belongs to another history than the primary at position
    /// `primary`. It does if it holds a transaction that the primary lacks, in a stream that the
    /// primary, or a primary whose history `ended`, knows, and that the primary does not write.
    pub(crate) fn strays(&self, primary: &Position, other: &Position, ended: &[Position]) -> bool {
        self.lacks(primary, other, ended).any(|it| it.is_known)
    }

    /// Whether the server of `its` itself wrote everything that [strays](Self::strays) at its
    /// position `other`. Always false for MariaDB, because a replica's position there does not tell
    /// what the replica itself wrote.
    pub(crate) fn strays_alone(
        &self,
        primary: &Position,
        other: &Position,
        ended: &[Position],
        its: &Self,
    ) -> bool {
        let Kind::Source(uuid) = its.0 else { return false };
        let mut others = self.lacks(primary, other, ended).filter(|it| it.is_known);
        others.all(|it| it.server == fold(uuid))
    }

    /// Whether both come from one server. An unknown ancestry counts as the same server.
    pub(crate) fn is_of_one_server(one: Option<&Self>, other: Option<&Self>) -> bool {
        match (one.map(|it| &it.0), other.map(|it| &it.0)) {
            (Some(Kind::Source(one)), Some(Kind::Source(other))) => one == other,
            (Some(Kind::Server { id: one, .. }), Some(Kind::Server { id: other, .. })) => {
                one == other
            }
            _ => true,
        }
    }

    /// The server of a transaction that `other` holds, and that the primary lacks and did not
    /// write. Such a server shows that another history exists. The number is the same for one
    /// server in every process.
    pub(crate) fn stranger(&self, primary: &Position, other: &Position) -> Option<u32> {
        self.lacks(primary, other, &[]).map(|it| it.server).next()
    }

    /// Whether this is the ancestry of `server`.
    pub(crate) fn is_of(&self, server: Source) -> bool {
        match (&self.0, server.0) {
            (Kind::Source(own), Name::Uuid(uuid)) => *own == uuid,
            (Kind::Server { id, .. }, Name::Number(number)) => *id == number,
            _ => false,
        }
    }

    /// Whether the data at position `other`, on the server of `its`, hold a transaction that the
    /// primary lacks, and that neither the primary nor that server wrote.
    pub(crate) fn is_passed(&self, primary: &Position, other: &Position, its: &Self) -> bool {
        let own = match its.0 {
            Kind::Source(uuid) => fold(uuid),
            Kind::Server { id, .. } => id,
        };
        self.lacks(primary, other, &[]).any(|it| it.server != own)
    }

    /// Whether the primary has written something between the two positions.
    pub(crate) fn has_written(&self, since: &Position, now: &Position) -> bool {
        self.is_ahead(since, now)
    }

    /// Whether data at `position`, on the server with this ancestry, holds everything at `other`.
    /// Unlike [`Position::covers`], this does not take a MariaDB server's number for the number of
    /// another server.
    pub(crate) fn contains(&self, position: &Position, other: &Position) -> bool {
        match (&self.0, position, other) {
            (Kind::Server { passed, .. }, Position::GtidList(ours), Position::GtidList(theirs)) => {
                theirs.gtids().iter().all(|gtid| has(ours, passed, gtid))
            }
            _ => position.covers(other),
        }
    }

    /// Whether `other` is ahead of `primary` in the stream that the primary writes.
    fn is_ahead(&self, primary: &Position, other: &Position) -> bool {
        match (&self.0, primary, other) {
            (Kind::Source(own), Position::GtidSet(ours), Position::GtidSet(theirs)) => {
                let own = |part: &&Part| part.source.uuid == *own;
                theirs.parts().iter().filter(own).any(|part| !holds(ours, part))
            }
            (Kind::Server { id, .. }, Position::GtidList(ours), Position::GtidList(theirs)) => {
                let own = |gtid: &&Gtid| gtid.server == *id;
                // The same number of another server is another transaction.
                let lacks = |gtid: &Gtid| {
                    ours.of(gtid.domain).is_none_or(|last| {
                        (gtid.sequence, gtid.server) != (last.sequence, last.server)
                            && gtid.sequence >= last.sequence
                    })
                };
                theirs.gtids().iter().filter(own).any(lacks)
            }
            _ => false,
        }
    }

    /// What `other` holds, and the primary lacks, in streams that the primary does not write.
    fn lacks<'a>(
        &'a self,
        primary: &'a Position,
        other: &'a Position,
        ended: &'a [Position],
    ) -> impl Iterator<Item = Lacking> + 'a {
        let (sets, lists) = match (&self.0, primary, other) {
            (Kind::Source(own), Position::GtidSet(ours), Position::GtidSet(theirs)) => {
                (Some((*own, ours, theirs)), None)
            }
            (Kind::Server { id, passed }, Position::GtidList(ours), Position::GtidList(theirs)) => {
                (None, Some((*id, passed, ours, theirs)))
            }
            _ => (None, None),
        };
        let has_source = |it: &Position, part: &Part| match it {
            Position::GtidSet(set) => set.of(&part.source).is_some(),
            _ => false,
        };
        let sets = sets.into_iter().flat_map(move |(own, ours, theirs)| {
            let others = theirs.parts().iter().filter(move |part| part.source.uuid != own);
            others.filter(move |part| !holds(ours, part)).map(move |part| {
                let was_known = || ended.iter().any(|it| has_source(it, part));
                let is_known = ours.of(&part.source).is_some() || was_known();
                Lacking { server: fold(part.source.uuid), is_known }
            })
        });
        let lists = lists.into_iter().flat_map(|(own, passed, ours, theirs)| {
            let others = theirs.gtids().iter().filter(move |gtid| gtid.server != own);
            others.filter(move |gtid| !has(ours, passed, gtid)).map(move |gtid| Lacking {
                server: gtid.server,
                is_known: ours.of(gtid.domain).is_some(),
            })
        });
        sets.chain(lists)
    }
}

/// Something that a primary lacks.
struct Lacking {
    server: u32,
    /// Whether the primary has other transactions of that stream (on MariaDB, of that domain), or a
    /// primary before it had (MySQL).
    is_known: bool,
}

/// Whether data at position `other`, from a server that lost no transaction, is ahead of the
/// primary at position `primary` in what the primary itself writes. If so, and if the primary
/// answered later than that server, the primary has lost something.
pub(crate) fn leads(ancestry: Option<&Ancestry>, primary: &Position, other: &Position) -> bool {
    match (primary, other) {
        (
            Position::Wal { system, timeline, lsn },
            Position::Wal { system: other_system, timeline: other_timeline, lsn: other_lsn },
        ) => system == other_system && timeline == other_timeline && other_lsn > lsn,
        _ => ancestry.is_some_and(|ancestry| ancestry.is_ahead(primary, other)),
    }
}

fn holds(set: &GtidSet, part: &Part) -> bool {
    set.of(&part.source).is_some_and(|numbers| numbers.covers(&part.numbers))
}

/// Whether the transaction is in a history that ends at `end` and whose streams end at `passed`.
fn has(end: &GtidList, passed: &[Gtid], gtid: &Gtid) -> bool {
    let reaches = |its: &Gtid| {
        (its.domain, its.server) == (gtid.domain, gtid.server) && its.sequence >= gtid.sequence
    };
    end.of(gtid.domain).is_some_and(reaches) || passed.iter().any(reaches)
}

/// The digits of a UUID are random, or a time and an address. The exclusive or keeps the digits
/// that differ.
fn fold(uuid: u128) -> u32 {
    let bytes = uuid.to_be_bytes();
    bytes.chunks_exact(4).fold(0, |folded, part| {
        let part = part.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
        folded ^ part
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn list(text: &str) -> Position {
        Position::GtidList(text.parse().unwrap())
    }

    fn uuids(text: &str) -> String {
        let uuid = |c: char| match c {
            'a'..='c' => format!("0000000{c}-0000-0000-0000-000000000000"),
            c => c.to_string(),
        };
        text.chars().map(uuid).collect()
    }

    fn set(text: &str) -> Position {
        Position::GtidSet(uuids(text).parse().unwrap())
    }

    #[rstest]
    #[case::level("0-1-100", false)]
    #[case::behind("0-1-70", false)]
    #[case::follows("0-2-110", false)]
    #[case::leads("0-1-101", true)]
    #[case::another_server("0-3-100", true)]
    #[case::one_of_before("0-3-40", false)]
    #[case::a_domain_of_its_own("0-2-105,7-9-1", false)]
    fn a_mariadb_position_is_of_the_history_by_its_last_writer(
        #[case] other: &str,
        #[case] strays: bool,
    ) {
        let ancestry = Ancestry::mariadb(2, "0-3-40,0-1-100,0-2-105").unwrap();
        assert_eq!(ancestry.strays(&list("0-2-105"), &list(other), &[]), strays);
    }

    #[rstest]
    #[case::level("a:1-100", false)]
    #[case::follows("a:1-100,b:1-9", false)]
    #[case::leads("a:1-101", true)]
    #[case::leads_and_follows("a:1-100:150,b:1-5", true)]
    #[case::errant("a:1-90,c:1", false)]
    fn a_mysql_set_is_of_the_history_if_it_adds_to_no_ended_stream(
        #[case] other: &str,
        #[case] strays: bool,
    ) {
        let ancestry = Ancestry::mysql(&uuids("b")).unwrap();
        assert_eq!(ancestry.strays(&set("a:1-100,b:1-5"), &set(other), &[]), strays);
    }

    #[test]
    fn what_a_server_wrote_that_is_not_known_is_of_a_stranger() {
        let old = Ancestry::mariadb(1, "0-1-160").unwrap();
        assert_eq!(old.stranger(&list("0-1-160"), &list("0-2-105")), Some(2));
        assert_eq!(old.stranger(&list("0-1-160"), &list("0-1-170")), None);
        let old = Ancestry::mysql(&uuids("a")).unwrap();
        assert_eq!(old.stranger(&set("a:1-160"), &set("a:1-170")), None);
        assert!(old.stranger(&set("a:1-160"), &set("a:1-100,b:1")).is_some());
    }

    #[test]
    fn a_primary_is_led_in_what_it_writes_itself() {
        let ancestry = Ancestry::mariadb(1, "0-1-100").unwrap();
        assert!(leads(Some(&ancestry), &list("0-1-100"), &list("0-1-160")));
        assert!(!leads(Some(&ancestry), &list("0-1-100"), &list("0-1-100")));
        let ancestry = Ancestry::mysql(&uuids("a")).unwrap();
        assert!(leads(Some(&ancestry), &set("a:1-100"), &set("a:1-160")));
        assert!(!leads(Some(&ancestry), &set("a:1-100"), &set("a:1-90,b:1")));
    }

    #[test]
    fn what_is_contained_is_of_the_same_server() {
        let ancestry = Ancestry::mariadb(1, "0-2-30,0-1-160").unwrap();
        assert!(ancestry.contains(&list("0-1-160"), &list("0-2-30")));
        assert!(!ancestry.contains(&list("0-1-160"), &list("0-2-31")));
    }

    #[test]
    fn what_is_no_ancestry_is_refused() {
        assert!(Ancestry::mysql("nobody").is_err());
        assert!(Ancestry::mariadb(1, "0-1").is_err());
    }
}
