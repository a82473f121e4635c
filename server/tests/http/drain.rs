//! How a server ends.

use motorbrain_testing::Fault;
use serde_json::json;

use crate::{
    client::{Connection, request},
    serving::{MODEL, Serving},
};

/// Asks for something that hangs until it is released.
async fn hanging(server: &Serving, stream: bool) -> Connection {
    server.control.fault_in_run(if stream { 4 } else { 1 }, Fault::HANG);
    let body = json!({"model": MODEL, "prompt": "x", "max_tokens": 8, "stream": stream}).to_string();
    let mut connection = server.connect().await;
    connection.send(request("POST", "/v1/completions", &[], &body)).await;
    // A run that has begun may still be healed.
    while server.control.tally().hanging == 0 {
        tokio::task::yield_now().await;
    }
    connection
}

async fn until_draining(server: &Serving) {
    while server.get("/readyz").await.status == 200 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_answered_and_what_comes_meanwhile_is_sent_elsewhere() {
    let mut server = Serving::fake(|_| {}).await;
    let mut rests = server.connect().await;
    rests.send(request("GET", "/v1/models", &[], "")).await;
    assert_eq!(rests.answer().await.status, 200);
    let mut listens = server.connect().await;
    listens.send(request("GET", "/brain/events", &[], "")).await;
    listens.read_to("listening").await;
    let mut first = hanging(&server, false).await;
    server.stop();
    until_draining(&server).await;
    // Who only listens is not waited for.
    listens.read_to_end().await;
    assert_eq!(rests.read_to_end().await, "", "a connection that rests ends");
    assert_eq!(server.get("/readyz").await.json()["health"], "draining");
    assert_eq!(server.get("/healthz").await.status, 200);
    let refused = server.get("/v1/models").await;
    refused.error(503, "unavailable");
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("1"), Some("close")));
    server.control.release_hangs();
    assert_eq!(first.answer().await.ok()["usage"]["completion_tokens"], 8);
    assert!(server.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_told_so() {
    let mut server = Serving::fake(|settings| settings.server.shutdown_ms_max = 50).await;
    let mut streamed = hanging(&server, true).await;
    server.control.heal();
    let mut other = server.connect().await;
    let body = json!({"model": MODEL, "prompt": "y", "max_tokens": 8}).to_string();
    other.send(request("POST", "/v1/completions", &[], &body)).await;
    while server.brain.stats().await.unwrap().actors[0].queued < 2 {
        tokio::task::yield_now().await;
    }
    server.stop();
    other.answer().await.error(503, "unavailable");
    let events = streamed.answer().await.events();
    assert!(events.last().unwrap().1.contains("shutting down"), "{events:?}");
    server.control.release_hangs();
    assert!(!server.ended().await);
}
