//! What of a request can be judged without a model.

use std::collections::BTreeSet;

use motorbrain_actors::message::N_MAX;
use serde_json::Value;

use super::{ChatError, ChatRequest, Format, Tool, ToolChoice, prompt::RESERVED};

/// The most tools. Not a setting: it only keeps a grammar from being as large as it likes.
pub const TOOLS_MAX: usize = 512;

/// The longest name of a tool, in bytes.
pub const TOOL_NAME_BYTES_MAX: usize = 128;

/// Checks a request.
///
/// # Errors
/// [`ChatError::BadRequest`].
pub(super) fn check(request: &ChatRequest) -> Result<(), ChatError> {
    if request.messages.is_empty() {
        return bad("messages", "empty", "one message at least");
    }
    if !(1..=N_MAX).contains(&request.n) {
        return bad("n", request.n, format!("1 to {N_MAX}"));
    }
    if request.n > 1 && request.sampling.temperature == 0.0 {
        return bad("n", request.n, "1 where `temperature` is 0: all answers would be one");
    }
    if request.count == Some(0) {
        return bad("count", 0, "1 at least");
    }
    if let Some(name) = RESERVED.iter().find(|name| request.variables.contains_key(**name)) {
        return bad("variables", format!("with `{name}`"), "names that the template is not given anyway");
    }
    check_tools(request)
}

fn check_tools(request: &ChatRequest) -> Result<(), ChatError> {
    let tools = &request.tools;
    if tools.len() > TOOLS_MAX {
        return bad("tools", format!("{} of them", tools.len()), format!("at most {TOOLS_MAX}"));
    }
    let mut names = BTreeSet::new();
    for Tool { name, parameters, .. } in tools {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte);
        if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX || !name.bytes().all(fits) {
            let expected = format!("1 to {TOOL_NAME_BYTES_MAX} letters, digits, `_`, `-`, `.`, `/` or `:`");
            return bad("a tool's name", format!("{name:?}"), expected);
        }
        if !names.insert(name) {
            return bad("tools", format!("with `{name}` twice"), "names that differ");
        }
        let of_object = |kind: &Value| kind == "object";
        let is_object = match parameters {
            Value::Null => true,
            Value::Object(schema) => schema.get("type").is_none_or(of_object),
            _ => false,
        };
        if !is_object {
            let expected = "a JSON schema of an object".to_owned();
            return Err(ChatError::BadRequest {
                what: "a tool's `parameters`",
                found: parameters.to_string(),
                expected,
            });
        }
    }
    match &request.tool_choice {
        ToolChoice::Required if tools.is_empty() => bad("tool_choice", "required", "tools to choose from"),
        ToolChoice::One(name) if !names.contains(name) => {
            bad("tool_choice", format!("`{name}`"), "the name of one of the tools")
        }
        ToolChoice::Auto if !tools.is_empty() && matches!(request.format, Format::Grammar(_)) => {
            bad("format", "a grammar beside tools", "a grammar of its own, or a JSON schema, or no tools")
        }
        _ => Ok(()),
    }
}

/// Bytes of all that somebody else has written, to be compared with `limits.text_bytes` before it is rendered.
pub(super) fn bytes(request: &ChatRequest) -> usize {
    let messages = request.messages.iter().map(|message| {
        let calls = message.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        let texts = [&message.content, &message.name, &message.tool_call_id];
        texts.into_iter().flatten().map(String::len).sum::<usize>() + calls.sum::<usize>()
    });
    let tools = request
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.as_ref().map_or(0, String::len) + bytes_of(&tool.parameters));
    let documents = request.documents.iter().chain(request.variables.values()).map(bytes_of);
    let keys = request.variables.keys().map(String::len);
    messages.chain(tools).chain(documents).chain(keys).sum()
}

fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(pairs) => pairs.iter().map(|(key, value)| key.len() + bytes_of(value)).sum(),
    }
}

fn bad(what: &'static str, found: impl ToString, expected: impl Into<String>) -> Result<(), ChatError> {
    Err(ChatError::BadRequest { what, found: found.to_string(), expected: expected.into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;
    use crate::chat::Message;

    fn refused(change: impl FnOnce(&mut ChatRequest)) -> Option<String> {
        let mut request = ChatRequest::new(vec![Message::user("hi")]);
        change(&mut request);
        check(&request).err().map(|error| error.to_string())
    }

    fn tool(name: &str, parameters: Value) -> Tool {
        Tool { name: name.to_owned(), description: None, parameters }
    }

    #[test]
    fn what_may_be_asked_is() {
        assert_eq!(refused(|_| {}), None);
        let object = json!({ "type": "object" });
        assert_eq!(refused(|it| it.tools = vec![tool("a_b-c.d/e:f", object), tool("g", Value::Null)]), None);
        assert_eq!(refused(|it| it.variables.insert("enable_thinking".into(), json!(false)).map_or((), drop)), None);
    }

    #[test]
    fn what_may_not_be_asked_is_told() {
        let is =
            |found: Option<String>, expected: &str| assert!(found.as_ref().unwrap().starts_with(expected), "{found:?}");
        is(refused(|it| it.messages.clear()), "messages is empty");
        is(refused(|it| it.n = 0), "n is 0");
        is(refused(|it| it.n = 2), "n is 2, expected 1 where `temperature` is 0");
        is(refused(|it| it.count = Some(0)), "count is 0");
        is(
            refused(|it| it.variables.insert("messages".into(), json!(1)).map_or((), drop)),
            "variables is with `messages`",
        );
        is(refused(|it| it.tools = vec![tool("a b", Value::Null)]), "a tool's name is \"a b\"");
        is(refused(|it| it.tools = vec![tool("a", Value::Null), tool("a", Value::Null)]), "tools is with `a` twice");
        is(refused(|it| it.tools = vec![tool("a", json!({ "type": "array" }))]), "a tool's `parameters` is {\"type\":");
        is(refused(|it| it.tools = vec![tool("a", json!(true))]), "a tool's `parameters` is true");
        is(refused(|it| it.tools = vec![tool("a", Value::Null); TOOLS_MAX + 1]), "tools is 513 of them");
        is(refused(|it| it.tool_choice = ToolChoice::Required), "tool_choice is required");
        is(refused(|it| it.tool_choice = ToolChoice::One("f".into())), "tool_choice is `f`");
    }

    #[test]
    fn all_texts_are_counted() {
        let mut request = ChatRequest::new(vec![Message::user("abc"), Message::tool("i", "de")]);
        request.tools.push(tool("f", json!({ "k": ["vw", 1] })));
        request.messages[0].name = Some("gh".to_owned());
        request.variables.insert("xyz".to_owned(), json!(null));
        assert_eq!(bytes(&request), 3 + 2 + (1 + 2) + (1 + 4) + bytes_of(&json!(null)) + 3);
    }
}
