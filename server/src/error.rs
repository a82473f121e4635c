//! Errors as this door tells them: which status a code has, and what stands in the body. Pure.
//!
//! A status says who can do something about it and whether asking again helps, since clients go by it: those of OpenAI
//! ask again at 408, 409, 429 and from 500 on unless `x-should-retry` says otherwise. So 409 is never said, and what asking
//! again would only repeat says so.

use std::time::Duration;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use motorbrain::{BrainError, ErrorCode, chat::ChatError};
use serde::Serialize;
use utoipa::ToSchema;

/// Heeded by the clients of OpenAI.
pub(crate) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// When to come back where nothing better is known.
const SOON: Duration = Duration::from_secs(1);

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Which key of the request is meant.
    pub(crate) param: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) retryable: bool,
}

/// What stands in the body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorSaid,
}

/// The error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorSaid {
    /// What was wrong, what was expected.
    message: String,
    /// Whose turn it is: `invalid_request_error`, `authentication_error`, `rate_limit_error` or `server_error`.
    r#type: &'static str,
    /// Which key of the request is meant, if one is.
    param: Option<String>,
    /// Which error it is.
    code: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// When it is worth asking again, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The status of a code: the one place where that is decided.
pub(crate) const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest
        | ErrorCode::EmptyInput
        | ErrorCode::InvalidToken
        | ErrorCode::InputTooLong
        | ErrorCode::TooLarge
        | ErrorCode::ContextFull
        | ErrorCode::ConversationExists
        | ErrorCode::BehindSlide
        | ErrorCode::Mismatch => StatusCode::BAD_REQUEST,
        // Its caller took it back, be it on another connection: nothing that is asked again as it was.
        ErrorCode::Cancelled => StatusCode::GONE,
        ErrorCode::UnknownConversation => StatusCode::NOT_FOUND,
        ErrorCode::Quarantined => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Restarted | ErrorCode::Engine => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A code as the clients of OpenAI know it, where they go by one.
const fn known(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::ContextFull => "context_length_exceeded",
        code => code.as_str(),
    }
}

impl ApiError {
    /// A refusal that asking again would only repeat.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None, retryable: false }
    }

    /// One that is over after a while.
    pub(crate) fn later(status: StatusCode, code: &'static str, message: impl Into<String>, after: Duration) -> Self {
        Self { retry_after: Some(after), retryable: true, ..Self::new(status, code, message) }
    }

    /// A value that may not be: the key, what it is, what it may be.
    pub(crate) fn invalid(param: &str, found: impl std::fmt::Display, expected: impl std::fmt::Display) -> Self {
        let message = format!("{param} is {found}, expected {expected}");
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).at(param)
    }

    /// A key that is not served.
    pub(crate) fn unsupported(param: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("`{param}` is not served: {why}");
        Self::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message).at(param)
    }

    /// What is not there.
    pub(crate) fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// What comes while the server ends.
    pub(crate) fn draining() -> Self {
        let message = "the server is shutting down";
        Self::later(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable.as_str(), message, SOON)
    }

    /// About this key.
    pub(crate) fn at(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// A brain's error with its own code, as the pipe spells it.
    pub(crate) fn own(error: &BrainError) -> Self {
        let code = error.code();
        let retry_after = match error {
            BrainError::Overloaded { retry_after, .. } => *retry_after,
            BrainError::Quarantined { retry_after, .. } => Some(*retry_after),
            BrainError::Unavailable { .. } => Some(SOON),
            _ => None,
        };
        let param = match error {
            BrainError::BadRequest { what, .. } => Some(*what).filter(|what| is_key(what)).map(str::to_owned),
            _ => None,
        };
        // Where waiting alone does not help, asking again does not either.
        let retryable = code.retryable() && (code != ErrorCode::Overloaded || retry_after.is_some());
        Self { status: status(code), code: code.as_str(), message: error.to_string(), param, retry_after, retryable }
    }

    /// Whose turn it is.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body.
    pub(crate) fn body(&self) -> ErrorBody {
        // Rounded up: whoever waits so long does not come too early.
        let ms = |after: Duration| u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        ErrorBody {
            error: ErrorSaid {
                message: self.message.clone(),
                r#type: self.kind(),
                param: self.param.clone(),
                code: self.code,
                retryable: self.retryable,
                retry_after_ms: self.retry_after.map(ms),
            },
        }
    }
}

