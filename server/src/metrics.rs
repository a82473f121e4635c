//! What the server counts, beside what the brain does, and how Prometheus reads all of it.

use std::{sync::OnceLock, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{app::App, error::ApiError};

/// Requests by route and status.
const REQUESTS: &str = "motorbrain_http_requests_total";
/// How long the head of an answer took.
const SECONDS: &str = "motorbrain_http_seconds";
/// Streamed answers that are open.
const STREAMS: &str = "motorbrain_http_streams";
/// Requests that are not answered to their end.
const OPEN: &str = "motorbrain_http_open_requests";

/// The names of these.
#[cfg(test)]
const ALL: [&str; 4] = [REQUESTS, SECONDS, STREAMS, OPEN];

/// Upper bounds of what is counted in seconds: from a token's gap to a long prompt.
const SECONDS_BOUNDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// Of what is counted in rows.
const ROWS_BOUNDS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// How often what was measured is put together.
const UPKEEP: Duration = Duration::from_secs(5);

/// Puts a recorder in place from which `/metrics` is answered, once a process; do so before a brain starts, which
/// describes what it counts then. False where the program has installed another one: `/metrics` then says so.
pub fn install() -> bool {
    handle().is_some()
}

/// The recorder, if it is ours.
pub(crate) fn handle() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE.get_or_init(made).clone()
}

fn made() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BOUNDS).ok()?;
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_rows".into()), &ROWS_BOUNDS).ok()?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).ok()?;
    motorbrain_actors::metrics::describe();
    describe_counter!(REQUESTS, "Requests that were answered, by route and status.");
    describe_histogram!(SECONDS, "From a request's head to that of its answer, by route.");
    describe_gauge!(STREAMS, "Streamed answers that are open.");
    describe_gauge!(OPEN, "Requests that are not answered to their end.");
    Some(handle)
}

/// Puts together what was measured, for as long as somebody waits for it.
pub(crate) async fn keep_up(handle: Option<PrometheusHandle>) {
    let Some(handle) = handle else { return std::future::pending().await };
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}

/// A request has its answer's head.
pub(crate) fn answered(route: &str, status: StatusCode, took: Duration) {
    counter!(REQUESTS, "route" => route.to_owned(), "status" => status.as_u16().to_string()).increment(1);
    histogram!(SECONDS, "route" => route.to_owned()).record(took);
}

/// What the brain and this server count, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, content_type = "text/plain", body = String),
    (status = 404, description = "The program has a recorder of its own", body = crate::error::ErrorBody),
))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let handle = app.metrics().ok_or_else(|| {
        ApiError::not_found("no_metrics", "the program that this server is part of keeps its metrics elsewhere")
    })?;
    gauge!(STREAMS).set(app.streams().count() as f64);
    gauge!(OPEN).set(app.drain().open() as f64);
    let mut response = handle.render().into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_docs() {
        let docs = include_str!("../../docs/server.md");
        for name in ALL {
            assert!(docs.contains(&format!("`{name}`")), "{name}");
        }
    }
}
