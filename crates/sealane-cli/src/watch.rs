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
pub(crate) mod signals;
mod sparkline;
mod text;
mod waiting;

use std::{
    io::{self, IsTerminal},
    time::{Duration, SystemTime},
};

use sealane::{Config, ConnectError, RoutedConnection};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use crate::{CommandError, arguments::Watch, output::Output, status};
use draw::draw;
use history::History;
use keys::Wish;
use paint::Paint;
use picture::{FOOTER, Picture};
use screen::Screen;
use waiting::Waiting;

/// The time between two attempts to connect.
const AGAIN: Duration = Duration::from_secs(1);
/// The time between two pictures of a demonstration.
const EVERY: Duration = Duration::from_millis(250);

pub(crate) async fn run(
    config: Config,
    wanted: &Watch,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    match output.is_json() {
        true => lines(config, wanted.every, output).await,
        false if is_screen() => show(config, wanted.every).await,
        false => Err(CommandError::NoTerminal),
    }
}

/// Whether the standard output is a terminal that can show a picture.
pub(crate) fn is_screen() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A line of JSON each time, until nobody reads them any more.
async fn lines(
    config: Config,
    every: Duration,
    output: &mut Output<'_>,
) -> Result<bool, CommandError> {
    // Without the wait for the lags of other commands: what is not known yet is told as such.
    let db = sealane::connect(config).await.map_err(CommandError::Connect)?;
    let mut moments = moments(every);
    let told = loop {
        moments.tick().await;
        if let Err(error) = output.line(&db.status(), |_| Ok(())) {
            break error;
        }
    };
    status::close(db).await;
    if told.kind() == io::ErrorKind::BrokenPipe { Ok(true) } else { Err(told.into()) }
}

/// The picture, until the user ends it. Returns false if a signal did.
async fn show(config: Config, every: Duration) -> Result<bool, CommandError> {
    // A configuration that is not valid does not become valid.
    config.targets().map_err(CommandError::Configuration)?;
    // The handlers must be there before the terminal is changed.
    let ended = signals::end()?;
    let mut screen = Screen::open()?;
    let mut db = None;
    let shown = tokio::select! {
        biased;
        () = ended => Ok(false),
        shown = pictures(config, every, &mut screen, &mut db) => shown.map(|()| true),
    };
    // The user has the terminal back before connections are closed, which can take a while.
    drop(screen);
    if let Some(db) = db {
        status::close(db).await;
    }
    shown
}

/// Connects, and shows one picture after the other. `db` is set once there is a connection.
async fn pictures(
    config: Config,
    every: Duration,
    screen: &mut Screen,
    db: &mut Option<RoutedConnection>,
) -> Result<(), CommandError> {
    let paint = Paint::of_terminal();
    let Some(connected) = connected(config, screen, paint).await? else { return Ok(()) };
    follow(db.insert(connected), every, screen, FOOTER, |_| {}).await
}

/// The picture of a database that is in use, until the user ends it. A digit is given to `press`.
/// Returns false if a signal ended it.
///
/// # Errors
/// There is no terminal.
pub(crate) async fn show_running(
    db: &RoutedConnection,
    footer: &str,
    press: impl FnMut(usize),
) -> Result<bool, CommandError> {
    let ended = signals::end()?;
    let mut screen = Screen::open()?;
    tokio::select! {
        biased;
        () = ended => Ok(false),
        shown = follow(db, EVERY, &mut screen, footer, press) => shown.map(|()| true),
    }
}

/// One picture after the other.
async fn follow(
    db: &RoutedConnection,
    every: Duration,
    screen: &mut Screen,
    footer: &str,
    mut press: impl FnMut(usize),
) -> Result<(), CommandError> {
    let paint = Paint::of_terminal();
    let (mut history, began) = (History::default(), Instant::now());
    let mut moments = moments(every);
    loop {
        let status = db.status();
        history.note(began.elapsed(), &status);
        let (history, events, now) = (&history, db.recent_events(), SystemTime::now());
        let picture = Picture { status: &status, history, events: &events, now, paint, footer };
        screen.draw(|frame| draw(frame, &picture))?;
        tokio::select! {
            biased;
            wish = screen.wish() => match wish? {
                Wish::End => return Ok(()),
                Wish::Draw => {}
                Wish::Press(digit) => press(digit),
            },
            _ = moments.tick() => {}
        }
    }
}

/// Connects, and tries again when that fails: somebody may begin to watch because the primary is
/// away. Returns `None` if the user ends it.
async fn connected(
    config: Config,
    screen: &mut Screen,
    paint: Paint,
) -> Result<Option<RoutedConnection>, CommandError> {
    let mut waiting = Waiting { error: None, paint };
    let mut attempt = Box::pin(attempt(config.clone(), Duration::ZERO));
    loop {
        screen.draw(|frame| waiting.draw(frame))?;
        tokio::select! {
            biased;
            wish = screen.wish() => match wish? {
                Wish::End => return Ok(None),
                Wish::Draw | Wish::Press(_) => {}
            },
            connected = &mut attempt => match connected {
                Ok(db) => return Ok(Some(db)),
                Err(error) => {
                    waiting.error = Some(error.to_string());
                    attempt = Box::pin(self::attempt(config.clone(), AGAIN));
                }
            }
        }
    }
}

async fn attempt(config: Config, pause: Duration) -> Result<RoutedConnection, ConnectError> {
    sleep(pause).await;
    sealane::connect(config).await
}

fn moments(every: Duration) -> Interval {
    let mut moments = interval(every);
    // After a suspension, the present is of interest, and not what was missed.
    moments.set_missed_tick_behavior(MissedTickBehavior::Skip);
    moments
}
