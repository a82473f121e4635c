//! A model's own graph in a session of ONNX Runtime, with the overlay's edits: one row at a time.
//!
//! The reference for every faster form, and what runs where there is none. Every run goes through one
//! [`IoBinding`], so that keys and values stay in the runtime's tensors and are never copied through a
//! `Vec`.

use std::sync::Arc;

use motorbrain_actors::{engine::Interrupt, tokens::TokenId};
use motorbrain_kernels::attention::Kept;
use ort::{
    memory::MemoryInfo,
    session::{IoBinding, Session},
    value::{DynTensor, Tensor},
};

use super::{
    backend::{Backend, Feed, Given, RunError},
    initializers::{Initializers, Lent},
    kv_cache::{KvCache, KvMemory, LayerKv},
    rotation::KeysAt,
    rotations::LayerKeys,
    runtime::Runtime,
    session::{self, SessionOptions, Stop},
};
use crate::model::{Contract, Family, LmHead, Model};

/// See the module's description.
pub(crate) struct Graph {
    session: Session,
    binding: IoBinding,
    cpu: MemoryInfo<'static>,
    contract: Contract,
    lm_head: Option<LmHead>,
    memory: KvMemory,
    stop: Arc<Stop>,
    /// Logits and hidden states that the graph gives in fewer bits.
    wide: [Vec<f32>; 2],
    /// What the session reads: dropped after it.
    _lent: Lent,
}

/// What a run gave.
struct Outputs {
    logits: Option<DynTensor>,
    hidden: Option<DynTensor>,
    /// A plain graph's new cache.
    kv: Option<KvCache>,
}

impl Graph {
    /// Loads the model's overlay into a session; caches have room for `window` tokens at most.
    ///
    /// # Errors
    /// The runtime's own.
    pub(crate) fn load(
        runtime: &Runtime,
        model: &Model,
        initializers: &Arc<Initializers>,
        window: usize,
        options: SessionOptions,
    ) -> ort::Result<Self> {
        let builder = session::builder(runtime, options, &model.overlay.folder)?;
        let (lent, session) = initializers.commit(builder, &model.overlay.bytes)?;
        let binding = session.create_binding()?;
        Ok(Self {
            session,
            binding,
            cpu: session::cpu()?,
            memory: KvMemory::new(model.contract.clone(), window),
            contract: model.contract.clone(),
            lm_head: model.overlay.lm_head,
            stop: Stop::new()?,
            wide: Default::default(),
            _lent: lent,
        })
    }

    /// Runs one row. A GroupQueryAttention graph writes the new rows into `kv`, behind the past ones; a
    /// plain graph gives a new cache.
    fn execute(&mut self, kv: &mut KvCache, feed: &Feed<'_>) -> ort::Result<Outputs> {
        let mut outputs = self.bind(kv, feed).and_then(|()| self.run_bound(feed));
        // The binding would keep this row's tensors alive until the next run.
        self.binding.clear();
        if let Ok(Outputs { kv: Some(new), .. }) = &mut outputs {
            new.remember(kv);
        }
        outputs
    }

    fn bind(&mut self, kv: &mut KvCache, feed: &Feed<'_>) -> ort::Result<()> {
        let new = feed.tokens.len();
        let binding = &mut self.binding;
        binding.bind_input("input_ids", &session::row(feed.tokens.iter().map(|t| i64::from(t.0)).collect())?)?;
        if self.contract.attention_mask {
            binding.bind_input("attention_mask", &session::row(vec![1; feed.past + new])?)?;
        }
        if self.contract.position_ids {
            binding.bind_input("position_ids", &session::row((feed.past as i64..).take(new).collect())?)?;
        }
        if let Some(lm_head) = &self.lm_head {
            let rows: Vec<i64> = feed.logits_of.iter().map(|i| *i as i64).collect();
            binding.bind_input(lm_head.row_index, &Tensor::from_array(([rows.len()], rows))?)?;
            if feed.hidden {
                binding.bind_output_to_device(lm_head.hidden_output, &self.cpu)?;
            }
        }
        if !feed.logits_of.is_empty() {
            binding.bind_output_to_device("logits", &self.cpu)?;
        }
        for (names, layer) in self.contract.kv.iter().zip(&mut kv.layers) {
            for (past, present, tensor) in [
                (&names.past_key, &names.present_key, &mut layer.key),
                (&names.past_value, &names.present_value, &mut layer.value),
            ] {
                binding.bind_input(past, tensor)?;
                match self.contract.family {
                    Family::Plain => binding.bind_output_to_device(present, &self.cpu)?,
                    Family::GroupQueryAttention => binding.bind_output(present, tensor)?,
                }
            }
        }
        Ok(())
    }

    /// Runs one token behind `position` rows: the cache with its row.
    fn alone(&mut self, token: TokenId, mut kv: KvCache, position: usize) -> ort::Result<KvCache> {
        let feed = Feed { tokens: &[token], past: position, cached: position, logits_of: &[], hidden: false };
        let given = self.execute(&mut kv, &feed)?;
        Ok(given.kv.unwrap_or(kv))
    }

