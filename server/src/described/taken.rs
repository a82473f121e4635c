//! What values requests may have beyond their types, by the names of schemas and their keys. The constants are those that the
//! brain judges by.
//!
//! It says all that a schema can. What it cannot: lengths in bytes (a character has at most four), the size of a whole input,
//! that names of tools and ids of biases differ, that a chosen tool is one of those told, of what JSON schemas and languages a
//! grammar is made, and what depends on the brain's state.

use motorbrain::chat::{RESERVED, TOOL_NAME_BYTES_MAX, TOOLS_MAX};
use motorbrain_actors::{
    message::{N_MAX, PARTS_MAX},
    policy::{LIST_MAX, LOGIT_BIAS_MAX, NAME_BYTES_MAX, TOP_MAX},
    rerank::DOCUMENTS_MAX,
    text::{STOP_BYTES_MAX, STOPS_MAX},
    vectors::DIM_MIN,
};
use motorbrain_protocol::MS_MAX;
use serde_json::{Value, json};

use super::FLOAT_MAX;
use crate::openai::{
    chat::request::TOP_MAX as LOGPROBS_MAX,
    responses::request::{LOGPROBS, METADATA},
};

/// What is known of the model and the settings alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Rows of the vocabulary.
    pub(crate) vocab: usize,
    /// Numbers of a vector.
    pub(crate) hidden: usize,
    /// Tokens that a request may have sampled.
    pub(crate) count: usize,
    /// Inputs of one request.
    pub(crate) inputs: usize,
    /// Whether something stands before each text, so that it may be empty.
    pub(crate) opens: bool,
}

/// What is laid over the schemas of parameters, by their names.
pub(super) fn of_parameters() -> Value {
    json!({
        "name": {"maxLength": NAME_BYTES_MAX},
        "limit": {"minimum": 1, "maximum": LIST_MAX},
    })
}

/// What is laid over the schemas.
pub(super) fn taken(sizes: &Sizes) -> Value {
    let mut all = Value::Null;
    for part in [shared(sizes), brain(sizes), completions(sizes), chats(sizes), responses(sizes)] {
        super::merge(&mut all, part);
    }
    all
}

/// What several requests have.
fn shared(sizes: &Sizes) -> Value {
    json!({
        "TokenId": {"maximum": sizes.vocab.saturating_sub(1)},
        "Texts": {"minLength": 1, "maxLength": STOP_BYTES_MAX, "maxItems": STOPS_MAX, "items": stop()},
    })
}

