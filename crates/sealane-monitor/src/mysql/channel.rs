//! What a replica reports about its replication, to roles that may ask.

use std::time::Duration;

use sealane_core::{Replication, ServerInfo, Source};
use sqlx::{Row, mysql::MySqlRow};

/// One source that a replica receives from. Most replicas have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channel {
    /// Whether the receiving thread is connected; it is not while it tries to connect.
    pub(super) receives: bool,
    /// Whether the applying thread runs.
    pub(super) applies: bool,
    /// How far the replica believes itself to be behind, while it applies.
    pub(super) lag: Option<Duration>,
    /// The server that it receives from; `None` until it has connected to one.
    pub(super) source: Option<Source>,
}

impl Channel {
    /// Reads a row of `SHOW REPLICA STATUS` or `SHOW ALL SLAVES STATUS`. MariaDB keeps the old
    /// column names.
    pub(super) fn from_row(row: &MySqlRow) -> Self {
        let says = |names: [&str; 2]| {
            names.into_iter().find_map(|name| row.try_get_unchecked::<String, _>(name).ok())
        };
        let runs = |names| says(names).is_some_and(|says| says == "Yes");
        let lag = says(["Seconds_Behind_Source", "Seconds_Behind_Master"]);
        // MariaDB has no UUID, and MySQL's number need not be unique over time.
        let source = match says(["Source_UUID", "Master_UUID"]) {
            Some(uuid) => Source::mysql(&uuid),
            None => says(["Source_Server_Id", "Master_Server_Id"])
                .and_then(|number| number.parse().ok())
                .and_then(Source::mariadb),
        };
        Channel {
            receives: runs(["Replica_IO_Running", "Slave_IO_Running"]),
            applies: runs(["Replica_SQL_Running", "Slave_SQL_Running"]),
            lag: lag.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs),
            source,
        }
    }

    /// The servers that all channels receive from; empty if one of them is not known to be connected.
    pub(super) fn sources(channels: &[Channel]) -> Vec<Source> {
        let sources = channels.iter().map(|it| it.source.filter(|_| it.receives));
        sources.collect::<Option<_>>().unwrap_or_default()
    }

    /// The worst state of all channels; empty without channels.
    pub(super) fn info(channels: &[Channel]) -> ServerInfo {
        if channels.is_empty() {
            return ServerInfo::default();
        }
        let lags: Option<Vec<Duration>> = channels.iter().map(|channel| channel.lag).collect();
        ServerInfo {
            receives: Some(channels.iter().all(|channel| channel.receives)),
            applies: Some(channels.iter().all(|channel| channel.applies)),
            reported_lag: lags.and_then(|lags| lags.into_iter().max()),
            ..ServerInfo::default()
        }
    }

    /// The state of all channels together; `None` without channels.
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
        let channel = |receives, applies| Channel { receives, applies, lag: None, source: None };
        let (runs, paused, stopped) =
            (channel(true, true), channel(true, false), channel(false, true));
        assert_eq!(Channel::replication(&[runs, runs]), Some(Replication::Running));
        assert_eq!(Channel::replication(&[runs, paused]), Some(Replication::Paused));
        assert_eq!(Channel::replication(&[paused, stopped]), Some(Replication::Stopped));
        assert_eq!(Channel::replication(&[]), None);
        let told = Channel::info(&[paused, stopped]);
        assert_eq!((told.receives, told.applies), (Some(false), Some(false)));
        assert_eq!(Channel::info(&[]), ServerInfo::default());
    }

    #[test]
    fn whom_a_replica_follows_is_known_if_all_its_channels_are_connected() {
        let channel = |receives, server| Channel {
            receives,
            applies: true,
            lag: None,
            source: Source::mariadb(server),
        };
        let told = |channels: &[Channel]| Channel::sources(channels).len();
        assert_eq!(told(&[channel(true, 1), channel(true, 2)]), 2);
        assert_eq!(told(&[channel(true, 1), channel(false, 2)]), 0);
        assert_eq!(told(&[channel(true, 1), channel(true, 0)]), 0);
        assert_eq!(told(&[]), 0);
    }

    #[test]
    fn the_longest_lag_is_reported_and_none_if_one_is_unknown() {
        let channel = |seconds: Option<u64>| Channel {
            receives: true,
            applies: true,
            lag: seconds.map(Duration::from_secs),
            source: None,
        };
        let lag = |channels: &[Channel]| Channel::info(channels).reported_lag;
        assert_eq!(lag(&[channel(Some(1)), channel(Some(7))]), Some(Duration::from_secs(7)));
        assert_eq!(lag(&[channel(Some(1)), channel(None)]), None);
    }
}