    fn run_bound(&mut self, feed: &Feed<'_>) -> ort::Result<Outputs> {
        let mut given = self.session.run_binding_with_options(&self.binding, &self.stop.options)?;
        let wants_logits = !feed.logits_of.is_empty();
        let logits = if wants_logits { Some(session::take(&mut given, "logits")?) } else { None };
        let hidden = match &self.lm_head {
            Some(lm_head) if feed.hidden => Some(session::take(&mut given, lm_head.hidden_output)?),
            _ => None,
        };
        let mut kv = None;
        if self.contract.family == Family::Plain {
            let layers = self.contract.kv.iter().map(|names| {
                Ok(LayerKv {
                    key: session::take(&mut given, &names.present_key)?,
                    value: session::take(&mut given, &names.present_value)?,
                    turned: None,
                })
            });
            let layers = layers.collect::<ort::Result<_>>()?;
            kv = Some(KvCache { layers, capacity: feed.past + feed.tokens.len() });
        }
        Ok(Outputs { logits, hidden, kv })
    }

    fn run_row(
        &mut self,
        kv: &mut KvCache,
        feed: &Feed<'_>,
        take: &mut dyn FnMut(Given<'_, KvCache>),
    ) -> ort::Result<()> {
        let outputs = self.execute(kv, feed)?;
        let [wide_logits, wide_hidden] = &mut self.wide;
        let given = match &outputs.logits {
            Some(logits) => session::floats(logits, wide_logits)?,
            None => &[],
        };
        let picked;
        let logits = if self.lm_head.is_none() && !given.is_empty() {
            picked = pick(given, self.contract.vocab, feed)?;
            &picked
        } else {
            given
        };
        let hidden = match &outputs.hidden {
            Some(hidden) => session::floats(hidden, wide_hidden)?,
            None => &[],
        };
        take(Given { logits, hidden, kv: outputs.kv });
        Ok(())
    }
}

impl Backend for Graph {
    type Kv = KvCache;

    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn empty(&self) -> ort::Result<KvCache> {
        self.memory.zeros(0)
    }

    fn capacity(&self, kv: &KvCache) -> usize {
        kv.capacity
    }

    fn make_room(&self, kv: &mut KvCache, feed: &Feed<'_>) -> ort::Result<Option<KvCache>> {
        let (past, new) = (feed.past, feed.tokens.len());
        if self.memory.fits(kv, past, new) {
            return Ok(None);
        }
        let mut grown = self.memory.copy(kv, &[Kept { rows: 0..past, turns: None }], new)?;
        grown.remember(kv);
        Ok(Some(grown))
    }

    fn bytes(&self, kv: &KvCache) -> usize {
        kv.bytes(self.contract.kv_bytes_per_token())
    }

    fn copy(&self, from: &KvCache, kept: &[Kept<'_>], new: usize) -> ort::Result<KvCache> {
        self.memory.copy(from, kept, new)
    }

    fn run(
        &mut self,
        rows: &mut [(&mut KvCache, Feed<'_>)],
        take: &mut dyn FnMut(usize, Given<'_, KvCache>),
    ) -> Result<(), RunError> {
        for (index, (kv, feed)) in rows.iter_mut().enumerate() {
            self.run_row(kv, feed, &mut |given| take(index, given))
                .map_err(|error| RunError { row: Some(index), error })?;
        }
        Ok(())
    }

    /// The rows before each token have its own values, so that attention gives these, whatever the keys are.
    fn keys_at(&mut self, positions: &[usize], tokens: &[TokenId]) -> ort::Result<Vec<LayerKeys>> {
        let keys_at = |position: &usize| KeysAt { position: *position, keys: Vec::new() };
        let empty = || LayerKeys { zero: Vec::new(), at: positions.iter().map(keys_at).collect() };
        let mut layers: Vec<LayerKeys> = (0..self.contract.layers).map(|_| empty()).collect();
        let nothing = self.memory.zeros(0)?;
        for token in tokens {
            let first = self.alone(*token, self.memory.repeated(&nothing, 0, 0)?, 0)?;
            for (layer, keys) in layers.iter_mut().enumerate() {
                keys.zero.extend(first.key_row(layer, 0, self.contract.head_dim)?);
            }
            for (index, &position) in positions.iter().enumerate() {
                let past = self.memory.repeated(&first, 0, position)?;
                let there = self.alone(*token, past, position)?;
                for (layer, keys) in layers.iter_mut().enumerate() {
                    keys.at[index].keys.extend(there.key_row(layer, position, self.contract.head_dim)?);
                }
            }
        }
        Ok(layers)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.stop.clone()
    }

    fn take_interrupt(&self) -> bool {
        self.stop.take()
    }
}

/// The wanted rows of a graph that gives logits of all tokens, or of the last one only.
fn pick(logits: &[f32], vocab: usize, feed: &Feed<'_>) -> ort::Result<Vec<f32>> {
    let first = feed.tokens.len().saturating_sub(logits.len() / vocab);
    let row = |index: &usize| logits.get(index.checked_sub(first)? * vocab..)?.get(..vocab);
    let rows: Option<Vec<&[f32]>> = feed.logits_of.iter().map(row).collect();
    let rows = rows
        .ok_or_else(|| ort::Error::new("the graph gives logits of the last token only: it steps, but cannot score"))?;
    Ok(rows.concat())
}
