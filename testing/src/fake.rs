//! The fake engine: the whole contract of [`Engine`] on a model that is a hash.
//!
//! A slot keeps the context's tokens and, for each token that was read, the hash of the context up to
//! it, in the place of keys and values. After a slide the hashes are made anew from the tokens that
//! stayed, so an answer depends on the tokens that the context holds and on nothing else, and a
//! conversation that is rebuilt answers as if nothing had happened. Where its description says so the hashes lie in
//! pages (`fake/pages.rs`), whose rows are written once as an engine's are.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    vec::Drain,
};

mod pages;

use self::pages::Pages;
pub use self::pages::{page_number, states_in};
pub(crate) use self::pages::{restore, save};
use super::{
    control::FakeControl,
    model::{draw, hidden, likeliest, logprobs, sample, state_behind},
};
use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, Held, Interrupt, PageSize, Pooling, Resident, Row, RowOutput,
        Slides, SlotIndex, Want, Window,
    },
    grammar::{Guide, SpellingError},
    tokens::TokenId,
};

/// A small model: vocabulary 64, hidden states of 8, a window of 16 with 2 sinks that slides by 4, pages of 4 tokens.
pub fn fake_info() -> EngineInfo {
    EngineInfo { pages: Some(PageSize { tokens: 4, bytes: 64 }), ..fake_info_without_pages() }
}

/// The same of an engine that keeps keys and values to itself.
pub fn fake_info_without_pages() -> EngineInfo {
    EngineInfo {
        layers: 2,
        hidden: 8,
        vocab: 64,
        inputs: 7,
        embeds: true,
        window: Window { size: 16, sinks: 2, slide: 4, slides: Slides::Shift },
        end_tokens: Vec::new(),
        kv_bytes_per_token: 16,
        pages: None,
    }
}

/// An engine whose answers are hashes and whose faults are scripted.
pub struct FakeEngine {
    info: EngineInfo,
    control: FakeControl,
    slots: BTreeMap<SlotIndex, Slot>,
    outputs: Vec<RowOutput>,
    interrupted: Arc<AtomicBool>,
}

impl FakeEngine {
    /// An engine that is what `info` says and fails when `control` says.
    pub fn new(info: EngineInfo, control: FakeControl) -> Self {
        Self { info, control, slots: BTreeMap::new(), outputs: Vec::new(), interrupted: Arc::default() }
    }

    /// The tokens that a slot's context holds.
    ///
    /// # Panics
    /// If the slot is not open.
    pub fn context(&self, slot: SlotIndex) -> &[TokenId] {
        &self.slot(slot).tokens
    }

    /// Its open slots.
    pub fn slots(&self) -> impl Iterator<Item = SlotIndex> {
        self.slots.keys().copied()
    }

    /// The numbers of the pages that its slots have, see [`page_number`].
    pub fn page_numbers(&self) -> impl Iterator<Item = u64> {
        self.slots.values().flat_map(|slot| slot.pages.numbers())
    }

    /// What a run does at worst that nobody waits for any more: rows of no meaning wherever it may write. How many. No
    /// slot of the engine must be worked on afterwards.
    pub fn garble(&mut self) -> usize {
        let Some(size) = self.info.pages else { return 0 };
        self.slots.values_mut().map(|slot| usize::from(slot.pages.garble(size))).sum()
    }

    fn slot(&self, slot: SlotIndex) -> &Slot {
        self.slots.get(&slot).unwrap_or_else(|| panic!("{slot:?} is not open"))
    }
}

