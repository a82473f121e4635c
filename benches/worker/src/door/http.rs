//! A connection to a server that speaks OpenAI's interface, as its clients use it: one request after the other.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST, HeaderMap, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};

use super::{
    Answer,
    mix::{Caller, SYSTEM, TEMPERATURE, TOP_P},
};
use crate::Outcome;

/// Where the server does not say when to come again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    address: SocketAddr,
    requests: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        // What breaks it is told by the next request.
        tokio::spawn(connection);
        Ok(Self { address, requests })
    }

    pub(super) async fn answer(&mut self, caller: &Caller, model: &str) -> Outcome<Answer> {
        if self.requests.is_closed() {
            *self = Self::open(self.address).await?;
        }
        self.requests.ready().await?;
        let (path, body) = match caller.embeds {
            true => ("/v1/embeddings", json!({ "model": model, "input": caller.text(), "encoding_format": "base64" })),
            false => ("/v1/chat/completions", chat(caller, model)),
        };
        let asked = Instant::now();
        let request = Request::post(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = self.requests.send_request(request).await?;
        match response.status() {
            StatusCode::OK if caller.embeds => {
                let body: Value = serde_json::from_slice(&response.collect().await?.to_bytes())?;
                match body.pointer("/data/0/embedding") {
                    Some(_) => Ok(Answer::Vector { asked }),
                    None => Err(format!("no vector: {body}").into()),
                }
            }
            StatusCode::OK => streamed(response, asked).await,
            StatusCode::TOO_MANY_REQUESTS => {
                let pause = pause(response.headers());
                response.collect().await?;
                Ok(Answer::Busy(pause))
            }
            status => {
                let body = response.collect().await?.to_bytes();
                Err(format!("{path} was answered {status}: {}", String::from_utf8_lossy(&body)).into())
            }
        }
    }
}

fn chat(caller: &Caller, model: &str) -> Value {
    json!({
        "model": model,
        "messages": [{ "role": "system", "content": SYSTEM }, { "role": "user", "content": caller.message() }],
        "max_tokens": caller.tokens,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "seed": caller.seed(),
        "stream": true,
        "stream_options": { "include_usage": true },
    })
}

fn pause(headers: &HeaderMap) -> Duration {
    let number = |value: &hyper::header::HeaderValue| value.to_str().ok()?.parse::<u64>().ok();
    let exact = headers.get("retry-after-ms").and_then(number).map(Duration::from_millis);
    exact.or_else(|| headers.get(RETRY_AFTER).and_then(number).map(Duration::from_secs)).unwrap_or(PAUSE)
}

/// Reads events until the stream ends.
async fn streamed(mut response: Response<Incoming>, asked: Instant) -> Outcome<Answer> {
    let (mut came, mut tokens, mut is_over) = (Vec::new(), None, false);
    let mut held = Vec::new();
    while let Some(frame) = response.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            match line.strip_prefix(b"data: ").map(<[u8]>::trim_ascii) {
                None => {}
                Some(b"[DONE]") => is_over = true,
                Some(event) => {
                    let event: Value = serde_json::from_slice(event)?;
                    if let Some(error) = event.get("error") {
                        return Err(format!("a stream ended with {error}").into());
                    }
                    let text = event.pointer("/choices/0/delta/content").and_then(Value::as_str);
                    if text.is_some_and(|text| !text.is_empty()) {
                        came.push(Instant::now());
                    }
                    let counted = event.pointer("/usage/completion_tokens").and_then(Value::as_u64);
                    tokens = counted.map(|tokens| tokens as usize).or(tokens);
                }
            }
        }
    }
    if !is_over {
        return Err("a stream was cut off".into());
    }
    Ok(Answer::Chat { asked, tokens: tokens.unwrap_or(came.len()), came })
}
