//! What a server reports about its group of primaries, and about semi-synchronous replication.
//!
//! # No position
//! A read-only member of a group has no position: it serves
//! [`Eventual`](sealane_core::Consistency::Eventual) reads, as Aurora's readers do.
//!
//! Each member of Galera numbers what it applies by itself, unless `wsrep_gtid_mode` is on. A
//! transaction that stays on one member (`wsrep_on = OFF`, or a change of its own) makes that member's
//! numbers greater than everybody's, so they would "cover" what the member lacks. (Rejected: to trust `wsrep_gtid_mode`, which says nothing about what was
//! numbered before it was on. Rejected: `wsrep_last_committed`, which every member counts alike: it
//! would need a kind of position of its own. Rejected: to set `wsrep_sync_wait` on our sessions: a
//! read would then wait on a member for as long as that one lags, while the primary could answer.)
//!
//! Members of Group Replication share the group's GTIDs, so a set says what a member has. But the
//! primary's set does not say what anybody may have seen: a transaction is sent to the group before
//! the primary owns its GTID (the hook `before_commit` certifies it; `ordered_commit` assigns the
//! GTID), so a secondary may show it while the primary knows nothing of it. And the GTIDs are the
//! group's, so a set does not tell which server has written. (Rejected: sets for own writes only.
//! Sessions would go back between secondaries. Rejected: `RECEIVED_TRANSACTION_SET` of the group's
//! channel, which few may read.)
//!
//! # Members that are not synced
//! A member that copies its data, has left the group, or was taken out of its flow control, may be
//! behind by any time and still answers. So a read-only member in such a state is not available.
//! A member that takes writes goes on, unless most members of its group are out of its reach: they
//! may have chosen another one, and its own writes wait for them. It may lack what another writer acknowledged just before the
//! writer was changed: only `wsrep_sync_wait` on the new one closes this gap, and the book says so.

use std::{sync::Arc, time::Duration};

use sealane_core::{Failure, Position, Replication, Report, Role};
use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::{is_refused, text};

/// The time from one query to the next, for a member: a read may come to it meanwhile.
const OF_MEMBER: Duration = Duration::from_secs(1);
/// The same for any other server, where the answer is only for people.
const OF_OTHERS: Duration = Duration::from_secs(10);

/// Every role may query these. The server leaves out variables that it does not know.
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state', \
     'wsrep_local_state_comment', 'rpl_semi_sync_master_status', 'rpl_semi_sync_slave_status', \
     'rpl_semi_sync_source_status', 'rpl_semi_sync_replica_status')";
/// Needs SELECT on the table. Each server reports on itself, and on whom of the others it reaches.
const MEMBER: &str = "SELECT member_state AS state, member_role AS role, \
     (SELECT CAST(2 * SUM(member_state <> 'UNREACHABLE') <= COUNT(*) AS CHAR) \
      FROM performance_schema.replication_group_members) AS cut_off \
     FROM performance_schema.replication_group_members WHERE member_id = @@global.server_uuid";
/// Added to the state of a member that does not reach most of its group.
const CUT_OFF: &str = ", cut off from most members";

/// What is known about a server's group, and when to ask again.
#[derive(Debug)]
pub(super) struct Group {
    kind: Option<Kind>,
    member: Option<Arc<str>>,
    state: State,
    semi_sync: Option<bool>,
    /// `None` if there is nothing to ask.
    ask_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Galera,
    GroupReplication,
}

/// Whether a member has what its group has, but for what is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Our role may not see it.
    Unknown,
    Synced,
    NotSynced,
    /// It does not reach most members, so that others may have gone on without it.
    CutOff,
    /// The server could be a member, and is none at present (Group Replication).
    Outside,
}

