//! `/v1/responses/{id}`: a response that is remembered.

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::header,
    response::{IntoResponse as _, Response as HttpResponse},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Response;
use crate::{
    app::{App, Caller},
    error::{ApiError, ErrorBody},
};

/// One that is forgotten.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseDeleted)]
pub(crate) struct Deleted {
    id: String,
    /// `response`.
    object: &'static str,
    deleted: bool,
}

/// A response that is remembered.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "openai", operation_id = "response", params(("id" = String, Path)),
    responses((status = 200, body = Response), (status = "default", body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, ApiError> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::unsupported("the query", "a response is given as it was"));
    }
    let kept = app.responses().get(&id, &caller.client).ok_or_else(|| unknown(&id))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], kept.json).into_response())
}

/// Forgets a response, and the chat that led to it.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "openai", operation_id = "forget_response",
    params(("id" = String, Path)), responses((status = 200, body = Deleted), (status = "default", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    match app.responses().delete(&id, &caller.client) {
        true => Ok(Json(Deleted { id, object: "response", deleted: true })),
        false => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> ApiError {
    let cut: String = id.chars().take(60).collect();
    ApiError::not_found("response_not_found", format!("there is no response `{cut}` any more, or never was"))
}
