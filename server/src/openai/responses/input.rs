//! What is said to a response: a text, or items of a chat.

use motorbrain::chat::{Message, Role, ToolCall};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    body::parse_at,
    error::ApiError,
    openai::chat::messages::{Content, role, text},
};

/// A text or items.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of items")]
#[schema(as = ResponseInput)]
pub(crate) enum InputSent {
    Text(String),
    /// Messages, calls of functions (`function_call`) and what these gave (`function_call_output`).
    #[schema(value_type = Vec<ItemSent>)]
    Items(Vec<Value>),
}

/// An item, by its `type`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes and is never made: each item is read at its place")]
enum ItemSent {
    Message(MessageItem),
    Call(CallItem),
    Output(OutputItem),
}

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some keys are taken and mean nothing here")]
struct MessageItem {
    r#type: Option<String>,
    role: String,
    content: Content,
    id: Option<String>,
    status: Option<String>,
    phase: Option<String>,
}

/// A call that an earlier answer made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some keys are taken and mean nothing here")]
struct CallItem {
    r#type: String,
    call_id: String,
    name: String,
    arguments: String,
    id: Option<String>,
    status: Option<String>,
    namespace: Option<String>,
    parsed_arguments: Option<Value>,
}

/// What such a call gave.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some keys are taken and mean nothing here")]
struct OutputItem {
    r#type: String,
    call_id: String,
    output: Content,
    id: Option<String>,
    status: Option<String>,
}

/// What is said as messages. Calls that follow one another, or a message of the assistant's, are one message with it.
///
/// # Errors
/// An item that is none, or is not served.
pub(super) fn messages(input: InputSent) -> Result<Vec<Message>, ApiError> {
    let items = match input {
        InputSent::Text(text) => return Ok(vec![Message::user(text)]),
        InputSent::Items(items) => items,
    };
    if items.is_empty() {
        return Err(ApiError::invalid("input", "empty", "a text, or one item or more"));
    }
    let mut messages = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        add(&mut messages, &format!("input[{index}]"), item)?;
    }
    Ok(messages)
}

fn add(messages: &mut Vec<Message>, at: &str, item: Value) -> Result<(), ApiError> {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or("message").to_owned();
    match kind.as_str() {
        "message" => {
            let MessageItem { role: name, content, .. } = parse_at(at, item)?;
            let role = role(&format!("{at}.role"), &name)?;
            messages.push(Message::new(role, text(&format!("{at}.content"), content)?));
        }
        "function_call" => {
            let CallItem { call_id, name, arguments, .. } = parse_at(at, item)?;
            let call = ToolCall { id: call_id, name, arguments };
            match messages.last_mut().filter(|last| last.role == Role::Assistant) {
                Some(last) => last.tool_calls.push(call),
                None => {
                    let message = Message::new(Role::Assistant, "");
                    messages.push(Message { content: None, tool_calls: vec![call], ..message });
                }
            }
        }
        "function_call_output" => {
            let OutputItem { call_id, output, .. } = parse_at(at, item)?;
            messages.push(Message::tool(call_id, text(&format!("{at}.output"), output)?));
        }
        other => {
            let other: String = other.chars().take(40).collect();
            let why = "items are messages, calls of functions and what these gave";
            return Err(ApiError::unsupported(&format!("{at}.{other}"), why));
        }
    }
    Ok(())
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
    fn items_are_a_chat() {
        let items = r#"[{"role":"developer","content":"d"},
            {"type":"message","role":"user","content":[{"type":"input_text","text":"a"}]},
            {"type":"message","id":"msg_1","status":"completed","role":"assistant",
                "content":[{"type":"output_text","text":"b","annotations":[],"logprobs":[]}]},
            {"type":"function_call","id":"fc_1","call_id":"1","name":"f","arguments":"{}"},
            {"type":"function_call","call_id":"2","name":"g","arguments":"{}"},
            {"type":"function_call_output","call_id":"1","output":"x"}]"#;
        let told = read(items).unwrap();
        assert_eq!(told.len(), 4);
        assert_eq!(told[..2], [Message::system("d"), Message::user("a")]);
        assert_eq!((told[2].content.as_deref(), told[2].tool_calls.len()), (Some("b"), 2));
        assert_eq!(told[3], Message::tool("1", "x"));
    }

    #[test]
    fn what_is_no_item_is_refused_by_its_place() {
        check(r#"[{"type":"item_reference","id":"x"}]"#, "unsupported_parameter", "input[0].item_reference");
        check(r#"[{"role":"user","content":"a"},{"role":"user"}]"#, "invalid_type", "input[1].content");
        check(r#"[{"role":"user","content":"a","x":1}]"#, "unsupported_parameter", "input[0].x");
        let picture = r#"[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}]"#;
        check(picture, "unsupported_parameter", "input[0].content[0].input_image");
        check("[]", "invalid_value", "input");
    }
}
