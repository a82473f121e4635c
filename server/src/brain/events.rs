//! What happens in the brain, as events.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use motorbrain::Events;
use motorbrain_protocol::{encode_event, event_name};

use crate::{
    app::{App, Caller},
    drain::{Drain, Phase},
    error::{ApiError, ErrorBody},
    sse::{self, Source},
};

/// What happens from now on, as server-sent events: each has a name and an object. Who reads slowly loses some, and is told
/// how many by `lost`.
#[utoipa::path(get, path = "/brain/events", tag = "brain", responses(
    (status = 200, content_type = "text/event-stream", body = sse::Events),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn events(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let place = app.streams().take(&caller.client)?;
    let events = app.brain(&caller).subscribe().await.map_err(|error| ApiError::own(&error))?;
    sse::answer(Told { events, drain: app.drain().clone(), begun: false }, place).await
}

/// It ends with the server, which waits for no one who only listens.
struct Told {
    events: Events,
    drain: Drain,
    begun: bool,
}

impl Source for Told {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if !self.begun {
            // Whoever listens knows from here on that nothing passes him by.
            self.begun = true;
            return Ok(Some(Bytes::from_static(b": listening\n\n")));
        }
        let told = tokio::select! {
            told = self.events.next() => told,
            () = self.drain.reached(Phase::Draining) => None,
        };
        Ok(told.map(|event| sse::event(Some(event_name(&event)), &encode_event(&event))))
    }
}
