//! One conversation as the policy remembers it: the tokens its window holds, who holds its KV cache,
//! and the requests that take their turn.

use std::collections::BTreeSet;

use super::event::{ActorIndex, Epoch};
use crate::job::{Commit, History, RequestId};

#[derive(Clone, Debug, Default)]
pub(super) struct Conversation {
    /// Its home; `None` until its first job, and after its home went down.
    pub(super) owner: Option<ActorIndex>,
    /// Whether the owner's present life may hold a slot for it. If so, that slot equals `history`
    /// whenever no job is out.
    pub(super) held: bool,
    /// Every committed token that the window still holds.
    pub(super) history: History,
    /// Unfinished requests in the order of their arrival; only the first may be with the actor.
    pub(super) queue: BTreeSet<RequestId>,
    /// Something was committed since it was created or closed.
    pub(super) known: bool,
    /// Its requests kill actors.
    pub(super) quarantined: bool,
    /// It was rebuilt and no reply has said so yet.
    pub(super) rebuilt: bool,
    pub(super) epoch: Epoch,
}

impl Conversation {
    /// Empties it and starts a new epoch.
    pub(super) fn clear(&mut self) {
        self.history = History::default();
        self.held = false;
        self.quarantined = false;
        self.rebuilt = false;
        self.epoch.0 += 1;
    }

    /// What an actor must read before it can go on, if anything.
    pub(super) fn to_restore(&self) -> Option<History> {
        (!self.held && self.history.total > 0).then(|| self.history.clone())
    }

    /// Takes a commit over; false if it cannot be one, and then nothing changed.
    pub(super) fn commit(&mut self, commit: &Commit, sinks: usize) -> bool {
        let len = self.history.tokens.len() + commit.appended.len();
        if commit.dropped > 0 && sinks + commit.dropped > len {
            return false;
        }
        commit.apply(&mut self.history, sinks);
        self.known = true;
        true
    }

    /// Whether anything would be lost by forgetting it.
    pub(super) fn is_blank(&self) -> bool {
        self.queue.is_empty() && !self.known && !self.quarantined
    }
}
