//! The picture on a terminal: it appears, and whatever ends it gives the terminal back.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end there")]

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command},
    time::{Duration, Instant},
};

use rstest::rstest;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

/// Everything must have happened by then.
const PATIENCE: Duration = Duration::from_secs(60);
const ALTERNATE_SCREEN: &str = "\u{1b}[?1049h";
const OWN_SCREEN: &str = "\u{1b}[?1049l";
const CURSOR: &str = "\u{1b}[?25h";

/// The command on a terminal.
struct Stage {
    child: Child,
    /// The side of the person; `None`: the terminal is gone.
    person: Option<File>,
    /// The side of the program.
    terminal: File,
    /// How the terminal was before.
    modes: String,
    seen: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// A terminal of this size, and the command on it with a file of its own.
    fn set(columns: u16, rows: u16) -> Self {
        Stage::with(columns, rows, None)
    }

    fn with(columns: u16, rows: u16, url: Option<&str>) -> Self {
        // A program that inherits the person's side would keep its terminal alive.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let path = OsStr::from_bytes(name.as_bytes());
        let terminal = File::options().read(true).write(true).open(path).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let modes = modes(&terminal);

        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}?mode=rwc", folder.path().join("shop.db").display());
        let url = url.unwrap_or(&file);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealane"));
        command.arg("watch").env("DATABASE_URL", url).env("TERM", "xterm");
        for variable in ["DATABASE_REPLICA_URLS", "DATABASE_REPLICA_URL", "NO_COLOR"] {
            command.env_remove(variable);
        }
        let side = || terminal.try_clone().unwrap();
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let person = Some(File::from(person));
        Stage { child, person, terminal, modes, seen: String::new(), _folder: folder }
    }

    /// Waits until the terminal was told `text`.
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            assert!(Instant::now() < until, "{text:?} is not in {:?}", self.seen);
            self.look();
        }
    }

    /// Reads what the terminal is told, for a moment at most.
    fn look(&mut self) {
        let Some(person) = &mut self.person else { return };
        let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut ready = [PollFd::new(&*person, PollFlags::IN)];
        if poll(&mut ready, Some(&moment)).unwrap() > 0 {
            let mut bytes = [0; 4_096];
            let count = person.read(&mut bytes).unwrap();
            self.seen += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn press(&mut self, keys: &str) {
        self.person.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, once the program has ended.
    fn ends(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "still there: {:?}", self.seen);
            if self.person.is_some() {
                self.look();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// The terminal is as it was before the program began.
    fn is_given_back(&mut self) {
        self.sees(OWN_SCREEN);
        let (_, after) = self.seen.split_once(OWN_SCREEN).unwrap();
        assert!(!after.contains("NAME"), "the picture went on: {after:?}");
        self.sees(CURSOR);
        assert_eq!(modes(&self.terminal), self.modes);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes(terminal: &File) -> String {
    let found = tcgetattr(terminal).unwrap();
    format!("{:?} {:?} {:?}", found.input_modes, found.output_modes, found.local_modes)
}

#[rstest]
#[case::q("q")]
#[case::escape("\u{1b}")]
#[case::ctrl_c("\u{3}")]
fn three_keys_end_the_picture_and_give_the_terminal_back(#[case] key: &str) {
    let mut stage = Stage::set(80, 24);
    stage.sees(ALTERNATE_SCREEN);
    for text in ["all serve", "NAME", "LAST EVENTS"] {
        stage.sees(text);
    }
    assert_ne!(modes(&stage.terminal), stage.modes, "keys come one by one");
    stage.press("x");
    stage.press(key);
    assert_eq!(stage.ends(), Some(0));
    stage.is_given_back();
}

#[rstest]
#[case::terminated(Signal::TERM)]
#[case::hung_up(Signal::HUP)]
#[case::interrupted_from_elsewhere(Signal::INT)]
fn a_signal_ends_the_picture_and_gives_the_terminal_back(#[case] signal: Signal) {
    let mut stage = Stage::set(80, 24);
    stage.sees("all serve");
    stage.send(signal);
    assert_eq!(stage.ends(), Some(1));
    stage.is_given_back();
}

#[test]
fn a_primary_that_is_away_is_waited_for_and_no_password_is_shown() {
    let mut stage = Stage::with(80, 24, Some("postgres://app:tidewater@127.0.0.1:1/shop"));
    for text in ["connecting", "connection yet", "127.0.0.1:1"] {
        stage.sees(text);
    }
    stage.press("q");
    assert_eq!(stage.ends(), Some(0));
    stage.is_given_back();
    assert!(!stage.seen.contains("tidewater"));
}

#[test]
fn another_size_draws_another_picture() {
    let mut stage = Stage::set(20, 3);
    stage.sees("all serve");
    assert!(!stage.seen.contains("LAST EVENTS"));
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&stage.terminal, size).unwrap();
    stage.sees("LAST EVENTS");
    stage.press("q");
    assert_eq!(stage.ends(), Some(0));
}

#[test]
fn a_terminal_that_goes_away_ends_the_program() {
    let mut stage = Stage::set(80, 24);
    stage.sees("all serve");
    stage.person = None;
    assert_eq!(stage.ends(), Some(1));
}
