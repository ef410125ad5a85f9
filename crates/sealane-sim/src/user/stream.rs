//! What a user does with streams.

use std::time::Duration;

use futures_util::StreamExt;
use sea_orm::StreamTrait;
use sealane::RoutedConnection;

use super::{Company, select};

impl Company {
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
