//! What an owner of an embedder actor keeps of its conversations, from one job to the next and from one actor to the
//! next: their tokens, and the pages of their keys and values.
//!
//! A conversation changes when a commit is reported and at no other time, so whoever dies takes nothing with it. What an
//! engine without pages keeps to itself is good for one life of the actor, and is read again in the next.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    engine::{EngineInfo, Resident},
    job::{Commit, Done, History, Holding, Outcome, Work, lock},
    message::ConversationId,
    tokens::TokenId,
};

/// Which of the actors that have followed each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life(pub(super) u64);

/// A conversation between two jobs.
pub(super) struct Conversation {
    pub(super) context: History,
    held: Holding,
    /// Whose engine a [`Holding::Slot`] is in.
    life: Life,
    read: Option<Read>,
    /// The pages that the job under way began with, until its first commit: of these it tells what became.
    base: Option<Resident>,
}

/// What a job that was not done had read behind the context: the next one that reads the same need not.
struct Read {
    appended: Vec<TokenId>,
    resident: Resident,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { context: History::default(), held: Holding::Nothing, life: Life::default(), read: None, base: None }
    }
}

impl Conversation {
    /// Begins a job with this work: what there is of its keys and values.
    pub(super) fn begin(&mut self, work: &Work, life: Life, info: &EngineInfo) -> Holding {
        let holding = self.holding(work, life, info);
        self.base = match &holding {
            Holding::Pages(resident) => Some(resident.clone()),
            Holding::Slot | Holding::Nothing => None,
        };
        holding
    }

    fn holding(&self, work: &Work, life: Life, info: &EngineInfo) -> Holding {
        // What needs something of each of its tokens takes over none of them.
        if let (Some(read), Some(page), false) = (&self.read, info.pages, work.reads_all()) {
            let tokens = work.input();
            let same = read.appended.iter().zip(tokens.iter()).take_while(|(one, other)| one == other).count();
            // At least one token is left to read.
            let reused = same.min(tokens.len().saturating_sub(1));
            let kv_len = read.resident.kv_len.min(self.context.tokens.len() + reused);
            if kv_len > self.context.tokens.len() {
                let mut resident = read.resident.clone();
                resident.truncate(kv_len, page.tokens);
                return Holding::Pages(resident);
            }
        }
        match &self.held {
            Holding::Slot if self.life != life => Holding::Nothing,
            held => held.clone(),
        }
    }

    /// Takes over what a job of this life has committed.
    pub(super) fn commit(&mut self, commit: &Commit, life: Life, info: &EngineInfo) {
        commit.apply(&mut self.context, &info.window);
        self.read = None;
        self.life = life;
        self.held = match info.pages {
            None => Holding::Slot,
            Some(_) => Holding::Pages(self.resident(commit)),
        };
    }

    /// Takes over what a job of this life did.
    pub(super) fn absorb(&mut self, done: &Done, life: Life, info: &EngineInfo) {
        match &done.outcome {
            Ok(Outcome::Forgotten) => *self = Self::default(),
            Ok(_) => self.commit(&done.commit, life, info),
            Err(_) if done.lost => self.held = Holding::Nothing,
            Err(_) if info.pages.is_none() && self.context.total > 0 => {
                // Of a context that was being read again, what was read.
                (self.held, self.life) = (Holding::Slot, life);
            }
            Err(_) => {
                if let Some(read) = &done.read {
                    self.read = Some(Read { appended: read.appended.clone(), resident: self.resident(read) });
                }
            }
        }
    }

    fn resident(&mut self, commit: &Commit) -> Resident {
        let mut resident = match (self.base.take(), &self.held) {
            (Some(base), _) => base,
            (None, Holding::Pages(held)) => held.clone(),
            (None, Holding::Slot | Holding::Nothing) => Resident::default(),
        };
        resident.apply(commit.held.clone());
        resident
    }
}

/// A conversation while a job has it: the jobs of one come one after the other.
pub(super) type Taken = OwnedMutexGuard<Conversation>;

/// Of so many conversations that hold nothing yet what an unfinished job had read is kept, the latest.
const UNFINISHED_MAX: usize = 64;

/// All conversations of an owner.
#[derive(Default)]
pub(super) struct Conversations {
    // A std mutex: held for one insertion or removal, never across an await.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    conversations: HashMap<ConversationId, Arc<tokio::sync::Mutex<Conversation>>>,
    /// Those that hold nothing but what an unfinished job had read, oldest first; some of them may have gone on.
    unfinished: VecDeque<ConversationId>,
}

