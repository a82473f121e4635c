//! The engine: slots of conversations on one session, each run planned, executed and committed.
//!
//! Planning and sampling are pure and live beside this file; the graph's names and tensors end in
//! `graph.rs`. What is left here is bookkeeping: which tokens a slot's context holds, how many of
//! them are cached, and that a run changes all its slots or none.

use std::{collections::BTreeMap, sync::Arc};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, Interrupt, Pooling, Row, RowOutput, Sampled, SlotIndex, Want,
        Window,
    },
    tokens::TokenId,
};

use super::{
    graph::{Feed, Graph, engine_error},
    kv_cache::{Kept, KvCache, KvMemory},
    rotation::Rotation,
    sampling,
    window::{DoesNotFit, RowPlan, plan},
};

/// A model in a session of ONNX Runtime, with the keys and values of its conversations.
pub struct OnnxEngine {
    graph: Graph,
    memory: KvMemory,
    info: EngineInfo,
    /// `None` where it could not be measured; then `info.window.slides` is false.
    rotation: Option<Arc<Rotation>>,
    slots: BTreeMap<SlotIndex, Slot>,
    next_slot: u32,
}

/// One conversation. Invariants: `kv_len <= context.len() <= window.size`, and at most the last
/// token of the context has no keys and values yet.
struct Slot {
    context: Vec<TokenId>,
    kv: KvCache,
    /// Tokens of the context whose keys and values are cached.
    kv_len: usize,
    /// A rewind below this length would need tokens that left with the last slide.
    floor: usize,
}

/// What a row's run did, before it is committed.
struct Executed {
    /// How many of the row's tokens were read.
    taken: usize,
    /// How many tokens leave.
    dropped: usize,
    /// The cache to go on with, where it is a new one.
    kv: Option<KvCache>,
    kv_len: usize,
    hidden: Vec<f32>,
    scores: Vec<f32>,
    sampled: Option<Sampled>,
}

impl OnnxEngine {
    /// An engine without slots.
    pub(crate) fn new(graph: Graph, info: EngineInfo, rotation: Option<Arc<Rotation>>) -> Self {
        let memory = KvMemory::new(graph.contract().clone(), info.window.size);
        Self { graph, memory, info, rotation, slots: BTreeMap::new(), next_slot: 0 }
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

    fn execute(&mut self, index: usize, row: &Row<'_>) -> Result<Executed, EngineError> {
        let window = self.info.window;
        let Some(slot) = self.slots.get_mut(&row.slot) else {
            unreachable!("checked before the run");
        };
        let plan =
            plan(&window, slot.context.len(), slot.kv_len, row.tokens.len(), &row.want).map_err(|DoesNotFit| {
                EngineError {
                    kind: EngineErrorKind::ContextFull,
                    row: Some(index),
                    message: format!(
                        "the context of {} tokens and {} more do not fit the window of {}, which does not slide",
                        slot.context.len(),
                        row.tokens.len(),
                        window.size
                    ),
                }
            })?;
        let failed = |error: ort::Error| engine_error(&error, Some(index));
        let slider = Slider { memory: &self.memory, rotation: self.rotation.as_deref(), window: &window };
        let fed = Fed::new(&slot.context, row, plan, &window);
        let mut moved = slider.make_room(slot, &fed, plan).map_err(failed)?;
        let feed = Feed { tokens: &fed.tokens, past: fed.past, logits_of: &fed.logits_of, hidden: fed.hidden };
        let outputs = self.graph.run(moved.as_mut().unwrap_or(&mut slot.kv), &feed).map_err(failed)?;
        let logits: Vec<&[f32]> = outputs.logits.chunks_exact(self.info.vocab).collect();
        if logits.iter().any(|row| row.iter().any(|x| x.is_nan())) {
            return Err(EngineError {
                kind: EngineErrorKind::Rejected,
                row: Some(index),
                message: "the model's logits are not numbers".to_owned(),
            });
        }
        let mut executed = Executed {
            taken: plan.take,
            dropped: if plan.slide { window.slide } else { 0 },
            kv: outputs.kv.or(moved),
            kv_len: fed.past + fed.tokens.len(),
            hidden: fed.pooled(&outputs.hidden, self.info.hidden, row.want),
            scores: fed.scores(&logits),
            sampled: None,
        };
        if let (Want::Next { sampling, seed, number, top }, [logits]) = (row.want, logits.as_slice()) {
            executed.sampled = Some(sampling::sample(logits, &sampling, seed, number, top));
            if executed.kv_len == window.size {
                // The sampled token would be number `size + 1` of the context.
                let full = executed.kv.as_ref().unwrap_or(&slot.kv);
                executed.kv = Some(slider.slide(full, window.size, 0).map_err(failed)?);
                executed.kv_len -= window.slide;
                executed.dropped += window.slide;
            }
        }
        Ok(executed)
    }

    fn commit(&mut self, row: &Row<'_>, executed: Executed) -> RowOutput {
        let window = self.info.window;
        let Some(slot) = self.slots.get_mut(&row.slot) else {
            unreachable!("checked before the run");
        };
        slot.context.extend_from_slice(&row.tokens[..executed.taken]);
        slot.context.extend(executed.sampled.iter().map(|s| s.token));
        if executed.dropped > 0 {
            // Each slide drops what stands behind the sinks, so together they drop one range.
            slot.context.drain(window.sinks..window.sinks + executed.dropped);
            slot.floor = window.size - window.slide;
        }
        if let Some(kv) = executed.kv {
            slot.kv = kv;
        }
        slot.kv_len = executed.kv_len;
        slot.check_invariants(window.size);
        RowOutput {
            taken: executed.taken,
            dropped: executed.dropped,
            context_len: slot.context.len(),
            hidden: executed.hidden,
            scores: executed.scores,
            sampled: executed.sampled,
        }
    }
}

impl Engine for OnnxEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        let kv = self.memory.zeros(0).map_err(|error| engine_error(&error, None))?;
        let index = SlotIndex(self.next_slot);
        self.next_slot += 1;
        self.slots.insert(index, Slot { context: Vec::new(), kv, kv_len: 0, floor: 0 });
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
        found.check_invariants(self.info.window.size);
        Ok(())
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Vec<RowOutput>, EngineError> {
        for (index, row) in rows.iter().enumerate() {
            self.check(index, row, rows)?;
        }
        let interrupted =
            || EngineError { kind: EngineErrorKind::Interrupted, row: None, message: "the run was stopped".to_owned() };
        if self.graph.take_interrupt() {
            return Err(interrupted());
        }
        let mut executed = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            match self.execute(index, row) {
                Ok(done) => executed.push(done),
                Err(error) => {
                    return Err(if self.graph.take_interrupt() { interrupted() } else { error });
                }
            }
        }
        Ok(rows.iter().zip(executed).map(|(row, executed)| self.commit(row, executed)).collect())
    }

    fn kv_bytes(&self) -> usize {
        self.slots.values().map(|slot| slot.kv.capacity * self.info.kv_bytes_per_token).sum()
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.graph.interrupter()
    }
}

