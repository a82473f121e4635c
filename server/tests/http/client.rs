//! A small client, which sends what it is told byte by byte, and reads answers as a browser would.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Nothing here takes a minute; whatever does hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as JSON of an answer that is one.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The error, which this status and code have.
    pub(crate) fn error(&self, status: u16, code: &str) -> Value {
        let error = self.json()["error"].clone();
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{self:?}");
        error
    }

    /// The events of a stream: names, if they have any, and what they say.
    pub(crate) fn events(&self) -> Vec<(Option<String>, String)> {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/event-stream")), "{self:?}");
        let blocks = self.body.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
        let event = |block: &str| {
            let of = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            (of("event: "), of("data: ").unwrap())
        };
        blocks.map(event).collect()
    }

    /// What the events of a stream say, but for a last `[DONE]`, which must be there.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events: Vec<String> = self.events().into_iter().map(|(_, data)| data).collect();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"), "{self:?}");
        events.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the text is there; what was read, with it.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, end.as_bytes()) {
                let read: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(read).unwrap();
            }
            assert!(self.more().await, "the connection ended: {}", String::from_utf8_lossy(&self.read));
        }
    }

    /// Reads to the connection's end.
    pub(crate) async fn read_to_end(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// False at the end, be it a rude one.
    async fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("nothing came");
        let read = read.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..read]);
        read > 0
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.read_to("\r\n\r\n").await;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            line.split_once(':').map(|(key, value)| (key.to_ascii_lowercase(), value.trim_start().to_owned()))
        };
        let headers: HashMap<String, String> = lines.filter_map(header).collect();
        let body = match (headers.get("content-length"), headers.get("transfer-encoding")) {
            (Some(length), _) => self.exactly(length.parse().unwrap()).await,
            (None, Some(_)) => self.chunked().await,
            (None, None) => String::new(),
        };
        Answer { status, headers, body }
    }

    async fn exactly(&mut self, length: usize) -> String {
        while self.read.len() < length {
            assert!(self.more().await, "the connection ended");
        }
        String::from_utf8(self.read.drain(..length).collect()).unwrap()
    }

    async fn chunked(&mut self) -> String {
        let mut body = String::new();
        loop {
            let length = self.read_to("\r\n").await;
            let length = usize::from_str_radix(length.trim_end(), 16).unwrap();
            body += &self.exactly(length).await;
            self.read_to("\r\n").await;
            if length == 0 {
                return body;
            }
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// The head and body of a request; those headers that are left out are those of an ordinary one.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut all = vec![("host", "localhost"), ("content-type", "application/json")];
    let length = body.len().to_string();
    if !body.is_empty() {
        all.push(("content-length", &length));
    }
    all.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{lines}\r\n{body}")
}
