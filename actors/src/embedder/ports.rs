//! What the owner of an embedder actor used alone keeps: who waits for which job, and for the load, and what every
//! conversation holds.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::{
    engine::{EngineInfo, LoadError, Resident},
    job::{Done, History, Holding, Outcome, Report, RequestId, lock},
    message::ConversationId,
};

/// A conversation between two jobs.
pub(super) struct Conversation {
    pub(super) context: History,
    pub(super) held: Holding,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { context: History::default(), held: Holding::Nothing }
    }
}

impl Conversation {
    /// Takes over what a job did.
    fn absorb(&mut self, done: &Done, info: &EngineInfo) {
        if matches!(done.outcome, Ok(Outcome::Forgotten)) {
            *self = Self::default();
        } else if done.outcome.is_ok() {
            done.commit.apply(&mut self.context, info.window.sinks);
            self.held = match (info.pages, std::mem::replace(&mut self.held, Holding::Slot)) {
                (None, _) => Holding::Slot,
                (Some(_), before) => {
                    let mut resident =
                        if let Holding::Pages(resident) = before { resident } else { Resident::default() };
                    resident.apply(done.commit.held.clone());
                    Holding::Pages(resident)
                }
            };
        } else if done.lost {
            self.held = Holding::Nothing;
        }
    }
}

/// A conversation while a job has it: the jobs of one come one after the other.
pub(super) type Taken = OwnedMutexGuard<Conversation>;

/// Who waits for a job, and the conversation that it has.
struct Waiting {
    port: oneshot::Sender<Done>,
    taken: Option<(ConversationId, Taken)>,
}

/// Who waits for what, and what there is of each conversation.
pub(super) struct Ports {
    next: AtomicU64,
    // std mutexes: held for one insertion or removal, never across an await.
    waiting: Mutex<HashMap<RequestId, Waiting>>,
    conversations: Mutex<HashMap<ConversationId, Arc<tokio::sync::Mutex<Conversation>>>>,
    loaded: Mutex<Option<oneshot::Sender<Result<EngineInfo, LoadError>>>>,
    info: OnceLock<EngineInfo>,
}

impl Ports {
    pub(super) fn new(loaded: oneshot::Sender<Result<EngineInfo, LoadError>>) -> Self {
        Self {
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
            conversations: Mutex::default(),
            loaded: Mutex::new(Some(loaded)),
            info: OnceLock::new(),
        }
    }

    /// A conversation, to be locked in the order in which its jobs shall be done.
    pub(super) fn conversation(&self, name: &ConversationId) -> Arc<tokio::sync::Mutex<Conversation>> {
        Arc::clone(lock(&self.conversations).entry(name.clone()).or_default())
    }

    /// Forgets a conversation, unless somebody waits for it.
    fn forget(&self, name: &ConversationId) {
        let mut conversations = lock(&self.conversations);
        if conversations.get(name).is_some_and(|conversation| Arc::strong_count(conversation) == 1) {
            conversations.remove(name);
        }
    }

    /// A job's place, with the conversation that it has.
    pub(super) fn wait_at(&self, port: oneshot::Sender<Done>, taken: Option<(ConversationId, Taken)>) -> RequestId {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        lock(&self.waiting).insert(request, Waiting { port, taken });
        request
    }

    /// A port whose caller has left is no matter.
    pub(super) fn report(&self, report: Report) {
        let loaded = match report {
            Report::Ready(info) => {
                let _ = self.info.set(info.clone());
                Ok(info)
            }
            Report::LoadFailed(error) => Err(error),
            Report::Done(done) => return self.done(done),
            Report::Token { .. } | Report::Memory { .. } | Report::Returned { .. } => return,
        };
        if let Some(port) = lock(&self.loaded).take() {
            let _ = port.send(loaded);
        }
    }

    fn done(&self, done: Done) {
        let Some(Waiting { port, taken }) = lock(&self.waiting).remove(&done.request) else { return };
        if let (Some((name, mut conversation)), Some(info)) = (taken, self.info.get()) {
            conversation.absorb(&done, info);
            let is_empty = conversation.context.total == 0;
            drop(conversation);
            if is_empty {
                self.forget(&name);
            }
        }
        drop(port.send(done));
    }
}
