//! One conversation as the policy remembers it: where it stands, what waits in it, and the requests that take their turn.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    ops::Bound,
};

use super::{
    event::{ActorIndex, Incarnation},
    keeping::Away,
    memory::Place,
    prefixes::Seat,
    state::State,
};
use crate::{
    engine::Window,
    job::RequestId,
    message::{ConversationId, Sharing},
};

/// All conversations: looked up by name, as every message does several times, and gone through in the order of their
/// names, which is touched only where one is made or forgotten.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    by_name: HashMap<ConversationId, Conversation>,
    in_order: BTreeSet<ConversationId>,
}

impl Conversations {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn get(&self, name: &ConversationId) -> Option<&Conversation> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &ConversationId) -> Option<&mut Conversation> {
        self.by_name.get_mut(name)
    }

    pub(super) fn contains_key(&self, name: &ConversationId) -> bool {
        self.by_name.contains_key(name)
    }

    /// The conversation of this name, made where there is none.
    pub(super) fn get_or_make(&mut self, name: &ConversationId) -> &mut Conversation {
        match self.by_name.entry(name.clone()) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(entry) => {
                self.in_order.insert(name.clone());
                entry.insert(Conversation::default())
            }
        }
    }

    pub(super) fn remove(&mut self, name: &ConversationId) -> Option<Conversation> {
        let removed = self.by_name.remove(name)?;
        self.in_order.remove(name);
        Some(removed)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Conversation> {
        self.by_name.values()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ConversationId, &Conversation)> {
        self.by_name.iter()
    }

    /// Those behind a name in the order of names, whether there is one of that name or not; all where none is named.
    /// Costs a look-up for each that is taken, and one more.
    pub(super) fn behind(
        &self,
        after: Option<&ConversationId>,
    ) -> impl Iterator<Item = (&ConversationId, &Conversation)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.in_order.range::<ConversationId, _>((from, Bound::Unbounded));
        names.filter_map(|name| self.by_name.get_key_value(name))
    }

    /// What does not fit together, as sentences.
    pub(super) fn check_invariants(&self, broken: &mut Vec<String>) {
        if self.by_name.len() != self.in_order.len() || !self.in_order.iter().all(|name| self.contains_key(name)) {
            broken.push(format!("{} conversations, {} in order", self.by_name.len(), self.in_order.len()));
        }
    }
}

/// What an engine that keeps keys and values to itself has of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing, or a slot of an engine that is gone.
    #[default]
    Absent,
    /// This life of an actor has its context, or a beginning of it, whenever no job is out.
    Clean(ActorIndex, Incarnation),
    /// The same, but it went on where the conversation did not, and is to be given back.
    Dirty(ActorIndex, Incarnation),
}

/// Where a conversation's last job was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// With whom.
    pub(super) actor: ActorIndex,
    /// In which of its tenures: once its conversations have moved out nobody lives there from before.
    pub(super) tenure: u64,
}

#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Where it stands: as of the last commit.
    pub(super) state: State,
    /// Answers that wait for one to be kept; `state` stands at the input that they answer.
    pub(super) choices: Vec<State>,
    /// Where its last job was.
    pub(super) home: Option<Home>,
    /// What an engine has of it that keeps keys and values to itself.
    pub(super) slot: Slot,
    /// With whom it shares what it reads.
    pub(super) sharing: Sharing,
    /// It began to share otherwise when it held tokens already: those were said on other terms, and so it gives nothing
    /// to others any more.
    pub(super) withheld: bool,
    /// Its place among the shared prefixes, while it has one.
    pub(super) seat: Option<Seat>,
    /// It has come to stand elsewhere since it was last looked at what it has for others.
    pub(super) moved: bool,
    /// Where its keys and values are beside memory.
    pub(super) away: Away,
    /// Bytes of its pages that are free when it is written, while it is.
    pub(super) going: usize,
    /// Its place among those of which nothing is asked, while nothing is.
    pub(super) place: Option<Place>,
    /// Unfinished requests in the order of their arrival; only the first may be with an actor.
    pub(super) queue: BTreeSet<RequestId>,
    /// Something was committed since it was created or closed.
    pub(super) known: bool,
    /// It was rebuilt and no reply has said so yet.
    pub(super) rebuilt: bool,
}

impl Conversation {
    /// Empties it. Its seat was given up before, and its slot.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.seat.is_none(), "a conversation is emptied in its seat");
        self.state = State::default();
        self.choices.clear();
        self.sharing = Sharing::default();
        self.withheld = false;
        self.rebuilt = false;
    }

    /// Where it stands, and the answers that wait.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.state).chain(&self.choices)
    }

    /// The same, to be changed.
    pub(super) fn states_mut(&mut self) -> impl Iterator<Item = &mut State> {
        std::iter::once(&mut self.state).chain(&mut self.choices)
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
    pub(super) fn gives(&self, window: &Window) -> bool {
        self.state.history.is_plain(window) && !self.withheld && self.sharing != Sharing::Nobody
    }

    /// Whether anything would be lost by forgetting it.
    pub(super) fn is_blank(&self) -> bool {
        self.queue.is_empty() && !self.known
    }
}
