//! What an actor has of a conversation: its jobs, the slot of the one under way, and what that did since the last commit.
//!
//! Only the front task of a lane runs. It begins when it is about to ride, on what its job says there is of the
//! conversation: pages, which any actor adopts, or the slot that an engine without pages keeps from job to job; what is
//! missing is read first. What a task does is pending until it commits. Pages belong to the conversation and not to the
//! lane: when the task ends, well or not, the slot on them is closed, and the owner goes on from the last commit. A
//! slot without pages goes back to it or, behind a slide, is given up, and the owner is told so.
//!
//! Where a window's tokens are read again behind a slide ([`Slides::Recompute`]), it is the lane that slides: it takes the
//! slot back to what never leaves, and what has stayed behind that is missing then, as after a death.
//!
//! What was read stays read: of a task that does not end well the owner is told what lies in pages, and a slot without
//! them keeps what it holds of a context.
//!
//! Lengths are in tokens. Invariant: once restored, the slot holds the committed tokens followed by the pending ones,
//! less those that left.

use std::{collections::BTreeMap, mem};

use super::task::Task;
use crate::{
    engine::{Engine, EngineError, EngineErrorKind, EngineInfo, RowOutput, Slides, SlotIndex, Window},
    job::{Commit, Holding, RequestId},
    message::ConversationId,
    shares::{Flow, Place},
    tokens::TokenId,
};

/// Whose lane it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LaneKey {
    Conversation(ConversationId),
    /// A job without a conversation has a lane to itself.
    Single(RequestId),
}

impl LaneKey {
    /// Its flow, as fair shares go.
    pub(super) fn flow(&self) -> Flow {
        match self {
            Self::Conversation(name) => Some(name.clone()),
            Self::Single(_) => None,
        }
    }
}

/// What a lane's next row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Samples, behind so many tokens of the input, which are few.
    Decode(usize),
    /// Reads: there are so many tokens to read, at least one.
    Read(usize),
}

/// What the front task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Decoding,
    Reading,
    Alone,
}

/// Where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// To decode, where all of those may ride: under this number.
    Freely(u64),
    /// For its share.
    For(Queue, Place),
}

/// What a slot reads so that it holds the context that the front task works on.
struct Restore {
    source: Source,
    /// How many of those tokens the slot has.
    done: usize,
}

/// The tokens of that.
enum Source {
    /// The context that the front job came with.
    Context,
    /// The window's, where that is another one by now.
    Window(Vec<TokenId>),
    /// All since the last reset, through all slides: until the last one the slot holds no beginning of the context.
    Replay(Vec<TokenId>),
}

impl Restore {
    /// What is read, of a front job that came with `context`.
    fn tokens<'t>(&'t self, context: &'t [TokenId]) -> &'t [TokenId] {
        match &self.source {
            Source::Context => context,
            Source::Window(tokens) | Source::Replay(tokens) => tokens,
        }
    }
}

/// A conversation, or the temporary slot of a job without one.
#[derive(Default)]
pub(super) struct Lane {
    /// Its jobs by the number of their arrival.
    pub(super) queue: BTreeMap<u64, Box<Task>>,
    /// Where it waits for a ride; `None` without a job, or while it rides.
    pub(super) waits: Option<Waits>,
    /// Whether it counts among those who decode.
    pub(super) counts: bool,
    /// Its place in the engine, while it has one.
    pub(super) slot: Option<SlotIndex>,
    /// It had slid and was read again; not told yet.
    pub(super) rebuilt: bool,
    /// Its row was in a run that failed with nobody to blame, so its next row runs alone.
    pub(super) doubted: bool,
    /// Whether the front task has begun.
    pub(super) begun: bool,
    /// What is to be read before the work begins or goes on.
    restore: Option<Restore>,
    /// Tokens in the context as of the last commit.
    context_len: usize,
    /// Tokens since the last reset as of the last commit.
    total: u64,
    pending: Commit,
    /// How many of the context's first tokens never leave.
    stays: usize,
    /// Tokens of the context whose keys and values lie in pages that the owner knows of.
    told: usize,
    /// The tokens that the slot holds, without pages or where the lane slides.
    holds: Vec<TokenId>,
}

impl Lane {
    /// The task that runs, or is the next to.
    pub(super) fn front(&self) -> Option<&Task> {
        self.queue.first_key_value().map(|(_, task)| &**task)
    }

    /// The same, to be changed.
    pub(super) fn front_mut(&mut self) -> Option<&mut Task> {
        self.queue.values_mut().next().map(|task| &mut **task)
    }