impl Group {
    /// Determines the group from the variables that a server reports on a new connection.
    pub(super) fn of(variables: &[(String, String)]) -> Self {
        let get = |name: &str| {
            let mut found = variables.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.as_str())
        };
        let is_on = |name: &str| get(name).is_some_and(|value| value == "ON" || value == "1");
        let kind = if is_on("wsrep_on") {
            Some(Kind::Galera)
        } else if get("group_replication_group_name").is_some_and(|name| !name.is_empty()) {
            Some(Kind::GroupReplication)
        } else {
            None
        };
        let semi_sync = ["master", "slave", "source", "replica"];
        let has_semi_sync =
            semi_sync.iter().any(|it| is_on(&format!("rpl_semi_sync_{it}_enabled")));
        let has_any = kind.is_some() || has_semi_sync;
        Group {
            kind,
            member: kind.map(|kind| kind.told(None)),
            state: State::Unknown,
            semi_sync: None,
            ask_at: has_any.then(Instant::now),
        }
    }

    /// Asks the server if this is due. Takes one round trip, or two for a member of Group
    /// Replication.
    pub(super) async fn ask(
        &mut self,
        connection: &mut MySqlConnection,
    ) -> Result<(), sqlx::Error> {
        if self.ask_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let interval = if self.kind.is_some() { OF_MEMBER } else { OF_OTHERS };
        self.ask_at = Instant::now().checked_add(interval);
        let rows = match sqlx::raw_sql(STATUS).fetch_all(&mut *connection).await {
            Err(error) if is_refused(&error) => {
                self.ask_at = None;
                return Ok(());
            }
            answer => answer?,
        };
        let status: Vec<(String, String)> = rows
            .iter()
            .map(|row| Ok((text(row, "Variable_name")?, text(row, "Value")?)))
            .collect::<Result<_, sqlx::Error>>()?;
        let member = match self.kind {
            Some(Kind::GroupReplication) => {
                let row = match sqlx::raw_sql(MEMBER).fetch_optional(connection).await {
                    // Most roles may not read this table.
                    Err(error) if is_refused(&error) => None,
                    row => row?,
                };
                row.and_then(|row| {
                    let told = |column| text(&row, column).ok();
                    let cut_off = told("cut_off").filter(|it| it == "1").map_or("", |_| CUT_OFF);
                    Some(format!("{}, {}{cut_off}", told("state")?, told("role")?))
                })
            }
            Some(Kind::Galera) | None => None,
        };
        self.learn(&status, member.as_deref());
        Ok(())
    }

    fn learn(&mut self, status: &[(String, String)], member: Option<&str>) {
        let get = |name: &str| {
            let mut found = status.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.as_str())
        };
        let state = match self.kind {
            Some(Kind::Galera) => get("wsrep_local_state_comment").or(get("wsrep_local_state")),
            _ => member,
        };
        self.member = self.kind.map(|kind| kind.told(state));
        self.state = match self.kind {
            Some(Kind::Galera) => get("wsrep_local_state").map_or(State::Unknown, |it| match it {
                "4" => State::Synced,
                _ => State::NotSynced,
            }),
            Some(Kind::GroupReplication)
                if member.is_some_and(|member| member.ends_with(CUT_OFF)) =>
            {
                State::CutOff
            }
            Some(Kind::GroupReplication) => {
                let first = member.and_then(|member| member.split(',').next());
                first.map_or(State::Unknown, |it| match it {
                    "ONLINE" => State::Synced,
                    "OFFLINE" => State::Outside,
                    _ => State::NotSynced,
                })
            }
            None => State::Unknown,
        };
        let sides = ["master", "slave", "source", "replica"];
        let told = sides.iter().filter_map(|it| get(&format!("rpl_semi_sync_{it}_status")));
        self.semi_sync = told.map(|value| value == "ON").reduce(|one, other| one || other);
    }

    /// Completes a member's report.
    ///
    /// # Errors
    /// A read-only member that is not synced is not available, nor is any that is cut off from most
    /// of its group.
    pub(super) fn complete(&self, report: &mut Report) -> Result<(), Failure> {
        if self.kind.is_none() {
            return Ok(());
        }
        let unavailable = |why: &str| {
            let member = self.member.as_deref().unwrap_or_default();
            Err(Failure::Unavailable(format!("the member is {why} ({member})")))
        };
        let is_replica = report.role == Role::Replica;
        let follows = report.replication == Replication::Running;
        match self.state {
            State::CutOff => return unavailable("cut off"),
            State::NotSynced if is_replica => return unavailable("not synced"),
            // A server outside its group may be an ordinary replica.
            State::Outside if is_replica && !follows => return unavailable("not synced"),
            State::Outside => return Ok(()),
            State::NotSynced | State::Synced | State::Unknown => {}
        }
        if is_replica && !follows {
            // Members have no channel that a probe could see.
            report.replication = match self.state {
                State::Synced => Replication::Running,
                _ => Replication::Unknown,
            };
        }
        report.position = (!is_replica).then_some(Position::Opaque);
        (report.received, report.ancestry, report.transactions) = (None, None, None);
        Ok(())
    }

    pub(super) fn is_galera(&self) -> bool {
        self.kind == Some(Kind::Galera)
    }

    /// The name of the group and the state of this member.
    pub(super) fn member(&self) -> Option<Arc<str>> {
        self.member.clone()
    }

    pub(super) fn semi_sync(&self) -> Option<bool> {
        self.semi_sync
    }
}