/// Whether this can be a key of a request, and is no description of something.
fn is_key(what: &str) -> bool {
    what.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl From<BrainError> for ApiError {
    fn from(error: BrainError) -> Self {
        Self { code: known(error.code()), ..Self::own(&error) }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        match error {
            ChatError::Brain(error) => error.into(),
            error => {
                let code = error.code();
                let param = match &error {
                    ChatError::BadRequest { what, .. } => Some(*what).filter(|what| is_key(what)).map(str::to_owned),
                    _ => None,
                };
                let message = motorbrain_actors::shown::with_causes(&error);
                Self { param, retryable: code.retryable(), ..Self::new(status(code), known(code), message) }
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.status, axum::Json(&body)).into_response();
        let headers = response.headers_mut();
        if let (Some(after), Some(ms)) = (self.retry_after, body.error.retry_after_ms) {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_nanos().div_ceil(1_000_000_000) as u64));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
        }
        let repeated = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&self.status);
        if self.status.is_server_error() || repeated {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if self.retryable { "true" } else { "false" }));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use motorbrain::ConversationId;

    use super::*;

    /// Status, code, key and whether to ask again.
    fn check(error: BrainError, status: u16, code: &str, param: Option<&str>, retryable: bool) {
        let told = ApiError::from(error.clone());
        assert_eq!((told.status.as_u16(), told.code, told.retryable), (status, code, retryable), "{error}");
        assert_eq!(told.param.as_deref(), param, "{error}");
    }

    #[test]
    fn a_code_has_one_status_and_nothing_final_is_asked_again() {
        let bad = |what| BrainError::BadRequest { what, found: "1".into(), expected: "2".into() };
        check(bad("top_p"), 400, "bad_request", Some("top_p"), false);
        check(bad("the body"), 400, "bad_request", None, false);
        check(BrainError::ContextFull { context_len: 1, new: 2, size: 2 }, 400, "context_length_exceeded", None, false);
        let conversation = ConversationId::from("a");
        check(BrainError::UnknownConversation { conversation }, 404, "unknown_conversation", None, false);
        let overloaded = |retry_after| BrainError::Overloaded { what: "requests", limit: 8, retry_after };
        check(overloaded(Some(SOON)), 429, "overloaded", None, true);
        check(overloaded(None), 429, "overloaded", None, false);
        check(BrainError::Timeout { deadline: SOON }, 504, "timeout", None, true);
        check(BrainError::Unavailable { reason: String::new() }, 503, "unavailable", None, true);
        check(BrainError::Restarted, 500, "restarted", None, false);
        check(BrainError::Quarantined { conversation: None, retry_after: SOON }, 422, "quarantined", None, false);
        check(BrainError::Cancelled, 410, "cancelled", None, false);
        assert!(ErrorCode::ALL.iter().all(|code| status(*code) != StatusCode::CONFLICT));
    }

    #[test]
    fn when_to_come_back_is_rounded_up() {
        let after = Duration::from_micros(1_000_001);
        let response = ApiError::later(StatusCode::TOO_MANY_REQUESTS, "overloaded", "", after).into_response();
        let header = |name: &HeaderName| response.headers()[name].to_str().map(str::to_owned).ok();
        assert_eq!(header(&RETRY_AFTER).as_deref(), Some("2"));
        assert_eq!(header(&RETRY_AFTER_MS).as_deref(), Some("1001"));
        assert_eq!(header(&SHOULD_RETRY).as_deref(), Some("true"));
    }
}
