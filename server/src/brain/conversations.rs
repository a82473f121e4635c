//! Conversations by their names: what they are, and what is asked of one.

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Response,
};
use motorbrain::{ConversationId, ListAsk};
use motorbrain_protocol::Answer;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    said::{ConversationSaid, Embedded, Embeds, Forks, Listed, Rewinds, Scored, Scores, Stands, Stepped, Steps},
    work::{done, written},
};
use crate::{
    app::{App, Caller},
    body::{Raw, RawJson},
    error::{ApiError, ErrorBody},
    sse,
};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// The `next` of the page before.
    after: Option<String>,
    /// How many; left out, 100.
    limit: Option<usize>,
}

/// A page of the conversations; `next`, where there is one, begins the next.
#[utoipa::path(get, path = "/brain/conversations", tag = "brain", params(Page),
    responses((status = 200, body = Listed), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Page { after, limit }) =
        page.map_err(|error| ApiError::invalid("the query", error, "`after` and `limit`"))?;
    let limit = limit.unwrap_or(ListAsk::default().limit);
    let ask = ListAsk { after: after.map(ConversationId::from), limit };
    let listed = app.brain(&caller).list(ask).await.map_err(|error| ApiError::own(&error))?;
    Ok(written(&Answer::Listed(listed)))
}

/// What a conversation is.
#[utoipa::path(get, path = "/brain/conversations/{name}", tag = "brain",
    params(("name" = String, Path)),
    responses((status = 200, body = ConversationSaid), (status = "default", body = ErrorBody)))]
pub(crate) async fn inspect(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let inspected = app.brain(&caller).inspect(name).await.map_err(|error| ApiError::own(&error))?;
    Ok(written(&Answer::Inspected(inspected)))
}

/// Forgets a conversation.
#[utoipa::path(delete, path = "/brain/conversations/{name}", tag = "brain",
    params(("name" = String, Path)),
    responses((status = 200, description = "It is gone"), (status = "default", body = ErrorBody)))]
pub(crate) async fn close(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    body: Raw,
) -> Result<Response, ApiError> {
    done(&app, &caller, "close", Some(&name), &body).await
}

/// Appends an input, if there is one, then samples tokens; with `stream` as events: `part`, then `ok`.
#[utoipa::path(post, path = "/brain/conversations/{name}/step", tag = "brain",
    params(("name" = String, Path)),
    request_body = Steps, responses(
        (status = 200, content((Stepped = "application/json"), (sse::Events = "text/event-stream"))),
        (status = "default", body = ErrorBody),
    ))]
pub(crate) async fn step(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "step", Some(&name), &body).await
}

/// Appends an input and gives its vector in the conversation.
#[utoipa::path(post, path = "/brain/conversations/{name}/embed", tag = "brain",
    params(("name" = String, Path)),
    request_body = Embeds, responses((status = 200, body = Embedded), (status = "default", body = ErrorBody)))]
pub(crate) async fn embed(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "embed", Some(&name), &body).await
}

/// Appends an input and says how likely each of its tokens was.
#[utoipa::path(post, path = "/brain/conversations/{name}/score", tag = "brain",
    params(("name" = String, Path)),
    request_body = Scores, responses((status = 200, body = Scored), (status = "default", body = ErrorBody)))]
pub(crate) async fn score(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "score", Some(&name), &body).await
}

/// Makes a conversation of the first tokens of this one.
#[utoipa::path(post, path = "/brain/conversations/{name}/fork", tag = "brain",
    params(("name" = String, Path)),
    request_body = Forks, responses((status = 200, body = Stands), (status = "default", body = ErrorBody)))]
pub(crate) async fn fork(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "fork", Some(&name), &body).await
}

/// Takes a conversation back to its first tokens.
#[utoipa::path(post, path = "/brain/conversations/{name}/rewind", tag = "brain",
    params(("name" = String, Path)),
    request_body = Rewinds, responses((status = 200, body = Stands), (status = "default", body = ErrorBody)))]
pub(crate) async fn rewind(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "rewind", Some(&name), &body).await
}

/// Empties a conversation and lifts its quarantine.
#[utoipa::path(post, path = "/brain/conversations/{name}/reset", tag = "brain",
    params(("name" = String, Path)),
    responses((status = 200, description = "It is empty"), (status = "default", body = ErrorBody)))]
pub(crate) async fn reset(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    body: Raw,
) -> Result<Response, ApiError> {
    done(&app, &caller, "reset", Some(&name), &body).await
}
