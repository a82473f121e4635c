//! `POST /v1/chat/completions`: messages in, a message out.

pub(crate) mod answer;
pub(crate) mod messages;
pub(crate) mod request;
mod stream;
pub(crate) mod tools;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};

use self::{answer::Answer, request::Request};
use crate::{
    app::{App, Caller},
    body::Asked,
    error::{ApiError, ErrorBody},
    openai::head::Head,
    sse,
};

/// A message that answers messages, or several.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "chat", request_body = Request, responses(
    (status = 200, description = "Streamed as server-sent events where that was asked for",
        content((Answer = "application/json"), (String = "text/event-stream"))),
    (status = "default", body = ErrorBody),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Asked(request): Asked<Request>,
) -> Result<Response, ApiError> {
    app.check_model(&request.model)?;
    let head = Head::new("chatcmpl-", &request.model);
    let chats = app.chats(&caller)?;
    let mut asking = request.asking(app.limits().count)?;
    asking.chat.sharing = app.sharing(&caller);
    asking.chat.deadline = app.request_max();
    if asking.stream {
        let place = app.streams().take(&caller.client)?;
        let chat = chats.stream(asking.chat).await?;
        return sse::answer(stream::Chunks::new(chat, head, asking.usage), place).await;
    }
    let answered = chats.answer(asking.chat).await?;
    Ok(Json(Answer::new(head, answered)).into_response())
}
