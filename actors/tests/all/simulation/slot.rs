//! What a simulated actor works on: a context, and where its rows lie.

use motorbrain_actors::{
    engine::Resident,
    job::{Commit, History},
};

use super::{
    model::Context,
    pages::{Pages, Store, read},
};

pub(crate) struct Slot {
    /// What is committed, and what is pending.
    pub(crate) context: Context,
    /// `None`: the slot stays with its actor.
    pub(crate) pages: Option<Pages>,
    /// Tokens as of the last commit.
    committed: usize,
    /// The context is still to be read again.
    pub(crate) restoring: bool,
    /// It had slid, and was read again; not told yet.
    pub(crate) rebuilt: bool,
}

impl Slot {
    /// A slot without pages, whose context is to be read first.
    pub(crate) fn new(history: History) -> Self {
        let (committed, restoring) = (history.tokens.len(), !history.tokens.is_empty());
        let context = Context { history, ..Context::new(false) };
        Self { context, pages: None, committed, restoring, rebuilt: false }
    }

    /// A slot on pages. `context` is all that was done so far, and nothing of it is read again but what was sampled last.
    pub(crate) fn adopt(store: &Store, history: History, held: &Resident) -> Self {
        let tokens = &history.tokens;
        assert!(held.kv_len + 1 >= tokens.len(), "{} tokens are to be read again", tokens.len() - held.kv_len);
        let mut rows = Vec::new();
        let found = read(held, &history, store.size.tokens, |row| rows.push(row));
        found.unwrap_or_else(|broken| panic!("{broken}"));
        let context = Context { rows, history, ..Context::new(true) };
        let pages = Some(Pages::adopt(store.clone(), held, &context));
        Self { context, pages, committed: 0, restoring: false, rebuilt: false }
    }

    /// Reads the context again.
    pub(crate) fn restore(&mut self) {
        self.context.read();
        self.restoring = false;
        self.rebuilt |= self.context.history.has_slid();
    }

    /// Writes down what was read.
    pub(crate) fn write(&mut self) {
        if let Some(pages) = &mut self.pages {
            pages.write(&self.context);
        }
    }

    /// What is pending belongs to the conversation now.
    pub(crate) fn commit(&mut self, pending: &mut Commit) -> Commit {
        self.committed = self.context.len();
        let mut commit = std::mem::take(pending);
        if let Some(pages) = &mut self.pages {
            let held = pages.take();
            commit.held = Some(match commit.held {
                Some(before) => before.then(held),
                None => held,
            });
        }
        commit
    }

    /// Back to the last commit; false where that cannot be.
    pub(crate) fn undo(&mut self, pending: &Commit) -> bool {
        let can = !self.restoring && self.committed > 0 && pending.dropped == 0;
        if can {
            self.context.truncate(self.committed);
        }
        can
    }
}
