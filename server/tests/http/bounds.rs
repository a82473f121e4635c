//! What nobody can take: time by sending slowly, memory by sending much, places by not reading or not asking.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::{Connection, request},
    serving::{MODEL, Serving},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_is_cut_off() {
    let server = Serving::fake(|settings| {
        (settings.server.head_ms_max, settings.server.body_ms_max) = (50, 50);
    })
    .await;
    // A head that does not end, nothing at all, and a connection that rests.
    let mut slow = server.connect().await;
    slow.send("GET /v1/models HTTP/1.1\r\nhost: loc").await;
    assert_eq!(slow.read_to_end().await, "");
    assert_eq!(server.connect().await.read_to_end().await, "");
    let mut rests = server.connect().await;
    rests.send(request("GET", "/v1/models", &[], "")).await;
    assert_eq!(rests.answer().await.status, 200);
    assert_eq!(rests.read_to_end().await, "");
    // A body that does not end.
    let mut slow = server.connect().await;
    slow.send(request("POST", "/v1/embeddings", &[("content-length", "100")], "{")).await;
    slow.answer().await.error(408, "timeout");
    assert_eq!(slow.read_to_end().await, "");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_are_no_longer_than_they_may_be() {
    let server = Serving::fake(|settings| settings.server.body_bytes_max = 1000).await;
    let long = "x".repeat(40_000);
    let mut connection = server.connect().await;
    connection.send(request("GET", "/v1/models", &[("x-long", &long)], "")).await;
    assert_eq!(connection.answer().await.status, 431);
    let body = json!({"model": MODEL, "input": "x".repeat(1000)}).to_string();
    server.ask("POST", "/v1/embeddings", &[], &body).await.error(413, "input_too_long");
    // Whoever does not say how long it is, is found out.
    let mut chunked = server.connect().await;
    chunked.send("POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n").await;
    chunked.send(format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
    chunked.answer().await.error(413, "input_too_long");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_streams_are_counted() {
    let server = Serving::fake(|settings| {
        (settings.server.connections_max, settings.server.streams_per_client_max) = (2, 1);
    })
    .await;
    let listen = async || {
        let mut events = server.connect().await;
        events.send(request("GET", "/brain/events", &[], "")).await;
        events
    };
    let mut first = listen().await;
    first.read_to(": listening").await;
    let mut second = listen().await;
    second.answer().await.error(429, "overloaded");
    // Both places are taken: whoever comes now waits for one.
    let mut third = server.connect().await;
    third.send(request("GET", "/v1/models", &[], "")).await;
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    server.end().await;
}

/// Waits until the brain has so many requests that are not done.
async fn until_open(server: &Serving, count: usize) {
    loop {
        let stats = server.brain.stats().await.unwrap();
        let open = stats.waiting + stats.actors.iter().map(|actor| actor.queued).sum::<usize>();
        if open == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn asks(server: &Serving, path: &str, body: &Value) -> Connection {
    let mut connection = server.connect().await;
    connection.send(request("POST", path, &[], &body.to_string())).await;
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_who_goes_away_ends() {
    let server = Serving::fake(|_| {}).await;
    let many = json!({"model": MODEL, "prompt": "x", "max_tokens": 4000});
    let mut streamed = many.clone();
    streamed["stream"] = json!(true);
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 4000});
    let step = json!({"text": "x", "count": 4000, "stream": true});
    for (path, body, reads) in [
        ("/v1/completions", &many, false),
        ("/v1/completions", &streamed, true),
        ("/v1/chat/completions", &chat, false),
        ("/brain/conversations/a/step", &step, true),
    ] {
        server.control.fault_in_run(20, motorbrain_testing::Fault::HANG);
        let mut connection = asks(&server, path, body).await;
        if reads {
            connection.read_to("data: ").await;
        }
        until_open(&server, 1).await;
        drop(connection);
        server.control.heal();
        server.control.release_hangs();
        until_open(&server, 0).await;
    }
    let stats = server.brain.stats().await.unwrap();
    assert_eq!(stats.abandoned, 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_loses_his_connection_and_his_work() {
    let server = Serving::fake(|settings| settings.server.write_ms_max = 50).await;
    // More than all buffers on the way hold.
    let step = json!({"text": "x", "count": 60_000, "top": 256, "stream": true});
    let mut connection = asks(&server, "/brain/conversations/a/step", &step).await;
    connection.read_to("data: ").await;
    until_open(&server, 0).await;
    assert!(server.brain.inspect("a").await.unwrap().total < 60_000, "it was cut off");
    drop(connection);
    server.end().await;
}
