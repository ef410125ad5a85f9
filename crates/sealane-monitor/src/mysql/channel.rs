//! What a replica says of its replication, to those who may ask.

use sealane_core::Replication;
use sqlx::{Row, mysql::MySqlRow};

/// One source that a replica receives from. Most have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channel {
    /// The thread that receives is connected; while it tries to connect, it is not.
    pub(super) receives: bool,
    /// The thread that applies runs.
    pub(super) applies: bool,
}

impl Channel {
    /// From a row of `SHOW REPLICA STATUS` or `SHOW ALL SLAVES STATUS`. MariaDB keeps
    /// the old names of the columns.
    pub(super) fn from_row(row: &MySqlRow) -> Self {
        let runs = |names: [&str; 2]| {
            names.into_iter().any(|name| {
                row.try_get_unchecked::<String, _>(name).is_ok_and(|says| says == "Yes")
            })
        };
        Channel {
            receives: runs(["Replica_IO_Running", "Slave_IO_Running"]),
            applies: runs(["Replica_SQL_Running", "Slave_SQL_Running"]),
        }
    }

    /// All of them together; `None` without any.
    pub(super) fn replication(channels: &[Channel]) -> Option<Replication> {
        if channels.is_empty() {
            return None;
        }
        Some(if channels.iter().any(|channel| !channel.receives) {
            Replication::Stopped
        } else if channels.iter().any(|channel| !channel.applies) {
            Replication::Paused
        } else {
            Replication::Running
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_channel_speaks_for_all() {
        let channel = |receives, applies| Channel { receives, applies };
        let (runs, paused, stopped) =
            (channel(true, true), channel(true, false), channel(false, true));
        assert_eq!(Channel::replication(&[runs, runs]), Some(Replication::Running));
        assert_eq!(Channel::replication(&[runs, paused]), Some(Replication::Paused));
        assert_eq!(Channel::replication(&[paused, stopped]), Some(Replication::Stopped));
        assert_eq!(Channel::replication(&[]), None);
    }
}
