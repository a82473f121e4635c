//! What an actor has of a conversation: its jobs, the slot of the one under way, and what that did since the last commit.
//!
//! Only the front task of a lane runs. It begins on what its job says there is of the conversation: pages, which any
//! actor adopts, or the slot that an engine without pages keeps from job to job; what is missing is read first. What a
//! task does is pending until it commits. Pages belong to the conversation and not to the lane: when the task ends,
//! well or not, the slot on them is closed, and the owner goes on from the last commit. A slot without pages goes back
//! to it or, behind a slide, is given up, and the owner is told so.
//!
//! Lengths are in tokens. Invariant: once restored, the slot holds the committed tokens followed by the pending ones,
//! less those that left.

use std::{collections::VecDeque, mem};

use super::task::Task;
use crate::{
    engine::{Engine, EngineError, EngineErrorKind, RowOutput, SlotIndex},
    job::{Commit, Holding},
    tokens::TokenId,
};

/// A conversation, or the temporary slot of a job without one.
#[derive(Default)]
pub(super) struct Lane {
    /// Its jobs in the order of their arrival.
    pub(super) queue: VecDeque<Task>,
    /// Its place in the engine, while it has one.
    pub(super) slot: Option<SlotIndex>,
    /// It had slid and was read again; not told yet.
    pub(super) rebuilt: bool,
    /// Its row was in a run that failed with nobody to blame, so its next row runs alone.
    pub(super) suspect: bool,
    /// Whether the front task has begun.
    pub(super) begun: bool,
    /// Tokens of the front job's context that the slot holds.
    restored: usize,
    /// Those that it shall hold before the work begins.
    to_restore: usize,
    /// Tokens in the context as of the last commit.
    context_len: usize,
    /// Tokens since the last reset as of the last commit.
    total: u64,
    pending: Commit,
}

impl Lane {
    /// Begins the front task on what there is of the conversation.
    ///
    /// # Errors
    /// The engine's; then nothing has begun.
    pub(super) fn begin(&mut self, engine: &mut dyn Engine) -> Result<(), EngineError> {
        let Some(task) = self.queue.front_mut() else { return Ok(()) };
        let context = task.job.context.clone();
        let sinks = engine.info().window.sinks;
        let mut pending = task.carried.take();
        let committed = context.tokens.len();
        let mut restored = committed;
        match &task.job.held {
            Holding::Slot if self.slot.is_some() => {}
            Holding::Pages(resident) => {
                let mut resident = resident.clone();
                if resident.kv_len > committed && pending.is_none() {
                    let appended = task.skip(resident.kv_len - committed).to_vec();
                    pending = Some(Commit { appended, ..Commit::default() });
                }
                let mut present = context.clone();
                if let Some(pending) = &pending {
                    pending.apply(&mut present, sinks);
                    resident.apply(pending.held.clone());
                }
                // The last token may have been sampled and not run yet.
                let mut tokens = &present.tokens[..];
                if resident.kv_len + 1 < tokens.len() {
                    tokens = &tokens[..resident.kv_len];
                    restored = resident.kv_len;
                }
                self.slot.take().into_iter().for_each(|slot| engine.close(slot));
                self.slot = Some(engine.adopt(tokens, &resident)?);
                // Whoever has slid holds no page of before for as long as the job goes on.
                task.job.held = Holding::Nothing;
            }
            _ => {
                self.give_back(engine);
                self.slot = Some(engine.open()?);
                restored = 0;
            }
        }
        (self.restored, self.to_restore) = (restored, committed);
        (self.context_len, self.total) = (committed, context.total);
        self.pending = pending.unwrap_or_default();
        self.begun = true;
        Ok(())
    }

    /// Whether the job's context must be read before any work is done.
    pub(super) fn restoring(&self) -> bool {
        self.restored < self.to_restore
    }

    /// The tokens of the front job's context that are to be read first.
    pub(super) fn to_restore(&self) -> &[TokenId] {
        let context = self.queue.front().map_or(&[][..], |task| &task.job.context.tokens);
        &context[self.restored.min(self.to_restore)..self.to_restore]
    }

