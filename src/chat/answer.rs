//! What comes back: answers, whole or as they come.

use motorbrain_actors::tokens::TokenId;

use super::{ChatError, ToolCall};

/// The answer to a [`ChatRequest`](super::ChatRequest).
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// As many as were asked for.
    pub choices: Vec<Choice>,
    /// Tokens of the rendered messages.
    pub prompt_tokens: usize,
    /// How many of them need not be read, since the conversation, or others, had read the same before.
    pub reused: usize,
    /// Tokens of all answers, end tokens among them.
    pub completion_tokens: usize,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its text, without calls.
    pub text: String,
    /// The tools that it calls, in order. Where it ends by [`Finish::Length`] the last one's arguments may be cut off.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens of its text; empty where log-probabilities were not asked for.
    pub tokens: Vec<ChatToken>,
    /// Why it ended.
    pub finish: Finish,
    /// Its tokens, an end token among them.
    pub completion_tokens: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text did.
    Stop,
    /// As many tokens as it may have.
    Length,
    /// It waits for tools.
    ToolCalls,
}

impl Finish {
    /// As chat servers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatToken {
    /// The token, and how likely the model finds it: before all that sampling does.
    pub token: Likely,
    /// The most likely ones in its place, best first, as many as asked for.
    pub top: Vec<Likely>,
}

/// A token with how likely it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Likely {
    /// Which one.
    pub id: TokenId,
    /// What it adds to a text; it may be a part of a character.
    pub bytes: Vec<u8>,
    /// Its log-probability.
    pub logprob: f32,
}

/// An item of a streamed answer.
#[derive(Debug)]
pub enum ChatItem {
    /// The text goes on.
    Text {
        /// Which answer.
        choice: usize,
        /// What is added; never empty, never a part of a character, nor what may begin a call or a stop text.
        text: String,
        /// The tokens that it consists of, where log-probabilities were asked for.
        tokens: Vec<ChatToken>,
    },
    /// A tool is called.
    CallBegins {
        /// Which answer.
        choice: usize,
        /// Which of its calls, from 0.
        index: usize,
        /// By which the tool's answer names it.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// The arguments of a call go on.
    Arguments {
        /// Which answer.
        choice: usize,
        /// Which of its calls.
        index: usize,
        /// What is added to the JSON text; never empty.
        text: String,
    },
    /// An answer is over.
    Ended {
        /// Which one.
        choice: usize,
        /// Why.
        finish: Finish,
    },
    /// The last item: all answers, whole.
    Done(Answered),
    /// The last item: it went wrong.
    Failed(ChatError),
}
