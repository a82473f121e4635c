//! How much memory conversations take, and who leaves when it is too much.
//!
//! Those of which nothing is asked rest, in the order in which they came to. While keys and values take more than they
//! may, pages that nobody has go first and then whole conversations, least recently used first: to a file where there is
//! one to be had, else to their tokens alone, which are read again when they are asked for something. What has slid is
//! read again from its first token on, as long as that is known, so that it comes to stand as it did; where what stays
//! is read again behind each slide, that takes the window's tokens and no more. Tokens of those that have left are
//! bounded, too: beyond that the conversation is forgotten.
//!
//! What a job may come to take is known before it begins. Jobs wait while others take what they need; what cannot fit
//! even alone is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Ask, Effect, Notice, Policy, Stage, Time,
    conversations::{Conversation, Slot},
    keeping::Away,
    prefixes::Prefixes,
    requests::Pending,
    state::State,
};
use crate::{
    job::RequestId,
    message::{BrainError, ConversationId, worth_waiting},
};

/// What a conversation that has left takes beside its tokens, in bytes: its name, its places in maps and queues. Rounded
/// up from the 810 that each of 100,000 was measured to take.
const CONVERSATION_BYTES: usize = 1024;

/// How many of those that wait are looked at for memory, the last first, so that a look costs no more however many wait.
const WAITING_LOOKED_AT: usize = 256;

/// A place in the order of those that rest; it grows.
pub(super) type Place = u64;

/// Conversations of which nothing is asked.
#[derive(Debug, Default)]
pub(super) struct Resting {
    next: Place,
    /// By how long they rest, the longest first.
    all: BTreeMap<Place, (ConversationId, Time)>,
    /// Those with keys and values in memory.
    resident: BTreeSet<Place>,
    /// The others: they have left, or never held any.
    gone: BTreeSet<Place>,
    /// Bytes of the others' tokens, and of what else they take.
    gone_bytes: usize,
}

impl Resting {
    fn add(&mut self, name: ConversationId, now: Time, resident: bool, bytes: usize) -> Place {
        let place = self.next;
        self.next += 1;
        self.all.insert(place, (name, now));
        self.put(place, resident, bytes);
        place
    }

    fn put(&mut self, place: Place, resident: bool, bytes: usize) {
        if resident {
            self.resident.insert(place);
        } else {
            self.gone.insert(place);
            self.gone_bytes += bytes;
        }
    }

    fn remove(&mut self, place: Place, bytes: usize) {
        self.all.remove(&place);
        if !self.resident.remove(&place) && self.gone.remove(&place) {
            self.gone_bytes -= bytes;
        }
    }

    /// Who rests longest of those that hold keys and values.
    fn first_resident(&self) -> Option<ConversationId> {
        Some(self.all.get(self.resident.first()?)?.0.clone())
    }

    /// Who rests longest of the others.
    fn first_gone(&self) -> Option<ConversationId> {
        Some(self.all.get(self.gone.first()?)?.0.clone())
    }

    /// Who rests longest of all, and since when.
    fn first(&self) -> Option<(ConversationId, Time)> {
        self.all.first_key_value().map(|(_, first)| first.clone())
    }
}

impl Conversation {
    /// Bytes that it takes where it holds no keys and values.
    fn tokens_bytes(&self, name: &ConversationId) -> usize {
        CONVERSATION_BYTES + 2 * name.as_str().len() + self.states().map(State::tokens_bytes).sum::<usize>()
    }

    /// Whether it has keys and values in memory.
    fn is_resident(&self) -> bool {
        self.slot != Slot::Absent || self.states().any(|state| !state.resident.pages.is_empty())
    }
}

impl Policy {
    /// Nothing is asked of a conversation any more.
    pub(super) fn rest(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get_mut(name) else { return };
        debug_assert!(conversation.queue.is_empty(), "a conversation rests of which something is asked");
        let (resident, bytes) = (conversation.is_resident(), conversation.tokens_bytes(name));
        let before = conversation.place.replace(self.resting.add(name.clone(), self.now, resident, bytes));
        if let Some(before) = before {
            self.resting.remove(before, bytes);
        }
        self.forget_oldest(effects);
    }

    /// Something is asked of it.
    pub(super) fn wake(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        self.stay(name, effects);
        if let Some(conversation) = self.conversations.get_mut(name)
            && let Some(place) = conversation.place.take()
        {
            self.resting.remove(place, conversation.tokens_bytes(name));
        }
    }

    /// Has what nobody uses leave while keys and values take more than they may, one thing at a time; false where they
    /// do not, or nothing is left that could. `pages`: bytes of all pages that there are now.
    pub fn let_go(&mut self, pages: usize, effects: &mut Vec<Effect>) -> bool {
        self.pages_held = pages;
        let goes = self.bytes_held(pages) > self.config.memory.kv_bytes && self.one_goes(effects);
        if goes {
            // Where conversations are forgotten, what was being written of them keeps nobody waiting any more.
            self.place_waiting(effects);
        }
        goes
    }