    /// Whether there is nothing to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.slot.is_none() && self.queue.is_empty()
    }

    /// Tokens appended since the last commit.
    pub(super) fn pending_len(&self) -> usize {
        self.pending.appended.len()
    }

    /// Tokens in the context as of the last commit.
    pub(super) fn committed_len(&self) -> usize {
        self.context_len
    }

    /// Tokens in the context, the pending ones among them.
    pub(super) fn context_len(&self) -> usize {
        self.context_len + self.pending_len() - self.pending.dropped
    }

    /// Tokens since the last reset, the pending ones among them.
    pub(super) fn total(&self) -> u64 {
        self.total + self.pending_len() as u64
    }

    /// A row that restores has run.
    pub(super) fn absorb_restored(&mut self, output: &RowOutput) {
        assert_eq!(output.dropped, 0, "a context of {} tokens slid while it was read again", self.to_restore);
        self.restored += output.taken;
        let (restored, all) = (self.restored, self.to_restore);
        assert!(restored <= all, "{restored} tokens are restored of a context of {all}");
        assert_eq!(output.context_len, self.restored, "the slot holds other than what was restored");
        self.rebuilt |= !self.restoring() && self.total > self.to_restore as u64;
    }

    /// A row of the front task with these `tokens` has run.
    pub(super) fn absorb(&mut self, tokens: &[TokenId], output: &RowOutput) {
        self.pending.appended.extend_from_slice(&tokens[..output.taken]);
        self.pending.appended.extend(output.sampled.iter().map(|sampled| sampled.token));
        self.pending.dropped += output.dropped;
        assert_eq!(self.context_len(), output.context_len, "the slot holds other than what was appended");
    }

    /// What is pending belongs to the conversation now.
    pub(super) fn commit(&mut self, engine: &mut dyn Engine) -> Commit {
        let (restored, all) = (self.restored, self.to_restore);
        assert!(restored == all, "a commit to a context of {all} tokens of which {restored} are restored");
        (self.context_len, self.total) = (self.context_len(), self.total());
        self.take_pending(engine)
    }

    /// Takes the front task out, with what it did since the last commit, for another actor to go on with. `None` where
    /// the engine keeps what it did to itself.
    pub(super) fn take_front(&mut self, engine: &mut dyn Engine) -> Option<Task> {
        let restoring = self.restoring();
        let task = self.queue.front_mut()?;
        if self.begun {
            engine.info().pages?;
            if restoring {
                // What was read again is not told of: the next actor reads it.
                task.started = false;
            } else {
                let pending = self.take_pending(engine);
                if let Some(task) = self.queue.front_mut() {
                    task.carried = Some(pending);
                }
            }
            self.end(engine);
        }
        self.queue.pop_front()
    }

    fn take_pending(&mut self, engine: &mut dyn Engine) -> Commit {
        let mut pending = mem::take(&mut self.pending);
        if let Some(held) = self.slot.and_then(|slot| engine.take_held(slot)) {
            pending.held = Some(match pending.held.take() {
                Some(before) => before.then(held),
                None => held,
            });
        }
        pending
    }

    /// The front task is over, and what it did is committed: pages are let go of, a slot without them stays.
    pub(super) fn end(&mut self, engine: &mut dyn Engine) {
        self.begun = false;
        self.pending = Commit::default();
        if engine.info().pages.is_some() {
            self.give_back(engine);
        }
    }

    /// Back to the last commit; true where the engine could not, and holds nothing of the conversation any more.
    ///
    /// # Errors
    /// The engine's, where it is broken.
    pub(super) fn undo(&mut self, engine: &mut dyn Engine) -> Result<bool, EngineError> {
        if !mem::take(&mut self.begun) {
            return Ok(false);
        }
        let pending = mem::take(&mut self.pending);
        let Some(slot) = self.slot else { return Ok(true) };
        if engine.info().pages.is_some() {
            self.give_back(engine);
            return Ok(false);
        }
        if !self.restoring() && self.context_len > 0 && pending.dropped == 0 {
            if pending.appended.is_empty() {
                return Ok(false);
            }
            match engine.rewind(slot, self.context_len) {
                Ok(()) => return Ok(false),
                Err(error) if error.kind == EngineErrorKind::Fatal => return Err(error),
                Err(_) => {}
            }
        }
        self.give_back(engine);
        Ok(true)
    }

    /// Lets go of the slot.
    pub(super) fn give_back(&mut self, engine: &mut dyn Engine) {
        if let Some(slot) = self.slot.take() {
            engine.close(slot);
        }
    }
}
