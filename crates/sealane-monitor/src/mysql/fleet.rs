//! How many monitors ask a server, of all processes.
//!
//! An ordinary user sees the connections of others neither in the list of processes nor in the
//! performance schema, and the driver sends no attributes of its connections. But everybody may
//! ask whether a named lock is free: so each monitor holds one of a row of them for as long as
//! its connection lasts, and counts those that are held.

use std::time::Duration;

use sqlx::{MySqlConnection, Row};
use tokio::time::Instant;

/// From one count to the next. It is a round trip of its own, of a third of a millisecond.
const INTERVAL: Duration = Duration::from_secs(1);

macro_rules! places {
    ($rest:literal) => {
        concat!(
            "WITH RECURSIVE place (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM place WHERE n < 256) ",
            $rest
        )
    };
}

/// Takes the first lock that is free. More monitors than locks count as so many.
const ENTER: &str =
    places!("SELECT n FROM place WHERE GET_LOCK(CONCAT('sealane monitor ', n), 0) = 1 LIMIT 1");
const COUNT: &str = places!(
    "SELECT CAST(COUNT(IS_USED_LOCK(CONCAT('sealane monitor ', n))) AS CHAR) AS monitors \
     FROM place"
);

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
                    self.count_at = Instant::now().checked_add(INTERVAL);
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