    fn one_goes(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.prefixes.as_mut().is_some_and(Prefixes::shed) {
            return true;
        }
        if let Some(name) = self.resting.first_resident() {
            self.leave(&name, effects);
            return true;
        }
        self.take_from_waiting(effects)
    }

    /// Where nobody rests: who came last of those that wait, and would wait longest, gives up its rows.
    fn take_from_waiting(&mut self, effects: &mut Vec<Effect>) -> bool {
        let holds = |request: &RequestId| {
            let pending = self.requests.get(request)?;
            let (name, stage) = (pending.conversation.as_ref()?, pending.stage);
            let conversation = self.conversations.get(name)?;
            (stage == Stage::Waiting && conversation.pages() > 0).then(|| name.clone())
        };
        let Some(name) = self.waiting.latest().take(WAITING_LOOKED_AT).find_map(holds) else { return false };
        self.let_rows_go(&name, false, effects);
        true
    }

    /// Bytes of keys and values, less those that are about to be free.
    fn bytes_held(&self, pages: usize) -> usize {
        let slots: usize = self.actors.iter().map(|actor| actor.kv_bytes.saturating_sub(actor.freeing)).sum();
        (pages + slots).saturating_sub(self.going)
    }

    /// A conversation that rests leaves: to a file where there is one to be had, else to its tokens.
    fn leave(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if !self.put_away(name, effects) {
            self.free_slot(name, effects);
            self.let_rows_go(name, false, effects);
        }
        if let Some(conversation) = self.conversations.get(name)
            && let Some(place) = conversation.place
        {
            let bytes = conversation.tokens_bytes(name);
            self.resting.resident.remove(&place);
            self.resting.put(place, false, bytes);
        }
        self.forget_oldest(effects);
    }

    /// Gives the slot back that an engine keeps; its bytes are known to be free when the actor says what it holds.
    fn free_slot(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let per_token = self.model.as_ref().map_or(0, |model| model.kv_bytes_per_token);
        if let Some(conversation) = self.conversations.get(name)
            && let Slot::Clean(actor, incarnation) | Slot::Dirty(actor, incarnation) = conversation.slot
            && self.serves(actor, incarnation)
        {
            self.actors[actor.0].freeing += conversation.state.len() * per_token;
        }
        self.give_slot_back(name, effects);
    }

    /// Forgets those that left longest ago while there are too many of them.
    fn forget_oldest(&mut self, effects: &mut Vec<Effect>) {
        while self.resting.gone_bytes > self.config.memory.history_bytes
            && let Some(name) = self.resting.first_gone()
        {
            self.forget(&name, effects);
        }
    }

    /// Forgets those that rest for too long.
    pub(super) fn forget_idle(&mut self, effects: &mut Vec<Effect>) {
        let Some(idle_max) = self.config.memory.idle_max else { return };
        while let Some((name, since)) = self.resting.first()
            && self.now.since(since) >= idle_max
        {
            self.forget(&name, effects);
        }
    }

    /// When the next one has rested for too long.
    pub(super) fn idle_deadline(&self) -> Option<Time> {
        Some(self.resting.first()?.1 + self.config.memory.idle_max?)
    }

    fn forget(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        self.wake(name, effects);
        self.clear(name, true, effects);
        self.forget_if_blank(name, effects);
        effects.push(Effect::Notice(Notice::Forgotten { conversation: name.clone() }));
    }

    /// Whether so many conversations may be added, be it that others leave for them.
    pub(super) fn check_room(&self, new: usize) -> Result<(), BrainError> {
        let limit = self.config.limits.conversations;
        // Those that have left, and those that would.
        let busy = self.conversations.len() - self.resting.all.len();
        if new == 0 || busy + new <= limit {
            return Ok(());
        }
        let retry_after = Some(worth_waiting(self.takes));
        Err(BrainError::Overloaded { what: "conversations", limit, retry_after })
    }

    /// Since when a conversation rests.
    pub(super) fn rests_since(&self, conversation: &Conversation) -> Option<Time> {
        Some(self.resting.all.get(&conversation.place?)?.1)
    }

    /// Has those leave that rest longest while there are more than may be.
    pub(super) fn make_room(&mut self, effects: &mut Vec<Effect>) {
        while self.conversations.len() - self.resting.gone.len() > self.config.limits.conversations
            && let Some(name) = self.resting.first_resident()
        {
            self.leave(&name, effects);
        }
    }