/// The brain's own interface.
fn brain(sizes: &Sizes) -> Value {
    let deadline = json!({"minimum": 1, "maximum": MS_MAX});
    let name = json!({"maxLength": NAME_BYTES_MAX});
    let choice = json!({"maximum": N_MAX - 1});
    let ids = json!({"minItems": 1});
    let is_something = json!({"properties": {"text": text(), "literal": text(), "token_ids": ids}});
    let parts = json!({"minItems": 1, "maxItems": PARTS_MAX, "contains": is_something});
    let input = json!({"text": text(), "token_ids": ids, "parts": parts});
    let dim = json!({"minimum": DIM_MIN, "maximum": sizes.hidden});
    // Whoever shares with nobody names no scope.
    let sharing = json!({"not": {"required": ["share", "scope"], "properties": {"share": {"const": false}}}});
    let one_input = one_of(&["text", "token_ids", "parts"]);
    let no_input = json!({"text": false, "token_ids": false, "parts": false});

    let mut step_inputs = one_input.clone();
    if let Value::Array(inputs) = &mut step_inputs {
        // Nothing to read: then something is sampled, and nothing pinned.
        inputs.push(json!({"properties": laid(no_input, json!({"count": {"minimum": 1}, "pin": {"const": false}}))}));
    }
    let number = laid(json!({"type": "number"}), bias());
    let pair = json!({"prefixItems": [token_id(), number], "minItems": 2, "maxItems": 2});
    let several = json!({"temperature": {"exclusiveMinimum": 0}, "count": {"minimum": 1}, "stream": {"const": false}});
    let step = json!({
        "count": {"maximum": sizes.count},
        "top": {"maximum": TOP_MAX},
        "stop": {"maxItems": STOPS_MAX, "items": stop()},
        "n": {"minimum": 1, "maximum": N_MAX},
        "logit_bias": {"maxItems": LOGIT_BIAS_MAX, "items": pair, "uniqueItems": true},
        "choice": choice, "scope": name, "deadline_ms": deadline,
    });
    let one_or_several = json!([one_answer(), {"required": ["temperature"], "properties": several}]);
    // A vector for each piece is that of a text.
    let no_ids = json!({"properties": {"token_ids": false}});
    let texts = json!({"pieces": {"const": "each"}, "token_ids": false, "parts": {"items": no_ids}});
    let whole_or_each = json!([
        {"properties": {"pieces": {"const": "whole"}, "piece_tokens": false}},
        {"required": ["pieces"], "properties": texts},
    ]);
    let vector = json!({"dim": dim, "scope": name, "deadline_ms": deadline});
    json!({
        "Part": {"oneOf": one_of(&["text", "literal", "token_ids"])},
        "Grammars": {
            "properties": {
                "json_schema": {"type": ["object", "boolean"]}, "regex": {"format": "regex"},
                "choice": {"minItems": 1, "items": text()},
            },
            "oneOf": one_of(&["json_schema", "regex", "lark", "choice"]),
        },
        "Steps": {
            "properties": laid(laid(input.clone(), step), sampling()),
            "allOf": [{"oneOf": step_inputs}, {"anyOf": one_or_several}, sharing],
        },
        "Embeds": {
            "properties": laid(laid(input.clone(), vector.clone()), json!({"choice": choice})),
            "allOf": [{"oneOf": one_input}, sharing],
        },
        "EmbedsAlone": {
            "properties": laid(laid(input.clone(), vector), json!({"piece_tokens": {"minimum": 1}})),
            "allOf": [{"oneOf": one_input}, {"anyOf": whole_or_each}, sharing],
        },
        "Scores": {
            "properties": laid(
                input,
                json!({"top": {"maximum": TOP_MAX}, "choice": choice, "scope": name, "deadline_ms": deadline}),
            ),
            "allOf": [{"oneOf": one_input}, sharing],
        },
        "Forks": {"properties": {"to": name, "choice": choice, "deadline_ms": deadline}},
        "Rewinds": {"properties": {"deadline_ms": deadline}},
        "Reranks": {
            "properties": {
                "query": text(), "documents": {"minItems": 1, "maxItems": DOCUMENTS_MAX},
                "scope": name, "deadline_ms": deadline,
            },
            "allOf": [sharing],
        },
        "Tokenizes": {
            "properties": {"parts": {"maxItems": PARTS_MAX}, "deadline_ms": deadline},
            "oneOf": one_of(&["text", "parts"]),
        },
        "Detokenizes": {"properties": {"deadline_ms": deadline}},
        "Hangs": {"properties": {"ms": {"maximum": MS_MAX}}},
        "Templated": {
            "properties": {"messages": {"minItems": 1}, "chat_template_kwargs": variables(), "tools": tools()},
        },
    })
}

/// OpenAI's completions and embeddings.
fn completions(sizes: &Sizes) -> Value {
    let inputs = |chars_min: usize| {
        let text = json!({"type": "string", "minLength": chars_min});
        let ids = json!({"type": "array", "items": token_id(), "minItems": 1});
        let many = |of: &Value| json!({"type": "array", "items": of, "minItems": 1, "maxItems": sizes.inputs});
        json!({"oneOf": [text, many(&text), ids, many(&ids)]})
    };
    let several = json!({
        "temperature": {"exclusiveMinimum": 0}, "max_tokens": {"minimum": 1}, "stream": {"enum": [false, null]},
    });
    // A prompt whose log-probabilities are told is read before its answer, for which nothing is left to read.
    let read_before = json!({
        "required": ["echo", "logprobs", "max_tokens"],
        "properties": {"echo": {"const": true}, "logprobs": {"type": "integer"}, "max_tokens": {"const": 0}},
    });
    let request = json!({
        "max_tokens": {"maximum": sizes.count},
        "n": {"minimum": 1, "maximum": N_MAX},
        "logprobs": {"maximum": LOGPROBS_MAX},
        "logit_bias": biases(),
        "best_of": {"enum": [1, null]},
        "suffix": {"maxLength": 0},
    });
    json!({
        "Prompts": inputs(usize::from(!sizes.opens)),
        "Inputs": inputs(1),
        "CompletionRequest": {
            "properties": laid(request, sampling()),
            "allOf": [{"anyOf": [one_answer(), {"properties": several}]}, {"anyOf": streamed()}, {"not": read_before}],
        },
        "EmbeddingRequest": {"properties": {"dimensions": {"minimum": DIM_MIN, "maximum": sizes.hidden}}},
    })
}

