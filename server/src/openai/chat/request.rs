//! What is asked for a chat, and what of it is refused.

use std::collections::BTreeMap;

use motorbrain::{
    ConversationId,
    chat::{ChatRequest, Format},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    messages::{MessageSent, messages},
    tools::{ChoiceSent, ToolSent, choice, tools},
};
use crate::{
    error::ApiError,
    openai::{
        sampling::{Choosing, Texts, only, seed, stops},
        usage::StreamOptions,
    },
};

/// The most alternatives that are listed for a token.
pub(crate) const TOP_MAX: usize = 20;

/// What is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatRequest)]
pub(crate) struct Request {
    /// One of the served names.
    pub(super) model: String,
    messages: Vec<MessageSent>,
    tools: Option<Vec<ToolSent>>,
    tool_choice: Option<ChoiceSent>,
    /// Whether one answer may call several tools; left out, it may.
    parallel_tool_calls: Option<bool>,
    response_format: Option<FormatSent>,
    /// The most tokens of an answer; left out, what is left of the window.
    max_completion_tokens: Option<usize>,
    /// The older name of that.
    max_tokens: Option<usize>,
    /// Left out, 1; 0 takes the most likely token.
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Beyond OpenAI's.
    top_k: Option<usize>,
    /// Beyond OpenAI's.
    min_p: Option<f64>,
    /// Beyond OpenAI's.
    repetition_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    /// By token id.
    logit_bias: Option<BTreeMap<String, f64>>,
    seed: Option<i64>,
    stop: Option<Texts>,
    /// How many answers; more than one are drawn.
    n: Option<usize>,
    /// Whether each token's log-probability is told.
    logprobs: Option<bool>,
    /// How many of the most likely tokens are listed beside each, 0 to 20; needs `logprobs`.
    top_logprobs: Option<usize>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Beyond OpenAI's: the name of a conversation that holds this chat between its requests, for chats alone.
    conversation: Option<String>,
    /// Beyond OpenAI's: further variables for the model's template.
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// Beyond OpenAI's: documents for templates that know of them.
    documents: Option<Vec<Value>>,
    /// Only `false`: no chat is kept.
    store: Option<bool>,
    /// Only `auto` and `default`.
    service_tier: Option<String>,
    /// Only `["text"]`.
    modalities: Option<Vec<String>>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    user: Option<String>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    safety_identifier: Option<String>,
    /// Means nothing here: what is read is found by what it is.
    #[expect(dead_code, reason = "taken and not used")]
    prompt_cache_key: Option<String>,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What an answer's text may be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormatSent {
    /// `text`, `json_object` or `json_schema`.
    r#type: String,
    json_schema: Option<SchemaSent>,
}

/// A JSON schema with its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaSent {
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    name: String,
    /// Means nothing here.
    #[expect(dead_code, reason = "taken and not used")]
    description: Option<String>,
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// The answer keeps to the schema whatever is said here.
    #[expect(dead_code, reason = "taken and not used")]
    strict: Option<bool>,
}

/// A request that can be meant.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) chat: ChatRequest,
    pub(super) stream: bool,
    /// Whether a stream tells it.
    pub(super) usage: bool,
}

impl Request {
    /// What can be meant of it. `count_max`: tokens that may be sampled.
    ///
    /// # Errors
    /// What cannot, and what is not served.
    pub(super) fn asking(self, count_max: usize) -> Result<Asking, ApiError> {
        only("store", self.store, false)?;
        unserved(self.service_tier.as_deref(), self.modalities.as_deref())?;
        let stream = self.stream.unwrap_or(false);
        if self.stream_options.is_some() && !stream {
            return Err(ApiError::invalid("stream_options", "given", "none where `stream` is not true"));
        }
        let choosing = Choosing {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
        };
        let chat = ChatRequest {
            conversation: self.conversation.map(ConversationId::from),
            tools: tools(self.tools.unwrap_or_default())?,
            tool_choice: choice(self.tool_choice)?,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            documents: self.documents.unwrap_or_default(),
            variables: self.chat_template_kwargs.unwrap_or_default(),
            format: format(self.response_format)?,
            count: count(self.max_completion_tokens, self.max_tokens, count_max)?,
            sampling: choosing.sampling()?,
            seed: seed(self.seed),
            stop: stops(self.stop),
            top: top(self.logprobs, self.top_logprobs)?,
            n: self.n.unwrap_or(1),
            ..ChatRequest::new(messages(self.messages)?)
        };
        Ok(Asking { chat, stream, usage: StreamOptions::usage(self.stream_options) })
    }
}

/// Words that mean what is done anyway are taken.
pub(crate) fn unserved(service_tier: Option<&str>, modalities: Option<&[String]>) -> Result<(), ApiError> {
    if service_tier.is_some_and(|tier| !matches!(tier, "auto" | "default")) {
        return Err(ApiError::unsupported("service_tier", "only \"auto\" may be said"));
    }
    if modalities.is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")) {
        return Err(ApiError::unsupported("modalities", "this model writes texts alone"));
    }
    Ok(())
}

