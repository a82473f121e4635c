//! What the brain's own parts have to say to it, on a way of their own: a mailbox takes nothing more once its actor is
//! to stop, and what is finished behind that has to be answered as well.
//!
//! An actor waits for its mailbox alone, so a note is followed by a message that says there are notes, unless one is on
//! its way already.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ractor::ActorRef;
use tokio::sync::mpsc;

use super::{
    message::{BrainMessage, Inner, Internal},
    tokenizing::Made,
};
use crate::{
    job::{Report, RequestId},
    message::BrainError,
    policy::{ActorIndex, Event, Incarnation},
};

/// What one of the brain's parts has to say.
#[derive(Debug)]
pub(super) enum Note {
    /// From an actor's thread.
    Reported(ActorIndex, Incarnation, Report),
    /// An actor's life has ended; behind everything it has reported.
    Died(ActorIndex, Incarnation),
    /// From a tokenizer's thread.
    Made(RequestId, Result<Made, BrainError>),
    /// From the keeper's thread.
    Kept(Event),
    /// From the timer.
    Alarm,
}

/// Where notes are put; clones are the same place.
#[derive(Clone, Debug)]
pub(super) struct Post {
    notes: mpsc::UnboundedSender<Note>,
    brain: ActorRef<BrainMessage>,
    /// Whether a message that says so is on its way.
    woken: Arc<AtomicBool>,
}

/// Where they are read.
#[derive(Debug)]
pub(super) struct Notes {
    notes: mpsc::UnboundedReceiver<Note>,
    woken: Arc<AtomicBool>,
}

/// The way to a brain.
pub(super) fn post(brain: ActorRef<BrainMessage>) -> (Post, Notes) {
    let (sender, notes) = mpsc::unbounded_channel();
    let woken = Arc::<AtomicBool>::default();
    (Post { notes: sender, brain, woken: Arc::clone(&woken) }, Notes { notes, woken })
}

impl Post {
    /// Puts a note there. A brain that is gone needs none.
    pub(super) fn put(&self, note: Note) {
        if self.notes.send(note).is_ok() && !self.woken.swap(true, Ordering::AcqRel) {
            // A brain that is stopping takes no message, and reads its notes without.
            let _ = self.brain.cast(BrainMessage::Internal(Internal(Inner::Wake)));
        }
    }
}

impl Notes {
    /// How many there are now; of those that come behind them a message will tell.
    pub(super) fn waiting(&self) -> usize {
        // First, or a note that comes in between would be told of by nobody.
        self.woken.swap(false, Ordering::AcqRel);
        self.notes.len()
    }

    /// The next one, if there is one.
    pub(super) fn next(&mut self) -> Option<Note> {
        self.notes.try_recv().ok()
    }

    /// Waits for the next one.
    pub(super) async fn wait(&mut self) -> Option<Note> {
        self.notes.recv().await
    }
}

/// An actor's life, as far as it is told of. Its end is told when it is dropped, which it is with everything else that
/// the actor had, however that ended: on a panic, when it is stopped, and where a thread that was left to itself comes
/// back after all. ractor's own events come before what the dead has reported is read, and not while the brain stops.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) actor: ActorIndex,
    pub(super) incarnation: Incarnation,
    pub(super) post: Post,
}

impl Life {
    /// What the actor says.
    pub(super) fn tell(&self, report: Report) {
        self.post.put(Note::Reported(self.actor, self.incarnation, report));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.post.put(Note::Died(self.actor, self.incarnation));
    }
}
