//! Messages as OpenAI's clients send them.

use motorbrain::chat::{Message, Role, ToolCall};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::ApiError;

/// A message of a chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatMessage)]
pub(crate) struct MessageSent {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    role: String,
    /// A text, or a list of parts of which each is a text.
    content: Option<Content>,
    name: Option<String>,
    /// Calls that an assistant's message made.
    tool_calls: Option<Vec<CallSent>>,
    /// Which call a tool's message answers.
    tool_call_id: Option<String>,
    /// Only `null`: what a model refuses is in its text.
    refusal: Option<String>,
    /// Only `null`.
    #[schema(value_type = Option<Object>)]
    audio: Option<Value>,
    /// Only `null`: what has the place of these is `tool_calls`.
    #[schema(value_type = Option<Object>)]
    function_call: Option<Value>,
    /// Sent back as clients had it from an answer; none is ever made here.
    #[schema(value_type = Option<Vec<Object>>)]
    annotations: Option<Vec<Value>>,
    /// Sent back by clients that have read the text; means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    parsed: Option<Value>,
}

/// What a message says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<PartSent>),
}

/// A part of what a message says.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ContentPart)]
pub(crate) struct PartSent {
    /// `text`; pictures, sounds and files are not served.
    r#type: String,
    text: Option<String>,
    /// What else was said of it.
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// What answers say of a text beside it, which clients send back.
const SENT_BACK: [&str; 3] = ["annotations", "logprobs", "parsed"];

/// A call of a tool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ToolCallSent)]
pub(crate) struct CallSent {
    id: String,
    /// `function`.
    r#type: Option<String>,
    function: FunctionCalled,
    /// Which call of a streamed answer it was; means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    index: Option<usize>,
}

/// Which function is called, and with what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FunctionCalled {
    name: String,
    /// JSON as a text.
    arguments: String,
    /// Sent back by clients that have read the arguments; means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    parsed_arguments: Option<Value>,
}

/// Messages as the chat takes them.
///
/// # Errors
/// What is none.
pub(crate) fn messages(sent: Vec<MessageSent>) -> Result<Vec<Message>, ApiError> {
    if sent.is_empty() {
        return Err(ApiError::invalid("messages", "empty", "one message or more"));
    }
    sent.into_iter().enumerate().map(|(index, sent)| message(&format!("messages[{index}]"), sent)).collect()
}

fn message(at: &str, sent: MessageSent) -> Result<Message, ApiError> {
    let key = |key: &str| format!("{at}.{key}");
    let role = role(&key("role"), &sent.role)?;
    let unserved = [
        ("refusal", sent.refusal.is_some()),
        ("audio", sent.audio.is_some()),
        ("function_call", sent.function_call.is_some()),
        ("annotations", sent.annotations.is_some_and(|annotations| !annotations.is_empty())),
    ];
    if let Some((name, _)) = unserved.into_iter().find(|(_, given)| *given) {
        return Err(ApiError::unsupported(&key(name), "messages are texts and calls of tools"));
    }
    let calls = sent.tool_calls.unwrap_or_default().into_iter().enumerate();
    let calls = calls.map(|(index, sent)| call(&key(&format!("tool_calls[{index}]")), sent));
    Ok(Message {
        content: sent.content.map(|content| text(&key("content"), content)).transpose()?,
        name: sent.name,
        tool_calls: calls.collect::<Result<_, _>>()?,
        tool_call_id: sent.tool_call_id,
        ..Message::new(role, "")
    })
}

/// A role by its name.
///
/// # Errors
/// There is none of that name.
pub(crate) fn role(param: &str, name: &str) -> Result<Role, ApiError> {
    let expected = "`system`, `developer`, `user`, `assistant` or `tool`";
    Role::named(name).ok_or_else(|| ApiError::invalid(param, format!("{:?}", cut(name)), expected))
}

/// The text of what a message says.
pub(crate) fn text(param: &str, content: Content) -> Result<String, ApiError> {
    match content {
        Content::Text(text) => Ok(text),
        Content::Parts(parts) => {
            let texts = parts.into_iter().enumerate().map(|(index, part)| part.text(&format!("{param}[{index}]")));
            texts.collect()
        }
    }
}

impl PartSent {
    fn text(self, param: &str) -> Result<String, ApiError> {
        let key = |key: &str| format!("{param}.{}", cut(key));
        if !matches!(self.r#type.as_str(), "text" | "input_text" | "output_text") {
            return Err(ApiError::unsupported(&key(&self.r#type), "this model reads texts alone"));
        }
        if let Some(other) = self.rest.keys().find(|key| !SENT_BACK.contains(&key.as_str())) {
            return Err(ApiError::unsupported(&key(other), "a part of a message is a text and no more"));
        }
        self.text.ok_or_else(|| ApiError::invalid(&key("text"), "missing", "a text"))
    }
}

fn call(param: &str, sent: CallSent) -> Result<ToolCall, ApiError> {
    if sent.r#type.as_deref().is_some_and(|kind| kind != "function") {
        return Err(ApiError::unsupported(&format!("{param}.type"), "tools are functions"));
    }
    Ok(ToolCall { id: sent.id, name: sent.function.name, arguments: sent.function.arguments })
}

/// Short enough to be repeated.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn read(json: &str) -> Result<Vec<Message>, ApiError> {
        messages(crate::body::parse(json.as_bytes())?)
    }

    fn check(json: &str, code: &str, param: &str) {
        let refused = read(json).expect_err(json);
        assert_eq!((refused.code, refused.param.as_deref()), (code, Some(param)), "{json}: {}", refused.message);
    }

    #[test]
    fn parts_of_a_text_are_that_text() {
        let told =
            read(r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#).unwrap();
        assert_eq!(told, [Message::user("ab")]);
        let told = read(r#"[{"role":"developer","content":"a","name":null}]"#).unwrap();
        assert_eq!(told, [Message::system("a")]);
    }

    #[test]
    fn calls_and_their_answers_are_read() {
        let told = read(
            r#"[{"role":"assistant","content":null,"refusal":null,"tool_calls":[
                {"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"1","content":"x"}]"#,
        );
        let told = told.unwrap();
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
        assert_eq!((&told[0].content, &told[0].tool_calls[..]), (&None, &[call][..]));
        assert_eq!(told[1], Message::tool("1", "x"));
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_name() {
        let picture = r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#;
        check(picture, "unsupported_parameter", "messages[0].content[0].image_url");
        check(r#"[{"role":"assistant","audio":{"id":"x"}}]"#, "unsupported_parameter", "messages[0].audio");
        check(r#"[{"role":"nobody","content":"x"}]"#, "invalid_value", "messages[0].role");
        check(r#"[{"role":"user","content":1}]"#, "invalid_type", "[0].content");
        let cached = r#"[{"role":"user","content":[{"type":"text","text":"x","cache_control":{}}]}]"#;
        check(cached, "unsupported_parameter", "messages[0].content[0].cache_control");
        check(r#"[{"role":"user","text":"x"}]"#, "unsupported_parameter", "[0].text");
        check("[]", "invalid_value", "messages");
    }
}
