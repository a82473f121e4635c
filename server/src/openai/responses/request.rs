//! What is asked for a response, and what of it is refused.

use std::collections::BTreeMap;

use motorbrain::chat::{ChatRequest, Format, Message, Tool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    answer::{Reasoning, Response},
    input::{InputSent, messages},
};
use crate::{
    error::ApiError,
    openai::{
        chat::{
            request::{TOP_MAX, unserved},
            tools::{ChoiceSent, choice},
        },
        sampling::{Choosing, only},
    },
};

/// Log-probabilities are asked for by this word.
pub(crate) const LOGPROBS: &str = "message.output_text.logprobs";

/// Bounds on what is sent along and given back: pairs, characters of a key and of a value.
pub(crate) const METADATA: (usize, usize, usize) = (16, 64, 512);

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResponseRequest)]
pub(crate) struct Request {
    /// One of the served names.
    pub(super) model: String,
    /// A text, or items: messages, calls of functions and what these gave.
    input: InputSent,
    /// What stands before all that was said; of this response alone.
    instructions: Option<String>,
    /// The response that this one follows.
    previous_response_id: Option<String>,
    tools: Option<Vec<FlatTool>>,
    tool_choice: Option<ChoiceSent>,
    parallel_tool_calls: Option<bool>,
    text: Option<TextSent>,
    /// Left out, 1; 0 takes the most likely token.
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_output_tokens: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<Unpadded>,
    /// Whether it is remembered, for `previous_response_id`; left out, it is.
    store: Option<bool>,
    /// Only `message.output_text.logprobs`.
    include: Option<Vec<String>>,
    /// How many of the most likely tokens are listed beside each, 0 to 20; needs that word in `include`.
    top_logprobs: Option<usize>,
    /// Only `disabled`: a chat that is longer than the window is refused.
    truncation: Option<String>,
    /// Only `false`.
    background: Option<bool>,
    /// Only `auto` and `default`.
    service_tier: Option<String>,
    /// Given back with the response: at most 16 texts of 512 characters.
    metadata: Option<BTreeMap<String, String>>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    user: Option<String>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    safety_identifier: Option<String>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    prompt_cache_key: Option<String>,
}

/// A function.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResponseTool)]
pub(crate) struct FlatTool {
    /// `function`.
    r#type: String,
    name: Option<String>,
    description: Option<String>,
    /// The JSON schema of its arguments.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Arguments keep to the schema whatever is said here.
    strict: Option<bool>,
}

/// What the text of an answer may be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextSent {
    format: Option<FlatFormat>,
    /// Not served.
    verbosity: Option<String>,
}

/// A format with its schema beside its name.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlatFormat {
    /// `text`, `json_object` or `json_schema`.
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// How a stream is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unpadded {
    /// Only `false`: events are not padded.
    include_obfuscation: Option<bool>,
}

/// A request that can be meant.
pub(super) struct Asking {
    /// What is asked of the chat, but for its messages.
    pub(super) chat: ChatRequest,
    pub(super) previous: Option<String>,
    pub(super) instructions: Option<Message>,
    pub(super) input: Vec<Message>,
    pub(super) store: bool,
    pub(super) stream: bool,
    /// The answer without an id and a word.
    pub(super) response: Response,
}

impl Request {
    /// What can be meant of it. `count_max`: tokens that may be sampled.
    ///
    /// # Errors
    /// What cannot, and what is not served.
    pub(super) fn asking(self, count_max: usize) -> Result<Asking, ApiError> {
        only("background", self.background, false)?;
        only("truncation", self.truncation.as_deref(), "disabled")?;
        only("stream_options.include_obfuscation", self.stream_options.and_then(|it| it.include_obfuscation), false)?;
        unserved(self.service_tier.as_deref(), None)?;
        let metadata = checked(self.metadata)?;
        if let Some(found) = self.max_output_tokens.filter(|found| *found == 0 || *found > count_max) {
            return Err(ApiError::invalid("max_output_tokens", found, format!("1 to {count_max} (`limits.count`)")));
        }
        let choosing = Choosing { temperature: self.temperature, top_p: self.top_p, ..Choosing::default() };
        let tool_choice = json!(&self.tool_choice);
        let flat = self.tools.unwrap_or_default();
        let (format, text) = format(self.text)?;
        let chat = ChatRequest {
            tools: flat.iter().enumerate().map(tool).collect::<Result<_, _>>()?,
            tool_choice: choice(self.tool_choice)?,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            format,
            count: self.max_output_tokens,
            sampling: choosing.sampling()?,
            top: top(self.include, self.top_logprobs)?,
            ..ChatRequest::new(Vec::new())
        };
        let response = Response {
            model: self.model,
            instructions: self.instructions.clone(),
            previous_response_id: self.previous_response_id.clone(),
            max_output_tokens: self.max_output_tokens,
            metadata,
            parallel_tool_calls: chat.parallel_tool_calls,
            temperature: chat.sampling.temperature,
            top_p: chat.sampling.top_p,
            tool_choice: if tool_choice.is_null() { json!("auto") } else { tool_choice },
            tools: flat,
            text,
            store: self.store.unwrap_or(true),
            top_logprobs: self.top_logprobs.unwrap_or(0),
            reasoning: Reasoning::default(),
            ..Response::default()
        };
        Ok(Asking {
            chat,
            previous: self.previous_response_id,
            instructions: self.instructions.map(Message::system),
            input: messages(self.input)?,
            store: response.store,
            stream: self.stream.unwrap_or(false),
            response,
        })
    }
}

