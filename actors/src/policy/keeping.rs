//! Conversations on their way to a file and back.
//!
//! One that leaves stays as it is until it is kept for good; if something is asked of it before, it has not left. One
//! that was kept comes back when its turn needs its keys and values. What is not given back as it was is read again, so
//! that a file that is cut, full or gone costs time and nothing else.

use std::{collections::BTreeMap, time::Duration};

use super::{Effect, Notice, Policy, Time, conversations::Conversation};
use crate::{
    engine::{Resident, Window},
    keep::{KeepError, Kept, KeptId},
    message::ConversationId,
};

/// What is written or read for longer, with all that stands before it in line, is given up: a disk that hangs is no reason
/// for others to wait. Not a setting: a line so long is read again sooner.
const KEEPING_MAX: Duration = Duration::from_secs(60);

/// Where a conversation's keys and values are beside memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Away {
    /// Nowhere.
    #[default]
    Not,
    /// They are in memory and being written.
    Going(KeptId),
    /// In a file.
    Kept(KeptId),
    /// In a file, and being read.
    Coming(KeptId),
}

impl Away {
    fn id(self) -> Option<KeptId> {
        match self {
            Self::Not => None,
            Self::Going(id) | Self::Kept(id) | Self::Coming(id) => Some(id),
        }
    }
}

impl Conversation {
    /// Whether a file could give back what only much reading would, or none at all. `own`: pages that nobody else has.
    fn is_worth_keeping(&self, own: usize, window: &Window) -> bool {
        own > 1 || own > 0 && self.states().any(|state| !state.history.is_plain(window))
    }

    /// How many of its pages nobody else has: those that are free when it has left.
    fn own_pages(&self) -> usize {
        // Those that are shared through the tree are held there, too.
        let seat = usize::from(self.seat.is_some());
        let mut held: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for page in self.states().flat_map(|state| &state.resident.pages) {
            held.entry(page.address()).or_insert((0, page.holders())).0 += 1;
        }
        held.values().filter(|(own, holders)| *holders <= own + seat).count()
    }

    /// Its pages, those that several of its states have counted once for each.
    pub(super) fn pages(&self) -> usize {
        self.states().map(|state| state.resident.pages.len()).sum()
    }
}

impl Policy {
    /// Begins to write a conversation to a file that rests; false where there is none to be had, or no use for one.
    pub(super) fn put_away(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) -> bool {
        let (true, Some(page)) = (self.config.keeps, self.page_size()) else { return false };
        let window = self.window();
        let Some(conversation) = self.conversations.get_mut(name) else { return false };
        let own = conversation.own_pages();
        // A disk that hangs gets nothing more until it has answered.
        if !self.stuck.is_empty() || !conversation.is_worth_keeping(own, &window) {
            return false;
        }
        let id = KeptId(self.next_kept);
        self.next_kept += 1;
        conversation.away = Away::Going(id);
        self.under_way.push_back((self.now + KEEPING_MAX, name.clone(), id));
        conversation.going = own * page.bytes;
        self.going += conversation.going;
        let states = conversation.states().map(|state| state.kept()).collect();
        effects.push(Effect::Put { id, conversation: name.clone(), states });
        true
    }

