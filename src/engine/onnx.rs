//! The engine: slots of conversations on one graph, each run planned, executed and committed.
//!
//! Planning and sampling are pure and live beside this file; the graph, its tensors and its caches are
//! the [`Backend`]'s. What is left here is bookkeeping: which tokens a slot's context holds, how many of
//! them are cached, and that a run changes all its slots or none.

use std::{collections::HashMap, mem, sync::Arc, vec::Drain};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, Interrupt, Pooling, Row, RowOutput, SlotIndex, Want, Window,
    },
    reuse::emptied,
    tokens::TokenId,
};

use super::{
    backend::{Backend, Feed, Given, Kept, RunError},
    rotation::Rotation,
    sampling,
    session::engine_error,
    side, vector,
    window::{DoesNotFit, RowPlan, plan},
};

/// A model in a session of ONNX Runtime, with the keys and values of its conversations.
pub(crate) struct OnnxEngine<B: Backend> {
    backend: B,
    info: EngineInfo,
    /// `None` where it could not be measured; then `info.window.slides` is false.
    rotation: Option<Arc<Rotation>>,
    slots: HashMap<SlotIndex, Slot<B::Kv>>,
    next_slot: u32,
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

/// One conversation. Invariants: `kv_len <= context.len() <= window.size`, and at most the last
/// token of the context has no keys and values yet.
struct Slot<K> {
    /// With room for a full window and the token that makes it slide, from the beginning.
    context: Vec<TokenId>,
    kv: K,
    /// Tokens of the context whose keys and values are cached.
    kv_len: usize,
    /// A rewind below this length would need tokens that left with the last slide.
    floor: usize,
}

/// What a row's run did, before it is committed.
struct Executed<K> {
    /// The cache to go on with, where it is a new one.
    kv: Option<K>,
    kv_len: usize,
    /// All but the context's new length.
    output: RowOutput,
}

impl<B: Backend> OnnxEngine<B> {
    /// An engine without slots.
    pub(crate) fn new(backend: B, info: EngineInfo, rotation: Option<Arc<Rotation>>) -> Self {
        Self { backend, info, rotation, slots: HashMap::new(), next_slot: 0, work: Workspace::default() }
    }

