//! Messages and tools as a template sees them.
//!
//! Where the template knows tools they are given to it as transformers would. Where it does not, they are described in a
//! system message, calls and what came of them are written into messages, all in the way of Hermes. What is somebody's
//! words goes through `write`, which marks it; the words of this file do not.

use std::hash::{DefaultHasher, Hash, Hasher};

use minijinja::Value;
use serde_json::json;

use super::{
    ChatRequest, Message, Role, Tool, ToolCall, ToolChoice,
    dialect::Dialect,
    inert::Whose,
    template::{python_json, value_of},
};

/// Names of a template's variables that [`ChatRequest::variables`] does not bring.
pub const RESERVED: [&str; 7] =
    ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "now ()"];

/// How a template is given messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// How its model calls tools.
    pub(super) dialect: Dialect,
    /// Whether the template is told of tools, and of calls; otherwise they are described to the model.
    pub(super) knows_tools: bool,
    /// Whether a call's arguments are given as a value rather than as its text.
    pub(super) arguments_are_values: bool,
    /// Whether it takes a system message.
    pub(super) takes_system: bool,
}

/// What becomes of a text that somebody else has written.
pub(super) type Write<'w> = &'w mut dyn FnMut(&str, Whose) -> String;

/// The tools that a model is told of.
pub(super) fn told(request: &ChatRequest) -> &[Tool] {
    if request.tool_choice == ToolChoice::None { &[] } else { &request.tools }
}

/// The variables of a template.
pub(super) fn variables(request: &ChatRequest, manner: Manner, write: Write<'_>) -> Vec<(String, Value)> {
    let tools = told(request);
    let messages = match manner.knows_tools {
        true => request.messages.iter().map(|message| known(message, manner, write)).collect(),
        false => described(&request.messages, tools, manner, write),
    };
    let mut anybody = |text: &str| write(text, Whose::Anybody);
    let list = |values: Vec<Value>| if values.is_empty() { Value::from(()) } else { Value::from(values) };
    let told = if manner.knows_tools { tools } else { &[] };
    let tools = told.iter().map(|tool| value_of(&definition(tool), &mut anybody)).collect();
    let documents = request.documents.iter().map(|document| value_of(document, &mut anybody)).collect();
    let mut variables: Vec<(String, Value)> =
        request.variables.iter().map(|(name, value)| (name.clone(), value_of(value, &mut anybody))).collect();
    variables.extend([
        ("messages".to_owned(), Value::from(messages)),
        ("tools".to_owned(), list(tools)),
        ("documents".to_owned(), list(documents)),
        ("add_generation_prompt".to_owned(), Value::from(request.generation_prompt)),
    ]);
    variables
}

/// A tool as clients of chat servers write it.
fn definition(tool: &Tool) -> serde_json::Value {
    let mut function = serde_json::Map::new();
    function.insert("name".to_owned(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), json!(description));
    }
    let parameters = match &tool.parameters {
        serde_json::Value::Null => json!({ "type": "object", "properties": {} }),
        parameters => parameters.clone(),
    };
    function.insert("parameters".to_owned(), parameters);
    json!({ "type": "function", "function": function })
}

/// Whose words a message's text has.
fn whose(role: Role) -> Whose {
    if role == Role::Assistant { Whose::Model } else { Whose::Anybody }
}

/// A message for a template that knows tools: with those keys that it has.
fn known(message: &Message, manner: Manner, write: Write<'_>) -> Value {
    let content = message.content.as_ref().map(|content| write(content, whose(message.role)));
    let content = match content {
        Some(content) => Value::from(content),
        None if message.tool_calls.is_empty() => Value::from(""),
        None => Value::from(()),
    };
    let mut pairs = vec![("role", Value::from(message.role.as_str())), ("content", content)];
    if let Some(name) = &message.name {
        pairs.push(("name", Value::from(write(name, Whose::Anybody))));
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| called(call, manner, write));
        pairs.push(("tool_calls", Value::from(calls.collect::<Vec<_>>())));
    }
    if let Some(id) = &message.tool_call_id {
        pairs.push(("tool_call_id", Value::from(write(&fitting(id, manner), Whose::Anybody))));
    }
    Value::from_pairs(pairs)
}

