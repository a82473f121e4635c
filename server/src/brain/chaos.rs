//! What breaks actors on purpose, to see what follows; there only where `brain.chaos` is set.

use axum::{extract::State, response::Response};
use motorbrain_protocol::{Answer, Op, decode_keys};

use super::{
    said::{Hangs, Kills},
    work::written,
};
use crate::{
    app::{App, Caller},
    body::{Raw, RawJson},
    error::{ApiError, ErrorBody},
};

/// Makes an actor panic; answered when handed on.
#[utoipa::path(post, path = "/brain/chaos/kill", tag = "brain", request_body = Kills,
    responses((status = 200, description = "Handed on"), (status = "default", body = ErrorBody)))]
pub(crate) async fn kill(State(app): State<App>, caller: Caller, RawJson(body): RawJson) -> Result<Response, ApiError> {
    done(&app, &caller, "crash", &body).await
}

/// Makes an actor sleep without answering; answered when handed on.
#[utoipa::path(post, path = "/brain/chaos/hang", tag = "brain", request_body = Hangs,
    responses((status = 200, description = "Handed on"), (status = "default", body = ErrorBody)))]
pub(crate) async fn hang(State(app): State<App>, caller: Caller, RawJson(body): RawJson) -> Result<Response, ApiError> {
    done(&app, &caller, "hang", &body).await
}

async fn done(app: &App, caller: &Caller, op: &'static str, body: &Raw) -> Result<Response, ApiError> {
    let brain = app.brain(caller);
    let handed_on = match decode_keys(op, None, &body.bytes, app.rules()) {
        Ok(Op::Crash { actor }) => brain.crash(actor).await,
        Ok(Op::Hang { actor, pause }) => brain.hang(actor, pause).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    handed_on.map_err(|error| ApiError::own(&error))?;
    Ok(written(&Answer::HandedOn))
}
