//! The body of an answer on its way out: as long as it is, its request is not answered to its end, nor is its span over; and
//! where the server does not wait any longer, what is streamed says so before it ends.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, http::header, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tracing::Span;

use crate::{
    drain::{Accepted, Drain, Phase},
    error::ApiError,
    spans,
    sse::{self, EVENTS},
};

/// An answer whose request was accepted.
pub(crate) fn watched(response: Response, accepted: Accepted, drain: Drain) -> Response {
    let is_events = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENTS);
    response.map(|inner| {
        let closing = Box::pin(async move { drain.reached(Phase::Closing).await });
        Body::new(Watched { inner, is_events, closing, is_over: false, span: Span::current(), _accepted: accepted })
    })
}

struct Watched {
    inner: Body,
    is_events: bool,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    /// The request's.
    span: Span,
    _accepted: Accepted,
}

impl Drop for Watched {
    fn drop(&mut self) {
        spans::end(&self.span);
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.closing.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.is_over = true;
                // What is being done for it ends as well.
                self.inner = Body::empty();
                Poll::Ready(Some(match self.is_events {
                    true => Ok(Frame::data(sse::data(&ApiError::draining().body()))),
                    false => Err(io::Error::other("the server ends").into()),
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