impl Engine for FakeEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        if self.control.slots_max().is_some_and(|slots_max| self.slots.len() >= slots_max) {
            return Err(error(EngineErrorKind::OutOfMemory, None, "no memory for another slot"));
        }
        let slot = (0..).map(SlotIndex).find(|slot| !self.slots.contains_key(slot));
        let slot = slot.unwrap_or_else(|| unreachable!("memory for 2^32 slots"));
        self.slots.insert(slot, Slot::default());
        Ok(slot)
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        let Some(size) = self.info.pages else {
            return Err(error(EngineErrorKind::Rejected, None, "this engine has no pages"));
        };
        let (pages, states) = Pages::adopt(held, size.tokens)
            .ok_or_else(|| error(EngineErrorKind::Rejected, None, "the pages do not hold what they should"))?;
        let slot = self.open()?;
        self.slots.insert(slot, Slot { tokens: context.to_vec(), states, pages, ..Slot::default() });
        Ok(slot)
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        let most = self.info.window.pinned_max();
        assert!(pinned <= most, "{pinned} tokens are pinned, of {most} that may be");
        self.slots.get_mut(&slot).unwrap_or_else(|| panic!("{slot:?} is not open")).pinned = pinned;
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        self.info.pages?;
        let found = self.slots.get_mut(&slot).unwrap_or_else(|| panic!("{slot:?} is not open"));
        Some(found.pages.take(found.states.len()))
    }

    fn close(&mut self, slot: SlotIndex) {
        assert!(self.slots.remove(&slot).is_some(), "{slot:?} is not open");
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        let held = self.slot(slot);
        if context_len > held.tokens.len() || context_len < held.slid_to {
            let message = format!(
                "cannot go back to {context_len} of {} tokens, the last slide left {}",
                held.tokens.len(),
                held.slid_to
            );
            return Err(error(EngineErrorKind::Rejected, None, message));
        }
        let page = self.info.pages.map(|page| page.tokens);
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.tokens.truncate(context_len);
            slot.states.truncate(context_len);
            page.into_iter().for_each(|page| slot.pages.rewind(slot.states.len(), page));
        }
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        self.control.enter(rows, &self.interrupted)?;
        let mut changed = BTreeMap::new();
        let mut outputs = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let mut slot = self.slot(row.slot).clone();
            let output = slot.run(row, &self.info).map_err(|error| EngineError { row: Some(index), ..error })?;
            if let Some(size) = self.info.pages {
                slot.pages.write(&slot.states, size, &self.control);
            }
            outputs.push(output);
            assert!(changed.insert(row.slot, slot).is_none(), "{:?} is in one run twice", row.slot);
        }
        self.slots.append(&mut changed);
        self.outputs = outputs;
        Ok(self.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        match self.info.pages {
            Some(size) => self.control.pages() * size.bytes,
            None => self.slots.values().map(|slot| slot.states.len() * self.info.kv_bytes_per_token).sum(),
        }
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Interrupter { interrupted: self.interrupted.clone(), control: self.control.clone() })
    }
}

struct Interrupter {
    interrupted: Arc<AtomicBool>,
    control: FakeControl,
}

impl Interrupt for Interrupter {
    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Release);
        self.control.wake();
    }
}

/// A context. Invariant: `states` is as long as `tokens` or one shorter.
#[derive(Clone, Default)]
struct Slot {
    tokens: Vec<TokenId>,
    /// For each token that was read, the hash of the context up to it.
    states: Vec<u64>,
    /// Tokens that the last slide left.
    slid_to: usize,
    /// So many of the first tokens never leave.
    pinned: usize,
    /// Where the states lie, if they lie in pages.
    pages: Pages,
}

impl Slot {
    fn run(&mut self, row: &Row<'_>, info: &EngineInfo) -> Result<RowOutput, EngineError> {
        self.check(row, info)?;
        let mut output = RowOutput::default();
        let was_pending = self.states.len() < self.tokens.len();
        self.read();
        let full = self.tokens.len() == info.window.size;
        if let (Want::Scores { first: true, top, .. }, Some(&state)) = (row.want, self.states.last()) {
            row.tokens.iter().take(1).for_each(|&token| score(state, token, top, info, &mut output));
        }
        if full && !row.tokens.is_empty() {
            if was_pending || !output.scores.is_empty() {
                // Progress enough for one run: the slide is the next one's.
                output.context_len = self.tokens.len();
                return Ok(output);
            }
            output.dropped += self.slide(info.window);
        }
        output.taken = row.tokens.len().min(info.window.size - self.tokens.len());
        let from = self.tokens.len();
        self.tokens.extend_from_slice(&row.tokens[..output.taken]);
        self.read();
        self.answer(row, from, info, &mut output)?;
        output.context_len = self.tokens.len();
        Ok(output)
    }

