//! What a caller of the pipe may say of requests under way: take them back, want them done within a time, be somebody.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::pipe::{Pipe, code};

/// More tokens than are sampled while a test looks.
const ENDLESS: usize = 60_000;

/// The fixture's.
const END_TOKEN: u32 = 511;

/// A step that goes on until it is taken back.
fn endless(id: &Value, conversation: &str) -> String {
    let bias = [(END_TOKEN, -100)];
    json!({"id": id, "op": "step", "conversation": conversation, "text": "ab", "count": ENDLESS, "logit_bias": bias})
        .to_string()
}

/// So many replies, by their ids as they were written; parts aside.
fn replies(pipe: &Pipe, count: usize) -> BTreeMap<String, Vec<Value>> {
    let mut replies = BTreeMap::<_, Vec<_>>::new();
    for reply in std::iter::repeat_with(|| pipe.next()).filter(|reply| reply["part"].is_null()).take(count) {
        replies.entry(reply["id"].to_string()).or_default().push(reply);
    }
    replies
}

fn cancelled(reply: &Value) -> &Value {
    &reply["ok"]["cancelled"]
}

#[test]
fn a_request_that_is_taken_back_leaves_its_conversation_as_it_was() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let step = json!({"id": 1, "op": "step", "conversation": "a", "text": "ab", "count": 2});
    let before = pipe.ask(&step)["ok"]["context_len"].clone();
    pipe.send(endless(&json!(7), "a"));
    pipe.send(json!({"id": 9, "op": "cancel", "request": 7}).to_string());
    let found = replies(&pipe, 2);
    assert_eq!((code(&found["7"][0]), cancelled(&found["9"][0])), ("cancelled", &json!(1)));
    assert_eq!(found["7"][0]["error"]["retryable"], false);
    let rewound = pipe.ask(&json!({"id": 2, "op": "rewind", "conversation": "a", "context_len": before}));
    assert_eq!(rewound["ok"]["context_len"], before);
    // What is answered, and what never was, is nothing to take back.
    for id in [7, 8] {
        assert_eq!(cancelled(&pipe.ask(&json!({"id": 9, "op": "cancel", "request": id}))), &json!(0));
    }
}

#[test]
fn what_a_stream_has_shown_stays_when_it_is_taken_back() {
    let mut pipe = Pipe::start("tiny-plain", &["--set", "window.size=1024"]); // it does not slide
    let mut stream: Value = serde_json::from_str(&endless(&json!("s"), "a")).unwrap();
    stream["stream"] = json!(true);
    pipe.send(stream.to_string());
    let (mut shown, mut told, mut failed) = (0, false, false);
    while !(told && failed) {
        let reply = pipe.next();
        match (&reply["part"]["token_ids"], &reply["id"]) {
            (Value::Array(tokens), _) => {
                if shown == 0 {
                    pipe.send(json!({"id": 9, "op": "cancel", "request": "s"}).to_string());
                }
                shown += tokens.len();
            }
            (_, id) if id == "s" => failed = code(&reply) == "cancelled",
            _ => told = cancelled(&reply) == &json!(1),
        }
    }
    let read = pipe.ask(&json!({"id": 1, "op": "tokenize", "text": "ab"}))["ok"]["token_ids"].as_array().unwrap().len();
    let context_len = read + shown;
    let rewound = pipe.ask(&json!({"id": 2, "op": "rewind", "conversation": "a", "context_len": context_len}));
    assert_eq!(rewound["ok"]["context_len"], context_len, "{rewound}");
    let more = pipe.ask(&json!({"id": 3, "op": "rewind", "conversation": "a", "context_len": context_len + 1}));
    assert_eq!(code(&more), "bad_request", "nothing more is there than was shown");
}

