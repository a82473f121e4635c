//! Who waits for what at one actor: for its load, and for its jobs. Whoever waits at an actor that is gone, or that is
//! given up, is told: the ports are dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    conversations::{Conversations, Life, Taken},
    stream::Shown,
};
use crate::{
    engine::{EngineInfo, LoadError},
    job::{Done, Report, RequestId, lock},
    message::ConversationId,
};

/// Where a job's answer goes.
pub(super) enum Port {
    /// All at once.
    Done(oneshot::Sender<Done>),
    /// Token by token.
    Shown(mpsc::UnboundedSender<Shown>),
}

/// Who waits for a job, and what it has.
pub(super) struct Waiting {
    pub(super) port: Port,
    pub(super) taken: Option<(ConversationId, Taken)>,
    /// Its place among the jobs that there may be at once.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Who waits for what at an actor.
pub(super) struct Ports {
    next: AtomicU64,
    life: Life,
    conversations: Arc<Conversations>,
    // std mutexes: held for one insertion or removal, never across an await. `None`: the actor is given up.
    waiting: Mutex<Option<HashMap<RequestId, Waiting>>>,
    loaded: Mutex<Option<oneshot::Sender<Result<EngineInfo, LoadError>>>>,
    info: OnceLock<EngineInfo>,
}

impl Ports {
    pub(super) fn new(
        life: Life,
        conversations: Arc<Conversations>,
        loaded: oneshot::Sender<Result<EngineInfo, LoadError>>,
    ) -> Self {
        Self {
            next: AtomicU64::new(0),
            life,
            conversations,
            waiting: Mutex::new(Some(HashMap::new())),
            loaded: Mutex::new(Some(loaded)),
            info: OnceLock::new(),
        }
    }

    /// A job's place; `None` where the actor is given up.
    pub(super) fn wait_at(&self, waiting: Waiting) -> Option<RequestId> {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        match lock(&self.waiting).as_mut() {
            Some(all) => _ = all.insert(request, waiting),
            None => {
                self.put_back(waiting.taken);
                return None;
            }
        }
        Some(request)
    }

    /// Whoever waits is told that the actor is gone, and what it still reports counts no more.
    pub(super) fn give_up(&self) {
        let waiting = lock(&self.waiting).take();
        for Waiting { taken, .. } in waiting.into_iter().flat_map(HashMap::into_values) {
            self.put_back(taken);
        }
    }

    /// A port whose caller has left is no matter.
    pub(super) fn report(&self, report: Report) {
        match report {
            Report::Ready(info) => {
                let _ = self.info.set(info.clone());
                self.loaded(Ok(info));
            }
            Report::LoadFailed(error) => self.loaded(Err(error)),
            Report::Token { request, mut forced, sampled, stopped, commit, context_len } => {
                let mut waiting = lock(&self.waiting);
                let Some(Waiting { port, taken, .. }) = waiting.as_mut().and_then(|all| all.get_mut(&request)) else {
                    return;
                };
                if let (Some((_, conversation)), Some(info)) = (taken, self.info.get()) {
                    conversation.commit(&commit, self.life, info);
                }
                if let Port::Shown(port) = port {
                    forced.extend(sampled);
                    let count = forced.len();
                    for (index, sampled) in forced.into_iter().enumerate() {
                        let behind = count - 1 - index;
                        let (stopped, context_len) = (stopped && behind == 0, context_len - behind);
                        let _ = port.send(Shown::Token { sampled, stopped, context_len });
                    }
                }
            }
            Report::Done(done) => self.done(done),
            Report::Cleared { .. } | Report::Runs | Report::Memory { .. } | Report::Returned { .. } => {}
        }
    }

    fn loaded(&self, loaded: Result<EngineInfo, LoadError>) {
        if let Some(port) = lock(&self.loaded).take() {
            let _ = port.send(loaded);
        }
    }

    fn done(&self, done: Done) {
        let waiting = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&done.request));
        let Some(Waiting { port, mut taken, permit }) = waiting else { return };
        if let (Some((_, conversation)), Some(info)) = (&mut taken, self.info.get()) {
            conversation.absorb(&done, self.life, info);
        }
        // Before the answer, so that whoever hears of it finds the conversation and a place.
        self.put_back(taken);
        drop(permit);
        match port {
            Port::Done(port) => drop(port.send(done)),
            Port::Shown(port) => drop(port.send(Shown::Done(Box::new(done)))),
        }
    }

    fn put_back(&self, taken: Option<(ConversationId, Taken)>) {
        if let Some((name, taken)) = taken {
            self.conversations.put_back(&name, taken);
        }
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.give_up();
    }
}