fn tool((index, sent): (usize, &FlatTool)) -> Result<Tool, ApiError> {
    let key = |key: &str| format!("tools[{index}].{key}");
    if sent.r#type != "function" {
        return Err(ApiError::unsupported(&key("type"), "tools are functions"));
    }
    let name = sent.name.clone().ok_or_else(|| ApiError::invalid(&key("name"), "missing", "a function's name"))?;
    let parameters = sent.parameters.clone().unwrap_or(Value::Null);
    Ok(Tool { name, description: sent.description.clone(), parameters })
}

/// What the text may be, and how the answer says it.
fn format(sent: Option<TextSent>) -> Result<(Format, Value), ApiError> {
    let Some(TextSent { format, verbosity }) = sent else { return Ok((Format::Text, text_format())) };
    if verbosity.is_some_and(|verbosity| verbosity != "medium") {
        return Err(ApiError::unsupported("text.verbosity", "say it in the instructions"));
    }
    let Some(flat) = format else { return Ok((Format::Text, text_format())) };
    let format = match (flat.r#type.as_str(), &flat.schema) {
        ("text", None) => Format::Text,
        ("json_object", None) => Format::JsonObject,
        ("json_schema", Some(schema)) => Format::JsonSchema(schema.clone()),
        ("json_schema", None) => return Err(ApiError::invalid("text.format.schema", "missing", "a JSON schema")),
        ("text" | "json_object", Some(_)) => {
            return Err(ApiError::invalid("text.format.schema", "given", "none where `type` is not `json_schema`"));
        }
        (other, _) => {
            let found = format!("{:?}", other.chars().take(40).collect::<String>());
            return Err(ApiError::invalid("text.format.type", found, "`text`, `json_object` or `json_schema`"));
        }
    };
    Ok((format, json!({ "format": flat })))
}

fn text_format() -> Value {
    json!({"format": {"type": "text"}})
}

fn top(include: Option<Vec<String>>, top: Option<usize>) -> Result<Option<usize>, ApiError> {
    let include = include.unwrap_or_default();
    if let Some(other) = include.iter().find(|word| *word != LOGPROBS) {
        let found = format!("{:?}", other.chars().take(60).collect::<String>());
        return Err(ApiError::invalid("include", found, format!("only {LOGPROBS:?}")));
    }
    match (include.is_empty(), top) {
        (_, Some(found)) if found > TOP_MAX => {
            Err(ApiError::invalid("top_logprobs", found, format!("at most {TOP_MAX}")))
        }
        (false, top) => Ok(Some(top.unwrap_or(0))),
        (true, None | Some(0)) => Ok(None),
        (true, Some(_)) => {
            Err(ApiError::invalid("top_logprobs", "given", format!("none where `include` lacks {LOGPROBS:?}")))
        }
    }
}

/// What is given back is remembered, too, so it is bounded as OpenAI's is.
fn checked(metadata: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, String>, ApiError> {
    let metadata = metadata.unwrap_or_default();
    let (pairs, key_chars, value_chars) = METADATA;
    let long =
        |(key, value): (&String, &String)| key.chars().count() > key_chars || value.chars().count() > value_chars;
    if metadata.len() > pairs || metadata.iter().any(long) {
        let expected = format!("at most {pairs} keys of {key_chars} characters with texts of {value_chars}");
        return Err(ApiError::invalid("metadata", "too large", expected));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// Asks with these keys besides the model and an input.
    fn asking(keys: &str) -> Result<Asking, ApiError> {
        let json = format!(r#"{{"model":"m","input":"x"{keys}}}"#);
        crate::body::parse::<Request>(json.as_bytes())?.asking(100)
    }

    fn check(keys: &str, code: &str, param: &str) {
        let Err(refused) = asking(keys) else { panic!("{keys} is taken") };
        assert_eq!((refused.code, refused.param.as_deref()), (code, Some(param)), "{keys}: {}", refused.message);
    }

    #[test]
    fn what_is_left_out_is_as_openais_is() {
        let asked = asking("").unwrap();
        assert!(asked.store && !asked.stream && asked.previous.is_none() && asked.instructions.is_none());
        assert_eq!(asked.input, [Message::user("x")]);
        assert_eq!((asked.response.temperature, asked.response.tool_choice), (1.0, json!("auto")));
        assert!(asking(r#","truncation":"disabled","background":false,"service_tier":"auto","tools":null"#).is_ok());
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_name() {
        check(r#","truncation":"auto""#, "unsupported_parameter", "truncation");
        check(r#","background":true"#, "unsupported_parameter", "background");
        check(r#","reasoning":{"effort":"low"}"#, "unsupported_parameter", "reasoning");
        check(r#","conversation":"c""#, "unsupported_parameter", "conversation");
        check(r#","tools":[{"type":"web_search"}]"#, "unsupported_parameter", "tools[0].type");
        check(r#","tools":[{"type":"function"}]"#, "invalid_value", "tools[0].name");
        check(r#","include":["reasoning.encrypted_content"]"#, "invalid_value", "include");
        check(r#","top_logprobs":1"#, "invalid_value", "top_logprobs");
        check(r#","max_output_tokens":0"#, "invalid_value", "max_output_tokens");
        check(r#","text":{"verbosity":"low"}"#, "unsupported_parameter", "text.verbosity");
        check(r#","text":{"format":{"type":"json_schema","name":"n"}}"#, "invalid_value", "text.format.schema");
        let long = format!(r#","metadata":{{"a":"{}"}}"#, "x".repeat(513));
        check(&long, "invalid_value", "metadata");
    }
}