#[test]
fn an_id_takes_back_all_that_wait_under_it_as_it_was_written() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    for (id, conversation) in [("5", "a"), ("5", "b"), (r#""5""#, "c"), ("5.0", "d")] {
        pipe.send(endless(&serde_json::from_str(id).unwrap(), conversation));
    }
    // Behind the one that is under way.
    pipe.send(json!({"id": 5, "op": "score", "conversation": "a", "text": "c"}).to_string());
    pipe.send(r#"{"id":9,"op":"cancel","request":5}"#);
    let found = replies(&pipe, 4);
    assert_eq!((found["5"].len(), cancelled(&found["9"][0])), (3, &json!(3)));
    assert!(found["5"].iter().all(|reply| code(reply) == "cancelled"), "{found:?}");
    pipe.send(r#"{"id":10,"op":"cancel","request":"5"}"#);
    pipe.send(r#"{"id":11,"op":"cancel","request":5.0}"#);
    let found = replies(&pipe, 4);
    assert_eq!((cancelled(&found["10"][0]), cancelled(&found["11"][0])), (&json!(1), &json!(1)));
}

#[test]
fn a_conversation_is_taken_back_and_no_other() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    pipe.send(endless(&json!(1), "a"));
    pipe.send(json!({"id": 2, "op": "step", "conversation": "a", "text": "c"}).to_string());
    pipe.send(json!({"id": 3, "op": "step", "conversation": "b", "text": "ab"}).to_string());
    pipe.send(json!({"id": 9, "op": "cancel", "conversation": "a"}).to_string());
    let found = replies(&pipe, 4);
    assert_eq!((code(&found["1"][0]), code(&found["2"][0])), ("cancelled", "cancelled"));
    assert!(found["3"][0]["ok"].is_object(), "{found:?}");
    assert_eq!(cancelled(&found["9"][0]), &json!(2));
    let empty = pipe.ask(&json!({"id": 4, "op": "step", "conversation": "a"}));
    assert_eq!(code(&empty), "empty_input", "nothing was committed");
}

#[test]
fn a_flood_keeps_nobody_from_being_heard() {
    let mut pipe = Pipe::start("tiny-plain", &["--set", "limits.requests=8"]);
    pipe.send(endless(&json!("first"), "a"));
    for id in 0..2_000 {
        pipe.send(json!({"id": id, "op": "step", "conversation": "a", "text": "a"}).to_string());
    }
    // Answered while the first goes on: some were let in and wait behind it, and the others, the last among them, are
    // refused.
    let (mut refused, mut last) = (0, Value::Null);
    while last != 1_999 {
        let reply = pipe.next();
        assert_eq!(code(&reply), "overloaded", "{reply}");
        assert!(reply["error"]["retry_after_ms"].as_u64() > Some(0), "{reply}");
        last = reply["id"].clone();
        refused += 1;
    }
    assert_eq!(pipe.ask(&json!({"id": "s", "op": "stats"}))["ok"]["health"], "ready");
    pipe.send(json!({"id": "close", "op": "close", "conversation": "a"}).to_string());
    pipe.send(json!({"id": "cancel", "op": "cancel", "request": "first"}).to_string());
    let (rest, status) = pipe.end();
    assert!(status.success(), "{status}");
    let by_id: BTreeMap<String, &Value> = rest.iter().map(|reply| (reply["id"].to_string(), reply)).collect();
    assert_eq!(code(by_id["\"first\""]), "cancelled");
    assert_eq!((cancelled(by_id["\"cancel\""]), &by_id["\"close\""]["ok"]), (&json!(1), &json!({})));
    let served = rest.iter().filter(|reply| reply["ok"]["token_ids"].is_array()).count();
    assert_eq!((served + refused, rest.len()), (2_000, served + 3));
}

#[test]
fn who_names_a_deadline_is_answered_by_then() {
    let mut pipe = Pipe::start("tiny-plain", &[]);
    let mut step: Value = serde_json::from_str(&endless(&json!(1), "a")).unwrap();
    step["deadline_ms"] = json!(50);
    let reply = pipe.ask(&step);
    assert_eq!((code(&reply), &reply["error"]["retryable"]), ("timeout", &json!(true)));
    assert!(reply["error"]["message"].as_str().unwrap().contains("50 ms"), "{reply}");
}

#[test]
fn one_client_takes_nobody_elses_place() {
    let mut pipe = Pipe::start("tiny-plain", &["--set", "limits.requests=16"]);
    for id in 0..100 {
        let conversation = format!("c{id}");
        let step = json!({"id": id, "op": "step", "conversation": conversation, "text": "a", "client": "flood"});
        pipe.send(step.to_string());
    }
    let other = json!({"id": "other", "op": "step", "conversation": "o", "text": "a", "client": "other"});
    pipe.send(other.to_string());
    let (found, _) = pipe.end();
    assert_eq!(found.len(), 101);
    let of_other = found.iter().find(|reply| reply["id"] == "other").unwrap();
    assert!(of_other["ok"].is_object(), "{of_other}");
}
