//! The thread that keeps conversations outside of memory, so that neither the brain nor an actor waits for a disk.
//!
//! Whoever waits for an answer comes first: what is to be read goes before what is to be written. What is not wanted any
//! more before it was written never is. There is at most one thing to be written or read for each conversation, so
//! bounds on these bound what waits here.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use super::notes::{Note, Post};
use crate::{
    job::{History, lock},
    keep::{Keep, KeepError, Kept, KeptId},
    message::ConversationId,
    policy::Event,
};

/// How long the end of a brain waits for the thread: more than a file takes, and a disk that hangs holds up nobody.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What is to be done.
enum Work {
    Put(KeptId, ConversationId, Vec<Kept>),
    Fetch(KeptId, ConversationId, Vec<History>),
    Forget(KeptId),
}

#[derive(Default)]
struct Queue {
    /// To be read, and to be forgotten.
    first: VecDeque<Work>,
    /// To be written.
    later: VecDeque<Work>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    /// A std mutex, since a thread waits for it: held for a few look-ups, never while something is read or written.
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The way to the thread; it ends when this is dropped.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    post: Post,
    /// Closed when the thread has ended.
    ends: mpsc::Receiver<()>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives none.
    pub(super) fn start(keep: Arc<dyn Keep>, post: Post) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (end, ends) = mpsc::channel();
        let keeper = Self { shared: Arc::clone(&shared), post: post.clone(), ends };
        let life = move || {
            shared.work(&*keep, &post);
            drop((keep, end));
        };
        thread::Builder::new().name("keeper".to_owned()).spawn(life)?;
        Ok(keeper)
    }

    pub(super) fn put(&self, id: KeptId, conversation: ConversationId, states: Vec<Kept>) {
        self.add(|queue| queue.later.push_back(Work::Put(id, conversation, states)));
    }

    pub(super) fn fetch(&self, id: KeptId, conversation: ConversationId, expected: Vec<History>) {
        self.add(|queue| queue.first.push_back(Work::Fetch(id, conversation, expected)));
    }

    pub(super) fn forget(&self, id: KeptId) {
        let mut queue = lock(&self.shared.queue);
        let place = queue.later.iter().position(|work| matches!(work, Work::Put(its, ..) if *its == id));
        match place.and_then(|place| queue.later.remove(place)) {
            Some(Work::Put(id, conversation, states)) => {
                drop(queue);
                drop(states);
                // All that was asked for is answered.
                let result = Err(KeepError::Unknown(id));
                self.post.put(Note::Kept(Event::Put { id, conversation, result }));
            }
            _ => {
                queue.first.push_back(Work::Forget(id));
                drop(queue);
                self.shared.changed.notify_one();
            }
        }
    }

    fn add(&self, add: impl FnOnce(&mut Queue)) {
        add(&mut lock(&self.shared.queue));
        self.shared.changed.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *lock(&self.shared.queue) = Queue { closed: true, ..Queue::default() };
        self.shared.changed.notify_one();
        // A process that ended now would leave behind what the thread is at.
        let _ = self.ends.recv_timeout(ENDS_WITHIN);
    }
}

impl Shared {
    /// The thread's life.
    fn work(&self, keep: &dyn Keep, post: &Post) {
        while let Some(work) = self.next() {
            match work {
                Work::Put(id, conversation, states) => {
                    let result = guarded("written", || keep.put(id, &conversation, &states));
                    // Before that is told, or its pages would seem to be somebody's still.
                    drop(states);
                    post.put(Note::Kept(Event::Put { id, conversation, result }));
                }
                Work::Fetch(id, conversation, expected) => {
                    let result = guarded("read", || keep.take(id, &conversation, &expected));
                    post.put(Note::Kept(Event::Fetched { id, conversation, result }));
                }
                Work::Forget(id) => drop(guarded("removed", || {
                    keep.forget(id);
                    Ok(())
                })),
            }
        }
    }

    /// Waits for something to do; `None` at the end.
    fn next(&self) -> Option<Work> {
        let idles = |queue: &mut Queue| queue.first.is_empty() && queue.later.is_empty() && !queue.closed;
        let queue = lock(&self.queue);
        let mut queue = self.changed.wait_while(queue, idles).unwrap_or_else(PoisonError::into_inner);
        queue.first.pop_front().or_else(|| queue.later.pop_front())
    }
}

/// Somebody else's code: a panic there is an error here.
fn guarded<T>(done: &'static str, call: impl FnOnce() -> Result<T, KeepError>) -> Result<T, KeepError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(KeepError::Io { place: "a conversation".to_owned(), done, reason: "the keeper panicked".to_owned() })
    })
}
