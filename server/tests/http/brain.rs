//! `/brain`: what the pipe serves, as paths.

use serde_json::{Value, json};

use crate::{client::request, serving::Serving};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_lives_by_its_name() {
    let server = Serving::real().await;
    let path = |rest: &str| format!("/brain/conversations/a%20b{rest}");
    let stepped = server.post(&path("/step"), &json!({"text": "Once upon a time", "count": 4, "top": 1})).await.ok();
    assert_eq!(stepped["token_ids"].as_array().unwrap().len(), 4);
    assert_eq!(stepped["top"][0].as_array().unwrap().len(), 1);
    let inspected = server.get(&path("")).await.ok();
    assert_eq!((&inspected["conversation"], &inspected["context_len"]), (&json!("a b"), &stepped["context_len"]));
    let scored = server.post(&path("/score"), &json!({"text": " The end"})).await.ok();
    assert!(scored["logprobs"][0].as_f64() < Some(0.0));
    assert_eq!(server.post(&path("/fork"), &json!({"to": "c", "at": 2})).await.ok()["context_len"], 2);
    server.post(&path("/fork"), &json!({"to": "c"})).await.error(400, "conversation_exists");
    assert_eq!(server.post(&path("/rewind"), &json!({"context_len": 3})).await.ok()["context_len"], 3);
    let embedded = server.post(&path("/embed"), &json!({"text": "x", "dim": 64})).await.ok();
    assert_eq!(embedded["embedding"].as_array().unwrap().len(), 64);
    let listed = server.get("/brain/conversations?limit=1").await.ok();
    assert_eq!(listed["conversations"].as_array().unwrap().len(), 1);
    let next = listed["next"].as_str().unwrap().replace(' ', "%20");
    let rest = server.get(&format!("/brain/conversations?after={next}")).await.ok();
    assert_eq!((rest["conversations"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    assert_eq!(server.ask("POST", &path("/reset"), &[], "").await.ok(), json!({}));
    assert_eq!(server.get(&path("")).await.ok()["context_len"], 0);
    assert_eq!(server.delete(&path("")).await.ok(), json!({}));
    server.get(&path("")).await.error(404, "unknown_conversation");
    server.delete(&path("")).await.error(404, "unknown_conversation");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_step_is_parts_and_then_its_answer() {
    let server = Serving::real().await;
    let step = json!({"text": "Once upon a time", "count": 4, "stream": true});
    let events = server.post("/brain/conversations/a/step", &step).await.events();
    let (last, parts) = events.split_last().unwrap();
    assert!(parts.iter().all(|(name, _)| name.as_deref() == Some("part")) && last.0.as_deref() == Some("ok"));
    let said = |(_, data): &(Option<String>, String)| serde_json::from_str::<Value>(data).unwrap();
    let text: String = parts.iter().map(|part| said(part)["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(text, said(last)["text"].as_str().unwrap());
    server.post("/brain/conversations/a/step", &json!({"stream": true, "n": 2})).await.error(400, "bad_request");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_says_what_its_grammar_allows() {
    let server = Serving::real().await;
    for stream in [false, true] {
        let step = json!({"text": "Say: ", "count": 20, "stream": stream, "grammar": {"choice": ["yes", "no"]}});
        let said = server.post("/brain/conversations/a/step", &step).await;
        let last = if stream { serde_json::from_str(&said.events().pop().unwrap().1).unwrap() } else { said.ok() };
        assert!(last["text"] == "yes" || last["text"] == "no", "{last}");
    }
    let refused = server.post("/brain/conversations/a/step", &json!({"grammar": {"regex": "["}})).await;
    let error = refused.error(400, "bad_request");
    assert!(error["message"].as_str().unwrap().starts_with("grammar is no regular expression"), "{error}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_tokens_and_orders_need_no_conversation() {
    let server = Serving::real().await;
    let tokens = server.post("/brain/tokenize", &json!({"text": "Once upon a time"})).await.ok();
    assert_eq!(server.post("/brain/detokenize", &tokens).await.ok()["text"], "Once upon a time");
    let ranked = server.post("/brain/rerank", &json!({"query": "a cat", "documents": ["a dog", "a cat"]})).await.ok();
    assert_eq!(ranked["order"].as_array().unwrap().len(), 2);
    assert_eq!(
        server.post("/brain/embed", &json!({"text": "x", "dim": 64})).await.ok()["embedding"].as_array().unwrap().len(),
        64
    );
    server.post("/brain/embed", &json!({"text": ""})).await.error(400, "empty_input");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_as_the_pipe_does() {
    let server = Serving::fake(|_| {}).await;
    let refused = server.post("/brain/conversations/a/step", &json!({"texts": "x"})).await.error(400, "bad_request");
    assert!(refused["message"].as_str().unwrap().contains("the unknown key is `texts`"), "{refused}");
    let refused = server.post("/brain/conversations/a/step", &json!({"temperature": "x"})).await;
    assert_eq!(refused.error(400, "bad_request")["param"], "temperature");
    server.post("/brain/conversations/a/step", &json!({"id": 1})).await.error(400, "bad_request");
    server.post("/brain/conversations/a/step", &json!({"conversation": "b"})).await.error(400, "bad_request");
    server.post("/brain/conversations/a/step", &json!({"client": "me"})).await.error(400, "unsupported_parameter");
    server.ask("POST", "/brain/tokenize", &[], "{").await.error(400, "bad_request");
    server.get("/brain/conversations?limit=0").await.error(400, "bad_request");
    server.get("/brain/conversations?page=2").await.error(400, "invalid_value");
    server.post("/brain/conversations/a/export", &json!({"path": "/tmp/x"})).await.error(404, "unknown_path");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_and_actors_can_be_broken_where_settings_say_so() {
    let server = Serving::fake(|_| {}).await;
    let stats = server.get("/brain/stats").await.ok();
    assert_eq!((&stats["protocol"], &stats["health"]), (&json!(1), &json!("ready")));
    assert_eq!(server.get("/brain/health").await.ok()["health"], "ready");
    let mut events = server.connect().await;
    events.send(request("GET", "/brain/events", &[], "")).await;
    events.read_to(": listening\n\n").await;
    assert_eq!(server.post("/brain/chaos/kill", &json!({"actor": 0})).await.ok(), json!({}));
    let told = events.read_to("event: actor_back\n").await;
    assert!(told.contains("event: actor_dead\ndata: {\"event\":\"actor_dead\",\"actor\":0,"), "{told}");
    server.post("/brain/chaos/kill", &json!({"actor": 9})).await.error(400, "bad_request");
    assert_eq!(server.post("/brain/chaos/hang", &json!({"actor": 0, "ms": 1})).await.ok(), json!({}));
    server.end().await;

    let server = Serving::fake(|settings| settings.brain.chaos = false).await;
    server.post("/brain/chaos/kill", &json!({"actor": 0})).await.error(404, "unknown_path");
    server.end().await;
}
