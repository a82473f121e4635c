//! What the model's template makes of messages.

use axum::{Json, extract::State};
use motorbrain::{Part, chat::ChatRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    app::{App, Caller},
    body::Asked,
    error::{ApiError, ErrorBody},
    openai::chat::{
        messages::{MessageSent, messages},
        tools::{ToolSent, tools},
    },
};

/// Messages as a chat's request has them, and what else a template is given; as everywhere in this interface no key of it
/// is `null`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Templated {
    messages: Vec<MessageSent>,
    #[serde(default)]
    tools: Vec<ToolSent>,
    #[serde(default)]
    documents: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    chat_template_kwargs: Map<String, Value>,
    /// Whether the assistant's next message is opened; left out, it is.
    #[serde(default = "opened")]
    add_generation_prompt: bool,
}

const fn opened() -> bool {
    true
}

/// What a model reads of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rendered {
    /// All of it as one text.
    prompt: String,
    /// Its parts: texts in which the model's markers are markers, and `literal` ones in which none is. They may be sent as
    /// the `parts` of a step.
    parts: Vec<PartSaid>,
}

/// A part.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartSaid {
    Text(String),
    Literal(String),
    TokenIds(Vec<u32>),
}

/// What the model's template makes of messages.
#[utoipa::path(post, path = "/brain/apply-template", tag = "brain", request_body = Templated,
    responses((status = 200, body = Rendered), (status = "default", body = ErrorBody)))]
pub(crate) async fn apply(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<Templated>,
) -> Result<Json<Rendered>, ApiError> {
    let request = ChatRequest {
        tools: tools(asked.tools)?,
        documents: asked.documents,
        variables: asked.chat_template_kwargs,
        generation_prompt: asked.add_generation_prompt,
        ..ChatRequest::new(messages(asked.messages)?)
    };
    let parts = app.chats(&caller)?.render(&request).await?;
    let mut prompt = String::new();
    let mut said = |part: Part| match part {
        Part::Text(text) => {
            prompt += &text;
            PartSaid::Text(text)
        }
        Part::Literal(text) => {
            prompt += &text;
            PartSaid::Literal(text)
        }
        Part::Tokens(tokens) => {
            prompt += &app.tokenizer().decode(&tokens);
            PartSaid::TokenIds(tokens.into_iter().map(u32::from).collect())
        }
    };
    let parts = parts.into_iter().map(&mut said).collect();
    Ok(Json(Rendered { prompt, parts }))
}
