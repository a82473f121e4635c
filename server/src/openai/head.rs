//! What all events of an answer have in common.

use crate::{app::unix_time, names};

/// An answer's name, its time and its model.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Head {
    /// Of an answer that begins now.
    pub(crate) fn new(prefix: &str, model: &str) -> Self {
        Self { id: names::random(prefix), created: unix_time(), model: model.to_owned() }
    }
}
