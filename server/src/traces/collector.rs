//! How a collector is sent to: one request a batch on a connection of its own, by hyper.
//!
//! The exporter asks from a thread that knows no runtime, so the server's does it, beside what callers wait for. A
//! collector may be away, slow or hostile: each request has a time, each answer a bound, and that nobody takes traces is
//! told once, not with each batch.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use axum::http::{HeaderValue, Request, Response, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::{net::TcpStream, runtime::Handle, task::JoinSet, time::timeout};

/// How long one request may take: as long as the exporter tries again with a batch, unless it is told otherwise.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// The most bytes of an answer, which has next to nothing to say.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where the address names no port.
const PORT: u16 = 80;

/// Sends to a collector.
#[derive(Debug)]
pub(super) struct Collector {
    runtime: Handle,
    /// Whether it took the last that it was sent.
    takes: AtomicBool,
}

impl Collector {
    pub(super) fn new(runtime: &Handle) -> Self {
        Self { runtime: runtime.clone(), takes: AtomicBool::new(true) }
    }

    /// Tells of what has changed.
    fn tell(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let failed = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(motorbrain_actors::shown::with_causes(&**error)),
        };
        let took = self.takes.swap(failed.is_none(), Ordering::Relaxed);
        match failed {
            Some(reason) if took => tracing::warn!(reason, "traces are lost: the collector does not take them"),
            None if !took => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(async move { timeout(REQUEST_MAX, send(request)).await });
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            // The runtime ends.
            Err(cancelled) => Err(cancelled.into()),
        };
        self.tell(&answer);
        answer
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or("the address names no host")?;
    // An IPv6 address is looked up without its brackets.
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(PORT))).await?;
    head.uri = head.uri.path_and_query().map_or_else(Uri::default, |path| path.clone().into());
    let name = authority.as_str().rsplit('@').next().unwrap_or_default();
    head.headers.insert(header::HOST, HeaderValue::from_str(name)?);
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with this, whether the other side wants to or not.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let (head, body) = sender.send_request(Request::from_parts(head, Full::new(body))).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
