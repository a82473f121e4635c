//! `/v1/responses`: an answer to what was said so far, which is remembered for what is said next.
//!
//! A response that is stored keeps the chat that led to it, and the conversation that holds its keys and values: who
//! names it as the one before sends only what is new. All of that is in memory, bounded, and forgotten with the process.

mod answer;
mod input;
pub(crate) mod request;
pub(crate) mod store;
pub(crate) mod stored;
mod stream;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response as HttpResponse},
};
use motorbrain::chat::Message;

use self::{
    answer::{Response, Status},
    request::{Asking, Request},
    store::{Kept, Resident},
};
use crate::{
    app::{App, Caller, unix_time},
    body::Asked,
    error::{ApiError, ErrorBody},
    names,
    openai::chat::{finished, operation},
    spans, sse,
};

/// An answer to what is said, or to what was said before it as well.
#[utoipa::path(post, path = "/v1/responses", tag = "openai", operation_id = "respond", request_body = Request, responses(
    (status = 200, description = "Streamed as server-sent events where that was asked for",
        content((Response = "application/json"), (sse::Events = "text/event-stream"))),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Asked(request): Asked<Request>,
) -> Result<HttpResponse, ApiError> {
    app.check_model(&request.model)?;
    let chats = app.chats(&caller)?;
    let asking = request.asking(app.limits().count)?;
    let before = match &asking.previous {
        Some(id) => Some(app.responses().get(id, &caller.client).ok_or_else(|| no_previous(id))?),
        None => None,
    };
    let (said, before) = before.map(|kept| (kept.messages, kept.resident)).unwrap_or_default();
    let resident = before.or_else(|| asking.store.then(|| Resident::new(app.brain(&caller))));
    let Asking { mut chat, store, stream, response, instructions, input, .. } = asking;
    let said: Vec<Message> = said.into_iter().chain(input).collect();
    chat.messages = instructions.into_iter().chain(said.iter().cloned()).collect();
    chat.conversation = resident.as_ref().map(|resident| resident.name());
    chat.sharing = app.sharing(&caller);
    chat.deadline = app.request_max();
    let response = Response { id: names::random("resp_"), created_at: unix_time(), ..response };
    let keeping = Keeping { app: app.clone(), caller: caller.clone(), store, said, resident };
    let operation = operation(&response.model, &chat, stream).begin();
    let work = async {
        if stream {
            let place = app.streams().take(&caller.client)?;
            let chat = chats.stream(chat).await?;
            return sse::answer(stream::Events::new(chat, response, keeping), place).await;
        }
        let answered = chats.answer(chat).await?;
        finished(&response.id, &answered);
        let response = response.answered(answered);
        keeping.keep(&response);
        Ok(Json(response).into_response())
    };
    spans::told(operation, work).await
}

fn no_previous(id: &str) -> ApiError {
    let cut: String = id.chars().take(60).collect();
    let message = format!("there is no response `{cut}` any more, or never was; send the whole chat again");
    let refused = ApiError::new(axum::http::StatusCode::BAD_REQUEST, "previous_response_not_found", message);
    refused.at("previous_response_id")
}

/// What is remembered of a response once it is whole.
struct Keeping {
    app: App,
    caller: Caller,
    store: bool,
    /// What was said before it, without instructions.
    said: Vec<Message>,
    resident: Option<std::sync::Arc<Resident>>,
}

impl Keeping {
    fn keep(self, response: &Response) {
        let Self { app, caller, store, said: mut messages, resident } = self;
        if store && response.status != Status::Failed {
            messages.push(response.message());
            let json = serde_json::to_vec(response).unwrap_or_default().into();
            app.responses().put(&response.id, Kept { client: caller.client, messages, resident, json });
        }
    }
}
