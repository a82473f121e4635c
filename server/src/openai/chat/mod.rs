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
use motorbrain::chat::{Answered, ChatRequest};

use self::{
    answer::Answer,
    request::{Asking, Request},
};
use crate::{
    app::{App, Caller},
    body::Asked,
    error::{ApiError, ErrorBody},
    openai::{head::Head, usage::Usage},
    spans::{self, Operation},
    sse,
};

/// A message that answers messages, or several.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "chat", request_body = Request, responses(
    (status = 200, description = "Streamed as server-sent events where that was asked for",
        content((Answer = "application/json"), (sse::Events = "text/event-stream"))),
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
    let Asking { chat, stream, usage } = asking;
    let operation = operation(&head.model, &chat, stream).begin();
    let work = async {
        if stream {
            let place = app.streams().take(&caller.client)?;
            let chat = chats.stream(chat).await?;
            return sse::answer(stream::Chunks::new(chat, head, usage), place).await;
        }
        let answered = chats.answer(chat).await?;
        finished(&head.id, &answered);
        Ok(Json(Answer::new(head, answered)).into_response())
    };
    spans::told(operation, work).await
}

/// What is asked of the model for a chat.
pub(crate) fn operation<'a>(model: &'a str, chat: &'a ChatRequest, stream: bool) -> Operation<'a> {
    Operation {
        stream,
        sampling: Some(&chat.sampling),
        count: chat.count,
        seed: chat.seed,
        n: chat.n,
        ..Operation::new("chat", model)
    }
}

/// A chat is answered: what is told of it. `id`: the answer's.
pub(crate) fn finished(id: &str, answered: &Answered) {
    let reasons: Vec<&str> = answered.choices.iter().map(|choice| choice.finish.as_str()).collect();
    spans::finished(id, &reasons, Usage::of(answered));
}
