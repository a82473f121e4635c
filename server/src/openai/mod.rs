//! OpenAI's interface: requests as its clients send them, answers as they read them.
//!
//! A key that is not served is refused by its name and never ignored; `null` is as if it had been left out. Keys that only
//! say who asks or what for (`user`, `metadata`) change nothing.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
mod head;
pub(crate) mod models;
pub(crate) mod responses;
pub(crate) mod sampling;
pub(crate) mod tokens;
pub(crate) mod usage;
