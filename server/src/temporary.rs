//! A conversation for as long as one request lasts.

use motorbrain::{Brain, ConversationId};
use tokio::runtime::Handle;

use crate::names;

/// A conversation that is closed when nobody waits for its answer any more.
#[derive(Debug)]
pub(crate) struct Temporary {
    brain: Brain,
    name: ConversationId,
    is_open: bool,
}

impl Temporary {
    /// A new one; nothing is asked before its name is used.
    pub(crate) fn new(brain: &Brain) -> Self {
        Self { brain: brain.clone(), name: names::random("http ").into(), is_open: true }
    }

    pub(crate) fn name(&self) -> ConversationId {
        self.name.clone()
    }

    /// Closes it.
    pub(crate) async fn close(mut self) {
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
            let (brain, name) = (self.brain.clone(), self.name.clone());
            runtime.spawn(async move { brain.close(name).await });
        }
    }
}
