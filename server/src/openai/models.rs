//! The names by which the model is asked for.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::{app::App, error::ErrorBody};

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Model {
    /// Its name.
    id: String,
    /// `model`.
    object: &'static str,
    /// Since when it is served, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

/// All of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    /// `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// The names by which the model may be asked for; the first is its own.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = Models)))]
pub(crate) async fn list(State(app): State<App>) -> Json<Models> {
    let data = app.models().iter().map(|name| model(&app, name)).collect();
    Json(Models { object: "list", data })
}

/// One of them.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "openai",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, body = Model), (status = 404, body = ErrorBody)))]
pub(crate) async fn one(State(app): State<App>, Path(name): Path<String>) -> Result<Json<Model>, ApiError> {
    app.check_model(&name)?;
    Ok(Json(model(&app, &name)))
}

fn model(app: &App, name: &str) -> Model {
    Model { id: name.to_owned(), object: "model", created: app.began(), owned_by: "motorbrain" }
}
