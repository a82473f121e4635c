//! Pages for people: all of what they show is in this program, and nothing of them may be loaded from elsewhere.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};

use crate::app::App;

/// What a page may do: its own scripts and styles, and to ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// All of them, and what they load, by their paths.
const PARTS: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/docs", HTML, include_str!("../page/docs.html")),
    ("/style.css", STYLE, include_str!("../page/style.css")),
    ("/ask.js", SCRIPT, include_str!("../page/ask.js")),
    ("/chat.js", SCRIPT, include_str!("../page/chat.js")),
    ("/docs.js", SCRIPT, include_str!("../page/docs.js")),
    ("/figures.js", SCRIPT, include_str!("../page/figures.js")),
    ("/live.js", SCRIPT, include_str!("../page/live.js")),
    ("/page.js", SCRIPT, include_str!("../page/page.js")),
    ("/vectors.js", SCRIPT, include_str!("../page/vectors.js")),
];

/// Paths with their answers.
pub(crate) fn parts() -> impl Iterator<Item = (&'static str, MethodRouter<App>)> {
    PARTS.into_iter().map(|(path, kind, text)| (path, get(async move || file(kind, text))))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
