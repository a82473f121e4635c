//! How the brain is.

use axum::{Json, extract::State, response::Response};
use motorbrain_protocol::Answer;

use super::{said::Stats, work::written};
use crate::{
    app::{App, Caller},
    error::{ApiError, ErrorBody},
    health::{self, Healthy},
};

/// The brain's figures, at once.
#[utoipa::path(get, path = "/brain/stats", tag = "brain",
    responses((status = 200, body = Stats), (status = "default", body = ErrorBody)))]
pub(crate) async fn stats(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let stats = app.brain(&caller).stats().await.map_err(|error| ApiError::own(&error))?;
    Ok(written(&Answer::Stats(stats)))
}

/// How the brain is, and what could be better; it is an answer, also where the brain is down.
#[utoipa::path(get, path = "/brain/health", tag = "brain", responses((status = 200, body = Healthy)))]
pub(crate) async fn health(State(app): State<App>, caller: Caller) -> Json<Healthy> {
    Json(health::look(&app, &caller).await.1)
}