fn count(new: Option<usize>, old: Option<usize>, most: usize) -> Result<Option<usize>, ApiError> {
    let (key, found) = match (new, old) {
        (Some(new), Some(old)) if new != old => {
            return Err(ApiError::invalid("max_tokens", "given beside `max_completion_tokens`", "one of the two"));
        }
        (Some(new), _) => ("max_completion_tokens", new),
        (None, Some(old)) => ("max_tokens", old),
        (None, None) => return Ok(None),
    };
    match found {
        0 => Err(ApiError::invalid(key, found, "1 or more")),
        found if found > most => Err(ApiError::invalid(key, found, format!("at most {most} (`limits.count`)"))),
        found => Ok(Some(found)),
    }
}

fn top(logprobs: Option<bool>, top: Option<usize>) -> Result<Option<usize>, ApiError> {
    match (logprobs.unwrap_or(false), top) {
        (_, Some(found)) if found > TOP_MAX => {
            Err(ApiError::invalid("top_logprobs", found, format!("at most {TOP_MAX}")))
        }
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::invalid("top_logprobs", "given", "none where `logprobs` is not true")),
    }
}

fn format(sent: Option<FormatSent>) -> Result<Format, ApiError> {
    let Some(FormatSent { r#type, json_schema }) = sent else { return Ok(Format::Text) };
    let missing = || ApiError::invalid("response_format.json_schema.schema", "missing", "a JSON schema");
    match (r#type.as_str(), json_schema) {
        ("text", None) => Ok(Format::Text),
        ("json_object", None) => Ok(Format::JsonObject),
        ("json_schema", Some(schema)) => Ok(Format::JsonSchema(schema.schema.ok_or_else(missing)?)),
        ("json_schema", None) => Err(missing()),
        ("text" | "json_object", Some(_)) => {
            Err(ApiError::invalid("response_format.json_schema", "given", "none where `type` is not `json_schema`"))
        }
        (other, _) => {
            let found = format!("{:?}", other.chars().take(40).collect::<String>());
            Err(ApiError::invalid("response_format.type", found, "`text`, `json_object` or `json_schema`"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use motorbrain::{Sampling, chat::ToolChoice};

    use super::*;

    /// Asks with these keys besides the model and a message.
    fn asking(keys: &str) -> Result<Asking, ApiError> {
        let json = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{keys}}}"#);
        crate::body::parse::<Request>(json.as_bytes())?.asking(100)
    }

    fn check(keys: &str, code: &str, param: &str) {
        let refused = asking(keys).expect_err(keys);
        assert_eq!((refused.code, refused.param.as_deref()), (code, Some(param)), "{keys}: {}", refused.message);
    }

    #[test]
    fn what_is_left_out_is_as_openais_is() {
        let chat = asking("").unwrap().chat;
        assert_eq!(chat.sampling, Sampling { temperature: 1.0, ..Sampling::GREEDY });
        assert_eq!((chat.count, chat.top, chat.n, chat.tool_choice), (None, None, 1, ToolChoice::Auto));
        let all_null = r#","tools":null,"stop":null,"seed":null,"response_format":null,"max_tokens":null,"store":null"#;
        assert!(asking(all_null).is_ok());
    }

    #[test]
    fn what_changes_nothing_may_be_said() {
        let harmless = r#","user":"me","metadata":{"a":"b"},"store":false,"service_tier":"auto","modalities":["text"],
            "prompt_cache_key":"k","safety_identifier":"s","stream":true,"stream_options":{"include_usage":true}"#;
        let asking = asking(harmless).unwrap();
        assert!(asking.stream && asking.usage);
    }

    #[test]
    fn what_is_not_served_is_refused_by_its_name() {
        check(r#","store":true"#, "unsupported_parameter", "store");
        check(r#","service_tier":"flex""#, "unsupported_parameter", "service_tier");
        check(r#","modalities":["audio"]"#, "unsupported_parameter", "modalities");
        check(r#","prediction":{}"#, "unsupported_parameter", "prediction");
        check(r#","functions":[]"#, "unsupported_parameter", "functions");
        check(r#","tools":[{"type":"web_search","function":{"name":"f"}}]"#, "unsupported_parameter", "tools[0].type");
        check(r#","top_logprobs":21,"logprobs":true"#, "invalid_value", "top_logprobs");
        check(r#","top_logprobs":2"#, "invalid_value", "top_logprobs");
        check(r#","max_tokens":1,"max_completion_tokens":2"#, "invalid_value", "max_tokens");
        check(r#","max_tokens":0"#, "invalid_value", "max_tokens");
        check(r#","max_completion_tokens":101"#, "invalid_value", "max_completion_tokens");
        check(r#","response_format":{"type":"xml"}"#, "invalid_value", "response_format.type");
        check(r#","response_format":{"type":"json_schema"}"#, "invalid_value", "response_format.json_schema.schema");
        check(r#","tool_choice":"any""#, "invalid_value", "tool_choice");
        check(r#","temperature":"hot""#, "invalid_type", "temperature");
    }
}
