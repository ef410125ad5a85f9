//! What a user does with streams.

use std::time::Duration;

use futures_util::StreamExt;
use sea_orm::StreamTrait;
use sealane::RoutedConnection;

use super::{Company, insert, select};

impl Company {
    /// Makes a stream, and writes before it is polled. It is sent when it is first polled, and so must
    /// not miss the write.
    pub(super) async fn late_stream(&self, user: usize, db: &RoutedConnection, ms: u64) {
        let mut stream = match db.stream_raw(select()).await {
            Ok(stream) => stream,
            Err(error) => return drop(self.shown(Err(error))),
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.write(user, db, "").await;
        let Some(row) = stream.next().await else { return };
        if let Some(snapshot) = self.shown(row.map(Some)) {
            self.check_read(user, &snapshot);
        }
    }

    /// Writes by a stream, which shows what there was before. Its end says that it was written.
    pub(super) async fn writing_stream(&self, user: usize, db: &RoutedConnection) {
        let id = self.new_id();
        let mut stream = match db.stream_raw(insert(id, " RETURNING shown")).await {
            Ok(stream) => stream,
            Err(error) => return self.wrote(user, &[id], Err(error)),
        };
        let end = loop {
            match stream.next().await {
                Some(Ok(row)) => {
                    if let Some(snapshot) = self.shown(Ok(Some(row))) {
                        self.check_read(user, &snapshot);
                    }
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        self.wrote(user, &[id], end);
        self.read(user, db).await;
    }

    /// Takes so many rows, each after a while, and drops the stream.
    pub(super) async fn stream(
        &self,
        user: usize,
        db: &RoutedConnection,
        rows: usize,
        pause: Duration,
    ) {
        let mut stream = match db.stream_raw(select()).await {
            Ok(stream) => stream,
            Err(error) => return drop(self.shown(Err(error))),
        };
        for _ in 0..rows {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let Some(row) = stream.next().await else { return };
            match self.shown(row.map(Some)) {
                Some(snapshot) => self.check_read(user, &snapshot),
                None => return,
            }
        }
    }
}
