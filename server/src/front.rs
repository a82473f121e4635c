//! What every request goes through: it gets an id, is counted, and is let in or sent away.
//!
//! Neither headers nor bodies are logged: an id, a method, the route's pattern, a status and a time are.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::Instrument as _;

use crate::{
    app::{App, Caller},
    auth,
    drain::Phase,
    error::ApiError,
    metrics, names, spans,
    watched::watched,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a caller.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// The paths that are answered whoever asks; what runs this process looks there.
const OPEN_TO_ALL: &str = "/healthz";

/// Those that are answered while the server ends.
const ANSWERED_TO_THE_END: [&str; 3] = [OPEN_TO_ALL, "/readyz", "/metrics"];

/// Names a request and counts it.
pub(crate) async fn front(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let began = Instant::now();
    let span = spans::http(id.to_str().unwrap_or_default(), request.method(), route);
    #[cfg(feature = "otlp")]
    crate::traces::go_on(&span, request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status(), began.elapsed());
    span.in_scope(|| tracing::debug!(status = status.as_u16(), ms = took.as_millis(), "answered"));
    spans::answered(&span, status);
    metrics::answered(route.unwrap_or("none"), status, took);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The id that a caller gave, where it is one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fine = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(is_plain)
    };
    let made = || HeaderValue::from_str(&names::random("req-")).unwrap_or(HeaderValue::from_static("req"));
    headers.get(REQUEST_ID).filter(fine).cloned().unwrap_or_else(made)
}

/// Lets a request in, or sends it away.
pub(crate) async fn gate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == OPEN_TO_ALL {
        return next.run(request).await;
    }
    let to_the_end = ANSWERED_TO_THE_END.contains(&path);
    if let Err(error) = check_names(&app, request.method(), request.uri(), request.headers()) {
        return error.into_response();
    }
    if let Some(tokens) = app.tokens() {
        match tokens.client(request.headers()) {
            Some(client) => drop(request.extensions_mut().insert(Caller { client })),
            None => return auth::refusal().into_response(),
        }
    }
    if to_the_end {
        return next.run(request).await;
    }
    let Some(accepted) = app.drain().accept() else {
        return closing(ApiError::draining().into_response());
    };
    let drain = app.drain().clone();
    tokio::select! {
        response = next.run(request) => watched(response, accepted, drain),
        () = drain.reached(Phase::Closing) => closing(ApiError::draining().into_response()),
    }
}

/// The connection ends with this.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether a request came to a name of this server, and from no page that may not send it.
fn check_names(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // A whole address in the first line beats the header.
    let host = uri.authority().map(|authority| authority.as_str()).or_else(|| text(header::HOST)).unwrap_or_default();
    if !app.hosts().answers(host) {
        let message = "the header `host` names another server, expected this machine's or one of `server.hosts`";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", message));
    }
    let looks = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // A page that asks without leave is given nothing to read, and says no origin: what its browser says of it counts.
    let strange =
        text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site" || site == "same-site");
    let navigates = text(HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
    match text(header::ORIGIN) {
        None if strange && !navigates => {
            let message = "a page of another origin may not ask here, expected one of `server.cors_origins`";
            Err(ApiError::new(StatusCode::FORBIDDEN, "unknown_origin", message))
        }
        Some(origin) if !looks && !app.hosts().takes_from(origin, host) => {
            let message = "this page's origin may not ask here, expected one of `server.cors_origins`";
            Err(ApiError::new(StatusCode::FORBIDDEN, "unknown_origin", message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_where_it_is_one() {
        let id = |given: &str| {
            let headers = HeaderMap::from_iter(HeaderValue::from_str(given).ok().map(|value| (REQUEST_ID, value)));
            request_id(&headers).to_str().map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(id("a-1_b.c:d"), "a-1_b.c:d");
        for none in ["", "a b", "a\"", &"x".repeat(129)] {
            assert!(id(none).starts_with("req-"), "{none:?}");
        }
    }
}
