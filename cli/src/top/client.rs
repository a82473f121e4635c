//! The other end of a brain's socket: a question, a line; an answer, a line.

use std::{io, path::PathBuf};
#[cfg(unix)]
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

#[cfg(unix)]
use serde_json::Value;

/// Why there is nothing to show.
#[derive(Debug)]
#[cfg_attr(not(unix), expect(dead_code, reason = "without sockets nobody answers"))]
pub(crate) enum Problem {
    /// Nobody said where.
    NoSocket,
    /// Nobody answers there.
    Connect(PathBuf, io::Error),
    /// The connection is broken, or its other end says what is no answer.
    Io(io::Error),
    /// It has ended.
    Ended,
    /// It does not answer that.
    Refused(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSocket => write!(f, "no socket was named, and `observe.socket` is not set"),
            Self::Connect(path, _) => write!(f, "no brain answers at {}", path.display()),
            Self::Io(_) => write!(f, "the brain's answer cannot be read"),
            Self::Ended => write!(f, "the brain has ended, or too many look at it"),
            Self::Refused(message) => write!(f, "the brain refused: {message}"),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(_, cause) | Self::Io(cause) => Some(cause),
            _ => None,
        }
    }
}

impl Problem {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(..) => {
                Some("start one with `--set observe.socket=PATH`, such as `motorbrain pipe`".to_owned())
            }
            _ => None,
        }
    }
}

/// How long an answer may take.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[cfg(unix)]
pub(super) struct Client(BufReader<UnixStream>);

#[cfg(unix)]
impl Client {
    pub(super) fn connect(path: &Path) -> Result<Self, Problem> {
        let stream = UnixStream::connect(path).map_err(|cause| Problem::Connect(path.to_owned(), cause))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(Problem::Io)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// What stands in `ok`.
    pub(super) fn ask(&mut self, request: &Value) -> Result<Value, Problem> {
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Problem::Ended,
            _ => Problem::Io(error),
        };
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(broken)?;
        let mut line = String::new();
        if self.0.read_line(&mut line).map_err(broken)? == 0 {
            return Err(Problem::Ended);
        }
        let mut answer: Value = serde_json::from_str(&line).map_err(|error| Problem::Io(error.into()))?;
        match answer.get("error") {
            Some(error) => Err(Problem::Refused(error["message"].as_str().unwrap_or_default().to_owned())),
            None => Ok(answer["ok"].take()),
        }
    }
}

/// There are none.
#[cfg(not(unix))]
pub(super) enum Client {}

#[cfg(not(unix))]
impl Client {
    pub(super) fn connect(path: &std::path::Path) -> Result<Self, Problem> {
        Err(Problem::Connect(path.to_owned(), io::ErrorKind::Unsupported.into()))
    }

    pub(super) fn ask(&mut self, _: &serde_json::Value) -> Result<serde_json::Value, Problem> {
        match *self {}
    }
}