    fn check(&self, index: usize, row: &Row<'_>, rows: &[Row<'_>]) -> Result<(), EngineError> {
        let rejected = |message| Err(EngineError { kind: EngineErrorKind::Rejected, row: Some(index), message });
        let Some(slot) = self.slots.get(&row.slot) else {
            return rejected(format!("slot {} is not open", row.slot.0));
        };
        if rows[..index].iter().any(|other| other.slot == row.slot) {
            return rejected(format!("slot {} stands in one run twice", row.slot.0));
        }
        let next = match row.want {
            Want::Scores { next, .. } => next,
            _ => None,
        };
        if let Some(bad) = row.tokens.iter().chain(&next).find(|t| t.0 as usize >= self.info.vocab) {
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
        for (index, (row, planned)) in rows.iter().zip(planned).enumerate() {
            self.check(index, row, rows)?;
            let slot = &self.slots[&row.slot];
            let (context_len, new) = (slot.context.len(), row.tokens.len());
            planned.plan =
                plan(window, context_len, slot.kv_len, new, &row.want).map_err(|DoesNotFit| EngineError {
                    kind: EngineErrorKind::ContextFull,
                    row: Some(index),
                    message: format!(
                        "the context of {context_len} tokens and {new} more do not fit the window of {}, which does not slide",
                        window.size
                    ),
                })?;
            planned.fed.fill(&slot.context, row, planned.plan, window);
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
        let mut result = self.execute(rows, work);
        if result.is_err() && self.backend.take_interrupt() {
            result = Err(interrupted());
        }
        let window = &self.info.window;
        if result.is_ok() {
            let commit = |((row, slot), executed): ((_, &mut Slot<_>), _)| slot.commit(row, executed, window);
            work.outputs.extend(rows.iter().zip(&mut work.slots).zip(work.executed.drain(..)).map(commit));
        }
        for (row, slot) in rows.iter().zip(work.slots.drain(..)) {
            slot.check_invariants(self.backend.capacity(&slot.kv), window.size);
            self.slots.insert(row.slot, slot);
        }
        result
    }

    /// Runs the rows on their slots, which stay as they are but for rows behind their filled ones.
    fn execute(&mut self, rows: &[Row<'_>], work: &mut Workspace<B::Kv>) -> Result<(), EngineError> {
        let Self { backend, info, rotation, .. } = self;
        let Workspace { planned, slots, moved, feeds: kept, executed, sampling, .. } = work;
        let slider = Slider { rotation: rotation.as_deref(), window: &info.window };
        let failed = |row: usize| move |error: ort::Error| engine_error(&error, Some(row));
        for (index, (planned, slot)) in planned.iter().zip(&*slots).enumerate() {
            moved.push(slider.make_room(backend, slot, planned).map_err(failed(index))?);
        }
        let caches = slots.iter_mut().zip(&mut *moved).map(|(slot, moved)| moved.as_mut().unwrap_or(&mut slot.kv));
        let mut feeds = emptied(mem::take(kept));
        feeds.extend(caches.zip(planned.iter().map(|planned| planned.fed.feed())));
        let mut not_numbers = None;
        let result = backend.run(&mut feeds, &mut |index, given| {
            if vector::has_nan(given.logits) {
                not_numbers.get_or_insert((index, "logits"));
                return;
            }
            let done = planned[index].digest(&rows[index], info, given, sampling);
            if !done.output.hidden.iter().all(|x| x.is_finite()) {
                not_numbers.get_or_insert((index, "hidden states"));
            }
            executed.push(done);
        });
        *kept = emptied(feeds);
        result.map_err(|RunError { row, error }| engine_error(&error, row))?;
        if let Some((row, what)) = not_numbers {
            let message = format!(
                "the model's {what} are not finite numbers: its weights are damaged (`motorbrain doctor` compares the \
                 files) or these tokens exceed its number type; reset the conversation"
            );
            return Err(EngineError { kind: EngineErrorKind::Rejected, row: Some(row), message });
        }
        for (index, ((executed, moved), slot)) in executed.iter_mut().zip(moved).zip(slots).enumerate() {
            executed.kv = executed.kv.take().or(moved.take());
            // The sampled token would be number `size + 1` of the context.
            if executed.output.sampled.is_some() && executed.kv_len == info.window.size {
                let full = executed.kv.as_ref().unwrap_or(&slot.kv);
                executed.kv = Some(slider.slide(backend, full, info.window.size, 0).map_err(failed(index))?);
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

impl<K> Slot<K> {
    /// Takes over what a row's run did.
    fn commit(&mut self, row: &Row<'_>, executed: Executed<K>, window: &Window) -> RowOutput {
        let Executed { kv, kv_len, mut output } = executed;
        self.context.extend_from_slice(&row.tokens[..output.taken]);
        self.context.extend(output.sampled.iter().map(|s| s.token));
        if output.dropped > 0 {
            // Each slide drops what stands behind the sinks, so together they drop one range.
            self.context.drain(window.sinks..window.sinks + output.dropped);
            self.floor = window.size - window.slide;
        }
        if let Some(kv) = kv {
            self.kv = kv;
        }
        self.kv_len = kv_len;
        output.context_len = self.context.len();
        output
    }

    fn check_invariants(&self, capacity: usize, size: usize) {
        let (kv_len, context_len) = (self.kv_len, self.context.len());
        assert!(kv_len <= capacity, "{kv_len} tokens are cached in {capacity} rows");
        assert!(kv_len <= context_len, "{kv_len} tokens are cached, the context has {context_len}");
        assert!(context_len - kv_len <= 1, "only {kv_len} of {context_len} tokens are cached");
        assert!(context_len <= size, "the context has {context_len} tokens, the window {size}");
    }
}

impl<B: Backend + 'static> Engine for OnnxEngine<B> {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        let kv = self.backend.empty().map_err(|error| engine_error(&error, None))?;
        let index = SlotIndex(self.next_slot);
        self.next_slot += 1;
        self.slots
            .insert(index, Slot { context: Vec::with_capacity(self.info.window.size + 1), kv, kv_len: 0, floor: 0 });
        Ok(index)
    }

    fn close(&mut self, slot: SlotIndex) {
        assert!(self.slots.remove(&slot).is_some(), "slot {} is not open", slot.0);
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        let rejected = |message| Err(EngineError { kind: EngineErrorKind::Rejected, row: None, message });
        let Some(found) = self.slots.get_mut(&slot) else {
            return rejected(format!("slot {} is not open", slot.0));
        };
        if context_len > found.context.len() || context_len < found.floor {
            return rejected(format!(
                "slot {} can be rewound to {} to {} tokens, not to {context_len}",
                slot.0,
                found.floor,
                found.context.len()
            ));
        }
        found.kv_len = found.kv_len.min(context_len);
        found.context.truncate(context_len);
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
        result.map(|()| self.work.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        let rows: usize = self.slots.values().map(|slot| self.backend.capacity(&slot.kv)).sum();
        rows * self.info.kv_bytes_per_token
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.backend.interrupter()
    }
}

/// What a row will do in its run.
#[derive(Default)]
struct Planned {
    plan: RowPlan,
    fed: Fed,
}

impl Planned {
    /// Makes of what the run gave what the row wants.
    fn digest<K>(
        &self,
        row: &Row<'_>,
        info: &EngineInfo,
        given: Given<'_, K>,
        scratch: &mut sampling::Scratch,
    ) -> Executed<K> {
        let Self { plan, fed } = self;
        let sampled = match row.want {
            Want::Next { sampling, seed, number, top } if !given.logits.is_empty() => {
                Some(sampling::sample(given.logits, &sampling, seed, number, top, scratch))
            }
            _ => None,
        };
        let output = RowOutput {
            taken: plan.take,
            dropped: if plan.slide { info.window.slide } else { 0 },
            context_len: 0,
            hidden: fed.pooled(given.hidden, info.hidden, row.want),
            scores: fed.scores(given.logits, info.vocab),
            sampled,
        };
        Executed { kv: given.kv, kv_len: fed.past + fed.tokens.len(), output }
    }
}

/// The tokens that a row really runs, and which of their logits are wanted for what.
#[derive(Default)]
struct Fed {
    /// The context's last token where the plan says so, then the new ones that are taken.
    tokens: Vec<TokenId>,
    /// Tokens cached before them.
    past: usize,
    /// How many of them are not new: 0 or 1.
    lead: usize,
    logits_of: Vec<usize>,
    /// The tokens whose log-probabilities the logits give, one each; none where one is sampled.
    targets: Vec<TokenId>,
    /// Whether hidden states are wanted.
    hidden: bool,
}

impl Fed {
    /// Fills in a row's, in the memory of an earlier one.
    fn fill(&mut self, context: &[TokenId], row: &Row<'_>, plan: RowPlan, window: &Window) {
        let Self { tokens, logits_of, targets, .. } = self;
        let last = context.last().filter(|_| plan.last);
        let lead = usize::from(last.is_some());
        tokens.clear();
        tokens.extend(last.into_iter().chain(&row.tokens[..plan.take]));
        logits_of.clear();
        targets.clear();
        match row.want {
            Want::Next { .. } if plan.take == row.tokens.len() => logits_of.push(tokens.len() - 1),
            Want::Scores { first, next } => {
                let start = if first { 0 } else { lead };
                // What follows the token at `start`.
                let following = row.tokens.iter().chain(&next).skip(start + 1 - lead);
                for (index, target) in (start..tokens.len()).zip(following) {
                    logits_of.push(index);
                    targets.push(*target);
                }
            }
            _ => {}
        }
        let dropped = if plan.slide { window.slide } else { 0 };
        self.past = context.len() - dropped - lead;
        self.lead = lead;
        self.hidden = matches!(row.want, Want::Hidden(_)) && plan.take > 0;
    }

    fn feed(&self) -> Feed<'_> {
        Feed { tokens: &self.tokens, past: self.past, logits_of: &self.logits_of, hidden: self.hidden }
    }

    fn scores(&self, logits: &[f32], vocab: usize) -> Vec<f32> {
        let score =
            |(logits, target): (&[f32], &TokenId)| sampling::logprob(logits, sampling::log_sum_exp(logits), *target);
        logits.chunks_exact(vocab).zip(&self.targets).map(score).collect()
    }

    /// The new tokens' hidden states, `[tokens, width]`, as one vector; empty if there are none.
    fn pooled(&self, hidden: &[f32], width: usize, want: Want) -> Vec<f32> {
        let mut rows = hidden.chunks_exact(width.max(1)).skip(self.lead).map(<[f32]>::to_vec);
        match want {
            Want::Hidden(Pooling::Last) => rows.next_back(),
            Want::Hidden(Pooling::Sum) => rows.next().map(|first| {
                rows.fold(first, |mut sum, row| {
                    sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
                    sum
                })
            }),
            _ => None,
        }
        .unwrap_or_default()
    }
}

/// Moves rows of caches, always into a copy: a run that fails later leaves the slot as it was.
struct Slider<'a> {
    rotation: Option<&'a Rotation>,
    window: &'a Window,
}

impl Slider<'_> {
    /// The cache to run on where the slot's own will not do: it must slide, be cut or grow first.
    fn make_room<B: Backend>(&self, backend: &B, slot: &Slot<B::Kv>, planned: &Planned) -> ort::Result<Option<B::Kv>> {
        let new = planned.fed.tokens.len();
        if planned.plan.slide {
            self.slide(backend, &slot.kv, slot.kv_len, new).map(Some)
        } else {
            backend.make_room(&slot.kv, planned.fed.past, new)
        }
    }

    /// A copy of the cache's first `kv_len` rows after one slide, ready for `new` more.
    fn slide<B: Backend>(&self, backend: &B, kv: &B::Kv, kv_len: usize, new: usize) -> ort::Result<B::Kv> {
        let Window { sinks, slide, .. } = *self.window;
        let turn = self.rotation.map(|rotation| rotation.back(slide));
        let sinks_kept = Kept { rows: 0..sinks, turn: None };
        let rest_kept = Kept { rows: sinks + slide..kv_len, turn: turn.as_ref() };
        backend.copy(kv, &[sinks_kept, rest_kept], new)
    }
}
