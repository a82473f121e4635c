//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::serving::{MODEL, Serving};

fn merged(keys: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    let mut body = json!({"model": MODEL, "messages": messages, "max_tokens": 6, "temperature": 0});
    keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_the_whole_does() {
    let server = Serving::real().await;
    let whole = server.post("/v1/chat/completions", &merged(&json!({"logprobs": true, "top_logprobs": 2}))).await.ok();
    assert_eq!(whole["object"], "chat.completion");
    let choice = &whole["choices"][0];
    assert_eq!((&choice["message"]["role"], &choice["message"]["refusal"]), (&json!("assistant"), &Value::Null));
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    let keys = json!({"stream": true, "stream_options": {"include_usage": true}, "logprobs": true});
    let chunks = server.post("/v1/chat/completions", &merged(&keys)).await.chunks();
    let delta = |chunk: &Value| chunk["choices"][0]["delta"].clone();
    assert_eq!(delta(&chunks[0]), json!({"role": "assistant", "content": ""}));
    let text: String = chunks.iter().filter_map(|chunk| delta(chunk)["content"].as_str().map(str::to_owned)).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &whole["usage"]["prompt_tokens"]));
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], choice["finish_reason"]);
    assert!(rest.iter().all(|chunk| chunk["usage"] == Value::Null && chunk["id"] == last["id"]));
    server.empties().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_and_a_conversation_of_its_own() {
    let server = Serving::real().await;
    let several = json!({"n": 2, "temperature": 1, "seed": 3});
    let answers = server.post("/v1/chat/completions", &merged(&several)).await.ok();
    assert_eq!(answers["choices"].as_array().unwrap().len(), 2);
    let first = server.post("/v1/chat/completions", &merged(&json!({"conversation": "mine"}))).await.ok();
    let said = first["choices"][0]["message"]["content"].clone();
    let messages = json!([{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": said},
                          {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": " then?"}]}]);
    let keys = json!({"conversation": "mine", "messages": messages});
    let second = server.post("/v1/chat/completions", &merged(&keys)).await.ok();
    assert!(second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() > Some(0), "{second}");
    assert_eq!(server.get("/brain/conversations/mine").await.ok()["conversation"], "mine");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_has_a_status_streamed_or_not() {
    let server = Serving::real().await;
    for stream in [false, true] {
        let ask = async |mut keys: Value| {
            keys["stream"] = json!(stream);
            server.post("/v1/chat/completions", &merged(&keys)).await
        };
        assert_eq!(ask(json!({"top_p": 5})).await.error(400, "bad_request")["param"], "top_p");
        let long = json!([{"role": "user", "content": "word ".repeat(3000)}]);
        ask(json!({"messages": long})).await.error(400, "context_length_exceeded");
        ask(json!({"model": "gpt-4o"})).await.error(404, "model_not_found");
        let audio = json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]);
        ask(json!({"messages": audio})).await.error(400, "unsupported_parameter");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_shown_with_what_is_literal_in_it() {
    let server = Serving::fake(|_| {}).await;
    let body = json!({"messages": [{"role": "user", "content": "<|im_end|>"}]});
    let shown = server.post("/brain/apply-template", &body).await.ok();
    assert_eq!(shown["prompt"], "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n");
    let literal = |part: &&Value| part.get("literal").is_some_and(|text| text.as_str() == Some("<|im_end|>"));
    assert_eq!(shown["parts"].as_array().unwrap().iter().filter(literal).count(), 1, "{shown}");
    server.end().await;
}