    /// Bytes that a request may come to take, with what its conversation holds; of a part nothing, since its request has
    /// asked for all of them.
    fn bytes_needed(&self, pending: &Pending) -> usize {
        let (Some(model), None) = (&self.model, &pending.part) else { return 0 };
        let conversation = pending.conversation.as_ref().and_then(|name| self.conversations.get(name));
        let begins = conversation.and_then(|conversation| conversation.base(pending.choice));
        let (count, answers) = match &pending.ask {
            Ask::Step(step) => (step.count.saturating_sub(pending.shown.sampled.len()), step.n),
            // A probe goes on from where the conversation will stand; should it slide, that is a copy, as always.
            // So it does behind each piece of a text.
            Ask::Embed(_) if pending.is_parted() || !pending.ends.is_empty() => {
                // The next piece goes on from the midst of the same page as the probe, and one of them copies it.
                let copied = if pending.ends.is_empty() { 0 } else { model.pages.map_or(0, |page| page.tokens) };
                (pending.frame().map_or(0, |frame| frame.probe.len() + copied), 1)
            }
            _ => (0, 1),
        };
        let (window, read) = (model.window.size, begins.map_or(0, State::len).saturating_add(pending.to_read().len()));
        let bytes = |tokens: usize| match model.pages {
            Some(page) => tokens.div_ceil(page.tokens) * page.bytes,
            None => tokens * model.kv_bytes_per_token,
        };
        // Several answers share what they follow, until they slide.
        match read.saturating_add(count) {
            all if answers == 1 || all > window => answers * bytes(all.min(window)),
            _ => bytes(read) + answers * bytes(count + model.pages.map_or(0, |page| page.tokens)),
        }
    }

    /// Whether a request could ever have what it needs.
    pub(super) fn check_size(&self, request: RequestId) -> Result<(), BrainError> {
        let Some(pending) = self.requests.get(&request) else { return Ok(()) };
        let limit = self.config.memory.kv_bytes;
        match self.bytes_needed(pending) {
            needed if needed > limit => Err(BrainError::TooLarge { needed, limit }),
            _ => Ok(()),
        }
    }

    /// Whether a request may begin beside those that have, and beside what is being written and not free yet: one
    /// alone always may.
    pub(super) fn has_room(&self, request: RequestId) -> bool {
        let limit = self.config.memory.kv_bytes;
        if limit == usize::MAX || self.reserved + self.going == 0 {
            return true;
        }
        let needed = self.requests.get(&request).map_or(0, |pending| self.bytes_needed(pending));
        if needed == 0 || needed > limit {
            return true; // it has it, or is to be refused
        }
        if self.going > 0 && self.pages_held > limit {
            return false; // what leaves is not free yet
        }
        if self.waiting.has_before(request) {
            return false; // or who needs much would wait for ever
        }
        self.reserved == 0 || self.reserved.saturating_add(needed) <= limit
    }

    /// A request begins, or what it needs is being read from a file: others have to leave it so much.
    pub(super) fn reserve(&mut self, request: RequestId) {
        self.unreserve(request);
        if self.config.memory.kv_bytes == usize::MAX {
            return;
        }
        let needed = self.requests.get(&request).map_or(0, |pending| self.bytes_needed(pending));
        if let Some(pending) = self.requests.get_mut(&request) {
            pending.reserved = needed;
            self.reserved += needed;
        }
    }

    /// It is over, taken back, or asks for room again.
    pub(super) fn unreserve(&mut self, request: RequestId) {
        if let Some(pending) = self.requests.get_mut(&request) {
            self.reserved -= std::mem::take(&mut pending.reserved);
        }
    }

    /// What does not fit together, as sentences.
    pub(super) fn check_resting(&self, broken: &mut Vec<String>) {
        let mut bytes = 0;
        for (name, conversation) in self.conversations.iter() {
            let rests = conversation.place.and_then(|place| self.resting.all.get(&place));
            if conversation.queue.is_empty() != rests.is_some_and(|(it, _)| it == name) {
                broken.push(format!("`{name}` with {} requests: {rests:?}", conversation.queue.len()));
            }
            let Some(place) = conversation.place else { continue };
            let (resident, gone) = (self.resting.resident.contains(&place), self.resting.gone.contains(&place));
            let leaves = matches!(conversation.away, Away::Going(_));
            if resident == gone || gone && !leaves && conversation.is_resident() {
                broken.push(format!("`{name}` is counted as resident {resident}, gone {gone}"));
            }
            bytes += if gone { conversation.tokens_bytes(name) } else { 0 };
        }
        let resting = self.resting.all.len();
        if resting != self.resting.resident.len() + self.resting.gone.len() || bytes != self.resting.gone_bytes {
            broken.push(format!("{resting} conversations rest; {bytes} bytes of {:?}", self.resting));
        }
        let reserved: usize = self.requests.values().map(|pending| pending.reserved).sum();
        let comes =
            |name: &ConversationId| self.conversations.get(name).is_some_and(|it| matches!(it.away, Away::Coming(_)));
        let out = |pending: &Pending| {
            matches!(pending.stage, Stage::Assigned(_) | Stage::Parted)
                || pending.conversation.as_ref().is_some_and(comes)
        };
        if reserved != self.reserved || self.requests.values().any(|it| it.reserved > 0 && !out(it)) {
            broken.push(format!("{reserved} bytes are reserved, {} are counted", self.reserved));
        }
    }
}