/// OpenAI's chats.
fn chats(sizes: &Sizes) -> Value {
    let nothing = json!({"type": "null"});
    let count = json!({"minimum": 1, "maximum": sizes.count});
    let several = json!({"temperature": {"exclusiveMinimum": 0}});
    let request = json!({
        "messages": {"minItems": 1},
        "tools": tools(),
        "max_completion_tokens": count, "max_tokens": count,
        "n": {"minimum": 1, "maximum": N_MAX},
        "logit_bias": biases(),
        "top_logprobs": {"maximum": LOGPROBS_MAX},
        "conversation": {"maxLength": NAME_BYTES_MAX},
        "chat_template_kwargs": variables(),
        "store": {"enum": [false, null]},
        "service_tier": tier(),
        "modalities": {"items": {"const": "text"}},
    });
    let told = json!([
        {"properties": {"top_logprobs": {"enum": [0, null]}}},
        {"required": ["logprobs"], "properties": {"logprobs": {"const": true}}},
    ]);
    json!({
        "ChatRequest": {
            "properties": laid(request, sampling()),
            "allOf": [
                {"anyOf": [one_answer(), {"properties": several}]},
                {"anyOf": streamed()}, {"anyOf": told}, {"anyOf": chosen()},
            ],
        },
        "ChatMessage": {"properties": {
            "role": role(),
            "refusal": nothing, "audio": nothing, "function_call": nothing,
            "annotations": {"maxItems": 0},
        }},
        "ContentPart": {
            "required": ["type", "text"],
            "properties": {
                "type": {"enum": ["text", "input_text", "output_text"]},
                "text": {"type": "string"},
                "annotations": {}, "logprobs": {}, "parsed": {},
            },
            "additionalProperties": false,
        },
        "ToolCallSent": {"properties": {"type": {"enum": ["function", null]}}},
        "ToolSent": {"properties": {"type": {"const": "function"}}},
        "FunctionSent": {"properties": {"name": tool_name(), "parameters": parameters()}},
        "ChoiceSent": {"oneOf": [
            {"type": "string", "enum": ["none", "auto", "required"]},
            {"$ref": "#/components/schemas/ChosenTool"},
        ]},
        "ChosenTool": {
            "properties": {"type": {"const": "function"}},
            "anyOf": [
                {"required": ["function"], "properties": {"function": {"type": "object"}}},
                {"required": ["name"], "properties": {"name": {"type": "string"}}},
            ],
        },
        "FormatSent": {"oneOf": formats("json_schema")},
        "SchemaSent": {"required": ["name", "schema"], "properties": {"schema": {"type": "object"}}},
    })
}

