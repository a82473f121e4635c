//! Who is let in, what every answer has, and what is there besides the interfaces.

use motorbrain_server::{Access, Tokens};
use serde_json::json;

use crate::{client::request, serving::Serving};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_tokens_every_path_that_tells_something_needs_one() {
    let tokens = Tokens::of_text(TOKEN, "here").unwrap();
    let server = Serving::start(true, Access::Tokens(tokens), |_| {}).await;
    assert_eq!(server.get("/healthz").await.ok()["health"], "alive");
    let known = format!("Bearer {TOKEN}");
    // A browser has no token before its page has asked for one.
    for path in ["/", "/docs", "/page.js", "/style.css"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    for path in ["/openapi.json", "/v1/models", "/brain/stats", "/metrics", "/readyz", "/nope"] {
        let refused = server.get(path).await;
        refused.error(401, "invalid_api_key");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        let wrong = server.ask("GET", path, &[("authorization", "Bearer 0123456789abcdef")], "").await;
        wrong.error(401, "invalid_api_key");
        let let_in = server.ask("GET", path, &[("authorization", &known)], "").await;
        assert_eq!(let_in.status, if path == "/nope" { 404 } else { 200 }, "{path}");
    }
    // Each client shares with those of his token alone.
    let step = json!({"text": "x", "count": 1}).to_string();
    let path = "/brain/conversations/a";
    server.ask("POST", &format!("{path}/step"), &[("authorization", &known)], &step).await.ok();
    assert_eq!(server.ask("GET", path, &[("authorization", &known)], "").await.ok()["sharing"], "scope");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_this_machines_names_are_answered_and_no_page_of_a_strangers_may_ask() {
    let server = Serving::fake(|_| {}).await;
    server.ask("GET", "/v1/models", &[("host", "evil.example")], "").await.error(421, "unknown_host");
    server.ask("GET", "/v1/models", &[("host", "")], "").await.error(421, "unknown_host");
    server.ask("GET", "http://evil.example/v1/models", &[], "").await.error(421, "unknown_host");
    assert_eq!(server.ask("GET", "/v1/models", &[("host", "127.0.0.1:1")], "").await.status, 200);
    let body = json!({"text": "x"}).to_string();
    let from = |origin: &'static str| [("origin", origin)];
    server.ask("POST", "/brain/tokenize", &from("https://evil.example"), &body).await.error(403, "unknown_origin");
    server.ask("POST", "/brain/conversations/a/reset", &from("null"), "").await.error(403, "unknown_origin");
    assert_eq!(server.ask("POST", "/brain/tokenize", &from("http://localhost"), &body).await.status, 200);
    // Of a page that says no origin its browser says where it is.
    let strange = ("sec-fetch-site", "cross-site");
    server
        .ask("GET", "/brain/events", &[strange, ("sec-fetch-mode", "no-cors")], "")
        .await
        .error(403, "unknown_origin");
    assert_eq!(server.ask("GET", "/brain/stats", &[strange, ("sec-fetch-mode", "navigate")], "").await.status, 200);
    let plain = server.ask("POST", "/brain/tokenize", &[("content-type", "text/plain")], &body).await;
    plain.error(415, "unsupported_media_type");
    let answer = server.ask("GET", "/v1/models", &from("https://evil.example"), "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    server.end().await;

    let origins =
        |settings: &mut motorbrain::Settings| settings.server.cors_origins = vec!["https://page.example".into()];
    let server = Serving::fake(origins).await;
    let asks = [("origin", "https://page.example"), ("access-control-request-method", "POST")];
    let preflight = server.ask("OPTIONS", "/brain/tokenize", &asks, "").await;
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://page.example"));
    let answer = server.ask("POST", "/brain/tokenize", &asks[..1], &body).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://page.example")));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_an_id_and_every_error_a_body() {
    let server = Serving::fake(|_| {}).await;
    let given = server.ask("GET", "/v1/models", &[("x-request-id", "mine-1")], "").await;
    assert_eq!(given.header("x-request-id"), Some("mine-1"));
    let made = server.ask("GET", "/v1/models", &[("x-request-id", "not mine")], "").await;
    assert!(made.header("x-request-id").unwrap().starts_with("req-"));
    server.get("/nope").await.error(404, "unknown_path");
    server.get("/v1/embeddings").await.error(405, "unknown_method");
    let broken = server.ask("POST", "/v1/embeddings", &[], "{\"model\":").await.error(400, "invalid_json");
    assert!(broken["message"].as_str().unwrap().contains("line 1 column 9"), "{broken}");
    let wrong = server.post("/v1/embeddings", &json!({"model": 1, "input": "x"})).await.error(400, "invalid_type");
    assert_eq!((&wrong["param"], &wrong["type"]), (&json!("model"), &json!("invalid_request_error")));
    // A connection serves more than one.
    let mut connection = server.connect().await;
    for _ in 0..2 {
        connection.send(request("GET", "/v1/models", &[], "")).await;
        assert_eq!(connection.answer().await.status, 200);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_described_and_counted() {
    let server = Serving::fake(|_| {}).await;
    assert_eq!(server.get("/readyz").await.ok()["health"], "ready");
    let described = server.get("/openapi.json").await.ok();
    let paths = described["paths"].as_object().unwrap();
    for path in ["/v1/chat/completions", "/v1/responses/{id}", "/brain/conversations/{name}/step", "/brain/chaos/kill"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    let text = described.to_string();
    let references: Vec<&str> =
        text.split("#/components/schemas/").skip(1).map(|it| &it[..it.find('"').unwrap()]).collect();
    let schemas = described["components"]["schemas"].as_object().unwrap();
    assert!(references.len() > 50 && references.iter().all(|name| schemas.contains_key(*name)));
    for path in ["/", "/docs", "/docs.js", "/style.css"] {
        let page = server.get(path).await;
        let policy = page.header("content-security-policy").unwrap();
        assert!(page.status == 200 && policy.starts_with("default-src 'none'"), "{page:?}");
        assert!(!page.body.contains("http://") && !page.body.contains("https://"), "{path} names another place");
    }
    server.post("/v1/embeddings", &json!({"model": "tiny", "input": "x"})).await;
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    let counted = "motorbrain_http_requests_total{route=\"/v1/embeddings\",status=\"";
    assert!(metrics.body.contains(counted), "{}", metrics.body);
    assert!(metrics.body.contains("motorbrain_http_seconds_bucket{route=\"/v1/embeddings\",le=\"0.001\"}"));
    server.end().await;
}