impl Slot {
    fn check_invariants(&self, size: usize) {
        let (kv_len, context_len) = (self.kv_len, self.context.len());
        assert!(kv_len <= self.kv.capacity, "{kv_len} tokens are cached in {} rows", self.kv.capacity);
        assert!(kv_len <= context_len, "{kv_len} tokens are cached, the context has {context_len}");
        assert!(context_len - kv_len <= 1, "only {kv_len} of {context_len} tokens are cached");
        assert!(context_len <= size, "the context has {context_len} tokens, the window {size}");
    }
}

/// The tokens that a row really runs, and which of their logits are wanted for what.
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
    fn new(context: &[TokenId], row: &Row<'_>, plan: RowPlan, window: &Window) -> Self {
        let last = context.last().filter(|_| plan.last);
        let lead = usize::from(last.is_some());
        let tokens: Vec<TokenId> = last.into_iter().chain(&row.tokens[..plan.take]).copied().collect();
        let dropped = if plan.slide { window.slide } else { 0 };
        let (logits_of, targets) = match row.want {
            Want::Next { .. } if plan.take == row.tokens.len() => (vec![tokens.len() - 1], Vec::new()),
            Want::Scores { first, next } => {
                let following: Vec<TokenId> = row.tokens.iter().copied().chain(next).collect();
                let scored = if first { 0 } else { lead }..tokens.len();
                scored.filter_map(|i| following.get(i + 1 - lead).map(|target| (i, *target))).unzip()
            }
            _ => (Vec::new(), Vec::new()),
        };
        let hidden = matches!(row.want, Want::Hidden(_)) && plan.take > 0;
        Self { past: context.len() - dropped - lead, tokens, lead, logits_of, targets, hidden }
    }

    fn scores(&self, logits: &[&[f32]]) -> Vec<f32> {
        let score =
            |(logits, target): (&&[f32], &TokenId)| sampling::logprob(logits, sampling::log_sum_exp(logits), *target);
        logits.iter().zip(&self.targets).map(score).collect()
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
    memory: &'a KvMemory,
    rotation: Option<&'a Rotation>,
    window: &'a Window,
}

impl Slider<'_> {
    /// The cache to run on where the slot's own will not do: it must slide, be cut or grow first.
    fn make_room(&self, slot: &Slot, fed: &Fed, plan: RowPlan) -> ort::Result<Option<KvCache>> {
        let new = fed.tokens.len();
        if plan.slide {
            self.slide(&slot.kv, slot.kv_len, new).map(Some)
        } else if self.memory.fits(&slot.kv, fed.past, new) {
            Ok(None)
        } else {
            self.memory.copy(&slot.kv, &[Kept { rows: 0..fed.past, turn: None }], new).map(Some)
        }
    }

    /// A copy of the cache's first `kv_len` rows after one slide, ready for `new` more.
    fn slide(&self, kv: &KvCache, kv_len: usize, new: usize) -> ort::Result<KvCache> {
        let Window { sinks, slide, .. } = *self.window;
        let turn = self.rotation.map(|rotation| rotation.back(slide));
        let sinks_kept = Kept { rows: 0..sinks, turn: None };
        let rest_kept = Kept { rows: sinks + slide..kv_len, turn: turn.as_ref() };
        self.memory.copy(kv, &[sinks_kept, rest_kept], new)
    }
}
