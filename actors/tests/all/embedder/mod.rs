//! EmbedderActor on a fake engine: what its owner and its callers may rely on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod alone;
mod batching;
mod committing;
mod failing;
mod harness;
mod host;
mod laws;
mod life;
mod pace;
mod worker;