impl Kind {
    fn told(self, state: Option<&str>) -> Arc<str> {
        let name = match self {
            Kind::Galera => "Galera",
            Kind::GroupReplication => "Group Replication",
        };
        match state {
            Some(state) => format!("{name}: {state}").into(),
            None => name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_ordinary_server_is_not_asked() {
        let group = Group::of(&rows(&[("version", "9.7.4"), ("wsrep_on", "OFF")]));
        assert_eq!((group.member(), group.semi_sync(), group.ask_at), (None, None, None));
        let empty = Group::of(&rows(&[("group_replication_group_name", "")]));
        assert_eq!((empty.member(), empty.ask_at), (None, None));
    }

    #[test]
    fn a_member_of_galera_is_known_with_its_state() {
        let mut group = Group::of(&rows(&[("wsrep_on", "ON")]));
        assert_eq!(group.member().as_deref(), Some("Galera"));
        assert!(group.ask_at.is_some());
        let state = [("wsrep_local_state", "4"), ("wsrep_local_state_comment", "Synced")];
        group.learn(&rows(&state), None);
        assert_eq!(group.member().as_deref(), Some("Galera: Synced"));
        group.learn(&rows(&[("wsrep_local_state", "2")]), None);
        assert_eq!(group.member().as_deref(), Some("Galera: 2"));
    }

    #[test]
    fn a_member_of_group_replication_is_known_also_without_its_state() {
        let name = [("group_replication_group_name", "3e11fa47-71ca-11e1-9e33-c80aa9429562")];
        let mut group = Group::of(&rows(&name));
        group.learn(&[], None);
        assert_eq!(group.member().as_deref(), Some("Group Replication"));
        group.learn(&[], Some("ONLINE, PRIMARY"));
        assert_eq!(group.member().as_deref(), Some("Group Replication: ONLINE, PRIMARY"));
    }

    fn report(role: Role, replication: Replication) -> Report {
        let position = "0-1-7".parse().ok().map(Position::GtidList);
        let report = Report::new(role, sealane_core::Incarnation::new("1 1795250371"));
        Report { position, replication, ..report }
    }

    fn galera(state: &str) -> Group {
        let mut group = Group::of(&rows(&[("wsrep_on", "ON")]));
        group.learn(&rows(&[("wsrep_local_state", state)]), None);
        group
    }

    #[test]
    fn a_member_of_galera_has_no_position() {
        let mut reader = report(Role::Replica, Replication::Stopped);
        assert!(reader.position.is_some());
        assert_eq!(galera("4").complete(&mut reader), Ok(()));
        assert_eq!((&reader.position, reader.replication), (&None, Replication::Running));
        let mut writer = report(Role::Primary, Replication::NotApplicable);
        assert_eq!(galera("4").complete(&mut writer), Ok(()));
        assert_eq!(writer.position, Some(Position::Opaque));
    }

    #[rstest]
    #[case::donor("2")]
    #[case::joiner("1")]
    #[case::joined("3")]
    fn only_a_read_only_member_of_galera_must_be_synced(#[case] state: &str) {
        let mut reader = report(Role::Replica, Replication::Stopped);
        let failure = galera(state).complete(&mut reader).unwrap_err().to_string();
        assert!(failure.contains("not synced (Galera: "), "{failure}");
        let mut writer = report(Role::Primary, Replication::NotApplicable);
        assert_eq!(galera(state).complete(&mut writer), Ok(()));
    }

    fn group_replication(member: Option<&str>) -> Group {
        let name = [("group_replication_group_name", "3e11fa47-71ca-11e1-9e33-c80aa9429562")];
        let mut group = Group::of(&rows(&name));
        group.learn(&[], member);
        group
    }

    #[rstest]
    #[case::online(Some("ONLINE, SECONDARY"), Replication::Unknown, Some(Replication::Running))]
    #[case::hidden(None, Replication::Stopped, Some(Replication::Unknown))]
    #[case::recovering(Some("RECOVERING, SECONDARY"), Replication::Unknown, None)]
    #[case::left(Some("OFFLINE, "), Replication::Unknown, None)]
    #[case::an_ordinary_replica(
        Some("OFFLINE, "),
        Replication::Running,
        Some(Replication::Running)
    )]
    fn a_member_of_group_replication_has_no_position_while_it_may_be_online(
        #[case] member: Option<&str>,
        #[case] replication: Replication,
        #[case] then: Option<Replication>,
    ) {
        let mut reader = report(Role::Replica, replication);
        let completed = group_replication(member).complete(&mut reader);
        assert_eq!(completed.ok().map(|()| reader.replication), then);
        let is_outside = member.is_some_and(|it| it.starts_with("OFFLINE"));
        assert_eq!(reader.position.is_some(), is_outside || then.is_none());
    }

    #[rstest]
    fn a_member_that_is_cut_off_from_most_of_its_group_is_not_available(
        #[values(Role::Primary, Role::Replica)] role: Role,
    ) {
        let group = group_replication(Some(&format!("ONLINE, PRIMARY{CUT_OFF}")));
        let failure = group.complete(&mut report(role, Replication::Unknown)).unwrap_err();
        assert!(failure.to_string().contains("cut off from most members"), "{failure}");
    }

    #[test]
    fn semi_synchronous_replication_is_told_by_either_side() {
        let mut group = Group::of(&rows(&[("rpl_semi_sync_source_enabled", "ON")]));
        group.learn(&rows(&[("Rpl_semi_sync_source_status", "OFF")]), None);
        assert_eq!(group.semi_sync(), Some(false));
        group.learn(
            &rows(&[
                ("Rpl_semi_sync_source_status", "OFF"),
                ("Rpl_semi_sync_replica_status", "ON"),
            ]),
            None,
        );
        assert_eq!((group.semi_sync(), group.member()), (Some(true), None));
        group.learn(&[], None);
        assert_eq!(group.semi_sync(), None);
    }
}
