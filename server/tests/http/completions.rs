//! `/v1/completions`.

use serde_json::{Value, json};

use crate::serving::{MODEL, Serving};

fn merged(keys: &Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0});
    keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_the_whole_does() {
    let server = Serving::real().await;
    let whole = server.post("/v1/completions", &merged(&json!({}))).await.ok();
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    let keys = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = server.post("/v1/completions", &merged(&keys)).await.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["text"].as_str().unwrap());
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &whole["usage"]["prompt_tokens"]));
    assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() > Some(0), "it was read before: {last}");
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["created"] == chunks[0]["created"]));
    // Nothing is left behind.
    assert_eq!(server.get("/brain/conversations").await.ok()["conversations"], json!([]));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_texts_or_tokens_and_each_has_its_answers() {
    let server = Serving::real().await;
    let ids = server.post("/brain/tokenize", &json!({"text": "Once upon a time"})).await.ok()["token_ids"].clone();
    let one = server.post("/v1/completions", &merged(&json!({}))).await.ok();
    let same = server.post("/v1/completions", &merged(&json!({"prompt": ids}))).await.ok();
    assert_eq!(same["choices"], one["choices"]);
    let several = json!({"prompt": ["Once upon a time", "The end"], "n": 2, "temperature": 1, "seed": 3});
    let several = server.post("/v1/completions", &merged(&several)).await.ok();
    let index: Vec<u64> =
        several["choices"].as_array().unwrap().iter().map(|it| it["index"].as_u64().unwrap()).collect();
    assert_eq!(index, [0, 1, 2, 3]);
    assert_eq!(several["usage"]["completion_tokens"], 24);
    let streamed = json!({"prompt": ["Once upon a time", "The end"], "stream": true});
    let chunks = server.post("/v1/completions", &merged(&streamed)).await.chunks();
    let of = |index: u64| -> String {
        let mine = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        mine.map(|choice| choice["text"].as_str().unwrap()).collect()
    };
    assert_eq!(of(0), one["choices"][0]["text"].as_str().unwrap());
    assert!(!of(1).is_empty());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_stands_before_the_answer_and_has_log_probabilities() {
    let server = Serving::real().await;
    let plain = server.post("/v1/completions", &merged(&json!({}))).await.ok();
    let echo = server.post("/v1/completions", &merged(&json!({"echo": true, "logprobs": 2}))).await.ok();
    let choice = &echo["choices"][0];
    let text = choice["text"].as_str().unwrap();
    assert_eq!(text, format!("Once upon a time{}", plain["choices"][0]["text"].as_str().unwrap()));
    let logprobs = &choice["logprobs"];
    let tokens = logprobs["tokens"].as_array().unwrap();
    // A token that is a part of a character shows none.
    let joined: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert!(joined.starts_with("Once upon a time") && tokens.len() > 6, "{tokens:?}");
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64() < Some(0.0));
    assert_eq!(logprobs["top_logprobs"][0], Value::Null);
    for (index, token) in tokens.iter().enumerate().skip(1) {
        let top = logprobs["top_logprobs"][index].as_object().unwrap();
        // Two that look alike are one.
        assert!((1..=2).contains(&top.len()), "{top:?}");
        let logprob = logprobs["token_logprobs"][index].as_f64().unwrap();
        let most = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
        // Nothing was drawn: what was sampled is the likeliest, and of the prompt nothing is likelier than that.
        let is_sampled = index >= tokens.len() - 6;
        assert!(most == logprob || most > logprob && !is_sampled, "`{token}` has {logprob} of {top:?}");
        assert!(top.get(token.as_str().unwrap()).is_none_or(|listed| listed.as_f64() == Some(logprob)));
    }
    let keys = json!({"echo": true, "logprobs": 2, "stream": true});
    let chunks = server.post("/v1/completions", &merged(&keys)).await.chunks();
    let streamed: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(streamed, text);
    let offsets = |value: &Value| value["text_offset"].as_array().cloned().unwrap_or_default();
    let streamed: Vec<Value> = chunks.iter().flat_map(|chunk| offsets(&chunk["choices"][0]["logprobs"])).collect();
    assert_eq!(streamed, offsets(logprobs));
    // How likely a text is, and nothing more.
    let keys = json!({"echo": true, "logprobs": 0, "max_tokens": 0});
    let alone = server.post("/v1/completions", &merged(&keys)).await.ok();
    assert_eq!(
        (&alone["choices"][0]["text"], &alone["usage"]["completion_tokens"]),
        (&json!("Once upon a time"), &json!(0))
    );
    let scores = |value: &Value| value["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    let scores_alone = scores(&alone["choices"][0]);
    assert_eq!(scores_alone, scores(choice)[..tokens.len() - 6]);
    let tops = |value: &Value| value["logprobs"]["top_logprobs"].as_array().unwrap().clone();
    let keys = json!({"echo": true, "logprobs": 2, "max_tokens": 0, "stream": true});
    let chunks = server.post("/v1/completions", &merged(&keys)).await.chunks();
    assert_eq!(chunks.len(), 2, "the prompt and why it ended: {chunks:?}");
    assert_eq!(scores(&chunks[0]["choices"][0]), scores_alone);
    assert_eq!(tops(&chunks[0]["choices"][0]), tops(choice)[..tokens.len() - 6]);
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "length");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_text_ends_it_and_what_the_brain_refuses_has_a_status_streamed_or_not() {
    let server = Serving::real().await;
    let whole = server.post("/v1/completions", &merged(&json!({}))).await.ok();
    let text = whole["choices"][0]["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped = server.post("/v1/completions", &merged(&json!({"stop": stop}))).await.ok();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert!(text.starts_with(stopped["choices"][0]["text"].as_str().unwrap()));
    for stream in [false, true] {
        let refused = server.post("/v1/completions", &merged(&json!({"top_p": 5, "stream": stream}))).await;
        assert_eq!(refused.error(400, "bad_request")["param"], "top_p");
        let refused = server.post("/v1/completions", &merged(&json!({"prompt": [9999], "stream": stream}))).await;
        refused.error(400, "invalid_token");
    }
    server.end().await;
}
