//! `sealane watch`: the topology, the lags and the last events, as they change. On a terminal it is
//! a picture that is drawn anew several times a second; for programs it is a line of JSON each time.
//!
//! The picture is made from the library's own snapshot and from its list of recent events, so that
//! looking often asks no server anything. Rejected: following the events one by one. A follower that
//! is too slow misses events, and the list has those from before it began, too.

mod columns;
mod draw;
#[cfg(test)]
mod fleet;
mod history;
mod hold;
mod keys;
mod paint;
mod picture;
mod screen;
mod signals;
mod sparkline;
mod text;

use std::{
    io::{self, IsTerminal},
    pin::pin,
    time::{Duration, SystemTime},
};

use sealane::{Config, RoutedConnection};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::{CommandError, arguments::Watch, output::Output, status};
use history::History;
use keys::Wish;
use paint::Paint;
use picture::Picture;
use screen::Screen;

pub(crate) async fn run(
    config: Config,
    wanted: &Watch,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    if !output.is_json() && !is_screen() {
        return Err(CommandError::NoTerminal);
    }
    // Without the wait for the lags of other commands: what is not known yet is shown as such.
    let db = sealane::connect(config).await.map_err(CommandError::Connect)?;
    let result = match output.is_json() {
        true => lines(&db, wanted.every, output).await,
        false => picture(&db, wanted.every).await,
    };
    status::close(db).await;
    result
}

/// Whether the standard output is a terminal that can show a picture.
fn is_screen() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A line of JSON each time, until nobody reads them any more.
async fn lines(
    db: &RoutedConnection,
    every: Duration,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let mut moments = moments(every);
    loop {
        moments.tick().await;
        match output.line(&db.status(), |_| Ok(())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
            written => written?,
        }
    }
}

/// The picture, until the user ends it. Returns false if a signal did.
async fn picture(db: &RoutedConnection, every: Duration) -> Result<bool, CommandError> {
    // The handlers must be there before the terminal is changed.
    let mut ended = pin!(signals::end()?);
    let mut screen = Screen::open()?;
    let paint = Paint::of_terminal();
    let (mut history, began) = (History::default(), Instant::now());
    let mut moments = moments(every);
    loop {
        let status = db.status();
        history.note(began.elapsed(), &status);
        let events = db.recent_events();
        let now = SystemTime::now();
        let picture = Picture { status: &status, history: &history, events: &events, now, paint };
        screen.draw(&picture)?;
        tokio::select! {
            biased;
            () = &mut ended => return Ok(false),
            wish = screen.wish() => match wish? {
                Wish::End => return Ok(true),
                Wish::Draw => {}
            },
            _ = moments.tick() => {}
        }
    }
}

fn moments(every: Duration) -> Interval {
    let mut moments = interval(every);
    // After a suspension, the present is of interest, and not what was missed.
    moments.set_missed_tick_behavior(MissedTickBehavior::Skip);
    moments
}
