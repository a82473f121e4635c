//! What happens in the brain, as events.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use motorbrain::Events;
use motorbrain_protocol::{encode_event, event_name};

use crate::{
    app::{App, Caller},
    error::{ApiError, ErrorBody},
    sse::{self, Source},
};

/// What happens from now on, as server-sent events: each has a name and an object. Who reads slowly loses some, and is told
/// how many by `lost`.
#[utoipa::path(get, path = "/brain/events", tag = "brain", responses(
    (status = 200, content_type = "text/event-stream", body = String),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn events(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let place = app.streams().take(&caller.client)?;
    let events = app.brain(&caller).subscribe().await.map_err(|error| ApiError::own(&error))?;
    sse::answer(Told { events, begun: false }, place).await
}

struct Told {
    events: Events,
    begun: bool,
}

impl Source for Told {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if !self.begun {
            // Whoever listens knows from here on that nothing passes him by.
            self.begun = true;
            return Ok(Some(Bytes::from_static(b": listening\n\n")));
        }
        let told = self.events.next().await;
        Ok(told.map(|event| sse::event(Some(event_name(&event)), &encode_event(&event))))
    }
}
