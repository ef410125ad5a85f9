//! A simulated server: some workers, and a queue.

use std::{collections::VecDeque, time::Duration};

use sealane_core::Moment;

use crate::draw::Draw;

/// How many statements a server runs at a time.
const WORKERS: usize = 4;
/// How long a statement takes on average on a server that is well.
const USUAL: Duration = Duration::from_millis(2);
/// How long a failure takes.
const REFUSES_IN: Duration = Duration::from_micros(200);

#[derive(Debug, Clone)]
pub struct Server {
    mean: Duration,
    /// When it fails at once, and is down for the monitor.
    pub away: Option<(Moment, Moment)>,
    fails: bool,
    /// When it begins nothing.
    pause: Option<(Moment, Moment)>,
    waiting: VecDeque<usize>,
    running: usize,
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Served,
    Failed,
}

impl Server {
    pub fn usual() -> Self {
        Server {
            mean: USUAL,
            away: None,
            fails: false,
            pause: None,
            waiting: VecDeque::new(),
            running: 0,
        }
    }

    pub fn slower(times: u32) -> Self {
        Server { mean: USUAL * times, ..Server::usual() }
    }

    /// It answers probes, and no statement.
    pub fn failing() -> Self {
        Server { fails: true, ..Server::usual() }
    }

    pub fn away(from: Duration, to: Duration) -> Self {
        let away = Some((Moment::from_origin(from), Moment::from_origin(to)));
        Server { away, ..Server::usual() }
    }

    pub fn paused(from: Duration, time: Duration) -> Self {
        let from = Moment::from_origin(from);
        Server { pause: Some((from, from + time)), ..Server::usual() }
    }

    pub fn is_away(&self, now: Moment) -> bool {
        self.away.is_some_and(|(from, to)| from <= now && now < to)
    }

    /// Takes a read at `now`. Returns when it ends and how, unless it has to wait.
    pub fn take(&mut self, read: usize, now: Moment, draw: &mut Draw) -> Option<(Moment, Fate)> {
        if self.fails || self.is_away(now) {
            return Some((now + REFUSES_IN, Fate::Failed));
        }
        if self.running == WORKERS {
            self.waiting.push_back(read);
            return None;
        }
        self.running += 1;
        Some((self.ends(now, draw), Fate::Served))
    }

    /// Ends a read that was served. Returns the next one and when it ends.
    pub fn served(&mut self, now: Moment, draw: &mut Draw) -> Option<(usize, Moment)> {
        let Some(next) = self.waiting.pop_front() else {
            self.running -= 1;
            return None;
        };
        Some((next, self.ends(now, draw)))
    }

    /// When a read that begins at `now` ends.
    fn ends(&self, now: Moment, draw: &mut Draw) -> Moment {
        let begins = match self.pause {
            Some((from, to)) if from <= now && now < to => to,
            _ => now,
        };
        begins + draw.time(self.mean)
    }
}