    /// What the front task's next row does. A row that samples behind at most `few` tokens is a decode.
    pub(super) fn need(&self, few: usize) -> Need {
        let Some(task) = self.front() else { return Need::Decode(0) };
        let (restore, rest) = if self.begun { (self.to_restore().len(), task.rest()) } else { self.foreseen(task) };
        match (restore, rest) {
            (0, rest) if rest <= few && task.samples() => Need::Decode(rest),
            (0, rest) => Need::Read(rest),
            (restore, _) => Need::Read(restore),
        }
    }

    /// Of a task that has not begun: tokens of its context, and then of its input, that will have to be read. A guess,
    /// made without the engine; [`Self::begin`] decides.
    fn foreseen(&self, task: &Task) -> (usize, usize) {
        let (committed, rest) = (task.job.context.tokens.len(), task.rest());
        match (&task.job.held, &task.carried) {
            (Holding::Slot, _) if self.slot.is_some() => (committed.saturating_sub(self.holds.len()), rest),
            (Holding::Pages(resident), None) if resident.kv_len > committed => {
                (0, rest.saturating_sub(resident.kv_len - committed))
            }
            (Holding::Pages(resident), None) => (without_last(committed, resident.kv_len), rest),
            (_, Some(carried)) => {
                let kv_len = carried.held.as_ref().map_or(0, |held| held.kv_len);
                (without_last((committed + carried.appended.len()).saturating_sub(carried.dropped), kv_len), rest)
            }
            _ => (committed, rest),
        }
    }

    /// Begins the front task on what there is of the conversation.
    ///
    /// # Errors
    /// The engine's. The task may have begun all the same, where the engine could not slide: then [`Self::undo`] takes
    /// that back, as after any other error.
    pub(super) fn begin(&mut self, engine: &mut dyn Engine) -> Result<(), EngineError> {
        let Some(task) = self.queue.values_mut().next() else { return Ok(()) };
        let context = task.job.context.clone();
        let window = engine.info().window;
        let (pins, new) = (task.job.pins, task.job.work.input().len());
        // All of it leaves no more before it is read: no window slides while half of it is empty.
        let pinned = context.pinned + if pins { new } else { 0 };
        let mut pending = task.carried.take();
        let committed = context.tokens.len();
        let mut present = context.clone();
        let restored;
        let held = match &task.job.held {
            Holding::Pages(resident) => Some(resident.clone()),
            // What another actor has done lies in pages, though there were none when it began.
            _ if pending.is_some() => Some(Default::default()),
            Holding::Slot | Holding::Nothing => None,
        };
        self.told = held.as_ref().map_or(0, |resident| resident.kv_len);
        if let Some(mut resident) = held {
            if resident.kv_len > committed && pending.is_none() {
                let appended = task.skip(resident.kv_len - committed).to_vec();
                let pinned = if pins { appended.len() } else { 0 };
                pending = Some(Commit { appended, pinned, ..Commit::default() });
            }
            if let Some(pending) = &pending {
                pending.apply(&mut present, &window);
                resident.apply(pending.held.clone());
            }
            // The last token may not have been run yet.
            let mut tokens = &present.tokens[..];
            if resident.kv_len + 1 < tokens.len() {
                tokens = &tokens[..resident.kv_len];
            }
            restored = tokens.len();
            self.slot.take().into_iter().for_each(|slot| engine.close(slot));
            self.slot = Some(engine.adopt(tokens, &resident)?);
            // Whoever has slid holds no page of before for as long as the job goes on.
            task.job.held = Holding::Nothing;
        } else if task.job.held == Holding::Slot && self.slot.is_some() && context.tokens.starts_with(&self.holds) {
            restored = self.holds.len();
        } else {
            self.give_back(engine);
            self.slot = Some(engine.open()?);
            restored = 0;
        }
        let present = &present.tokens[..];
        let all = if context.is_plain(&window) { None } else { context.all(&window) };
        self.restore = (restored < present.len()).then(|| match (all, &pending) {
            (Some(all), _) => Restore { source: Source::Replay(all), done: 0 },
            (None, Some(_)) => Restore { source: Source::Window(present.to_vec()), done: restored },
            (None, None) => Restore { source: Source::Context, done: restored },
        });
        if self.restore.as_ref().is_some_and(|restore| restore.done < restored) {
            self.give_back(engine);
            self.slot = Some(engine.open()?);
            self.told = 0;
        }
        if window.slides == Slides::Recompute {
            self.holds = present[..restored].to_vec();
        }
        self.slot.into_iter().for_each(|slot| engine.pin(slot, pinned));
        self.stays = window.kept_first(pinned);
        (self.context_len, self.total) = (committed, context.total);
        self.pending = pending.unwrap_or_default();
        self.rebuilt |= self.front_mut().is_some_and(|front| mem::take(&mut front.rebuilt));
        self.begun = true;
        self.make_way(engine, true)
    }

