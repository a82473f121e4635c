//! What a collector of traces is sent, over OTLP.

use std::{
    net::TcpListener,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use motorbrain::Settings;
use motorbrain_server::{Access, Tokens, Traces};
use motorbrain_testing::Fault;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, set_default},
};
use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use crate::{
    client::Answer,
    serving::{MODEL, Serving},
};

/// A caller's trace, and the span in it that asks.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A bearer token, and words: neither is in what is sent.
const TOKEN: &str = "a-token-that-nobody-else-knows";
const WORDS: &str = "Quartz sphinx";

/// Bodies that a collector took.
type Taken = Arc<Mutex<Vec<Bytes>>>;

/// A subscriber that is there all the while. Where there is but one, `tracing-core` (0.1.36, `callsite.rs`) asks the thread that
/// first comes to a span for its own subscriber, and takes the answer for everybody's; other tests' threads have none.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// A server that sends traces. It is on the test's own thread, which has a subscriber for itself; what sends and what takes
/// is on others.
struct Traced {
    server: Serving,
    traces: Traces,
    taken: Taken,
    _subscriber: DefaultGuard,
}

impl Traced {
    /// To a collector that takes them.
    async fn start() -> Self {
        let (taken, listener) = (Taken::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
        listener.set_nonblocking(true).unwrap();
        elsewhere().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await
        });
        Self { taken, ..Self::sending(&address).await }
    }

    async fn sending(address: &str) -> Self {
        let traces = Traces::to(address, elsewhere().handle()).unwrap();
        LazyLock::force(&ANOTHER);
        let subscriber = set_default(tracing_subscriber::registry().with(traces.layer::<Registry>()));
        let access = Access::Tokens(Tokens::of_text(TOKEN, "the test").unwrap());
        let fast = |settings: &mut Settings| {
            (settings.brain.backoff_ms_min, settings.brain.backoff_ms_max) = (1, 1);
        };
        let server = Serving::start(true, access, fast).await;
        Self { server, traces, taken: Taken::default(), _subscriber: subscriber }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {TOKEN}");
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", &*bearer)]).collect();
        self.server.ask("POST", path, &headers, &body.to_string()).await
    }

    /// Ends all of it: what was sent.
    async fn end(self) -> Told {
        let Self { server, traces, taken, .. } = self;
        server.end().await;
        traces.end();
        let bodies = taken.lock().unwrap().clone();
        let has = |body: &Bytes, words: &str| body.windows(words.len()).any(|bytes| bytes == words.as_bytes());
        for words in [TOKEN, WORDS] {
            assert!(!bodies.iter().any(|body| has(body, words)), "{words:?} was sent");
        }
        let requests = bodies.into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
        Told(scopes.flat_map(|scope| scope.spans).collect())
    }
}

async fn take(State(taken): State<Taken>, body: Bytes) {
    taken.lock().unwrap().push(body);
}

/// A runtime with threads of its own. It is never dropped, which a test that fails could not do.
fn elsewhere() -> &'static Runtime {
    Box::leak(Box::new(Runtime::new().unwrap()))
}

/// The spans that were sent.
struct Told(Vec<Span>);

impl Told {
    /// The one span of this name.
    fn one(&self, name: &str) -> &Span {
        let found: Vec<&Span> = self.0.iter().filter(|span| span.name == name).collect();
        let [one] = found[..] else { panic!("{} of {name}: {:#?}", found.len(), self.0) };
        one
    }

    /// Those inside of a span.
    fn inside<'a>(&'a self, outer: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.0.iter().filter(|span| span.parent_span_id == outer.span_id)
    }

    /// The request inside of a span that asks the brain for this.
    fn asks<'a>(&'a self, outer: &'a Span, op: &str) -> &'a Span {
        self.inside(outer).find(|span| span.name == "request" && of(span, "op") == op).unwrap()
    }
}

/// What a span says of itself.
fn of(span: &Span, key: &str) -> Value {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.and_then(|attribute| attribute.value.clone()).map_or(Value::Null, json_of)
}

fn json_of(value: AnyValue) -> Value {
    match value.value {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(is)) => json!(is),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(list)) => list.values.into_iter().map(json_of).collect(),
        other => panic!("{other:?}"),
    }
}

/// Its keys and values, but for some, are these.
fn check(span: &Span, expected: &Value) {
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(of(span, key), *value, "{key} of {span:#?}");
    }
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn chat(keys: &Value) -> Value {
    let mut body = json!({"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": WORDS}]});
    keys.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
    body
}

fn traceparent() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