/// OpenAI's responses.
fn responses(sizes: &Sizes) -> Value {
    let (pairs, key_chars, value_chars) = METADATA;
    let sampling = sampling();
    let told = json!([
        {"properties": {"top_logprobs": {"enum": [0, null]}}},
        {"required": ["include"], "properties": {"include": {"type": "array", "minItems": 1}}},
    ]);
    json!({
        "ResponseRequest": {
            "properties": {
                "tools": tools(),
                "temperature": sampling["temperature"], "top_p": sampling["top_p"],
                "max_output_tokens": {"minimum": 1, "maximum": sizes.count},
                "include": {"items": {"const": LOGPROBS}},
                "top_logprobs": {"maximum": LOGPROBS_MAX},
                "truncation": {"enum": ["disabled", null]},
                "background": {"enum": [false, null]},
                "service_tier": tier(),
                "metadata": {
                    "maxProperties": pairs,
                    "propertyNames": {"maxLength": key_chars}, "additionalProperties": {"maxLength": value_chars},
                },
            },
            "allOf": [{"anyOf": told}, {"anyOf": chosen()}],
        },
        "ResponseInput": {"minItems": 1},
        "MessageItem": {"properties": {"type": {"enum": ["message", null]}, "role": role()}},
        "CallItem": {"properties": {"type": {"const": "function_call"}}},
        "OutputItem": {"properties": {"type": {"const": "function_call_output"}}},
        "ResponseTool": {
            "required": ["type", "name"],
            "properties": {
                "type": {"const": "function"},
                "name": laid(json!({"type": "string"}), tool_name()),
                "parameters": parameters(),
            },
        },
        "TextSent": {"properties": {"verbosity": {"enum": ["medium", null]}}},
        "FlatFormat": {"oneOf": formats("schema")},
        "Unpadded": {"properties": {"include_obfuscation": {"enum": [false, null]}}},
    })
}

/// How tokens are chosen, as all requests that choose any say it.
fn sampling() -> Value {
    json!({
        "temperature": {"minimum": 0, "maximum": FLOAT_MAX},
        "top_p": {"exclusiveMinimum": 0, "maximum": 1},
        "min_p": {"minimum": 0, "maximum": 1},
        "repetition_penalty": {"exclusiveMinimum": 0, "maximum": FLOAT_MAX},
        "presence_penalty": {"minimum": -2, "maximum": 2},
        "frequency_penalty": {"minimum": -2, "maximum": 2},
    })
}

fn bias() -> Value {
    json!({"minimum": -100, "maximum": 100})
}

/// The same by token id.
fn biases() -> Value {
    json!({"maxProperties": LOGIT_BIAS_MAX, "propertyNames": {"pattern": "^[0-9]+$"}, "additionalProperties": bias()})
}

fn token_id() -> Value {
    json!({"$ref": "#/components/schemas/TokenId"})
}

/// A text of which there is something.
fn text() -> Value {
    json!({"minLength": 1})
}

fn stop() -> Value {
    json!({"minLength": 1, "maxLength": STOP_BYTES_MAX})
}

fn one_answer() -> Value {
    json!({"properties": {"n": {"maximum": 1}}})
}

/// How a stream is written is said where there is one.
fn streamed() -> Value {
    json!([
        {"properties": {"stream_options": {"type": "null"}}},
        {"required": ["stream"], "properties": {"stream": {"const": true}}},
    ])
}

/// A tool is chosen where there are some.
fn chosen() -> Value {
    json!([
        {"properties": {"tool_choice": {"enum": ["none", "auto", null]}}},
        {"required": ["tools"], "properties": {"tools": {"type": "array", "minItems": 1}}},
    ])
}

fn role() -> Value {
    json!({"enum": ["system", "developer", "user", "assistant", "tool"]})
}

fn tier() -> Value {
    json!({"enum": ["auto", "default", null]})
}

fn tools() -> Value {
    json!({"maxItems": TOOLS_MAX, "uniqueItems": true})
}

fn tool_name() -> Value {
    json!({"pattern": "^[A-Za-z0-9_./:-]+$", "minLength": 1, "maxLength": TOOL_NAME_BYTES_MAX})
}

/// A JSON schema of an object.
fn parameters() -> Value {
    json!({"properties": {"type": {"const": "object"}}})
}

/// A template's variables, but for those that it is given anyway.
fn variables() -> Value {
    json!({"propertyNames": {"not": {"enum": RESERVED}}})
}

/// What an answer's text may be; a JSON schema stands under this key.
fn formats(schema: &str) -> Value {
    json!([
        {"properties": {"type": {"enum": ["text", "json_object"]}, schema: {"type": "null"}}},
        {"properties": {"type": {"const": "json_schema"}, schema: {"type": "object"}}, "required": [schema]},
    ])
}

/// Exactly one of these keys.
fn one_of(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({"required": [key]})).collect()
}

/// Both together.
fn laid(mut under: Value, over: Value) -> Value {
    super::merge(&mut under, over);
    under
}
