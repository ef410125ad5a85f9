//! The rows of a statement in a transaction.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use sea_orm::{DbErr, QueryResult, TransactionStream};
use tracing::Span;

use super::place::Place;
use crate::{
    BoxFuture,
    execute::Ended,
    observe::{Measured, span},
};

/// A stream of rows inside a [`RoutedTransaction`](crate::RoutedTransaction).
pub struct RoutedTransactionStream<'a> {
    rows: TransactionStream<'a>,
    place: &'a Place,
    moved: BoxFuture<'static, ()>,
    is_over: bool,
    measured: Option<Measured>,
    /// Until the stream is over.
    span: Span,
}

impl<'a> RoutedTransactionStream<'a> {
    pub(super) fn new(
        rows: TransactionStream<'a>,
        place: &'a Place,
        measured: Option<Measured>,
        span: Span,
    ) -> Self {
        let (moved, is_over) = (place.moved(), false);
        RoutedTransactionStream { rows, place, moved, is_over, measured, span }
    }
}

impl Stream for RoutedTransactionStream<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let item = {
            let _entered = this.span.clone().entered();
            ready!(this.poll(cx))
        };
        if let Some(item) = &item {
            span::ended(&this.span, item);
        }
        if this.is_over {
            (this.measured, this.span) = (None, Span::none());
        }
        Poll::Ready(item)
    }
}

impl RoutedTransactionStream<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<QueryResult, DbErr>>> {
        let this = self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let ended = match Pin::new(&mut this.rows).poll_next(cx) {
            // The session has also seen that there are no more rows.
            Poll::Ready(None) => {
                this.is_over = true;
                let seen = this.place.note_seen();
                Measured::note(&mut this.measured, &seen);
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
        Poll::Ready(Some(item))
    }
}

impl fmt::Debug for RoutedTransactionStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedTransactionStream").finish_non_exhaustive()
    }
}
