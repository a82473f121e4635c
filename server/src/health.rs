//! Whether this process lives, and whether it serves.

use axum::{Json, extract::State, http::StatusCode};
use motorbrain::Health;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::{App, Caller},
    drain::Phase,
};

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Healthy {
    /// `starting`, `ready`, `degraded`, `down` or `draining`.
    health: &'static str,
    /// What could be better.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// This process lives: it answers.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, body = Healthy)))]
pub(crate) async fn healthz() -> Json<Healthy> {
    Json(Healthy { health: "alive", reason: None })
}

/// Whether requests are served.
#[utoipa::path(get, path = "/readyz", tag = "server", responses(
    (status = 200, description = "They are", body = Healthy),
    (status = 503, description = "They are not, for this reason", body = Healthy),
))]
pub(crate) async fn readyz(State(app): State<App>, caller: Caller) -> (StatusCode, Json<Healthy>) {
    let (served, state) = look(&app, &caller).await;
    (if served { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(state))
}

/// Whether requests are served, and how the server is.
pub(crate) async fn look(app: &App, caller: &Caller) -> (bool, Healthy) {
    if app.drain().phase() != Phase::Serving {
        return (false, Healthy { health: "draining", reason: Some("the server is shutting down".to_owned()) });
    }
    match app.brain(caller).health().await {
        Ok(health) => {
            let served = matches!(health, Health::Ready | Health::Degraded { .. });
            (served, Healthy { health: health.as_str(), reason: health.reason().map(str::to_owned) })
        }
        Err(error) => (false, Healthy { health: "down", reason: Some(error.to_string()) }),
    }
}
