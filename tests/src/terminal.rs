//! A program on a terminal, and what a person sees who sits there.
//!
//! `script` of Debian's essential packages makes the terminal, and `vt100` keeps its cells, because
//! a program sends only those that have changed.

use std::{
    num::NonZero,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};

use crate::eventually;

/// A program that was told to end has so long for it: it may have servers to remove.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
const COLUMNS: NonZero<u16> = NonZero::new(140).expect("not zero");
const ROWS: NonZero<u16> = NonZero::new(40).expect("not zero");

/// A terminal with one program on it. The program ends when the terminal is dropped.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Runs `program` with `arguments` and with these variables.
    ///
    /// # Errors
    /// When there is no `script`.
    pub fn open(
        program: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
        let words = std::iter::once(program).chain(arguments.iter().copied()).map(quoted);
        let words: Vec<_> = words.collect();
        // The program takes the shell's place, so that what ends the terminal ends the program.
        let line = format!("stty cols {COLUMNS} rows {ROWS}; exec {}", words.join(" "));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
            .envs(variables.iter().copied())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`script`, of the package bsdutils")?;
        let keys = child.stdin.take().context("no keyboard")?;
        let mut told = child.stdout.take().context("no screen")?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let cells = Arc::clone(&screen);
        tokio::spawn(async move {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = told.read(&mut bytes).await {
                cells.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        Ok(Terminal { child, keys, screen })
    }

    /// What is on the screen now.
    #[must_use]
    pub fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// The first line on the screen that contains `text`.
    #[must_use]
    pub fn line(&self, text: &str) -> Option<String> {
        self.text().lines().find(|line| line.contains(text)).map(str::to_owned)
    }

    /// Waits until the line with `name` contains `word`.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn shows(&self, limit: Duration, name: &str, word: &str) -> anyhow::Result<()> {
        let shown = async || {
            let line = self.line(name).with_context(|| self.text())?;
            ensure!(line.contains(word), "{line}");
            Ok(true)
        };
        eventually(limit, &format!("{name}: {word}"), shown).await
    }

    /// Presses keys.
    ///
    /// # Errors
    /// When the program has ended.
    pub async fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keys.write_all(keys.as_bytes()).await?;
        Ok(self.keys.flush().await?)
    }

    /// Waits for the program's end, and returns its exit code.
    ///
    /// # Errors
    /// When it was killed, or goes on.
    pub async fn ends(mut self) -> anyhow::Result<i32> {
        let ended = tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await;
        ended.with_context(|| self.text())??.code().context("it was killed")
    }
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("text", &self.text()).finish_non_exhaustive()
    }
}
