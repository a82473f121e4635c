//! A conversation inside an actor: its queue, its slot and what was committed to it.
//!
//! Only the front task of a lane runs. What a task does to the slot is pending until it commits;
//! [`Lane::undo`] takes the slot back to the last commit. Behind a slide the engine cannot go back,
//! but the lane knows the tokens that the window held, so it gives the slot up and reads them again,
//! exactly as after a restart.
//!
//! Lengths are in tokens. Invariant: once restored, the slot holds the committed tokens followed by
//! the pending ones, less those that left.

use std::{collections::VecDeque, mem};

use super::task::Task;
use crate::{
    engine::{Engine, EngineError, EngineErrorKind, RowOutput, SlotIndex},
    job::{Commit, History},
    tokens::TokenId,
};

/// A conversation, or the temporary slot of a job without one.
#[derive(Default)]
pub(super) struct Lane {
    /// Its jobs in the order of their arrival.
    pub(super) queue: VecDeque<Task>,
    /// Its place in the engine, while it has one.
    pub(super) slot: Option<SlotIndex>,
    /// Its tokens as of the last commit.
    pub(super) history: History,
    /// How many of `history.tokens` the slot holds; all of them unless they are being read again.
    pub(super) restored: usize,
    /// It had slid and was read again; not told yet.
    pub(super) rebuilt: bool,
    /// Its row was in a run that failed with nobody to blame, so its next row runs alone.
    pub(super) suspect: bool,
    pending: Commit,
}

impl Lane {
    /// Whether the committed tokens must be read before any work is done.
    pub(super) fn restoring(&self) -> bool {
        self.restored < self.history.tokens.len()
    }

    /// Takes over the history that the front job brings, unless the conversation is known here.
    pub(super) fn adopt(&mut self) {
        if let Some(task) = self.queue.front_mut()
            && let Some(history) = task.job.restore.take()
            && self.slot.is_none()
            && self.history.total == 0
        {
            let (pending, restored) = (self.pending_len(), self.restored);
            assert!(pending == 0, "a history is taken over with {pending} tokens pending");
            assert!(restored == 0, "a history is taken over with {restored} tokens of another restored");
            self.history = history;
        }
    }

    /// Whether there is nothing to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.slot.is_none() && self.history.total == 0 && self.queue.is_empty()
    }

    /// Tokens appended since the last commit.
    pub(super) fn pending_len(&self) -> usize {
        self.pending.appended.len()
    }

    /// Tokens in the context, the pending ones among them.
    pub(super) fn context_len(&self) -> usize {
        self.history.tokens.len() + self.pending_len() - self.pending.dropped
    }

    /// Tokens since the last reset, the pending ones among them.
    pub(super) fn total(&self) -> u64 {
        self.history.total + self.pending_len() as u64
    }

    /// A row that restores has run.
    pub(super) fn absorb_restored(&mut self, output: &RowOutput) {
        assert_eq!(output.dropped, 0, "a history of {} tokens slid", self.history.tokens.len());
        self.restored += output.taken;
        let (restored, all) = (self.restored, self.history.tokens.len());
        assert!(restored <= all, "{restored} tokens are restored of a history of {all}");
        assert_eq!(output.context_len, self.restored, "the slot holds other than what was restored");
        self.rebuilt |= !self.restoring() && self.history.has_slid();
    }

    /// A row of the front task with these `tokens` has run.
    pub(super) fn absorb(&mut self, tokens: &[TokenId], output: &RowOutput) {
        self.pending.appended.extend_from_slice(&tokens[..output.taken]);
        self.pending.appended.extend(output.sampled.iter().map(|sampled| sampled.token));
        self.pending.dropped += output.dropped;
        assert_eq!(self.context_len(), output.context_len, "the slot holds other than what was appended");
    }

    /// What is pending belongs to the conversation now. `sinks` is that of the window.
    pub(super) fn commit(&mut self, sinks: usize) -> Commit {
        let (restored, all, expected) = (self.restored, self.history.tokens.len(), self.context_len());
        assert!(restored == all, "a commit to a history of {all} tokens of which {restored} are restored");
        let commit = mem::take(&mut self.pending);
        commit.apply(&mut self.history, sinks);
        self.restored = self.history.tokens.len();
        let found = self.restored;
        assert!(found == expected, "{found} tokens after a commit, the slot holds {expected}");
        commit
    }

    /// Back to the last commit.
    ///
    /// # Errors
    /// The engine's, where it is broken.
    pub(super) fn undo(&mut self, engine: &mut dyn Engine) -> Result<(), EngineError> {
        let pending = mem::take(&mut self.pending);
        let Some(slot) = self.slot else { return Ok(()) };
        if !self.restoring() && !self.history.tokens.is_empty() && pending.dropped == 0 {
            if pending.appended.is_empty() {
                return Ok(());
            }
            match engine.rewind(slot, self.history.tokens.len()) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == EngineErrorKind::Fatal => return Err(error),
                Err(_) => {}
            }
        }
        self.give_back(engine);
        Ok(())
    }

    /// Forgets the conversation's tokens; its queue stays.
    pub(super) fn forget(&mut self, engine: &mut dyn Engine) {
        self.give_back(engine);
        self.history = History::default();
        self.pending = Commit::default();
        self.rebuilt = false;
    }

    fn give_back(&mut self, engine: &mut dyn Engine) {
        if let Some(slot) = self.slot.take() {
            engine.close(slot);
        }
        self.restored = 0;
    }
}
