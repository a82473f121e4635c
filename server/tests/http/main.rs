//! The server from outside: real connections, a real model, and a fake one where something is to go wrong.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bounds;
mod brain;
mod browser;
mod chat;
mod client;
mod completions;
mod described;
mod door;
mod drain;
mod embeddings;
mod failures;
mod models;
mod page;
mod responses;
mod serving;
#[cfg(feature = "otlp")]
mod traces;