impl Known {
    /// Forgets a conversation of which `is_blank` is true, unless somebody has it or waits for it.
    fn forget(&mut self, name: &ConversationId, is_blank: impl FnOnce(&Conversation) -> bool) {
        let conversation = self.conversations.get_mut(name).and_then(Arc::get_mut);
        if conversation.is_some_and(|conversation| is_blank(conversation.get_mut())) {
            self.conversations.remove(name);
        }
    }
}

impl Conversations {
    /// Waits for a conversation, in the order in which its jobs shall be done.
    pub(super) async fn take(&self, name: &ConversationId) -> Taken {
        // Whoever does not wait until the end leaves nothing of one that it alone knew.
        let _unknown = Blank { conversations: self, name };
        let conversation = Arc::clone(lock(&self.known).conversations.entry(name.clone()).or_default());
        conversation.lock_owned().await
    }

    /// A job has done with it.
    pub(super) fn put_back(&self, name: &ConversationId, taken: Taken) {
        let is_unfinished = taken.context.total == 0 && taken.read.is_some();
        drop(taken);
        if is_unfinished {
            let mut known = lock(&self.known);
            known.unfinished.push_back(name.clone());
            if known.unfinished.len() > UNFINISHED_MAX
                && let Some(oldest) = known.unfinished.pop_front()
            {
                known.forget(&oldest, |conversation| conversation.context.total == 0);
            }
        }
        self.forget_blank(name);
    }

    /// Forgets a conversation without tokens, unless somebody has it or waits for it.
    fn forget_blank(&self, name: &ConversationId) {
        lock(&self.known).forget(name, |conversation| conversation.context.total == 0 && conversation.read.is_none());
    }
}

/// Forgets a conversation without tokens when it is dropped.
struct Blank<'a> {
    conversations: &'a Conversations,
    name: &'a ConversationId,
}

impl Drop for Blank<'_> {
    fn drop(&mut self) {
        self.conversations.forget_blank(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobError, RequestId};

    fn done(appended: &[TokenId], outcome: Result<Outcome, JobError>) -> Done {
        let commit = Commit { appended: appended.to_vec(), ..Commit::default() };
        Done { request: RequestId(0), outcome, commit, context_len: 0, rebuilt: false, lost: false, read: None }
    }

    fn info() -> EngineInfo {
        EngineInfo {
            layers: 1,
            hidden: 1,
            vocab: 9,
            inputs: 1,
            embeds: true,
            window: crate::engine::Window { size: 9, sinks: 0, slide: 1, slides: crate::engine::Slides::Shift },
            end_tokens: Vec::new(),
            kv_bytes_per_token: 1,
            pages: None,
        }
    }

    #[tokio::test]
    async fn a_conversation_without_tokens_is_forgotten_when_nobody_has_it() {
        let (conversations, name) = (Conversations::default(), ConversationId::from("a"));
        let known = || lock(&conversations.known).conversations.len();
        let taken = conversations.take(&name).await;
        {
            let mut waits = std::pin::pin!(conversations.take(&name));
            assert!(is_pending(waits.as_mut()).await, "it is taken");
            conversations.put_back(&name, taken);
            assert_eq!(known(), 1, "somebody waits for it");
        }
        assert_eq!(known(), 0, "and has left");
        let mut taken = conversations.take(&name).await;
        taken.absorb(&done(&[TokenId(1)], Ok(Outcome::Moved)), Life(0), &info());
        conversations.put_back(&name, taken);
        assert_eq!(known(), 1);
        let mut taken = conversations.take(&name).await;
        taken.absorb(&done(&[], Ok(Outcome::Forgotten)), Life(0), &info());
        conversations.put_back(&name, taken);
        assert_eq!(known(), 0);
    }

    /// Whether a future is still pending.
    async fn is_pending<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[test]
    fn a_slot_is_good_for_one_life() {
        let mut conversation = Conversation::default();
        conversation.absorb(&done(&[TokenId(1)], Ok(Outcome::Moved)), Life(3), &info());
        let held = |life| conversation.holding(&Work::Forget, Life(life), &info());
        assert_eq!((held(3), held(4)), (Holding::Slot, Holding::Nothing));
    }
}
