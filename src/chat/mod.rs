//! Chats: messages in, a message out, by the model's own template, over a running [`Brain`](crate::Brain).
//!
//! [`Chats`] renders messages as the model was trained to read them, has the answer sampled, and finds the calls of
//! tools in it. The template's own markers are live, whatever messages, names and tools say is inert. See
//! ARCHITECTURE.md, "Chats".

mod answer;
mod answering;
mod asked;
mod chats;
mod choice;
mod dialect;
mod error;
mod inert;
mod manner;
mod message;
mod prompt;
mod render;
mod rendered;
mod request;
mod rules;
mod stream;
mod template;
mod turn;

pub use motorbrain_actors::grammar::Constraint;

pub use self::{
    answer::{Answered, ChatItem, ChatToken, Choice, Finish, Likely},
    asked::{TOOL_NAME_BYTES_MAX, TOOLS_MAX},
    chats::{ChatOptions, Chats},
    error::ChatError,
    message::{Message, Role, Tool, ToolCall, ToolChoice},
    prompt::RESERVED,
    request::{ChatRequest, Format},
    stream::ChatStream,
    template::TemplateError,
};
pub use crate::grammar::GrammarError;