    /// Slides where that is the lane's, and a token was sampled or, where the next row is meant, is to be read that does
    /// not fit: all that stays behind what never leaves is missing then. A score is what the full window says, and so it
    /// comes first. What is committed before the next row has not slid for it.
    ///
    /// # Errors
    /// The engine's; nothing has left then.
    pub(super) fn make_way(&mut self, engine: &mut dyn Engine, for_next: bool) -> Result<(), EngineError> {
        let Window { size, slide, slides, .. } = engine.info().window;
        let (Some(task), Some(slot)) = (self.front(), self.slot) else { return Ok(()) };
        let reads = for_next && task.rest() > 0 && !task.scores_first();
        let len = self.context_len();
        if slides != Slides::Recompute || len < size || len == size && !reads {
            return Ok(());
        }
        let mut stays = match &self.restore {
            Some(restore) => restore.tokens(&task.job.context.tokens).to_vec(),
            None => self.holds.clone(),
        };
        let all = stays.len();
        assert!(all == len, "{all} tokens are known of a context of {len}");
        stays.drain(self.stays..self.stays + slide);
        let done = self.holds.len().min(self.stays);
        engine.rewind(slot, done)?;
        self.holds.truncate(done);
        self.pending.dropped += slide;
        self.restore = (done < stays.len()).then_some(Restore { source: Source::Window(stays), done });
        Ok(())
    }

    /// Whether the job's context must be read before any work is done.
    pub(super) fn restoring(&self) -> bool {
        self.begun && self.restore.is_some()
    }

    /// Whether what the slot holds is on the way to the context and no beginning of it.
    pub(super) fn replays(&self) -> bool {
        let replays = |restore: &Restore| matches!(restore.source, Source::Replay(_));
        self.begun && self.restore.as_ref().is_some_and(replays)
    }

    /// Whether reading so many tokens again is not reading all that the context was to know of.
    fn rebuilds(&self, tokens: usize, window: &Window) -> bool {
        window.slides != Slides::Recompute && self.total > tokens as u64
    }

