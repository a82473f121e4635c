//! Server-sent events: how one is written, and the answer that they make.
//!
//! Events are made as they are read: nobody reads, nothing is made, and who goes away drops the stream, which ends the
//! work behind it. Where nothing has come for a while a comment keeps what is between the two from giving up.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tracing::Span;
use utoipa::ToSchema;

use crate::{bounds::StreamPlace, error::ApiError, spans};

/// The type of such an answer.
pub(crate) const EVENTS: &str = "text/event-stream";

/// A stream of events as the description has it, which has no words for one: some take what stands there for the whole, some
/// for each event, so nothing does.
#[derive(ToSchema)]
#[schema(value_type = serde_json::Value)]
#[expect(dead_code, reason = "it describes and is never made")]
pub(crate) struct Events(serde_json::Value);

/// How long nothing may come before a comment does.
const QUIET: Duration = Duration::from_secs(15);

/// How long the first event is waited for, so that what is refused has a status that says so.
const FIRST: Duration = Duration::from_secs(2);

/// The last event of OpenAI's streams.
pub(crate) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An event without a name.
pub(crate) fn data(value: &impl Serialize) -> Bytes {
    event(None, &serde_json::to_vec(value).unwrap_or_default())
}

/// An event with a name.
pub(crate) fn named(name: &str, value: &impl Serialize) -> Bytes {
    event(Some(name), &serde_json::to_vec(value).unwrap_or_default())
}

/// An event of JSON, which has no line feed in it.
pub(crate) fn event(name: Option<&str>, json: &[u8]) -> Bytes {
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    [name.as_bytes(), b"data: ", json, b"\n\n"].concat().into()
}

/// What events come from.
pub(crate) trait Source: Send + 'static {
    /// The next ones, one or more; `None` after the last. After an error nothing more is asked for.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, ApiError>> + Send;
}

/// The answer that a source's events make. What fails before there is any, within a little while, is an answer of its own;
/// what fails later is the last event.
///
/// # Errors
/// The source's.
pub(crate) async fn answer(source: impl Source, place: StreamPlace) -> Result<Response, ApiError> {
    let events = stream::unfold(Some(source), |source| async {
        let mut source = source?;
        match source.next().await {
            Ok(bytes) => bytes.map(|bytes| (Ok(bytes), Some(source))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut events = Box::pin(events.fuse());
    let first = match timeout(FIRST, events.next()).await {
        Ok(Some(first)) => Some(first?),
        Ok(None) | Err(_) => None,
    };
    let events = events.map(|bytes| {
        bytes.unwrap_or_else(|error| {
            spans::failed(&error);
            data(&error.body())
        })
    });
    let events = stream::iter(first).chain(events);
    let (events, quiet) = (Box::pin(events), Box::pin(sleep(QUIET)));
    let events = KeptAlive { events, quiet, span: Span::current(), _place: place };
    let mut response = Body::from_stream(events.map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Nothing between the two gathers events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct KeptAlive<S> {
    events: Pin<Box<S>>,
    quiet: Pin<Box<Sleep>>,
    /// In which they were asked for, and so are made.
    span: Span,
    _place: StreamPlace,
}

impl<S: Stream<Item = Bytes>> Stream for KeptAlive<S> {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Self { span, events, .. } = &mut *self;
        let next = span.in_scope(|| events.as_mut().poll_next(context));
        if next.is_pending() && self.quiet.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.quiet.as_mut().reset(Instant::now() + QUIET);
        match next {
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending => Poll::Ready(Some(Bytes::from_static(b": nothing new\n\n"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use http_body_util::BodyExt as _;
    use motorbrain::ClientId;

    use super::*;
    use crate::bounds::Streams;

    /// So many events, each after a while; then it fails.
    struct Slowly(u32, Duration);

    impl Source for Slowly {
        async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
            sleep(self.1).await;
            self.0 = self.0.checked_sub(1).ok_or_else(ApiError::draining)?;
            Ok(Some(data(&self.0)))
        }
    }

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn an_event_is_one_block_of_lines() {
        assert_eq!(data(&serde_json::json!({"a": "x\ny"})), "data: {\"a\":\"x\\ny\"}\n\n");
        assert_eq!(named("error", &1), "event: error\ndata: 1\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_is_kept_alive() {
        let streams = Streams::new(1);
        let place = streams.take(&ClientId::default()).unwrap();
        let response = answer(Slowly(2, QUIET + QUIET / 2), place).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], EVENTS);
        let text = text(response).await;
        let (quiet, error) = (": nothing new\n\n", serde_json::to_string(&ApiError::draining().body()).unwrap());
        assert_eq!(text, format!("{quiet}data: 1\n\n{quiet}data: 0\n\n{quiet}data: {error}\n\n"));
        assert_eq!(streams.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_before_anything_came_is_an_answer_of_its_own() {
        let streams = Streams::new(1);
        let place = || streams.take(&ClientId::default()).unwrap();
        assert!(answer(Slowly(0, FIRST / 2), place()).await.is_err());
        let response = answer(Slowly(1, FIRST / 2), place()).await.unwrap();
        assert!(text(response).await.starts_with("data: 0\n\ndata: {\"error\""));
        assert_eq!(streams.count(), 0);
    }
}
