//! A response as OpenAI's clients read it.

use std::collections::BTreeMap;

use motorbrain::chat::{Answered, Choice, Finish, Message, Role, ToolCall};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::request::FlatTool;
use crate::{
    names,
    openai::chat::{
        answer::{TokenSaid, token},
        tools::ChoiceSent,
    },
};

/// A response.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Response {
    pub(super) id: String,
    /// `response`.
    pub(super) object: Object,
    pub(super) created_at: u64,
    pub(super) status: Status,
    pub(super) background: bool,
    #[schema(value_type = Option<Object>)]
    pub(super) error: Option<Value>,
    pub(super) incomplete_details: Option<Incomplete>,
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<usize>,
    pub(super) model: String,
    pub(super) output: Vec<Item>,
    pub(super) parallel_tool_calls: bool,
    pub(super) previous_response_id: Option<String>,
    pub(super) reasoning: Reasoning,
    pub(super) service_tier: Tier,
    pub(super) store: bool,
    pub(super) temperature: f32,
    #[schema(value_type = Object)]
    pub(super) text: Value,
    #[schema(value_type = ChoiceSent)]
    pub(super) tool_choice: Value,
    pub(super) tools: Vec<FlatTool>,
    pub(super) top_logprobs: usize,
    pub(super) top_p: f32,
    pub(super) truncation: Truncation,
    pub(super) usage: Option<ResponseUsage>,
    pub(super) metadata: BTreeMap<String, String>,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $first:ident = $first_word:literal $(, $other:ident = $word:literal)* })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
        pub(crate) enum $name {
            #[default]
            #[serde(rename = $first_word)]
            $first,
            $( #[serde(rename = $word)] $other, )*
        }
    )+ };
}

words! {
    /// What it is.
    Object { Response = "response" }
    /// How far it is.
    Status {
        InProgress = "in_progress", Completed = "completed", Incomplete = "incomplete", Failed = "failed"
    }
    Tier { Default = "default" }
    Truncation { Disabled = "disabled" }
}

/// Why it ended before its end.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = IncompleteDetails)]
pub(crate) struct Incomplete {
    /// `max_output_tokens`.
    reason: &'static str,
}

/// What this model does not do.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Reasoning {
    effort: Option<&'static str>,
    summary: Option<&'static str>,
}

/// What is answered: a message, or the call of a function.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponseItem)]
pub(crate) enum Item {
    Message {
        id: String,
        status: Status,
        /// `assistant`.
        role: &'static str,
        content: Vec<ContentSaid>,
    },
    FunctionCall {
        id: String,
        status: Status,
        call_id: String,
        name: String,
        /// JSON as a text.
        arguments: String,
    },
}

/// What a message says.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OutputText)]
pub(crate) struct ContentSaid {
    /// `output_text`.
    r#type: &'static str,
    text: String,
    #[schema(value_type = Vec<Object>)]
    annotations: Vec<Value>,
    logprobs: Vec<TokenSaid>,
}

/// How many tokens it took.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputDetails,
    output_tokens: usize,
    output_tokens_details: OutputDetails,
    total_tokens: usize,
}

/// What became of the tokens that were said.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct InputDetails {
    /// Those that need not be read.
    cached_tokens: usize,
    /// Those that were read, and are kept for who says the same.
    cache_write_tokens: usize,
}

/// What the tokens of the answer were for.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct OutputDetails {
    reasoning_tokens: usize,
}

impl ContentSaid {
    pub(super) fn new(text: String, logprobs: Vec<TokenSaid>) -> Self {
        Self { r#type: "output_text", text, annotations: Vec::new(), logprobs }
    }

    pub(super) fn logprobs(&self) -> &[TokenSaid] {
        &self.logprobs
    }
}

impl Item {
    /// A message that has said nothing yet.
    pub(super) fn message() -> Self {
        Self::Message { id: names::random("msg_"), status: Status::InProgress, role: "assistant", content: Vec::new() }
    }

    /// A call without arguments yet.
    pub(super) fn call(call_id: &str, name: &str) -> Self {
        let (call_id, name) = (call_id.to_owned(), name.to_owned());
        let (id, status) = (names::random("fc_"), Status::InProgress);
        Self::FunctionCall { id, status, call_id, name, arguments: String::new() }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::Message { id, .. } | Self::FunctionCall { id, .. } => id,
        }
    }

    /// The same with what it says, whole.
    pub(super) fn said(&self, said: ContentSaid, now: Status) -> Self {
        match self.clone() {
            Self::Message { id, role, .. } => Self::Message { id, status: now, role, content: vec![said] },
            Self::FunctionCall { id, call_id, name, .. } => {
                Self::FunctionCall { id, status: now, call_id, name, arguments: said.text }
            }
        }
    }
}

impl Response {
    /// The same with what came of it.
    pub(super) fn answered(self, answered: Answered) -> Self {
        let choice = answered.choices.first();
        let output = choice.map(items).unwrap_or_default();
        self.ended(output, &answered)
    }

    /// The same with these items; why it ended and what it took are the answer's.
    pub(super) fn ended(self, output: Vec<Item>, answered: &Answered) -> Self {
        let finish = answered.choices.first().map(|choice| choice.finish);
        let incomplete_details = (finish == Some(Finish::Length)).then_some(Incomplete { reason: "max_output_tokens" });
        let usage = ResponseUsage {
            input_tokens: answered.prompt_tokens,
            input_tokens_details: InputDetails {
                cached_tokens: answered.reused,
                cache_write_tokens: answered.prompt_tokens.saturating_sub(answered.reused),
            },
            output_tokens: answered.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: 0 },
            total_tokens: answered.prompt_tokens + answered.completion_tokens,
        };
        Self { status: status(finish), incomplete_details, output, usage: Some(usage), ..self }
    }

    /// What was said, for what is said next.
    pub(super) fn message(&self) -> Message {
        let mut message = Message { content: None, ..Message::new(Role::Assistant, "") };
        for item in &self.output {
            match item {
                Item::Message { content, .. } => {
                    message.content = Some(content.iter().map(|said| said.text.as_str()).collect());
                }
                Item::FunctionCall { call_id, name, arguments, .. } => message.tool_calls.push(ToolCall {
                    id: call_id.clone(),
                    name: name.clone(),
                    arguments: arguments.clone(),
                }),
            }
        }
        message
    }
}

/// How a response is that has ended so.
pub(super) fn status(finish: Option<Finish>) -> Status {
    match finish {
        Some(Finish::Length) => Status::Incomplete,
        Some(Finish::Stop | Finish::ToolCalls) | None => Status::Completed,
    }
}

/// An answer's items.
fn items(choice: &Choice) -> Vec<Item> {
    let now = status(Some(choice.finish));
    let mut items = Vec::new();
    if !choice.text.is_empty() || choice.tool_calls.is_empty() {
        let said = ContentSaid::new(choice.text.clone(), choice.tokens.iter().map(token).collect());
        items.push(Item::message().said(said, now));
    }
    for call in &choice.tool_calls {
        let said = ContentSaid::new(call.arguments.clone(), Vec::new());
        items.push(Item::call(&call.id, &call.name).said(said, now));
    }
    items
}