    /// The tokens that are to be read first, so that the slot holds the front job's context.
    pub(super) fn to_restore(&self) -> &[TokenId] {
        let (Some(task), Some(restore)) = (self.front(), &self.restore) else { return &[] };
        &restore.tokens(&task.job.context.tokens)[restore.done..]
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

    /// Tokens that its next row stands behind.
    pub(super) fn read_len(&self) -> usize {
        match &self.restore {
            Some(restore) if self.begun => restore.done,
            _ => self.context_len(),
        }
    }

    /// Tokens since the last reset, the pending ones among them.
    pub(super) fn total(&self) -> u64 {
        self.total + self.pending_len() as u64
    }

    /// A row that restores has run.
    pub(super) fn absorb_restored(&mut self, engine: &dyn Engine, output: &RowOutput) {
        let (Some((_, task)), Some(mut restore)) = (self.queue.first_key_value(), self.restore.take()) else { return };
        let context = &task.job.context.tokens;
        let (info, tokens) = (engine.info(), restore.tokens(context));
        let (before, done, all) = (restore.done, restore.done + output.taken, tokens.len());
        assert!(done <= all, "{done} tokens are restored of a context of {all}");
        let (expected, held) = match restore.source {
            Source::Context | Source::Window(_) => (done, &tokens[before..done]),
            Source::Replay(_) if done < all => (output.context_len, &[][..]), // somewhere on the way
            Source::Replay(_) => (self.context_len, &context[..]),
        };
        assert_eq!(output.context_len, expected, "the slot holds other than what was restored");
        let replayed = matches!(restore.source, Source::Replay(_));
        assert!(output.dropped == 0 || replayed, "a context of {all} tokens slid while it was read again");
        if self.keeps_tokens(info) {
            self.holds.extend_from_slice(held);
        }
        self.rebuilt |= done == all && self.rebuilds(all, &info.window);
        restore.done = done;
        self.restore = Some(restore).filter(|_| done < all);
    }

    /// A row of the front task with these `tokens`, which it pins or not, has run.
    pub(super) fn absorb(&mut self, engine: &dyn Engine, tokens: &[TokenId], pins: bool, output: &RowOutput) {
        let from = self.pending.appended.len();
        self.pending.appended.extend_from_slice(&tokens[..output.taken]);
        self.pending.appended.extend(output.sampled.iter().map(|sampled| sampled.token));
        self.pending.pinned += if pins { output.taken } else { 0 };
        self.pending.dropped += output.dropped;
        assert_eq!(self.context_len(), output.context_len, "the slot holds other than what was appended");
        let info = engine.info();
        if self.keeps_tokens(info) {
            self.holds.extend_from_slice(&self.pending.appended[from..]);
            if output.dropped > 0 {
                self.holds.drain(self.stays..self.stays + output.dropped);
            }
        }
    }

    /// What is pending belongs to the conversation now.
    pub(super) fn commit(&mut self, engine: &mut dyn Engine) -> Commit {
        let (lacks, may_lack) = (self.to_restore().len(), engine.info().window.slides == Slides::Recompute);
        assert!(lacks == 0 || may_lack, "a commit to a context of which {lacks} tokens are not restored");
        (self.context_len, self.total) = (self.context_len(), self.total());
        self.take_pending(engine)
    }

    /// Takes the front task out, with what it did since the last commit, for another actor to go on with. `None` where
    /// the engine keeps what it did to itself. Not while it [replays](Self::replays).
    pub(super) fn take_front(&mut self, engine: &mut dyn Engine) -> Option<Box<Task>> {
        if self.begun {
            engine.info().pages?;
            // A context that is still being read goes with the pages that hold its beginning.
            let pending = self.take_pending(engine);
            // What is left may be one token, which is no reading again there.
            let all = self.to_restore().len() + self.restore.as_ref().map_or(0, |restore| restore.done);
            let rebuilds = self.restoring() && self.rebuilds(all, &engine.info().window);
            let rebuilt = mem::take(&mut self.rebuilt) || rebuilds;
            let front = self.front_mut()?;
            (front.carried, front.rebuilt) = (Some(pending), rebuilt);
            self.end(engine);
        }
        self.queue.pop_first().map(|(_, task)| task)
    }

    fn take_pending(&mut self, engine: &mut dyn Engine) -> Commit {
        let mut pending = mem::take(&mut self.pending);
        if let Some(held) = self.slot.and_then(|slot| engine.take_held(slot)) {
            self.told = held.kv_len;
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

    /// Back to the last commit. What was read since then and lies in pages; and true where the engine could not go back
    /// and holds nothing of the conversation any more.
    ///
    /// # Errors
    /// The engine's, where it is broken.
    pub(super) fn undo(&mut self, engine: &mut dyn Engine) -> Result<(Option<Commit>, bool), EngineError> {
        let (restoring, replays) = (self.restoring(), self.replays());
        if !mem::take(&mut self.begun) {
            return Ok((None, false));
        }
        let Some(slot) = self.slot else { return Ok((None, true)) };
        if engine.info().pages.is_some() {
            let told = self.told;
            let read = self.take_pending(engine);
            self.give_back(engine);
            let is_more = !replays && read.dropped == 0 && read.held.as_ref().is_some_and(|held| held.kv_len > told);
            return Ok((is_more.then_some(read), false));
        }
        let pending = mem::take(&mut self.pending);
        if replays {
            self.give_back(engine);
            return Ok((None, true));
        }
        if restoring {
            // A beginning of the context, for the next job to go on from.
            return Ok((None, false));
        }
        if self.context_len > 0 && pending.dropped == 0 {
            if pending.appended.is_empty() {
                return Ok((None, false));
            }
            match engine.rewind(slot, self.context_len) {
                Ok(()) => {
                    self.holds.truncate(self.context_len);
                    return Ok((None, false));
                }
                Err(error) if error.kind == EngineErrorKind::Fatal => return Err(error),
                Err(_) => {}
            }
        }
        self.give_back(engine);
        Ok((None, true))
    }

    /// Whether it is known which tokens the slot holds.
    fn keeps_tokens(&self, info: &EngineInfo) -> bool {
        info.pages.is_none() || info.window.slides == Slides::Recompute
    }

    /// Lets go of the slot.
    pub(super) fn give_back(&mut self, engine: &mut dyn Engine) {
        self.holds = Vec::new();
        if let Some(slot) = self.slot.take() {
            engine.close(slot);
        }
    }
}

/// Tokens of a context of which the first `kv_len` have keys and values that are to be read before any work: not the
/// last one alone, which the work's own first row runs.
fn without_last(context_len: usize, kv_len: usize) -> usize {
    if kv_len + 1 < context_len { context_len - kv_len } else { 0 }
}
