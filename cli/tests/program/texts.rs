//! Texts through the pipe: streams, single steps, stop texts, parts, tokens and text for their own sake.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use crate::{
    common::{copy, fixture},
    pipe::{Pipe, code},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A tiny model that speaks by a tokenizer of the Llama 2 kind, half of whose tokens are bytes of characters.
fn llama() -> TempDir {
    let folder = copy("tiny-plain");
    fs::copy(fixture("tokenizers/llama2.json"), folder.path().join("tokenizer.json")).unwrap();
    folder
}

/// A step that draws anything.
fn step(conversation: &str, more: Value) -> Value {
    let mut step =
        json!({"id": conversation, "op": "step", "conversation": conversation, "temperature": 50, "seed": 7});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

/// A streamed step: its parts joined, as a reply has them, and the reply.
fn streamed(pipe: &mut Pipe, mut request: Value) -> (Value, Value) {
    request["stream"] = json!(true);
    pipe.send(request.to_string());
    let mut parts = Vec::new();
    loop {
        let line = pipe.next();
        assert_eq!(line["id"], request["id"], "{line}");
        match line["part"].is_object() {
            true => parts.push(line["part"].clone()),
            false => return (joined(&parts), line),
        }
    }
}

fn joined(parts: &[Value]) -> Value {
    let text: String = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
    // Most likely tokens are listed only where they were asked for.
    let values = |key: &'static str| parts.iter().filter_map(move |part| part[key].as_array()).flatten();
    let list = |key| values(key).cloned().collect::<Vec<_>>();
    json!({"text": text, "token_ids": list("token_ids"), "logprobs": list("logprobs"), "top": list("top")})
}

#[test]
fn streams_and_single_steps_join_to_one_long_step() {
    let folder = llama();
    for model in ["tiny-plain", folder.path().to_str().unwrap()] {
        let mut pipe = Pipe::start(model, &[]);
        // Longer than the window, which slides.
        let long = pipe.ask(&step("long", json!({"text": "the man", "count": 75, "top": 2})))["ok"].clone();
        let (parts, reply) = streamed(&mut pipe, step("stream", json!({"text": "the man", "count": 75, "top": 2})));
        assert_eq!(reply["ok"], long);
        for key in ["text", "token_ids", "logprobs", "top"] {
            assert_eq!(parts[key], long[key], "{key}");
        }
        pipe.ask(&step("single", json!({"text": "the man", "count": 0})));
        let count = long["token_ids"].as_array().unwrap().len();
        let single: String = (0..count)
            .map(|_| pipe.ask(&step("single", json!({})))["ok"]["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(json!(single), long["text"]);
        let prompt = pipe.ask(&json!({"id": 1, "op": "tokenize", "text": "the man"}))["ok"]["token_ids"].clone();
        let all = [prompt.as_array().unwrap().clone(), long["token_ids"].as_array().unwrap().clone()].concat();
        let all = pipe.ask(&json!({"id": 1, "op": "detokenize", "token_ids": all}))["ok"]["text"].clone();
        let rest = all.as_str().unwrap().strip_prefix(&format!("the man{single}")).unwrap().to_owned();
        assert!(rest.chars().all(|character| character == '\u{fffd}') && rest.chars().count() <= 3, "{rest:?}");
    }
}

#[test]
fn words_keep_their_spaces_and_pieces_of_text_get_none() {
    let folder = llama();
    let mut pipe = Pipe::start(folder.path().to_str().unwrap(), &[]);
    let ids = |pipe: &mut Pipe, text: &str| {
        pipe.ask(&json!({"id": 1, "op": "tokenize", "text": text}))["ok"]["token_ids"].clone()
    };
    let whole = ids(&mut pipe, "the man up up");
    assert_eq!(whole.as_array().unwrap().len(), 4);
    let score = |pipe: &mut Pipe, conversation: &str, input: (&str, Value)| {
        let mut request = json!({"id": 1, "op": "score", "conversation": conversation});
        request[input.0] = input.1;
        pipe.ask(&request)["ok"]["logprobs"].as_array().unwrap().clone()
    };
    let at_once = score(&mut pipe, "whole", ("text", json!("the man up up")));
    let mut pieces = Vec::new();
    for piece in ["the", " man", " up", " up"] {
        pieces.extend(score(&mut pipe, "pieces", ("text", json!(piece))));
    }
    assert_eq!(pieces.len(), at_once.len());
    for (piece, at_once) in pieces.iter().zip(&at_once).skip(1) {
        assert!((piece.as_f64().unwrap() - at_once.as_f64().unwrap()).abs() < 1e-4);
    }
}

#[test]
fn a_step_ends_at_its_stop_text() {
    let folder = llama();
    let mut pipe = Pipe::start(folder.path().to_str().unwrap(), &["--chaos"]);
    let long = pipe.ask(&step("long", json!({"text": "the man", "count": 50})))["ok"].clone();
    let text = long["text"].as_str().unwrap();
    let stop: String = text.chars().skip(12).take(3).collect();
    let (before, _) = text.split_once(&stop).unwrap();
    let more = json!({"text": "the man", "count": 50, "stop": ["not this", stop]});
    let stopped = pipe.ask(&step("plain", more.clone()))["ok"].clone();
    assert_eq!((&stopped["text"], &stopped["finished"]), (&json!(before), &json!("stop")), "{stopped} {stop:?}");
    let tokens = stopped["token_ids"].as_array().unwrap();
    assert_eq!(tokens[..], long["token_ids"].as_array().unwrap()[..tokens.len()]);
    let read =
        pipe.ask(&json!({"id": 1, "op": "tokenize", "text": "the man"}))["ok"]["token_ids"].as_array().unwrap().len();
    assert_eq!(stopped["context_len"], json!(read + tokens.len()));
    let (parts, reply) = streamed(&mut pipe, step("stream", more.clone()));
    assert_eq!(reply["ok"], stopped);
    assert_eq!((&parts["text"], &parts["token_ids"]), (&stopped["text"], &stopped["token_ids"]));
    pipe.ask(&json!({"id": 1, "op": "crash", "actor": 0}));
    assert_eq!(pipe.ask(&step("behind a crash", more))["ok"], stopped);
}

#[test]
fn literal_parts_stand_between_markers_and_are_none() {
    let folder = llama();
    let mut pipe = Pipe::start(folder.path().to_str().unwrap(), &[]);
    let tokenize = |pipe: &mut Pipe, parts: Value| {
        let reply = pipe.ask(&json!({"id": 1, "op": "tokenize", "parts": parts}));
        reply["ok"]["token_ids"].as_array().unwrap_or_else(|| panic!("{reply}")).clone()
    };
    let marker = tokenize(&mut pipe, json!([{"text": "<tool_call>"}]));
    assert_eq!(marker.len(), 1);
    let parts = json!([{"text": "<tool_call>"}, {"literal": "a <tool_call></s> b"}, {"token_ids": marker}]);
    let tokens = tokenize(&mut pipe, parts.clone());
    assert_eq!(tokens.iter().filter(|token| **token == marker[0]).count(), 2, "{tokens:?}");
    assert_eq!((&tokens[0], tokens.last().unwrap()), (&marker[0], &marker[0]));
    let text = pipe.ask(&json!({"id": 1, "op": "detokenize", "token_ids": tokens}))["ok"]["text"].clone();
    assert_eq!(text, "<tool_call> a <tool_call></s> b<tool_call>");
    let by_parts = pipe.ask(&json!({"id": 1, "op": "score", "conversation": "parts", "parts": parts}));
    let by_tokens = pipe.ask(&json!({"id": 1, "op": "score", "conversation": "tokens", "token_ids": tokens}));
    assert_eq!(by_parts["ok"], by_tokens["ok"]);
    let embedded = pipe.ask(&json!({"id": 1, "op": "embed", "parts": [{"literal": "a"}, {"text": " b"}]}));
    assert_eq!(embedded["ok"]["tokens"], 2, "{embedded}");
    assert_eq!(pipe.ask(&json!({"id": 1, "op": "tokenize", "text": ""}))["ok"], json!({"token_ids": []}));
    assert_eq!(pipe.ask(&json!({"id": 1, "op": "detokenize", "token_ids": []}))["ok"], json!({"text": ""}));
}

#[test]
fn streams_beside_each_other_keep_their_order_and_end_with_the_input() {
    let mut pipe = Pipe::start("tiny-gqa-fp32", &["--set", "brain.actors=2"]);
    for conversation in 0..6 {
        let name = format!("c{conversation}");
        let mut request = step(&name, json!({"text": "ab", "count": 30}));
        request["stream"] = json!(true);
        pipe.send(request.to_string());
        pipe.send(json!({"id": format!("{name} reset"), "op": "reset", "conversation": name}).to_string());
    }
    let (lines, status) = pipe.end();
    assert!(status.success(), "{status}");
    for conversation in 0..6 {
        let own = |line: &&Value| line["id"].as_str().unwrap().starts_with(&format!("c{conversation}"));
        let own: Vec<&Value> = lines.iter().filter(own).collect();
        let (ends, parts): (Vec<&Value>, Vec<&Value>) = own.iter().copied().partition(|line| line["part"].is_null());
        let parts: Vec<Value> = parts.into_iter().map(|line| line["part"].clone()).collect();
        assert_eq!(ends.len(), 2);
        assert_eq!(own[own.len() - 2..], ends, "parts come before the reply, and that before the next one");
        assert_eq!(joined(&parts)["token_ids"], ends[0]["ok"]["token_ids"]);
        assert_eq!(joined(&parts)["text"], ends[0]["ok"]["text"]);
    }
}

#[test]
fn a_stream_that_is_refused_is_answered_like_any_other_step() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let (parts, reply) = streamed(&mut pipe, step("a", json!({"text": "a", "count": 1_000_000_000})));
    assert_eq!((code(&reply), parts["text"].as_str().unwrap()), ("bad_request", ""));
}
