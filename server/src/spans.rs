//! What is told of a request over HTTP: `tracing` spans, for logs and for whoever collects traces, named as OpenTelemetry's
//! conventions do (HTTP server spans; GenAI spans of `semantic-conventions-genai`).
//!
//! An HTTP span lasts until the last byte of its answer is written. Inside it is what was asked of the model, where that is
//! one of OpenAI's operations, and inside that are the brain's requests. Neither texts nor tokens are told, nor headers but
//! the request's id, nor a path but its route's pattern: names of conversations stand in the brain's spans alone.
//!
//! What is known only later is recorded in the span that is the current one then.

use axum::http::{Method, StatusCode};
use motorbrain::Sampling;
use tracing::{Instrument as _, Span, debug_span, field::Empty};

#[cfg(feature = "otlp")]
use crate::traces::record_list;
use crate::{error::ApiError, openai::usage::Usage};

/// Who answers, where conventions ask for it.
const PROVIDER: &str = "motorbrain";

/// A request that has come. `route`: the pattern that its path fits.
pub(crate) fn http(id: &str, method: &Method, route: Option<&str>) -> Span {
    let (method, named) = match known(method) {
        true => (method.as_str(), method.as_str()),
        false => ("_OTHER", "HTTP"),
    };
    debug_span!(
        "http",
        otel.name = route.map_or_else(|| named.to_owned(), |route| format!("{named} {route}")),
        otel.kind = "server",
        otel.status_code = Empty,
        request = id,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.scheme = "http",
        url.path = route,
        "error.type" = Empty,
    )
}

/// Whether the conventions know a method, since anybody may send any.
fn known(method: &Method) -> bool {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
    known.contains(method) || [Method::CONNECT, Method::OPTIONS, Method::TRACE, Method::PATCH].contains(method)
}

/// Its answer has a head.
pub(crate) fn answered(http: &Span, status: StatusCode) {
    http.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        http.record("error.type", status.as_str()).record("otel.status_code", "ERROR");
    }
}

/// It is over, also where somebody holds its span a little longer: collectors take a span to end when it was left last.
pub(crate) fn end(http: &Span) {
    http.in_scope(|| {});
}

/// What is asked of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation<'a> {
    /// `chat`, `text_completion` or `embeddings`.
    pub(crate) name: &'static str,
    pub(crate) model: &'a str,
    pub(crate) stream: bool,
    /// How an answer's tokens are chosen, where there are any.
    pub(crate) sampling: Option<&'a Sampling>,
    /// The most of them, where that was said.
    pub(crate) count: Option<usize>,
    pub(crate) seed: Option<u64>,
    /// How many answers.
    pub(crate) n: usize,
}

impl<'a> Operation<'a> {
    /// One that samples nothing.
    pub(crate) fn new(name: &'static str, model: &'a str) -> Self {
        Self { name, model, stream: false, sampling: None, count: None, seed: None, n: 1 }
    }

    /// It is begun.
    pub(crate) fn begin(self) -> Span {
        let Self { name, model, stream, sampling, count, seed, n } = self;
        let of = |value: fn(&Sampling) -> f32| sampling.map(|sampling| decimal(value(sampling)));
        debug_span!(
            "operation",
            otel.name = format!("{name} {model}"),
            otel.status_code = Empty,
            gen_ai.operation.name = name,
            gen_ai.provider.name = PROVIDER,
            gen_ai.request.model = model,
            gen_ai.request.max_tokens = count.map(|count| count as i64),
            gen_ai.request.temperature = of(|sampling| sampling.temperature),
            gen_ai.request.top_p = of(|sampling| sampling.top_p),
            gen_ai.request.seed = seed.map(|seed| seed as i64),
            gen_ai.request.stream = stream.then_some(true),
            gen_ai.request.choice.count = (n > 1).then_some(n as i64),
            gen_ai.response.id = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            "error.type" = Empty,
        )
    }
}

/// Does what an operation that is begun takes.
///
/// # Errors
/// Those of the work.
pub(crate) async fn told<T>(operation: Span, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    async { work.await.inspect_err(failed) }.instrument(operation).await
}

/// The number whose shortest decimal is that of `value`: 0.7 is 0.7.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

/// The operation that is current has an answer. `reasons`: why each of its choices ended.
pub(crate) fn finished(id: &str, reasons: &[&'static str], usage: Usage) {
    let span = Span::current();
    let Usage { prompt_tokens, completion_tokens, prompt_tokens_details: prompt, .. } = usage;
    span.record("gen_ai.response.id", id)
        .record("gen_ai.usage.input_tokens", prompt_tokens as i64)
        .record("gen_ai.usage.cache_read.input_tokens", prompt.cached_tokens as i64)
        .record("gen_ai.usage.output_tokens", completion_tokens as i64);
    record_list(&span, "gen_ai.response.finish_reasons", reasons);
}

/// The operation that is current has vectors of so many tokens.
pub(crate) fn embedded(tokens: usize) {
    Span::current().record("gen_ai.usage.input_tokens", tokens as i64);
}

/// The operation that is current failed.
pub(crate) fn failed(error: &ApiError) {
    Span::current().record("error.type", error.code).record("otel.status_code", "ERROR");
}

/// Records a list of words, which `tracing` knows as a text alone.
#[cfg(not(feature = "otlp"))]
fn record_list(span: &Span, field: &'static str, words: &[&'static str]) {
    span.record(field, tracing::field::debug(words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_as_it_was_said() {
        assert_eq!([0.7_f32, 0.1, 1.0, 1e-7, 2.5].map(decimal), [0.7, 0.1, 1.0, 1e-7, 2.5]);
        assert!(decimal(f32::NAN).is_nan());
    }
}
