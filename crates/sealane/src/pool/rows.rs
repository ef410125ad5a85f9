//! The rows of a read, which end with whoever wants them.
//!
//! The driver fetches the rest of a result before it uses the connection again. So a stream that is
//! dropped half-way would keep its connection for as long as the server has rows to send. Here the
//! rest gets a moment; then the connection is closed, and the server ends the statement.
//!
//! (Rejected: closing at once. Whoever takes one row of a stream that has few would pay for a new
//! connection each time.)

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream::BoxStream};
use sea_orm::{DbErr, QueryResult};
use tokio::{runtime::Handle, time::timeout};

/// How long the rest of the rows may take that nobody wants.
const REST: Duration = Duration::from_millis(50);

/// The rows of a read.
pub(crate) struct Rows {
    /// `None` when they are over.
    rows: Option<BoxStream<'static, Result<QueryResult, DbErr>>>,
    is_sent: bool,
}

impl Rows {
    /// `rows` closes its connection if it is dropped half-way.
    pub(crate) fn new(
        rows: impl Stream<Item = Result<QueryResult, DbErr>> + Send + 'static,
    ) -> Self {
        Rows { rows: Some(rows.boxed()), is_sent: false }
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<QueryResult, DbErr>>> {
        let Some(rows) = &mut self.rows else { return Poll::Ready(None) };
        self.is_sent = true;
        let item = ready!(Pin::new(rows).poll_next(context));
        if !matches!(item, Some(Ok(_))) {
            self.rows = None;
        }
        Poll::Ready(item)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        if let (true, Some(rows), Ok(runtime)) =
            (self.is_sent, self.rows.take(), Handle::try_current())
        {
            let rest = rows.for_each(|row| {
                drop(row);
                std::future::ready(())
            });
            runtime.spawn(timeout(REST, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::{future::poll_fn, stream};

    use super::*;

    /// Rows that come every ten milliseconds, and the number of those that came. The count of its
    /// holders shows whether the rows were dropped.
    fn slow_rows(count: usize) -> (Rows, Arc<AtomicUsize>) {
        let came = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&came);
        let rows = stream::iter(0..count).then(move |_| {
            let counted = Arc::clone(&counted);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                counted.fetch_add(1, Ordering::Relaxed);
                Err(DbErr::Custom("a row".to_owned()))
            }
        });
        // An error ends the rows for their reader, so the rows that nobody reads count here.
        (Rows::new(rows), came)
    }

    async fn dropped(came: &Arc<AtomicUsize>) -> usize {
        while Arc::strong_count(came) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        came.load(Ordering::Relaxed)
    }

    async fn begin(rows: &mut Rows) {
        poll_fn(|context| Poll::Ready(rows.poll(context).is_pending())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_rest_is_fetched_and_a_long_one_is_not() {
        let (mut few, came) = slow_rows(3);
        begin(&mut few).await;
        drop(few);
        assert_eq!(dropped(&came).await, 3);
        let (mut many, came) = slow_rows(1000);
        begin(&mut many).await;
        drop(many);
        assert!((1..10).contains(&dropped(&came).await));
    }

    #[tokio::test(start_paused = true)]
    async fn rows_that_nobody_asked_for_are_not_sent_for() {
        let (rows, came) = slow_rows(3);
        drop(rows);
        assert_eq!(dropped(&came).await, 0);
    }
}
