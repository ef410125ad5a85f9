//! Counts the monitors of all processes that probe a server.
//!
//! An ordinary user sees the connections of others neither in the process list nor in the
//! performance schema, and the driver sends no connection attributes. But every user may ask
//! whether a named lock is free. So each monitor holds one lock of a series for as long as its
//! connection lasts, and counts the locks of the series that are held.
//!
//! There are 256 such locks.

use std::time::Duration;

use sqlx::{MySqlConnection, Row};
use tokio::time::Instant;

/// The least time from one count to the next. It is longer with many monitors, by a share for each,
/// so that counting costs a server no more in a large fleet. A count is a separate round trip of a
/// quarter of a millisecond.
const INTERVAL: Duration = Duration::from_secs(1);
const SHARE: Duration = Duration::from_millis(20);

macro_rules! digit {
    ($name:literal) => {
        concat!(
            "(SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 \
             UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 \
             UNION ALL SELECT 8 UNION ALL SELECT 9 UNION ALL SELECT 10 UNION ALL SELECT 11 \
             UNION ALL SELECT 12 UNION ALL SELECT 13 UNION ALL SELECT 14 UNION ALL SELECT 15) AS ",
            $name
        )
    };
}

/// 256 names. (A recursive query that counts takes three times as long.)
macro_rules! names {
    () => {
        concat!(
            "(SELECT CONCAT('sealane monitor ', high.n * 16 + low.n) AS name FROM ",
            digit!("high"),
            ", ",
            digit!("low"),
            ") AS place"
        )
    };
}

/// Takes a free lock. If there are more monitors than locks, the count is the number of locks.
const ENTER: &str = concat!("SELECT name FROM ", names!(), " WHERE GET_LOCK(name, 0) = 1 LIMIT 1");
const COUNT: &str =
    concat!("SELECT CAST(COUNT(IS_USED_LOCK(name)) AS CHAR) AS monitors FROM ", names!());

/// Counts monitors on one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet {
    monitors: Option<u32>,
    /// `None` if the server does not allow counting.
    count_at: Option<Instant>,
    has_entered: bool,
}

impl Fleet {
    /// For a new connection.
    pub(super) fn new() -> Self {
        Fleet { monitors: None, count_at: Some(Instant::now()), has_entered: false }
    }

    /// The number of monitors, including this one, as of the last count. Asks the server again if a
    /// count is due.
    pub(super) async fn monitors(
        &mut self,
        connection: &mut MySqlConnection,
    ) -> Result<Option<u32>, sqlx::Error> {
        if self.count_at.is_some_and(|at| at <= Instant::now()) {
            match self.count(connection).await {
                Ok(monitors) => {
                    self.monitors = Some(monitors);
                    let interval = INTERVAL.max(SHARE.saturating_mul(monitors));
                    self.count_at = Instant::now().checked_add(interval);
                }
                Err(error @ (sqlx::Error::Database(_) | sqlx::Error::Decode(_))) => {
                    tracing::debug!(target: "sealane::probe", %error, "monitors are not counted");
                    (self.monitors, self.count_at) = (None, None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.monitors)
    }

    async fn count(&mut self, connection: &mut MySqlConnection) -> Result<u32, sqlx::Error> {
        if !self.has_entered {
            sqlx::raw_sql(ENTER).fetch_optional(&mut *connection).await?;
            self.has_entered = true;
        }
        let row = sqlx::raw_sql(COUNT).fetch_one(connection).await?;
        let monitors: String = row.try_get_unchecked("monitors")?;
        monitors.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}
