//! What a chat is made of: messages, the tools that may be called, the calls.
//!
//! Plain data, as clients of chat servers know it. Nothing here knows a template or a model.

use serde_json::Value;

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever made the application.
    System,
    /// Whoever uses it.
    User,
    /// The model.
    Assistant,
    /// A tool that the model has called.
    Tool,
}

impl Role {
    /// Its name in templates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role of this name; `developer` is the newer name of `system`. `None`: it is none.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            "tool" => Some(Self::Tool),
            _ => None,
        }
    }
}

/// A message of a chat. What it says is inert: no token of the model's own can be spelled in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; several texts are joined by the caller. `None` where an assistant only calls tools.
    pub content: Option<String>,
    /// The speaker's name, or that of the tool which answers, where the template shows it.
    pub name: Option<String>,
    /// The calls of an assistant.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of this role that says this.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: Some(content.into()), name: None, tool_calls: Vec::new(), tool_call_id: None }
    }

    /// What the application says.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// What its user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// What the model has said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// What a tool gives back to the call of this id.
    pub fn tool(tool_call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..Self::new(Role::Tool, content) }
    }
}

/// A tool called by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// By which the tool's answer names it; unique in the chat.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments, a JSON object as text. Of an answer that was cut off it may be a beginning of one.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`, 1 to 64 of them.
    pub name: String,
    /// What it does, for the model to read.
    pub description: Option<String>,
    /// A JSON schema of its arguments, an object; the order of its keys is kept. `Null`: any object.
    pub parameters: Value,
}

/// Whether the model may, must or must not call tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It is not told of them.
    None,
    /// As it likes.
    #[default]
    Auto,
    /// At least one, and nothing else.
    Required,
    /// The tool of this name, and nothing else.
    One(String),
}