    fn check(&self, row: &Row<'_>, info: &EngineInfo) -> Result<(), EngineError> {
        let samples = matches!(row.want, Want::Next { .. });
        let (next, bias) = match row.want {
            Want::Scores { next, .. } => (next, &[][..]),
            Want::Next { sampling, .. } => (None, &sampling.logit_bias[..]),
            Want::Nothing | Want::Hidden(_) => (None, &[][..]),
        };
        let biased = bias.iter().map(|(token, _)| *token);
        let mut named = row.tokens.iter().copied().chain(next).chain(biased);
        if let Some(token) = named.find(|token| token.0 as usize >= info.vocab) {
            let message = format!("token id {token} is outside the vocabulary of {}", info.vocab);
            return Err(error(EngineErrorKind::Rejected, None, message));
        }
        if row.tokens.is_empty() && (!samples || self.tokens.is_empty()) {
            return Err(error(EngineErrorKind::Rejected, None, "the row has nothing to run"));
        }
        let len = self.tokens.len() + row.tokens.len() + usize::from(samples);
        let size = info.window.size;
        let is_refused = match info.window.slides {
            Slides::Never => len > size,
            Slides::Shift => false,
            // Its owner slides; a score of what stands at the end needs no room.
            Slides::Recompute => {
                let scores = matches!(row.want, Want::Scores { first: true, .. });
                self.tokens.len() > size || self.tokens.len() == size && !row.tokens.is_empty() && !scores
            }
        };
        if is_refused {
            let message = format!("{len} tokens do not fit the window of {}", info.window.size);
            return Err(error(EngineErrorKind::ContextFull, None, message));
        }
        Ok(())
    }

    /// What the row wants, given that its tokens from index `from` of the context are read.
    fn answer(
        &mut self,
        row: &Row<'_>,
        from: usize,
        info: &EngineInfo,
        output: &mut RowOutput,
    ) -> Result<(), EngineError> {
        let new = &self.states[from..];
        match row.want {
            Want::Nothing => {}
            Want::Hidden(Pooling::Last) => {
                output.hidden = new.last().map(|&state| hidden(state, info.hidden).collect()).unwrap_or_default();
            }
            Want::Hidden(Pooling::Sum) => {
                output.hidden = vec![0.0; if new.is_empty() { 0 } else { info.hidden }];
                for &state in new {
                    let values = hidden(state, info.hidden);
                    output.hidden.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            Want::Scores { next, top, .. } => {
                let following = row.tokens.iter().skip(1).copied().chain(next);
                new.iter().zip(following).for_each(|(&state, token)| score(state, token, top, info, output));
            }
            Want::Next { sampling, seed, number, top, guide } => {
                if let Some(&state) = self.states.last().filter(|_| output.taken == row.tokens.len()) {
                    let allowed = guide.map(Guide::allowed).transpose();
                    let rejected =
                        |spelling: SpellingError| error(EngineErrorKind::Rejected, None, spelling.to_string());
                    let allowed = allowed.map_err(rejected)?;
                    let (logprobs, draw) = (logprobs(state, info.vocab), draw(seed, number));
                    let sampled = sample(&logprobs, sampling, &self.tokens, draw, top, allowed.as_deref());
                    if self.tokens.len() == info.window.size && info.window.slides == Slides::Shift {
                        output.dropped += self.slide(info.window);
                    }
                    self.tokens.push(sampled.token);
                    output.sampled = Some(sampled);
                }
            }
        }
        Ok(())
    }

    /// Reads every token that was not read yet.
    fn read(&mut self) {
        let mut state = self.states.last().copied().unwrap_or_default();
        for &token in &self.tokens[self.states.len()..] {
            state = state_behind(state, token);
            self.states.push(state);
        }
    }

    fn slide(&mut self, window: Window) -> usize {
        let first = window.kept_first(self.pinned);
        self.tokens.drain(first..first + window.slide);
        self.slid_to = self.tokens.len();
        self.states.clear();
        self.pages.leave();
        self.read();
        window.slide
    }
}

fn score(state: u64, token: TokenId, top: usize, info: &EngineInfo, output: &mut RowOutput) {
    let logprobs = logprobs(state, info.vocab);
    output.scores.push(logprobs[token.0 as usize] as f32);
    output.top.extend((top > 0).then(|| likeliest(&logprobs, top)));
}

fn error(kind: EngineErrorKind, row: Option<usize>, message: impl Into<String>) -> EngineError {
    EngineError { kind, row, message: message.into() }
}
