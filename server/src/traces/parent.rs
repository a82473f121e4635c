//! What spans have that `tracing` does not know: a parent in another process, and lists.

use axum::http::HeaderMap;
use opentelemetry::{
    Array, Context, StringValue, Value,
    propagation::{Extractor, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The longest `tracestate`, as W3C's recommendation has it: each span of the request has it while it waits to be sent.
const STATE_BYTES_MAX: usize = 512;

/// Headers as far as they are looked at.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    /// The value of a header that is there once.
    fn get(&self, key: &str) -> Option<&str> {
        let mut all = self.0.get_all(key).iter();
        let (one, None) = (all.next()?, all.next()) else { return None };
        one.to_str().ok().filter(|value| value.len() <= STATE_BYTES_MAX)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// The span of a request goes on with its caller's trace, where the headers have one. It must not have begun anything.
pub(crate) fn go_on(span: &Span, headers: &HeaderMap) {
    let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if caller.span().span_context().is_valid() {
        // Nobody collects traces, or not this one.
        let _ = span.set_parent(caller);
    }
}

/// Records a list of words.
pub(crate) fn record_list(span: &Span, field: &'static str, words: &[&'static str]) {
    let words = words.iter().map(|word| StringValue::from(*word)).collect();
    span.set_attribute(field, Value::Array(Array::String(words)));
}
