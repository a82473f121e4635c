//! One conversation as the policy remembers it: where it stands, what waits in it, and the requests that take their turn.

use std::collections::BTreeSet;

use super::{
    event::{ActorIndex, Epoch},
    prefixes::Seat,
    state::State,
};
use crate::{
    job::{Holding, RequestId},
    message::Sharing,
};

#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Where it stands: as of the last commit.
    pub(super) state: State,
    /// Answers that wait for one to be kept; `state` stands at the input that they answer.
    pub(super) choices: Vec<State>,
    /// The actor of its last job.
    pub(super) owner: Option<ActorIndex>,
    /// Whether the owner's present life holds a slot for it, where engines keep keys and values to themselves. If so,
    /// that slot equals `state` whenever no job is out.
    pub(super) held: bool,
    /// With whom it shares what it reads.
    pub(super) sharing: Sharing,
    /// It began to share otherwise when it held tokens already: those were said on other terms, and so it gives nothing
    /// to others any more.
    pub(super) withheld: bool,
    /// Its place among the shared prefixes, while it has one.
    pub(super) seat: Option<Seat>,
    /// It has come to stand elsewhere since it was last looked at what it has for others.
    pub(super) moved: bool,
    /// Unfinished requests in the order of their arrival; only the first may be with an actor.
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
    /// Empties it and starts a new epoch. Its seat was given up before.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.seat.is_none(), "a conversation is emptied in its seat");
        self.state = State::default();
        self.choices.clear();
        self.sharing = Sharing::default();
        self.withheld = false;
        self.held = false;
        self.quarantined = false;
        self.rebuilt = false;
        self.epoch.0 += 1;
    }

    /// Where a request with this choice begins; `None` where no such answer waits.
    pub(super) fn base(&self, choice: Option<usize>) -> Option<&State> {
        match choice {
            None => Some(&self.state),
            Some(index) => self.choices.get(index),
        }
    }

    /// Answers wait no more: one is where the conversation stands, if any.
    pub(super) fn choose(&mut self, choice: Option<usize>) {
        let mut choices = std::mem::take(&mut self.choices);
        if let Some(index) = choice.filter(|index| *index < choices.len()) {
            self.state = choices.swap_remove(index);
        }
    }

    /// It shares on these terms from here on; `had`: whether it held tokens before what was just said on them.
    pub(super) fn share(&mut self, sharing: Option<Sharing>, had: bool) {
        if let Some(sharing) = sharing.filter(|sharing| *sharing != self.sharing) {
            self.sharing = sharing;
            self.withheld |= had;
        }
    }

    /// Whether others may take over what it reads.
    pub(super) fn gives(&self) -> bool {
        self.state.is_shareable() && !self.withheld && self.sharing != Sharing::Nobody
    }

    /// What an engine without pages is told that it holds.
    pub(super) fn holding(&self) -> Holding {
        if self.held { Holding::Slot } else { Holding::Nothing }
    }

    /// Whether anything would be lost by forgetting it.
    pub(super) fn is_blank(&self) -> bool {
        self.queue.is_empty() && !self.known && !self.quarantined
    }
}
