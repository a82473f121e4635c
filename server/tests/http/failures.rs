//! What fails, and which status says so.

use motorbrain_testing::Fault;
use serde_json::{Value, json};

use crate::{
    client::request,
    serving::{MODEL, Serving},
};

fn completion(keys: &Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "x", "max_tokens": 4});
    keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_told_when_to_come_back() {
    let server = Serving::fake(|settings| settings.limits.requests = 1).await;
    server.control.fault_in_run(1, Fault::HANG);
    let mut first = server.connect().await;
    first.send(request("POST", "/v1/completions", &[], &completion(&json!({})).to_string())).await;
    while server.control.tally().hanging == 0 {
        tokio::task::yield_now().await;
    }
    let refused = server.post("/v1/completions", &completion(&json!({}))).await;
    let error = refused.error(429, "overloaded");
    assert_eq!((&error["type"], &error["retryable"]), (&json!("rate_limit_error"), &json!(true)));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(refused.header("retry-after-ms").map(str::to_owned), Some(error["retry_after_ms"].to_string()));
    assert_eq!(refused.header("x-should-retry"), Some("true"));
    // Where waiting alone does not help, nobody is told to.
    let several = json!({"text": "x", "n": 2, "temperature": 1});
    let never = server.post("/brain/conversations/a/step", &several).await;
    assert_eq!(
        (never.error(429, "overloaded")["retryable"].clone(), never.header("x-should-retry")),
        (json!(false), Some("false"))
    );
    server.control.release_hangs();
    assert_eq!(first.answer().await.status, 200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_a_timeout() {
    let server = Serving::fake(|settings| settings.server.request_ms_max = 50).await;
    server.control.fault_in_run(1, Fault::HANG);
    server.post("/v1/completions", &completion(&json!({}))).await.error(504, "timeout");
    server.control.release_hangs();
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_actors_is_refused_and_not_asked_again() {
    let server =
        Serving::fake(|settings| (settings.brain.backoff_ms_min, settings.brain.backoff_ms_max) = (1, 1)).await;
    (1..=2).for_each(|run| server.control.fault_in_run(run, Fault::Panic));
    let step = json!({"text": "x", "count": 1});
    let died = server.post("/brain/conversations/a/step", &step).await;
    assert_eq!(
        (died.error(500, "restarted")["retryable"].clone(), died.header("x-should-retry")),
        (json!(false), Some("false"))
    );
    let refused = server.post("/brain/conversations/a/step", &step).await;
    assert!(refused.error(422, "quarantined")["retry_after_ms"].as_u64() > Some(0));
    server.ask("POST", "/brain/conversations/a/reset", &[], "").await.ok();
    assert_eq!(server.post("/brain/conversations/a/step", &step).await.status, 200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_the_middle_of_a_stream_is_its_last_event() {
    let server = Serving::fake(|_| {}).await;
    // The most likely tokens: others may be no whole characters, of which nothing is shown yet.
    for (path, body) in [
        ("/v1/completions", completion(&json!({"stream": true, "temperature": 0}))),
        (
            "/v1/chat/completions",
            json!({"model": MODEL, "stream": true, "temperature": 0, "max_tokens": 4,
                                         "messages": [{"role": "user", "content": "x"}]}),
        ),
        (
            "/v1/responses",
            json!({"model": MODEL, "stream": true, "temperature": 0, "max_output_tokens": 4, "input": "x"}),
        ),
        ("/brain/conversations/a/step", json!({"text": "x", "count": 4, "stream": true})),
    ] {
        server.control.fault_in_run(3, Fault::REJECT);
        let events = server.post(path, &body).await.events();
        let last: Value = serde_json::from_str(&events.last().unwrap().1).unwrap();
        assert_eq!(last["error"]["code"], "engine", "{path}: {events:?}");
        assert!(events.len() > 1, "{path}: {events:?}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brain_that_is_gone_is_unavailable() {
    let server = Serving::fake(|_| {}).await;
    server.brain.shutdown().await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 503);
    let refused = server.post("/v1/completions", &completion(&json!({}))).await;
    refused.error(503, "unavailable");
    assert_eq!(refused.header("x-should-retry"), Some("true"));
    server.end().await;
}
