//! The reply ports of an embedder actor used alone: who waits for which job, and for the load.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::{
    engine::{EngineInfo, LoadError},
    job::{Done, Report, RequestId, lock},
};

/// Who waits for what.
pub(super) struct Ports {
    next: AtomicU64,
    // std mutexes: held for one insertion or removal, never across an await.
    waiting: Mutex<HashMap<RequestId, oneshot::Sender<Done>>>,
    loaded: Mutex<Option<oneshot::Sender<Result<EngineInfo, LoadError>>>>,
}

impl Ports {
    pub(super) fn new(loaded: oneshot::Sender<Result<EngineInfo, LoadError>>) -> Self {
        Self { next: AtomicU64::new(0), waiting: Mutex::default(), loaded: Mutex::new(Some(loaded)) }
    }

    pub(super) fn wait_at(&self, port: oneshot::Sender<Done>) -> RequestId {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        lock(&self.waiting).insert(request, port);
        request
    }

    /// A port whose caller has left is no matter.
    pub(super) fn report(&self, report: Report) {
        let loaded = match report {
            Report::Ready(info) => Ok(info),
            Report::LoadFailed(error) => Err(error),
            Report::Done(done) => {
                let port = lock(&self.waiting).remove(&done.request);
                return drop(port.map(|port| port.send(done)));
            }
            Report::Token { .. } | Report::Memory { .. } => return,
        };
        drop(lock(&self.loaded).take().map(|port| port.send(loaded)));
    }
}
