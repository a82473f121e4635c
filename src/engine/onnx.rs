//! The engine: slots of conversations on one graph, each run planned, executed and committed.
//!
//! What a slot holds is `slot.rs`'s, what a row runs `planned.rs`'s, where the window slides `slider.rs`'s; the graph,
//! its tensors and its caches are the [`Backend`]'s. What is left here is that a run changes all its slots or none.

use std::{collections::HashMap, mem, sync::Arc, vec::Drain};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, Held, Interrupt, Resident, Row, RowOutput, Slides, SlotIndex,
        Want,
    },
    reuse::emptied,
    tokens::TokenId,
};
use motorbrain_kernels::{attention::Turns, rotary::Turn};

use super::{
    backend::{Backend, Feed, RunError},
    planned::{Executed, Fault, Planned},
    sampling,
    session::engine_error,
    side,
    slider::Slider,
    slot::Slot,
    window::{self, DoesNotFit, plan},
};

/// A model in a session of ONNX Runtime, with the keys and values of its conversations.
pub(crate) struct OnnxEngine<B: Backend> {
    backend: B,
    info: EngineInfo,
    /// What a slide does to the keys of each layer; `None` where that is not known, and then nothing shifts.
    turns: Option<Arc<[Turn]>>,
    slots: HashMap<SlotIndex, Slot<B::Kv>>,
    next_slot: u32,
    /// What the caches of all slots hold for themselves.
    kv_bytes: usize,
    work: Workspace<B::Kv>,
}

/// What a run needs beside its slots, kept for its memory: a decoded token allocates nothing.
struct Workspace<K: 'static> {
    /// One for each row, and more where an earlier run had more.
    planned: Vec<Planned>,
    /// The rows' slots, out of their map for the time of the run.
    slots: Vec<Slot<K>>,
    /// The cache to run on, where it is not the slot's own.
    moved: Vec<Option<K>>,
    feeds: Vec<(&'static mut K, Feed<'static>)>,
    executed: Vec<Executed<K>>,
    outputs: Vec<RowOutput>,
    sampling: sampling::Scratch,
}

impl<B: Backend> OnnxEngine<B> {
    /// An engine without slots.
    pub(crate) fn new(backend: B, info: EngineInfo, turns: Option<Arc<[Turn]>>) -> Self {
        Self { backend, info, turns, slots: HashMap::new(), next_slot: 0, kv_bytes: 0, work: Workspace::default() }
    }

    fn insert(&mut self, slot: Slot<B::Kv>) -> SlotIndex {
        let index = SlotIndex(self.next_slot);
        self.next_slot += 1;
        self.kv_bytes += self.backend.bytes(&slot.kv);
        self.slots.insert(index, slot);
        index
    }