#[tokio::test]
async fn a_chat_is_told_from_its_callers_span_to_its_actors_work() {
    for stream in [false, true] {
        let server = Traced::start().await;
        let keys = json!({"temperature": 0.7, "top_p": 0.9, "seed": 5, "stream": stream});
        let headers = [("traceparent", &*traceparent()), ("x-request-id", "mine")];
        let answer = server.post("/v1/chat/completions", &headers, &chat(&keys)).await;
        let id = if stream { answer.chunks()[0]["id"].clone() } else { answer.ok()["id"].clone() };
        let told = server.end().await;
        assert!(told.0.iter().all(|span| hex(&span.trace_id) == TRACE), "{:#?}", told.0);

        let http = told.one("POST /v1/chat/completions");
        assert_eq!((hex(&http.parent_span_id).as_str(), http.kind()), (CALLER, SpanKind::Server));
        let expected = json!({"http.request.method": "POST", "http.route": "/v1/chat/completions", "request": "mine",
            "url.path": "/v1/chat/completions", "url.scheme": "http", "http.response.status_code": 200,
            "error.type": null});
        check(http, &expected);

        let asked = told.one("chat tiny");
        assert_eq!((&asked.parent_span_id, asked.kind()), (&http.span_id, SpanKind::Internal));
        let expected = json!({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "motorbrain",
            "gen_ai.request.model": MODEL, "gen_ai.request.max_tokens": 4, "gen_ai.request.temperature": 0.7,
            "gen_ai.request.top_p": 0.9, "gen_ai.request.seed": 5, "gen_ai.response.id": id,
            "gen_ai.request.stream": stream.then_some(true), "gen_ai.response.finish_reasons": ["length"],
            "gen_ai.usage.cache_read.input_tokens": 0, "gen_ai.usage.output_tokens": 4, "error.type": null});
        check(asked, &expected);

        let request = told.asks(asked, "step");
        let read = &of(asked, "gen_ai.usage.input_tokens");
        check(request, &json!({"tokens": read, "reused": 0, "sampled": 4, "actor": 0, "incarnation": 0}));
        let parts: Vec<&Span> = told.inside(request).collect();
        let [queue, work] = parts[..] else { panic!("{parts:#?}") };
        assert_eq!((queue.name.as_str(), work.name.as_str()), ("queue", "work"));
        check(work, &json!({"read": read, "sampled": 4, "actor": 0, "incarnation": 0}));
        let first = &work.events[0];
        assert_eq!((first.name.as_str(), work.events.len()), ("first token", 1));

        // Each within the one around it.
        let times = [http, asked, request, work].map(|span| (span.start_time_unix_nano, span.end_time_unix_nano));
        assert!(times.is_sorted_by(|outer, inner| outer.0 <= inner.0 && inner.1 <= outer.1), "{times:?}");
        assert!(queue.end_time_unix_nano <= first.time_unix_nano && first.time_unix_nano <= work.end_time_unix_nano);
        assert!(told.0.iter().all(|span| !failed(span)));
    }
}

#[tokio::test]
async fn what_has_no_caller_or_none_that_can_be_begins_a_trace() {
    let server = Traced::start().await;
    let none = ["", "00", "00-x-y-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-", "00-é"];
    let long = format!("{}-{}", traceparent(), "x".repeat(1000));
    let all: Vec<&str> = none.into_iter().chain([&*long]).collect();
    for (index, bad) in all.iter().enumerate() {
        let headers = [("traceparent", *bad), ("x-request-id", &*index.to_string())];
        let body = json!({"model": MODEL, "input": [WORDS, "b"]});
        server.post("/v1/embeddings", &headers, &body).await.ok();
    }
    // Which of two would be meant nobody knows.
    let twice = [("traceparent", &*traceparent()), ("traceparent", &*traceparent())];
    server.post("/v1/embeddings", &twice, &json!({"model": MODEL, "input": "a"})).await.ok();
    // Who says that his trace is not recorded has none here.
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    let headers = [("traceparent", &*unsampled)];
    server.post("/v1/embeddings", &headers, &json!({"model": MODEL, "input": "a"})).await.ok();
    let told = server.end().await;
    let roots: Vec<&Span> = told.0.iter().filter(|span| span.name == "POST /v1/embeddings").collect();
    assert_eq!(roots.len(), all.len() + 1);
    assert!(roots.iter().all(|root| root.parent_span_id.is_empty() && hex(&root.trace_id) != TRACE));
    let traces: std::collections::BTreeSet<_> = roots.iter().map(|root| &root.trace_id).collect();
    assert_eq!(traces.len(), roots.len());
    let asked = told.inside(roots[0]).next().unwrap();
    assert_eq!(asked.name, "embeddings tiny");
    let expected = json!({"gen_ai.operation.name": "embeddings", "gen_ai.request.temperature": null,
        "gen_ai.usage.output_tokens": null, "gen_ai.response.finish_reasons": null});
    check(asked, &expected);
    let read: i64 = told.inside(asked).filter_map(|request| of(request, "tokens").as_i64()).sum();
    assert_eq!((of(asked, "gen_ai.usage.input_tokens"), told.inside(asked).count()), (json!(read), 2));
}

