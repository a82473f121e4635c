//! An answer as OpenAI's clients read it.

use motorbrain::chat::{Answered, ChatToken, Choice, Likely, ToolCall};
use serde::Serialize;
use utoipa::ToSchema;

use crate::openai::{completions::written::finite, head::Head, usage::Usage};

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Chat)]
pub(crate) struct Answer {
    id: String,
    /// `chat.completion`; each event of a streamed one is a `chat.completion.chunk`.
    object: &'static str,
    created: u64,
    model: String,
    choices: Vec<Chosen>,
    usage: Usage,
    service_tier: &'static str,
}

/// One of the answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChoice)]
pub(crate) struct Chosen {
    index: usize,
    message: MessageSaid,
    logprobs: Option<ContentLogprobs>,
    /// `stop`, `length` or `tool_calls`.
    finish_reason: &'static str,
}

/// What is answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnswerMessage)]
pub(crate) struct MessageSaid {
    /// `assistant`.
    role: &'static str,
    /// Nothing where only tools are called.
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallSaid>,
}

/// A call of a tool.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ToolCall)]
pub(crate) struct CallSaid {
    id: String,
    /// `function`.
    r#type: &'static str,
    function: FunctionSaid,
}

/// Which function is called, and with what.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CalledFunction)]
pub(crate) struct FunctionSaid {
    name: String,
    /// JSON as a text.
    arguments: String,
}

/// The text's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContentLogprobs {
    content: Vec<TokenSaid>,
    refusal: Option<Vec<TokenSaid>>,
}

/// A token and what stood beside it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TokenLogprob)]
pub(crate) struct TokenSaid {
    token: String,
    /// As the model itself finds it.
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopSaid>,
}

/// A token that could have been.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TopLogprob)]
pub(crate) struct TopSaid {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn new(head: Head, answered: Answered) -> Self {
        let usage = Usage::of(&answered);
        Self {
            id: head.id,
            object: "chat.completion",
            created: head.created,
            model: head.model,
            choices: answered.choices.into_iter().enumerate().map(|(index, choice)| chosen(index, choice)).collect(),
            usage,
            service_tier: "default",
        }
    }
}

fn chosen(index: usize, choice: Choice) -> Chosen {
    let tool_calls: Vec<CallSaid> = choice.tool_calls.into_iter().map(CallSaid::from).collect();
    let content = Some(choice.text).filter(|text| tool_calls.is_empty() || !text.is_empty());
    Chosen {
        index,
        logprobs: logprobs(&choice.tokens),
        finish_reason: choice.finish.as_str(),
        message: MessageSaid { role: "assistant", content, refusal: None, tool_calls },
    }
}

impl From<ToolCall> for CallSaid {
    fn from(call: ToolCall) -> Self {
        let function = FunctionSaid { name: call.name, arguments: call.arguments };
        Self { id: call.id, r#type: "function", function }
    }
}

/// Tokens as they are written; `None` where there are none.
pub(super) fn logprobs(tokens: &[ChatToken]) -> Option<ContentLogprobs> {
    let content: Vec<TokenSaid> = tokens.iter().map(token).collect();
    (!content.is_empty()).then_some(ContentLogprobs { content, refusal: None })
}

pub(crate) fn token(token: &ChatToken) -> TokenSaid {
    let ChatToken { token: Likely { bytes, logprob, .. }, top } = token;
    TokenSaid {
        token: String::from_utf8_lossy(bytes).into_owned(),
        logprob: finite(*logprob),
        bytes: bytes.clone(),
        top_logprobs: top.iter().map(top_said).collect(),
    }
}

fn top_said(Likely { bytes, logprob, .. }: &Likely) -> TopSaid {
    TopSaid { token: String::from_utf8_lossy(bytes).into_owned(), logprob: finite(*logprob), bytes: bytes.clone() }
}