fn called(call: &ToolCall, manner: Manner, write: Write<'_>) -> Value {
    let arguments = match arguments(call) {
        Some(value) if manner.arguments_are_values => value_of(&value, &mut |text| write(text, Whose::Anybody)),
        _ => Value::from(write(&call.arguments, Whose::Anybody)),
    };
    let function = [("name", Value::from(write(&call.name, Whose::Anybody))), ("arguments", arguments)];
    Value::from_pairs([
        ("type", Value::from("function")),
        ("id", Value::from(write(&fitting(&call.id, manner), Whose::Anybody))),
        ("function", Value::from_pairs(function)),
    ])
}

/// A call's arguments; `None` where they are no object, as those of a call that was cut off.
fn arguments(call: &ToolCall) -> Option<serde_json::Value> {
    if call.arguments.trim().is_empty() {
        return Some(json!({}));
    }
    serde_json::from_str(&call.arguments).ok().filter(serde_json::Value::is_object)
}

/// An id as the template wants it: Mistral's refuse all but nine letters and digits.
fn fitting(id: &str, manner: Manner) -> String {
    let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if manner.dialect != Dialect::Mistral || fits {
        return id.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    nine(hasher.finish())
}

/// Nine letters and digits.
pub(super) fn nine(mut number: u64) -> String {
    let mut letter = || {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        number /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    std::iter::repeat_with(&mut letter).take(9).collect()
}

/// Messages for a template that knows no tools.
fn described(messages: &[Message], tools: &[Tool], manner: Manner, write: Write<'_>) -> Vec<Value> {
    let mut plain: Vec<(Role, String)> = Vec::new();
    let mut after_tool = false;
    for message in messages {
        let text = message.content.as_deref().map(|content| write(content, whose(message.role))).unwrap_or_default();
        match message.role {
            Role::Tool => {
                let response = format!("<tool_response>\n{text}\n</tool_response>");
                match plain.last_mut() {
                    Some((_, before)) if after_tool => *before = format!("{before}\n{response}"),
                    _ => plain.push((Role::User, response)),
                }
            }
            role => plain.push((role, text_with_calls(text, &message.tool_calls, write))),
        }
        after_tool = message.role == Role::Tool;
    }
    if !tools.is_empty() {
        let description = description(tools, write);
        let joined = |before: &str| format!("{before}\n\n{description}");
        match plain.first_mut() {
            Some((Role::System, text)) => *text = joined(text),
            _ if manner.takes_system => plain.insert(0, (Role::System, description)),
            Some((Role::User, text)) => *text = format!("{description}\n\n{text}"),
            _ => plain.insert(0, (Role::User, description)),
        }
    }
    let message = |(role, text): (Role, String)| {
        Value::from_pairs([("role", Value::from(role.as_str())), ("content", Value::from(text))])
    };
    plain.into_iter().map(message).collect()
}

fn text_with_calls(mut text: String, calls: &[ToolCall], write: Write<'_>) -> String {
    for call in calls {
        if !text.is_empty() {
            text.push('\n');
        }
        let name = python_json(&json!(call.name), &mut |text| write(text, Whose::Anybody));
        let arguments = match arguments(call) {
            Some(value) => python_json(&value, &mut |text| write(text, Whose::Anybody)),
            None => write(&call.arguments, Whose::Anybody),
        };
        text += &format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>");
    }
    text
}

/// What a model is told that knows no tools from its template, as Hermes and Qwen2.5 are told it.
fn description(tools: &[Tool], write: Write<'_>) -> String {
    let mut anybody = |text: &str| write(text, Whose::Anybody);
    let lines: String = tools.iter().map(|tool| python_json(&definition(tool), &mut anybody) + "\n").collect();
    format!(
        "You may call functions to help with what the user asks. These are their signatures, in <tools></tools> \
         tags:\n<tools>\n{lines}</tools>\nTo call one, write a JSON object with its name and its arguments in \
         <tool_call></tool_call> tags:\n<tool_call>\n{{\"name\": <function-name>, \"arguments\": \
         <args-json-object>}}\n</tool_call>"
    )
}
