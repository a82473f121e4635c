//! A conversation for as long as one thing is asked of it.

use std::hash::{BuildHasher as _, RandomState};

use tokio::runtime::Handle;
use tracing::{Instrument as _, Span};

use super::Brain;
use crate::{
    message::ConversationId,
    spans::{self, Recorded},
};

/// A conversation that is closed when nobody waits for what is asked of it any more, whatever happens to who asked. What
/// it has read is reused by the next one that reads the same.
#[derive(Debug)]
pub struct Temporary {
    brain: Brain,
    name: ConversationId,
    /// Of whoever asks.
    span: Recorded,
    is_open: bool,
}

impl Temporary {
    /// One whose name is `what` and 64 bits that nobody guesses. Nothing is asked of the brain before the name is used.
    pub fn new(brain: &Brain, what: &str) -> Self {
        let name = format!("{what} {:016x}", RandomState::new().hash_one(0)).into();
        // What tidies up waits for its turn, and is held to no time.
        Self { brain: brain.patient(None), name, span: Span::current().into(), is_open: true }
    }

    /// Its name.
    pub fn name(&self) -> &ConversationId {
        &self.name
    }

    /// Closes it, and returns when that is done.
    pub async fn close(mut self) {
        self.is_open = false;
        // It may be gone already, and then it is.
        let _ = self.brain.close(self.name.clone()).await;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_open
            && let Ok(runtime) = Handle::try_current()
        {
            let (brain, name, span) = (self.brain.clone(), self.name.clone(), spans::tidy(&self.span));
            runtime.spawn(async move {
                // It may be gone already, and then it is.
                let _ = brain.close(name).instrument((*span).clone()).await;
            });
        }
    }
}
