//! A server that accepts no more connections.

use std::fmt;

use anyhow::ensure;
use futures_util::future::join_all;

use crate::connection::Line;
use crate::{Engine, Server};

/// More connections than any server of a cluster accepts.
const MOST: usize = 400;
/// What MySQL and MariaDB accept meanwhile, so that fewer have to be opened.
const FEW: usize = 40;
/// As in the servers' configuration files.
const USUAL: usize = 200;
/// So many are opened at a time.
const AT_ONCE: usize = 10;

/// All of a server's connections, until it is dropped.
pub struct Occupation {
    lines: Vec<Line>,
}

impl Server {
    /// Uses up the server's connections, and ends those that others had: new ones are refused. On
    /// PostgreSQL the monitor's is left alone, so that probes go on.
    ///
    /// # Errors
    /// As [`Server::sql`], or when the server refuses no connection.
    pub async fn use_up_connections(&self) -> anyhow::Result<Occupation> {
        if self.engine != Engine::Postgres {
            self.sql(&format!("SET GLOBAL max_connections = {FEW}")).await?;
        }
        let others: String = self.query_scalar(self.others()).await?;
        let mut occupation = Occupation { lines: Vec::new() };
        occupation.fill(self).await?;
        for id in others.split(' ').filter(|id| !id.is_empty()) {
            // It may have ended by itself.
            let _ = match self.engine {
                Engine::Postgres => {
                    occupation.run(&format!("SELECT pg_terminate_backend({id})")).await
                }
                // An administrator gets one more connection than all others.
                _ => self.sql(&format!("KILL {id}")).await,
            };
        }
        // What they have left.
        occupation.fill(self).await?;
        Ok(occupation)
    }

    /// Undoes [`Server::use_up_connections`].
    ///
    /// # Errors
    /// As [`Server::sql`].
    pub async fn free_connections(&self, occupation: Occupation) -> anyhow::Result<()> {
        drop(occupation);
        if self.engine != Engine::Postgres {
            self.sql(&format!("SET GLOBAL max_connections = {USUAL}")).await?;
        }
        Ok(())
    }

    /// A query for the numbers of the application's connections.
    fn others(&self) -> &'static str {
        match self.engine {
            Engine::Postgres => {
                "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
                 AND application_name <> 'sealane monitor'"
            }
            _ => {
                "SELECT COALESCE(GROUP_CONCAT(id SEPARATOR ' '), '') \
                 FROM information_schema.processlist \
                 WHERE user = 'sealane' AND id <> connection_id()"
            }
        }
    }
}

impl Occupation {
    /// How many connections it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Opens connections of the application's role until the server refuses one.
    async fn fill(&mut self, server: &Server) -> anyhow::Result<()> {
        while self.lines.len() < MOST {
            let opening = (0..AT_ONCE).map(|_| async {
                let mut line = Line::of_application(server);
                line.execute("SELECT 1").await.ok().map(|()| line)
            });
            let opened = self.lines.len();
            self.lines.extend(join_all(opening).await.into_iter().flatten());
            if self.lines.len() < opened + AT_ONCE {
                return Ok(());
            }
        }
        ensure!(self.lines.len() < MOST, "{} refuses no connection", server.name);
        Ok(())
    }

    async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        ensure!(!self.lines.is_empty(), "no connection could be opened");
        Ok(self.lines[0].execute(sql).await?)
    }
}

impl fmt::Debug for Occupation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupation").field("lines", &self.lines.len()).finish()
    }
}