#[tokio::test]
async fn several_answers_and_prompts_are_one_operation() {
    let server = Traced::start().await;
    let body = json!({"model": MODEL, "prompt": [WORDS, "b"], "max_tokens": 2, "n": 2, "seed": 1});
    server.post("/v1/completions", &[], &body).await.ok();
    let response = json!({"model": MODEL, "input": WORDS, "max_output_tokens": 2});
    let id = server.post("/v1/responses", &[], &response).await.ok()["id"].clone();
    let told = server.end().await;
    let expected = json!({"gen_ai.request.choice.count": 2, "gen_ai.usage.output_tokens": 8,
        "gen_ai.response.finish_reasons": ["length", "length", "length", "length"]});
    check(told.one("text_completion tiny"), &expected);
    let expected = json!({"gen_ai.response.id": id, "gen_ai.request.max_tokens": 2, "gen_ai.usage.output_tokens": 2});
    check(told.one("chat tiny"), &expected);
}

#[tokio::test]
async fn what_fails_says_so_where_it_failed() {
    let server = Traced::start().await;
    server.post("/v1/chat/completions", &[], &chat(&json!({"top_p": 5}))).await.error(400, "bad_request");
    let told = server.end().await;
    let (http, asked) = (told.one("POST /v1/chat/completions"), told.one("chat tiny"));
    check(http, &json!({"http.response.status_code": 400, "error.type": null}));
    check(asked, &json!({"error.type": "bad_request", "gen_ai.response.finish_reasons": null}));
    assert!(!failed(http) && failed(asked), "whose turn it is");

    for stream in [false, true] {
        let server = Traced::start().await;
        // The first run reads, so a stream has begun by then.
        server.server.control.fault_in_run(3, Fault::REJECT);
        let answer =
            server.post("/v1/chat/completions", &[], &chat(&json!({"stream": stream, "temperature": 0}))).await;
        assert_eq!(answer.status, if stream { 200 } else { 500 });
        let told = server.end().await;
        let (http, asked) = (told.one("POST /v1/chat/completions"), told.one("chat tiny"));
        check(http, &json!({"error.type": (!stream).then_some("500")}));
        check(asked, &json!({"error.type": "engine"}));
        check(told.asks(asked, "step"), &json!({"error.type": "engine"}));
        assert!(failed(asked) && failed(http) != stream);
    }
}

#[tokio::test]
async fn what_an_actor_dies_of_is_worked_on_again_in_the_same_trace() {
    let server = Traced::start().await;
    server.server.control.fault_in_run(1, Fault::Panic);
    server.post("/v1/chat/completions", &[("traceparent", &*traceparent())], &chat(&json!({}))).await.ok();
    let told = server.end().await;
    let request = told.asks(told.one("chat tiny"), "step");
    let works: Vec<&Span> = told.inside(request).filter(|span| span.name == "work").collect();
    let [died, done] = works[..] else { panic!("{works:#?}") };
    let by = |work| (of(work, "actor"), of(work, "incarnation"));
    assert_ne!(by(died), by(done));
    check(done, &json!({"sampled": 4}));
}

#[tokio::test]
async fn names_that_a_path_has_are_not_told_by_it() {
    let server = Traced::start().await;
    server.post("/brain/conversations/mine/step", &[], &json!({"text": WORDS, "count": 1})).await.ok();
    server.post("/no/such/path", &[], &json!({})).await.error(404, "unknown_path");
    let told = server.end().await;
    let http = told.one("POST /brain/conversations/{name}/step");
    check(http, &json!({"url.path": "/brain/conversations/{name}/step"}));
    check(told.asks(http, "step"), &json!({"conversation": "mine", "sampled": 1}));
    check(told.one("POST"), &json!({"http.route": null, "url.path": null, "http.response.status_code": 404}));
}

/// Nobody who is answered notices, and the end is not held up.
async fn loses(address: &str) {
    let server = Traced::sending(address).await;
    for _ in 0..3 {
        server.post("/v1/chat/completions", &[], &chat(&json!({}))).await.ok();
    }
    let began = Instant::now();
    assert!(server.end().await.0.is_empty());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_collector_that_is_not_there_or_says_nothing_changes_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    // It is connected to, and never looks.
    loses(&address).await;
    drop(listener);
    loses(&address).await;
}

#[tokio::test]
async fn a_collector_that_never_stops_talking_changes_no_answer() {
    let endless = || {
        let more = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096])));
        std::future::ready(axum::body::Body::from_stream(more))
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    elsewhere().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, Router::new().route("/v1/traces", post(endless))).await
    });
    loses(&address).await;
}

#[test]
fn an_address_that_is_none_is_refused() {
    let runtime = Runtime::new().unwrap();
    for none in ["https://localhost:4318/v1/traces", "localhost:4318", ""] {
        let error = Traces::to(none, runtime.handle()).unwrap_err();
        assert!(error.to_string().contains(&format!("{none:?}")), "{error}");
        assert!(error.hint().contains("HTTP"));
    }
}
