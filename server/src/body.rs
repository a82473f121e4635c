//! The body of a request: read within bounds of size and time, then as JSON, and a mistake in it is told with its place.
//! Integers may be written as any number that is whole.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Path;
use tokio::time::timeout;

use crate::{
    app::App,
    bounds::{Bodies, BodyRoom, too_large},
    error::ApiError,
    numbers,
};

/// A body as it came, but for how [whole numbers](numbers) are written; none is one of no bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) bytes: Bytes,
    /// Its room is taken until nobody looks at it any more.
    _room: BodyRoom,
}

/// A body that is said to be JSON.
#[derive(Debug)]
pub(crate) struct RawJson(pub(crate) Raw);

/// What a body of JSON says.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl FromRequest<App> for Raw {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let within = Duration::from_millis(app.settings().body_ms_max);
        read(request.into_body(), app.bodies(), within).await
    }
}

impl FromRequest<App> for RawJson {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        is_json(request.headers())?;
        Raw::from_request(request, app).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let RawJson(body) = RawJson::from_request(request, app).await?;
        parse(&body.bytes).map(Self)
    }
}

/// Whether the body is said to be JSON, which a page of a stranger's cannot have a browser say unasked.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("the header `content-type` is {:?}, expected `application/json`", kind.unwrap_or("missing"));
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

async fn read(mut body: Body, bodies: &Bodies, within: Duration) -> Result<Raw, ApiError> {
    let mut room = bodies.begin();
    if body.size_hint().lower() > bodies.most() as u64 {
        return Err(too_large(bodies.most()));
    }
    let reading = async {
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let broken =
                |error| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", format!("the body broke off: {error}"));
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                room.grow(data.len())?;
                read.extend_from_slice(&data);
            }
        }
        Ok::<_, ApiError>(read.freeze())
    };
    let late = |_| {
        let message = format!("the body was not there within {} ms (`server.body_ms_max`)", within.as_millis());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    };
    let bytes = timeout(within, reading).await.map_err(late)??;
    let plain = numbers::plain(bytes.clone());
    room.grow(plain.len().saturating_sub(bytes.len()))?;
    Ok(Raw { bytes: plain, _room: room })
}

/// Reads JSON; `null` is what was left out, and what nobody asks for is refused by its name.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(bad("there is no body, expected one JSON object".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| refusal(error.path(), error.inner()))?;
    deserializer.end().map_err(|error| bad(format!("the body goes on behind its JSON: {error}")))?;
    Ok(value)
}

/// Reads a value that stands at `param`.
pub(crate) fn parse_at<T: DeserializeOwned>(param: &str, value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let refused = refusal(error.path(), error.inner());
        let place = refused.param.as_ref().map_or_else(|| param.to_owned(), |inner| format!("{param}.{inner}"));
        ApiError { message: format!("{param}: {}", refused.message), param: Some(place), ..refused }
    })
}

/// What is wrong with a value, and where.
fn refusal(path: &Path, error: &serde_json::Error) -> ApiError {
    let refused = |code, message| ApiError::new(StatusCode::BAD_REQUEST, code, message);
    if !error.is_data() {
        return refused("invalid_json", format!("the body is no JSON: {error}"));
    }
    let said = in_words(error.to_string());
    // The path of the object itself is a dot; one that lacks a key, or has it twice, is told by that key.
    let object = path.to_string();
    let key = said.strip_prefix("missing field `").or_else(|| said.strip_prefix("duplicate field `"));
    let place = match (object.as_str(), key.and_then(|key| key.split('`').next())) {
        (".", key) => key.unwrap_or_default().to_owned(),
        (object, Some(key)) => format!("{object}.{key}"),
        (object, None) => object.to_owned(),
    };
    let at = |error: ApiError| if place.is_empty() { error } else { error.at(&place) };
    if said.starts_with("unknown field") {
        return at(refused("unsupported_parameter", format!("`{place}` is not served: {said}")));
    }
    at(refused("invalid_type", if object == "." { said } else { format!("{object}: {said}") }))
}

/// What was expected in words of JSON, where serde says it in Rust's.
fn in_words(said: String) -> String {
    const WORDS: [(&[&str], &str); 6] = [
        (&["u32"], "a whole number, 0 to 4294967295"),
        (&["u64", "usize"], "a whole number, 0 or more"),
        (&["i64"], "a whole number of 64 bits with a sign"),
        (&["f32", "f64"], "a number"),
        (&["a sequence"], "a list"),
        (&["a map", "struct"], "an object"),
    ];
    let Some((found, expected)) = said.rsplit_once(", expected ") else { return said };
    // What stands where is told behind it.
    let (expected, place) = expected.split_at(expected.find(" at line ").unwrap_or(expected.len()));
    let named =
        |names: &&[&str]| names.iter().any(|name| expected == *name || expected.starts_with(&format!("{name} ")));
    match WORDS.iter().find(|(names, _)| named(names)) {
        Some((_, words)) => format!("{found}, expected {words}{place}"),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        one: Option<u32>,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        two: u32,
    }

    fn check(json: &str, code: &str, param: Option<&str>, words: &str) {
        let refused = parse::<Outer>(json.as_bytes()).expect_err(json);
        assert_eq!((refused.code, refused.param.as_deref()), (code, param), "{json}: {}", refused.message);
        assert!(refused.message.contains(words), "{json}: {}", refused.message);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        assert_eq!(parse(b"{\"one\":null}"), Ok(Outer { one: None, inner: None }));
        check("", "invalid_json", None, "no body");
        check("{\"one\":1", "invalid_json", None, "line 1 column 8");
        check("{\"one\":1}{", "invalid_json", None, "goes on");
        check("[]", "invalid_type", None, "invalid length");
        check(
            "{\"one\":\"x\"}",
            "invalid_type",
            Some("one"),
            "invalid type: string \"x\", expected a whole number, 0 to 4294967295 at line 1",
        );
        check(
            "{\"one\":5000000000}",
            "invalid_type",
            Some("one"),
            "`5000000000`, expected a whole number, 0 to 4294967295",
        );
        check("7", "invalid_type", None, "invalid type: integer `7`, expected an object at line 1");
        check("{\"inner\":{}}", "invalid_type", Some("inner"), "invalid type: map, expected a list at line 1");
        check("{\"inner\":[{\"two\":1},{\"two\":-1}]}", "invalid_type", Some("inner[1].two"), "-1");
        check("{\"inner\":[{}]}", "invalid_type", Some("inner[0].two"), "missing field `two`");
        check("{\"three\":1}", "unsupported_parameter", Some("three"), "`three` is not served");
        check("{\"inner\":[{\"three\":1}]}", "unsupported_parameter", Some("inner[0].three"), "expected `two`");
        check("{\"one\":1,\"one\":2}", "invalid_type", Some("one"), "duplicate field");
    }
}
