//! The door of MotorBrain: OpenAI's HTTP interface and its own, over one brain.
//!
//! [`Server::bind`] takes an address, [`Server::serve`] answers until it is told to end, and then finishes what it has
//! taken. Nothing is decided about conversations here: a request is read, judged for its keys, types and sizes, asked of
//! the brain, and its answer is written. What a client may take is bounded: connections, heads, bodies, streams, and the
//! time of each of them.
//!
//! It listens on this machine alone unless it is given tokens; see `docs/server.md`.

#![forbid(unsafe_code)]

mod app;
mod auth;
mod body;
mod bounds;
mod brain;
mod described;
mod drain;
mod error;
mod front;
mod health;
mod hosts;
mod listen;
mod metrics;
mod names;
mod numbers;
mod openai;
mod page;
mod routes;
mod slow;
mod spans;
mod sse;
#[cfg(feature = "otlp")]
mod traces;
mod watched;

pub use app::Served;
pub use auth::{TOKEN_CHARS_MIN, Tokens, TokensError};
pub use listen::{Access, Server, ServerError};
pub use metrics::install as install_metrics;
#[cfg(feature = "otlp")]
pub use traces::{Traces, TracesError};
