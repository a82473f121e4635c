//! Every path, and what stands before all of them.

use std::any::Any;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use bytes::Bytes;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    brain, described,
    error::{ApiError, RETRY_AFTER_MS},
    front::{front, gate},
    health, metrics, openai, page,
};

/// What was answered with a panic says no more than that: its words are for the log.
const PANICKED: &str = "something went wrong in the server; its log says what";

/// All of it.
pub(crate) fn router(app: &App) -> Result<Router, crate::ServerError> {
    let (paths, api) = paths(app.rules().chaos).split_for_parts();
    let described: Bytes = described::complete(&api, &app.sizes())?.to_string().into();
    let described = move || std::future::ready(json(described.clone()));
    let mut router = paths
        .route("/openapi.json", get(described))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), gate));
    // A browser has no token before its page has asked for one, and what these say everybody may know.
    for (path, part) in page::parts() {
        router = router.route(path, part);
    }
    if let Some(cors) = cors(&app.settings().cors_origins)? {
        router = router.layer(cors);
    }
    Ok(router.layer(CatchPanicLayer::custom(panicked)).layer(from_fn(front)).with_state(app.clone()))
}

fn json(text: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// The paths with what they take and give. `chaos`: also those that break actors on purpose.
pub(crate) fn paths(chaos: bool) -> OpenApiRouter<App> {
    let router = OpenApiRouter::with_openapi(described::empty())
        .routes(routes!(openai::models::list))
        .routes(routes!(openai::models::one))
        .routes(routes!(openai::chat::create))
        .routes(routes!(openai::completions::create))
        .routes(routes!(openai::embeddings::create))
        .routes(routes!(openai::responses::create))
        .routes(routes!(openai::responses::stored::one, openai::responses::stored::delete))
        .routes(routes!(brain::conversations::list))
        .routes(routes!(brain::conversations::inspect, brain::conversations::close))
        .routes(routes!(brain::conversations::step))
        .routes(routes!(brain::conversations::embed))
        .routes(routes!(brain::conversations::score))
        .routes(routes!(brain::conversations::fork))
        .routes(routes!(brain::conversations::rewind))
        .routes(routes!(brain::conversations::reset))
        .routes(routes!(brain::texts::embed))
        .routes(routes!(brain::texts::rerank))
        .routes(routes!(brain::texts::tokenize))
        .routes(routes!(brain::texts::detokenize))
        .routes(routes!(brain::template::apply))
        .routes(routes!(brain::look::stats))
        .routes(routes!(brain::look::health))
        .routes(routes!(brain::events::events))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics));
    if !chaos {
        return router;
    }
    router.routes(routes!(brain::chaos::kill)).routes(routes!(brain::chaos::hang))
}

/// What pages of these origins may do.
fn cors(origins: &[String]) -> Result<Option<CorsLayer>, crate::ServerError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let bad = |origin: &String| crate::ServerError::Origin { origin: origin.clone() };
    let value = |origin: &String| HeaderValue::from_str(origin).map_err(|_| bad(origin));
    let origin = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().map(value).collect::<Result<Vec<_>, _>>()?),
    };
    let shown = [header::RETRY_AFTER, RETRY_AFTER_MS, HeaderName::from_static("x-request-id")];
    let cors = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(shown);
    Ok(Some(cors))
}

async fn no_such_path() -> ApiError {
    ApiError::not_found("unknown_path", "there is no such path here; `/docs` and `/openapi.json` list those there are")
}

async fn no_such_method() -> ApiError {
    let message = "this path is not asked by that method; `/docs` and `/openapi.json` list which are";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", message)
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", PANICKED).into_response()
}
