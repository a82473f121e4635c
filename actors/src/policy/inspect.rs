//! What the brain tells of its conversations, at once and without asking anybody: one, or a page of all.
//!
//! Pages follow the order of names, which stays: whatever is made or closed meanwhile, a conversation that is there all
//! the time stands on exactly one page. A page costs what stands on it and one look-up, however many there are.

use std::time::Duration;

use super::{
    Policy, Time,
    conversations::{Conversation, Slot},
    keeping::Away,
    state::State,
};
use crate::{
    engine::Page,
    message::{BrainError, ConversationId, Sharing},
};

/// The most conversations on a page. Not a setting: it only keeps one answer from being all there is.
pub const LIST_MAX: usize = 1000;

/// Which page of the conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAsk {
    /// Those behind this one, whether it is still there or not; `None`: from the first one on. See [`Listed::next`].
    pub after: Option<ConversationId>,
    /// How many; 1 to [`LIST_MAX`].
    pub limit: usize,
}

impl Default for ListAsk {
    fn default() -> Self {
        Self { after: None, limit: 100 }
    }
}

/// A page of the conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In an order of their names that stays, though it is not that of their letters.
    pub conversations: Vec<Inspected>,
    /// [`ListAsk::after`] of the next page; `None`: this is the last one.
    pub next: Option<ConversationId>,
}

/// What a conversation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its name.
    pub conversation: ConversationId,
    /// Tokens in its context.
    pub context_len: usize,
    /// Tokens since it began or was reset last, those that have left the context among them.
    pub total: u64,
    /// Tokens that are pinned, the first ones.
    pub pinned: usize,
    /// Whether tokens have left its context.
    pub slid: bool,
    /// Bytes of keys and values that it holds, answers that wait among them, whoever else holds the same.
    pub kv_bytes: usize,
    /// Bytes of those that others hold as well. Not known, and 0, while something is asked of a conversation that gives
    /// nothing to others: it shares with nobody, was imported or shared otherwise before, or has slid where what
    /// stays is not read again.
    pub shared_bytes: usize,
    /// Where its keys and values are.
    pub dwelling: Dwelling,
    /// The actor of its last job, if that still serves it.
    pub actor: Option<usize>,
    /// Its requests that are not done.
    pub requests: usize,
    /// Answers that wait for one to be kept.
    pub choices: usize,
    /// With whom it shares what it reads.
    pub sharing: SharingKind,
    /// For how long nothing was asked of it or done for it; `None` while something is.
    pub idle: Option<Duration>,
    /// Whether its requests are refused, since they have killed actors.
    pub quarantined: bool,
}

/// Where a conversation's keys and values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dwelling {
    /// In memory, but for tokens that nobody has run yet.
    Resident,
    /// In a file.
    Spilled,
    /// Nowhere: there are tokens alone, which the next request reads again, or none.
    Tokens,
}

impl Dwelling {
    /// As the pipe protocol spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Spilled => "spilled",
            Self::Tokens => "tokens",
        }
    }
}

/// With whom a conversation shares, without the name of its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingKind {
    /// With all that name no scope.
    All,
    /// With those of its scope.
    Scope,
    /// With nobody.
    Nobody,
}

impl SharingKind {
    /// As the pipe protocol spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Scope => "scope",
            Self::Nobody => "nobody",
        }
    }
}

impl From<&Sharing> for SharingKind {
    fn from(sharing: &Sharing) -> Self {
        match sharing {
            Sharing::With(None) => Self::All,
            Sharing::With(Some(_)) => Self::Scope,
            Sharing::Nobody => Self::Nobody,
        }
    }
}

impl Policy {
    /// A page of the conversations as they are at `now`.
    ///
    /// # Errors
    /// [`BrainError::BadRequest`] for a limit that is none.
    pub fn list(&self, now: Time, ask: &ListAsk) -> Result<Listed, BrainError> {
        if !(1..=LIST_MAX).contains(&ask.limit) {
            let (found, expected) = (ask.limit.to_string(), format!("1 to {LIST_MAX}"));
            return Err(BrainError::BadRequest { what: "limit", found, expected });
        }
        let mut behind = self.conversations.behind(ask.after.as_ref());
        let page = behind.by_ref().take(ask.limit);
        let conversations: Vec<Inspected> = page.map(|(name, it)| self.inspected(now, name, it)).collect();
        let last = conversations.last().map(|last| last.conversation.clone());
        Ok(Listed { next: last.filter(|_| behind.next().is_some()), conversations })
    }

    /// What one is at `now`. One whose first request is not done is there already, without a token.
    ///
    /// # Errors
    /// [`BrainError::UnknownConversation`].
    pub fn inspect(&self, now: Time, name: &ConversationId) -> Result<Inspected, BrainError> {
        let conversation = self.conversations.get(name);
        let conversation =
            conversation.ok_or_else(|| BrainError::UnknownConversation { conversation: name.clone() })?;
        Ok(self.inspected(now, name, conversation))
    }

    fn inspected(&self, now: Time, name: &ConversationId, conversation: &Conversation) -> Inspected {
        let Conversation { state, choices, home, queue, sharing, away, .. } = conversation;
        let (kv_bytes, shared_bytes) = self.bytes_of(conversation);
        Inspected {
            conversation: name.clone(),
            context_len: state.len(),
            total: state.history.total,
            pinned: state.history.pinned,
            slid: state.history.has_slid(),
            kv_bytes,
            shared_bytes,
            dwelling: match away {
                Away::Kept(_) | Away::Coming(_) => Dwelling::Spilled,
                _ if kv_bytes > 0 => Dwelling::Resident,
                _ => Dwelling::Tokens,
            },
            actor: self.lives_with(*home).map(|actor| actor.0),
            requests: queue.len(),
            choices: choices.len(),
            sharing: sharing.into(),
            idle: self.rests_since(conversation).map(|since| now.since(since)),
            quarantined: self.check_quarantine(name).is_err(),
        }
    }

    /// Bytes of keys and values that a conversation holds, and of those that others hold as well. Costs a visit for each
    /// page that is its own.
    fn bytes_of(&self, conversation: &Conversation) -> (usize, usize) {
        let Conversation { state, choices, slot, seat, queue, .. } = conversation;
        let Some(page) = self.page_size() else {
            let has_it = matches!(slot, Slot::Clean(actor, incarnation) if self.serves(*actor, *incarnation));
            let token = self.model.as_ref().map_or(0, |model| model.kv_bytes_per_token);
            return (if has_it { token * state.len() } else { 0 }, 0);
        };
        let (pages, own) = (&state.resident.pages, |choice: &State| choice.resident.pages_beside(&state.resident));
        let held = pages.len() + choices.iter().map(own).sum::<usize>();
        let shared = match (seat, &self.prefixes) {
            (Some(seat), Some(prefixes)) => prefixes.shared(seat).min(pages.len()),
            // A job has its pages as well, which is no sharing.
            _ if !queue.is_empty() => 0,
            _ => {
                let own = |index: usize, page: &Page| {
                    1 + choices.iter().filter(|it| it.resident.pages.get(index) == Some(page)).count()
                };
                pages.iter().enumerate().filter(|(index, page)| page.holders() > own(*index, page)).count()
            }
        };
        (held * page.bytes, shared * page.bytes)
    }
}
