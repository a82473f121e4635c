//! Documents in the order of how well they answer a query, asked through the pipe.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use crate::pipe::{Pipe, code};

const DOCUMENTS: [&str; 4] = ["the man", "a house by the sea", "", "the man and the house"];

/// A pipe with room for prompts.
fn start(arguments: &[&str]) -> Pipe {
    Pipe::start("tiny-plain", &[&["--set", "window.size=256"], arguments].concat())
}

fn rerank(id: u32) -> Value {
    json!({"id": id, "op": "rerank", "query": "the sea", "documents": DOCUMENTS})
}

fn with(mut request: Value, key: &str, value: Value) -> Value {
    request[key] = value;
    request
}

fn scores(reply: &Value) -> Vec<f64> {
    reply["ok"]["scores"].as_array().unwrap_or_else(|| panic!("{reply}")).iter().flat_map(Value::as_f64).collect()
}

/// The mean log-probability of the query behind what stands before it, asked one by one.
fn likely(pipe: &mut Pipe, parts: &Value) -> f64 {
    pipe.ask(&json!({"id": 1, "op": "step", "conversation": "by hand", "parts": parts, "count": 0}));
    let query = json!([{"literal": "the sea"}]);
    let scored = pipe.ask(&json!({"id": 2, "op": "score", "conversation": "by hand", "parts": query}));
    pipe.ask(&json!({"id": 3, "op": "close", "conversation": "by hand"}));
    let logprobs: Vec<f64> = scored["ok"]["logprobs"].as_array().unwrap().iter().flat_map(Value::as_f64).collect();
    logprobs.iter().sum::<f64>() / logprobs.len() as f64
}

#[test]
fn documents_have_scores_and_an_order_and_are_not_read_again_for_another_query() {
    let mut pipe = start(&["--set", "rerank.before=Text: ", "--set", "rerank.between=. It is about "]);
    let reply = pipe.ask(&rerank(1));
    let scores = scores(&reply);
    let between = json!({"text": ". It is about "});
    let alone = likely(&mut pipe, &json!([between]));
    for (document, score) in DOCUMENTS.iter().zip(&scores) {
        let there = likely(&mut pipe, &json!([{"text": "Text: "}, {"literal": document}, between]));
        assert!((there - alone - score).abs() < 1e-4, "{document}: {score}, by hand {}", there - alone);
    }
    let order: Vec<usize> = serde_json::from_value(reply["ok"]["order"].clone()).unwrap();
    assert!(order.is_sorted_by(|a, b| scores[*a] >= scores[*b]), "{reply}");
    let again = pipe.ask(&with(rerank(2), "query", json!("a man")));
    let (tokens, reused) = (again["ok"]["tokens"].as_u64().unwrap(), again["ok"]["reused"].as_u64().unwrap());
    assert_eq!(Some(tokens), reply["ok"]["tokens"].as_u64());
    assert!(reused >= tokens - 2 * DOCUMENTS.len() as u64 - 2, "{again}");
    assert_eq!(pipe.ask(&json!({"id": 3, "op": "list"}))["ok"]["conversations"], json!([]), "nothing is left");
    // Those of a scope of their own are read by themselves.
    let apart = pipe.ask(&with(rerank(4), "scope", json!("mine")));
    assert_eq!((&apart["ok"]["scores"], apart["ok"]["order"].clone()), (&reply["ok"]["scores"], json!(order)));
    assert!(apart["ok"]["reused"].as_u64().unwrap_or(0) < reused / 2, "{apart}");
}

#[test]
fn settings_have_a_prompt_asked_and_vectors_mixed_in() {
    let plain = scores(&start(&[]).ask(&rerank(1)));
    let mut mixing = start(&["--set", "rerank.mix=0.5"]);
    let mixed = scores(&mixing.ask(&rerank(1)));
    let cosines: Vec<f64> = mixed.iter().zip(&plain).map(|(mixed, score)| mixed - 0.5 * score).collect();
    assert!(cosines.iter().all(|cosine| (-1.0001..=1.0001).contains(cosine)), "{cosines:?}");
    assert_ne!(mixed, plain);
    let other = scores(&mixing.ask(&with(rerank(2), "mix", json!(0.25))));
    for (other, (cosine, score)) in other.iter().zip(cosines.iter().zip(&plain)) {
        assert!((other - (cosine + 0.25 * score)).abs() < 1e-4, "a request says so");
    }
    let asked = scores(&start(&["--set", "rerank.prompt={query}? {document}"]).ask(&rerank(1)));
    assert_ne!(asked, plain);
}

#[test]
fn what_may_not_be_is_refused_and_what_takes_too_long_ends() {
    let mut pipe = start(&["--set", "limits.text_bytes=1000"]);
    for (key, value, expected) in [
        ("query", json!(""), "empty_input"),
        ("documents", json!([]), "bad_request"),
        ("documents", json!(vec![""; 4097]), "bad_request"),
        ("documents", json!(["x".repeat(600), "x".repeat(600)]), "input_too_long"),
        ("mix", json!("0.5"), "bad_request"),
        ("conversation", json!("a"), "bad_request"),
    ] {
        assert_eq!(code(&pipe.ask(&with(rerank(1), key, value.clone()))), expected, "{key}: {value}");
    }
    let mut pipe = start(&[]);
    let long = with(rerank(7), "documents", json!(vec!["the man and the house by the sea ".repeat(400); 64]));
    assert_eq!(code(&pipe.ask(&with(long.clone(), "deadline_ms", json!(20)))), "timeout");
    pipe.send(long.to_string());
    pipe.send(json!({"id": 9, "op": "cancel", "request": 7}).to_string());
    let found = [pipe.next(), pipe.next()];
    let (taken, told) = if found[0]["id"] == 7 { (&found[0], &found[1]) } else { (&found[1], &found[0]) };
    assert_eq!((code(taken), &told["ok"]["cancelled"]), ("cancelled", &json!(1)));
    // What is still to be answered at the end of input is.
    pipe.send(rerank(8).to_string());
    let (rest, status) = pipe.end();
    assert_eq!((rest.len(), scores(&rest[0]).len(), status.success()), (1, DOCUMENTS.len(), true));
}
