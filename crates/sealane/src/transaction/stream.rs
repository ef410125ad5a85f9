//! The rows of a statement in a transaction.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use sea_orm::{DbErr, QueryResult, TransactionStream};

use super::place::Place;
use crate::{BoxFuture, execute::Ended, observe::Measured};

/// A stream of rows inside a [`RoutedTransaction`](crate::RoutedTransaction).
pub struct RoutedTransactionStream<'a> {
    rows: TransactionStream<'a>,
    place: &'a Place,
    moved: BoxFuture<'static, ()>,
    is_over: bool,
    measured: Option<Measured>,
}

impl<'a> RoutedTransactionStream<'a> {
    pub(super) fn new(
        rows: TransactionStream<'a>,
        place: &'a Place,
        measured: Option<Measured>,
    ) -> Self {
        RoutedTransactionStream { rows, place, moved: place.moved(), is_over: false, measured }
    }
}

impl Stream for RoutedTransactionStream<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let ended = match Pin::new(&mut this.rows).poll_next(cx) {
            // The session has also seen that there are no more rows.
            Poll::Ready(None) => {
                this.is_over = true;
                let seen = this.place.note_seen();
                Measured::note(&mut this.measured, &seen);
                this.measured = None;
                return Poll::Ready(seen.err().map(Err));
            }
            Poll::Ready(Some(row)) => row.map_err(Ended::Failed),
            Poll::Pending => {
                ready!(this.moved.as_mut().poll(cx));
                Err(Ended::Moved)
            }
        };
        let item = this.place.judged(ended);
        Measured::note(&mut this.measured, &item);
        this.is_over = item.is_err();
        if this.is_over {
            this.measured = None;
        }
        Poll::Ready(Some(item))
    }
}

impl fmt::Debug for RoutedTransactionStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedTransactionStream").finish_non_exhaustive()
    }
}