    fn check(&self, index: usize, row: &Row<'_>, rows: &[Row<'_>]) -> Result<(), EngineError> {
        let rejected = |message| Err(EngineError { kind: EngineErrorKind::Rejected, row: Some(index), message });
        let Some(slot) = self.slots.get(&row.slot) else {
            return rejected(format!("slot {} is not open", row.slot.0));
        };
        if rows[..index].iter().any(|other| other.slot == row.slot) {
            return rejected(format!("slot {} stands in one run twice", row.slot.0));
        }
        let (next, bias) = match row.want {
            Want::Scores { next, .. } => (next, &[][..]),
            Want::Next { sampling, .. } => (None, &sampling.logit_bias[..]),
            Want::Nothing | Want::Hidden(_) => (None, &[][..]),
        };
        let mut named = row.tokens.iter().chain(&next).chain(bias.iter().map(|(token, _)| token));
        if let Some(bad) = named.find(|t| t.0 as usize >= self.info.vocab) {
            return rejected(format!("token id {bad} is outside the vocabulary of {}", self.info.vocab));
        }
        if matches!(row.want, Want::Hidden(_)) && !self.info.embeds {
            return rejected("this graph gives no hidden states, so the model cannot embed".to_owned());
        }
        let nothing = match row.want {
            Want::Next { .. } => row.tokens.is_empty() && slot.context.is_empty(),
            _ => row.tokens.is_empty(),
        };
        if nothing {
            return rejected("the row has no token to run".to_owned());
        }
        Ok(())
    }

    /// Plans every row; nothing has changed yet.
    fn plan(&self, rows: &[Row<'_>], planned: &mut Vec<Planned>) -> Result<(), EngineError> {
        let window = &self.info.window;
        planned.resize_with(planned.len().max(rows.len()), Planned::default);
        let mut scored_max = window::scored_max(self.info.vocab);
        for (index, (row, planned)) in rows.iter().zip(planned).enumerate() {
            self.check(index, row, rows)?;
            let slot = &self.slots[&row.slot];
            let (context_len, new) = (slot.context.len(), row.tokens.len());
            planned.plan =
                plan(window, context_len, slot.kv_len, new, &row.want).map_err(|DoesNotFit| EngineError {
                    kind: EngineErrorKind::ContextFull,
                    row: Some(index),
                    message: format!(
                        "the context of {context_len} tokens and {new} more do not fit the window of {}, which does not slide by itself",
                        window.size
                    ),
                })?;
            if matches!(row.want, Want::Scores { .. }) {
                planned.plan = planned.plan.scored(&mut scored_max);
            }
            planned.fed.fill(slot, row, planned.plan, window);
        }
        Ok(())
    }

    /// Plans the rows, runs them and commits all of them or none.
    fn run_rows(&mut self, rows: &[Row<'_>], work: &mut Workspace<B::Kv>) -> Result<(), EngineError> {
        self.plan(rows, &mut work.planned)?;
        let interrupted =
            || EngineError { kind: EngineErrorKind::Interrupted, row: None, message: "the run was stopped".to_owned() };
        if self.backend.take_interrupt() {
            return Err(interrupted());
        }
        if rows.is_empty() {
            return Ok(());
        }
        // All of them were found when they were planned.
        work.slots.extend(rows.iter().filter_map(|row| self.slots.remove(&row.slot)));
        self.kv_bytes -= work.slots.iter().map(|slot| self.backend.bytes(&slot.kv)).sum::<usize>();
        let (found, wanted) = (work.slots.len(), rows.len());
        assert!(found == wanted, "{found} slots were found for {wanted} rows");
        let mut result = self.execute(rows, work);
        if result.is_err() && self.backend.take_interrupt() {
            result = Err(interrupted());
        }
        let window = &self.info.window;
        if result.is_ok() {
            let commit = |((row, slot), executed): ((_, &mut Slot<_>), _)| slot.commit(row, executed, window);
            work.outputs.extend(rows.iter().zip(&mut work.slots).zip(work.executed.drain(..)).map(commit));
        }
        for (row, mut slot) in rows.iter().zip(work.slots.drain(..)) {
            self.backend.settle(&mut slot.kv, slot.kv_len);
            self.kv_bytes += self.backend.bytes(&slot.kv);
            slot.check_invariants(self.backend.capacity(&slot.kv), window.size);
            self.slots.insert(row.slot, slot);
        }
        result
    }

    /// Runs the rows on their slots, which stay as they are but for rows behind their filled ones.
    fn execute(&mut self, rows: &[Row<'_>], work: &mut Workspace<B::Kv>) -> Result<(), EngineError> {
        let Self { backend, info, turns, .. } = self;
        let Workspace { planned, slots, moved, feeds: kept, executed, sampling, .. } = work;
        let in_f32 = window::turns_often(&info.window);
        let turns = turns.as_deref().map(|layers| Turns { layers, in_f32 });
        let slider = Slider { turns, window: &info.window };
        let failed = |row: usize| move |error: ort::Error| engine_error(&error, Some(row));
        for (index, (planned, slot)) in planned.iter().zip(&mut *slots).enumerate() {
            moved.push(slider.make_room(backend, slot, planned).map_err(failed(index))?);
        }
        let caches = slots.iter_mut().zip(&mut *moved).map(|(slot, moved)| moved.as_mut().unwrap_or(&mut slot.kv));
        let mut feeds = emptied(mem::take(kept));
        feeds.extend(caches.zip(planned.iter().map(|planned| planned.fed.feed())));
        let mut faulty = None;
        let result =
            backend.run(
                &mut feeds,
                &mut |index, given| match planned[index].digest(&rows[index], info, given, sampling) {
                    Ok(done) => executed.push(done),
                    Err(fault) => {
                        faulty.get_or_insert((index, fault));
                    }
                },
            );
        *kept = emptied(feeds);
        result.map_err(|RunError { row, error }| engine_error(&error, row))?;
        if let Some((row, fault)) = faulty {
            let message = match fault {
                Fault::NotNumbers(what) => format!(
                    "the model's {what} are not finite numbers: its weights are damaged (`motorbrain doctor` compares the \
                     files) or these tokens exceed its number type; reset the conversation"
                ),
                Fault::Grammar(error) => error.to_string(),
            };
            return Err(EngineError { kind: EngineErrorKind::Rejected, row: Some(row), message });
        }
        let (done, wanted) = (executed.len(), rows.len());
        assert!(done == wanted, "the run gave {done} rows of {wanted}");
        for (index, ((executed, moved), slot)) in executed.iter_mut().zip(moved).zip(slots).enumerate() {
            executed.kv = executed.kv.take().or(moved.take());
            // The sampled token would be number `size + 1` of the context.
            let is_over = executed.output.sampled.is_some() && executed.kv_len == info.window.size;
            if is_over && info.window.slides == Slides::Shift {
                let full = executed.kv.as_mut().unwrap_or(&mut slot.kv);
                backend.settle(full, executed.kv_len);
                let first = info.window.kept_first(slot.pinned);
                let slid = slider.slide(backend, full, info.window.size, first, 0);
                executed.kv = Some(slid.map_err(failed(index))?);
                executed.kv_len -= info.window.slide;
                executed.output.dropped += info.window.slide;
            }
        }
        Ok(())
    }
}

impl<K> Default for Workspace<K> {
    fn default() -> Self {
        Self {
            planned: Vec::new(),
            slots: Vec::new(),
            moved: Vec::new(),
            feeds: Vec::new(),
            executed: Vec::new(),
            outputs: Vec::new(),
            sampling: sampling::Scratch::default(),
        }
    }
}

impl<B: Backend + 'static> Engine for OnnxEngine<B> {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        let kv = self.backend.empty().map_err(|error| engine_error(&error, None))?;
        Ok(self.insert(Slot::new(kv, self.info.window.size)))
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        let rejected = |message| EngineError { kind: EngineErrorKind::Rejected, row: None, message };
        let (context_len, kv_len, size) = (context.len(), held.kv_len, self.info.window.size);
        if context_len > size || kv_len > context_len || context_len - kv_len > 1 {
            return Err(rejected(format!(
                "pages of {kv_len} tokens are not those of a context of {context_len} in a window of {size}"
            )));
        }
        if let Some(bad) = context.iter().find(|token| token.0 as usize >= self.info.vocab) {
            return Err(rejected(format!("token id {bad} is outside the vocabulary of {}", self.info.vocab)));
        }
        let kv = self.backend.adopt(held).map_err(rejected)?;
        let mut slot = Slot::new(kv, size);
        slot.context.extend_from_slice(context);
        slot.kv_len = kv_len;
        slot.check_invariants(self.backend.capacity(&slot.kv), size);
        Ok(self.insert(slot))
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        let (most, found) = (self.info.window.pinned_max(), self.slots.get_mut(&slot));
        assert!(found.is_some() && pinned <= most, "slot {} is open, and of {pinned} pinned tokens {most}", slot.0);
        found.into_iter().for_each(|slot| slot.pinned = pinned);
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let found = self.slots.get_mut(&slot);
        assert!(found.is_some(), "slot {} is not open", slot.0);
        found.and_then(|slot| self.backend.take_held(&mut slot.kv, slot.kv_len))
    }

    fn close(&mut self, slot: SlotIndex) {
        let found = self.slots.remove(&slot);
        assert!(found.is_some(), "slot {} is not open", slot.0);
        self.kv_bytes -= found.map_or(0, |slot| self.backend.bytes(&slot.kv));
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        let rejected = |message| Err(EngineError { kind: EngineErrorKind::Rejected, row: None, message });
        let Some(found) = self.slots.get_mut(&slot) else {
            return rejected(format!("slot {} is not open", slot.0));
        };
        let (least, most) = (found.floor, found.context.len());
        if !(least..=most).contains(&context_len) {
            let slot = slot.0;
            return rejected(format!("slot {slot} can be rewound to {least} to {most} tokens, not to {context_len}"));
        }
        found.rewind(context_len);
        found.check_invariants(self.backend.capacity(&found.kv), self.info.window.size);
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        let mut work = mem::take(&mut self.work);
        let result = side::engine(|| self.run_rows(rows, &mut work));
        // What a run has left over holds caches.
        work.executed.clear();
        work.moved.clear();
        self.work = work;
        let (outputs, wanted) = (self.work.outputs.len(), if result.is_ok() { rows.len() } else { 0 });
        assert!(outputs == wanted, "{outputs} outputs are handed over, {wanted} are due");
        result.map(|()| self.work.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        self.kv_bytes + self.backend.store().map_or(0, |store| store.bytes())
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.backend.interrupter()
    }
}
