//! What a server reports about its group of primaries, and about semi-synchronous replication.

use std::{sync::Arc, time::Duration};

use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::text;

/// The time from one query to the next. The answer is only for people.
const INTERVAL: Duration = Duration::from_secs(10);

/// Every role may query these. The server leaves out variables that it does not know.
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state', \
     'wsrep_local_state_comment', 'rpl_semi_sync_master_status', 'rpl_semi_sync_slave_status', \
     'rpl_semi_sync_source_status', 'rpl_semi_sync_replica_status')";
/// Needs SELECT on the table. Reads only the server's own row, because each server reports on
/// itself.
const MEMBER: &str = "SELECT member_state AS state, member_role AS role \
     FROM performance_schema.replication_group_members WHERE member_id = @@global.server_uuid";

/// What is known about a server's group, and when to ask again.
#[derive(Debug)]
pub(super) struct Group {
    kind: Option<Kind>,
    member: Option<Arc<str>>,
    semi_sync: Option<bool>,
    /// `None` if there is nothing to ask.
    ask_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Galera,
    GroupReplication,
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
        self.ask_at = Instant::now().checked_add(INTERVAL);
        let rows = match sqlx::raw_sql(STATUS).fetch_all(&mut *connection).await {
            // A proxy in between does not accept the statement.
            Err(sqlx::Error::Database(_)) => {
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
                // Most roles may not read this table.
                let row = sqlx::raw_sql(MEMBER).fetch_optional(connection).await.ok().flatten();
                row.and_then(|row| {
                    Some(format!("{}, {}", text(&row, "state").ok()?, text(&row, "role").ok()?))
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
        let sides = ["master", "slave", "source", "replica"];
        let told = sides.iter().filter_map(|it| get(&format!("rpl_semi_sync_{it}_status")));
        self.semi_sync = told.map(|value| value == "ON").reduce(|one, other| one || other);
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

    /// As documented for MariaDB 11.8; no cluster was available.
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
