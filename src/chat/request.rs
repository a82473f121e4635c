//! What is asked of a chat.

use std::time::Duration;

use motorbrain_actors::{
    engine::Sampling,
    message::{ConversationId, Sharing},
};
use serde_json::{Map, Value};

use super::{Constraint, Message, Tool, ToolChoice};

/// An answer is wanted to these messages.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The conversation that holds the chat between its requests, for chats alone: it is brought to the messages' tokens,
    /// whatever it holds. `None`: one of a name that nobody guesses, closed afterwards; what it has read is found by the
    /// next request that begins alike, as long as it is kept.
    pub conversation: Option<ConversationId>,
    /// The whole chat, oldest first; at least one.
    pub messages: Vec<Message>,
    /// The tools that may be called; no two have one name.
    pub tools: Vec<Tool>,
    /// Whether they may, must or must not be.
    pub tool_choice: ToolChoice,
    /// Whether one answer may call several.
    pub parallel_tool_calls: bool,
    /// Documents for templates that know of them, each usually an object with `title` and `text`.
    pub documents: Vec<Value>,
    /// Further variables for the template, such as `enable_thinking`; their texts are inert, too.
    pub variables: Map<String, Value>,
    /// Whether the template opens the assistant's next message; false only to look at what it renders.
    pub generation_prompt: bool,
    /// What the answer's text may be.
    pub format: Format,
    /// The most tokens of an answer; `None`: what is left of the window, up to `limits.count`. No chat slides, so it is
    /// cut to what is left of the window.
    pub count: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The same seed and messages draw the same tokens. `None`: one is drawn.
    pub seed: Option<u64>,
    /// Texts that end an answer and are no part of it.
    pub stop: Vec<String>,
    /// How many of the most likely tokens to list for each; `None`: no log-probabilities at all.
    pub top: Option<usize>,
    /// How many answers, 1 to [`N_MAX`](motorbrain_actors::message::N_MAX).
    pub n: usize,
    /// With whom the chat's keys and values are shared; `None`: as before, and a new conversation with all that name no
    /// scope.
    pub sharing: Option<Sharing>,
    /// In which all of it is to be done, reading included; `None`: each of its parts as settings say.
    pub deadline: Option<Duration>,
}

impl ChatRequest {
    /// The likeliest answer to these messages, in a conversation of its own, without tools.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            conversation: None,
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            documents: Vec::new(),
            variables: Map::new(),
            generation_prompt: true,
            format: Format::Text,
            count: None,
            sampling: Sampling::GREEDY,
            seed: None,
            stop: Vec::new(),
            top: None,
            n: 1,
            sharing: None,
            deadline: None,
        }
    }
}

/// What an answer's text may be. Where tools may be called as well, it is either a call or such a text.
#[derive(Clone, Debug, Default)]
pub enum Format {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
    /// What a grammar of the caller's own allows; not beside tools that may be called.
    Grammar(Constraint),
}
