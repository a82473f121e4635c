//! What is asked without a conversation: vectors, an order of documents, tokens of texts and texts of tokens.

use axum::{extract::State, response::Response};

use super::{
    said::{Detokenizes, Embedded, EmbedsAlone, Reranked, Reranks, Text, TokenIds, Tokenizes},
    work::done,
};
use crate::{
    app::{App, Caller},
    body::RawJson,
    error::{ApiError, ErrorBody},
};

/// A vector of an input; nothing is kept.
#[utoipa::path(post, path = "/brain/embed", tag = "brain", operation_id = "embed_alone", request_body = EmbedsAlone,
    responses((status = 200, body = Embedded), (status = "default", body = ErrorBody)))]
pub(crate) async fn embed(
    State(app): State<App>,
    caller: Caller,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "embed", None, &body).await
}

/// Which documents answer a query best.
#[utoipa::path(post, path = "/brain/rerank", tag = "brain", request_body = Reranks,
    responses((status = 200, body = Reranked), (status = "default", body = ErrorBody)))]
pub(crate) async fn rerank(
    State(app): State<App>,
    caller: Caller,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "rerank", None, &body).await
}

/// The tokens that a text has at a conversation's beginning.
#[utoipa::path(post, path = "/brain/tokenize", tag = "brain", request_body = Tokenizes,
    responses((status = 200, body = TokenIds), (status = "default", body = ErrorBody)))]
pub(crate) async fn tokenize(
    State(app): State<App>,
    caller: Caller,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "tokenize", None, &body).await
}

/// The text that tokens have from a conversation's beginning.
#[utoipa::path(post, path = "/brain/detokenize", tag = "brain", request_body = Detokenizes,
    responses((status = 200, body = Text), (status = "default", body = ErrorBody)))]
pub(crate) async fn detokenize(
    State(app): State<App>,
    caller: Caller,
    RawJson(body): RawJson,
) -> Result<Response, ApiError> {
    done(&app, &caller, "detokenize", None, &body).await
}