    /// A conversation was written, or could not be.
    pub(super) fn put(
        &mut self,
        id: KeptId,
        name: &ConversationId,
        result: Result<u64, KeepError>,
        effects: &mut Vec<Effect>,
    ) {
        self.stuck.remove(&id);
        if self.conversations.get(name).is_none_or(|it| it.away != Away::Going(id)) {
            return; // it has not left after all
        }
        let to_file = result.is_ok();
        self.stop_going(name);
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.away = if to_file { Away::Kept(id) } else { Away::Not };
        }
        if let Err(error) = result {
            effects.push(Effect::Notice(Notice::KeepFailed { conversation: name.clone(), error }));
        }
        self.let_rows_go(name, to_file, effects);
        self.pass_over_kept();
    }

    /// Whether a conversation's keys and values are on their way from a file.
    pub(super) fn is_coming(&self, name: &ConversationId) -> bool {
        self.conversations.get(name).is_some_and(|it| matches!(it.away, Away::Coming(_)))
    }

    /// Whether they are in a file.
    pub(super) fn is_kept(&self, name: &ConversationId) -> bool {
        self.conversations.get(name).is_some_and(|it| matches!(it.away, Away::Kept(_)))
    }

    /// Has a conversation's keys and values fetched that are in a file.
    pub(super) fn fetch(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get_mut(name) else { return };
        let Away::Kept(id) = conversation.away else { return };
        conversation.away = Away::Coming(id);
        self.under_way.push_back((self.now + KEEPING_MAX, name.clone(), id));
        let expected = conversation.states().map(|state| state.history.clone()).collect();
        effects.push(Effect::Fetch { id, conversation: name.clone(), expected });
    }

    /// A conversation was read from a file, or could not be.
    pub(super) fn fetched(
        &mut self,
        id: KeptId,
        name: &ConversationId,
        result: Result<Vec<Kept>, KeepError>,
        effects: &mut Vec<Effect>,
    ) {
        self.stuck.remove(&id);
        let page = self.page_size().map_or(0, |page| page.bytes);
        let Some(conversation) = self.conversations.get_mut(name).filter(|it| it.away == Away::Coming(id)) else {
            return; // it was emptied meanwhile
        };
        match result {
            Ok(kept) if conversation.states().map(|it| &it.history).eq(kept.iter().map(|kept| &kept.history)) => {
                let states = conversation.states_mut().zip(kept);
                states.for_each(|(state, kept)| state.resident = kept.resident);
                conversation.moved = true;
                let bytes = conversation.pages() * page;
                effects.push(Effect::Notice(Notice::Back { conversation: name.clone(), bytes }));
            }
            Ok(_) => effects.push(Effect::Notice(Notice::Impossible("a file gave back another conversation"))),
            Err(error) => {
                effects.push(Effect::Notice(Notice::KeepFailed { conversation: name.clone(), error }));
            }
        }
        let first = self.conversations.get(name).and_then(|conversation| conversation.queue.first().copied());
        first.into_iter().for_each(|request| self.unreserve(request));
        self.forget_kept(name, effects);
        self.advance(name, effects);
    }

    /// Nobody needs what is kept of a conversation any more.
    pub(super) fn forget_kept(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        self.stop_going(name);
        let away = self.conversations.get_mut(name).map(|it| std::mem::take(&mut it.away));
        effects.extend(away.and_then(Away::id).map(Effect::Forget));
        self.pass_over_kept();
    }

    /// Something is asked of a conversation: if it was about to leave, it has not.
    pub(super) fn stay(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|it| matches!(it.away, Away::Going(_))) {
            self.forget_kept(name, effects);
        }
    }

    /// Gives up what takes too long.
    pub(super) fn give_up_keeping(&mut self, effects: &mut Vec<Effect>) {
        self.pass_over_kept();
        let now = self.now;
        while let Some((_, name, id)) = self.under_way.pop_front_if(|(until, ..)| *until <= now) {
            let reason = format!("not done within {} s", KEEPING_MAX.as_secs());
            let late = |done| KeepError::Io { place: "a conversation".to_owned(), done, reason };
            match self.conversations.get(&name).map(|conversation| conversation.away) {
                Some(Away::Going(its)) if its == id => {
                    self.put(id, &name, Err(late("written")), effects);
                    effects.push(Effect::Forget(id));
                    self.stuck.insert(id);
                }
                Some(Away::Coming(its)) if its == id => {
                    self.fetched(id, &name, Err(late("read")), effects);
                    self.stuck.insert(id);
                }
                _ => {}
            }
        }
    }

    /// When the next of those takes too long.
    pub(super) fn keeping_deadline(&self) -> Option<Time> {
        self.under_way.front().map(|(until, ..)| *until)
    }

    /// What is done is not waited for any more.
    fn pass_over_kept(&mut self) {
        let conversations = &self.conversations;
        let is_over = |(_, name, id): &mut (Time, ConversationId, KeptId)| {
            let away = conversations.get(name).map(|conversation| conversation.away);
            away != Some(Away::Going(*id)) && away != Some(Away::Coming(*id))
        };
        while self.under_way.pop_front_if(is_over).is_some() {}
    }

    /// Its pages do not count any more as those that are about to be free.
    fn stop_going(&mut self, name: &ConversationId) {
        if let Some(conversation) = self.conversations.get_mut(name) {
            self.going -= std::mem::take(&mut conversation.going);
        }
    }

    /// A conversation that no job is out for gives up its keys and values, and with them what was done of a request that
    /// waits to be gone on with.
    pub(super) fn let_rows_go(&mut self, name: &ConversationId, to_file: bool, effects: &mut Vec<Effect>) {
        self.stand_up(name);
        let page = self.page_size().map_or(0, |page| page.bytes);
        let Some(conversation) = self.conversations.get_mut(name) else { return };
        let bytes = conversation.pages() * page;
        conversation.states_mut().for_each(|state| state.resident = Resident::default());
        if let Some(pending) = conversation.queue.first().and_then(|first| self.requests.get_mut(first)) {
            (pending.carried, pending.base) = (None, None);
        }
        effects.push(Effect::Notice(Notice::Left { conversation: name.clone(), to_file, bytes }));
    }

    /// What does not fit together, as sentences.
    pub(super) fn check_keeping(&self, broken: &mut Vec<String>) {
        let mut going = 0;
        for (name, conversation) in self.conversations.iter() {
            let (rests, pages) = (conversation.place.is_some(), conversation.pages());
            match conversation.away {
                Away::Not => {}
                Away::Going(_) if rests => going += conversation.going,
                Away::Kept(_) if pages == 0 => {}
                Away::Coming(_) if pages == 0 => {}
                away => broken.push(format!("`{name}` with {pages} pages, resting {rests}, is {away:?}")),
            }
        }
        if going != self.going {
            broken.push(format!("{going} bytes are being written, {} are counted", self.going));
        }
    }
}
