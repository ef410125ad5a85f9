//! How many monitors ask a server, of all processes.
//!
//! An ordinary user sees the connections of others neither in the list of processes nor in the
//! performance schema, and the driver sends no attributes of its connections. But everybody may
//! ask whether a named lock is free: so each monitor holds one of a row of them for as long as
//! its connection lasts, and counts those that are held.
//!
//! There are 256 such locks.

use std::time::Duration;

use sqlx::{MySqlConnection, Row};
use tokio::time::Instant;

/// From one count to the next, at least; and for each monitor so much, so that counting costs a
/// server no more in a large fleet. It is a round trip of its own, of a quarter of a
/// millisecond.
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

/// 256 names. (A recursion that counts takes three times as long.)
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

/// Takes one that is free. More monitors than locks count as so many.
const ENTER: &str = concat!("SELECT name FROM ", names!(), " WHERE GET_LOCK(name, 0) = 1 LIMIT 1");
const COUNT: &str =
    concat!("SELECT CAST(COUNT(IS_USED_LOCK(name)) AS CHAR) AS monitors FROM ", names!());

/// Counts on one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet {
    monitors: Option<u32>,
    /// `None` if the server does not let us.
    count_at: Option<Instant>,
    has_entered: bool,
}

impl Fleet {
    /// Of a new connection.
    pub(super) fn new() -> Self {
        Fleet { monitors: None, count_at: Some(Instant::now()), has_entered: false }
    }

    /// How many there are, this one among them, as counted a second ago at most. Asks the
    /// server if that is not known.
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
