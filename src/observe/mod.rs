//! A door through which a running brain is looked at: a socket of this machine, for its user alone.
//!
//! A program opens it where `observe.socket` says so, and `motorbrain top` reads it. Lines are those of the pipe
//! protocol; `stats`, `list` and `inspect` are answered, and nothing else is: who looks changes nothing. It is bounded in
//! all that others can do to it: how many look at once, how long a line is, how long one says nothing or does not read.
//!
//! The socket is made under another name, given to its user alone, and put in its place then. One that is left of a
//! program that was killed is replaced; one that is served, or what is no socket, never. Off Unix there is no door.

use std::{io, path::PathBuf};

#[cfg(unix)]
mod door;
#[cfg(unix)]
mod socket;

#[cfg(unix)]
pub use door::serve;
#[cfg(unix)]
pub use socket::Socket;

/// Why a brain cannot be looked at through a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// This system has none.
    #[error("`observe.socket` is {path}, but this system has no such sockets", path = path.display())]
    Unsupported {
        /// What was asked for.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("`observe.socket` is {path}, which is no socket", path = path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// Somebody serves it.
    #[error("`observe.socket` is {path}, where another program answers", path = path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// It belongs to another user.
    #[error("`observe.socket` is {path}, which belongs to another user", path = path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// The system makes none there.
    #[error("cannot open the socket {path} (`observe.socket`)", path = path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The tokio runtime has no driver for sockets.
    #[error("the tokio runtime that the brain is started in has no I/O, which `observe.socket` needs")]
    Runtime,
}

impl ObserveError {
    /// What to do next, one sentence.
    pub fn hint(&self) -> String {
        match self {
            Self::Unsupported { .. } => "leave `observe.socket` out".to_owned(),
            Self::NotASocket { path } | Self::Foreign { path } => {
                format!("set `observe.socket` to another path, or move {} away", path.display())
            }
            Self::InUse { .. } => "give each program a path of its own".to_owned(),
            Self::Open { .. } => {
                "its folder must be there and writable, and its path is at most about 100 bytes long".to_owned()
            }
            Self::Runtime => "build the runtime with `enable_all`".to_owned(),
        }
    }
}
