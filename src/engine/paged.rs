//! The paged form of a model in a session: any number of rows in one run, keys and values in pages.

use std::{iter, sync::Arc};

use motorbrain_actors::{
    engine::{Held, Interrupt, Page, Resident},
    tokens::TokenId,
};
use motorbrain_kernels::attention::{self, BatchRow, Kept, KvStore, NoRoom, PagedKv};
use ort::{
    memory::{Allocator, MemoryInfo},
    session::{IoBinding, Session},
    value::{DynTensor, Tensor},
};

use super::{
    backend::{Backend, Feed, Given, RunError},
    batch::Batch,
    chosen::Shared,
    initializers::Lent,
    operators::{operators, with_domain},
    rotation::KeysAt,
    rotations::LayerKeys,
    runtime::Runtime,
    session::{self, SessionOptions, Stop},
    side,
};
use crate::model::{Contract, LmHead, Model};

/// See the module's description.
pub(crate) struct PagedGraph {
    session: Session,
    binding: IoBinding,
    cpu: MemoryInfo<'static>,
    contract: Contract,
    store: Arc<KvStore>,
    /// Tokens of a full context.
    window: usize,
    lm_head: LmHead,
    position_ids: bool,
    stop: Arc<Stop>,
    batch: Batch,
    inputs: Inputs,
    /// Logits and hidden states that the graph gives in fewer bits.
    wide: [Vec<f32>; 2],
    /// What the session reads: dropped after it.
    _lent: Lent,
}

impl PagedGraph {
    /// Loads a model's paged form into a session; its caches are of the store's pages, of `window` tokens at most.
    ///
    /// # Errors
    /// The runtime's own.
    pub(crate) fn load(
        runtime: &Runtime,
        model: &Model,
        shared: &Shared,
        store: Arc<KvStore>,
        window: usize,
        options: SessionOptions,
    ) -> ort::Result<Self> {
        let Shared { paged, constants, initializers } = shared;
        let lm_head = model.overlay.lm_head.ok_or_else(|| ort::Error::new("a paged form has an LM head"))?;
        let batch = Batch::default();
        let builder =
            session::builder(runtime, options, &model.overlay.folder)?.with_operators(operators(&batch, constants)?)?;
        let (lent, session) = with_domain(|| initializers.commit(builder, &paged.bytes))?;
        let binding = session.create_binding()?;
        Ok(Self {
            session,
            binding,
            cpu: session::cpu()?,
            contract: model.contract.clone(),
            store,
            window,
            lm_head,
            position_ids: paged.position_ids,
            stop: Stop::new()?,
            batch,
            inputs: Inputs { tokens: Numbers::new()?, positions: Numbers::new()?, wanted: Numbers::new()? },
            wide: Default::default(),
            _lent: lent,
        })
    }

    /// Runs the rows that the batch names, on what `inputs` holds.
    fn execute(&mut self, hidden: bool) -> ort::Result<Outputs> {
        let Inputs { tokens, positions, wanted } = &self.inputs;
        let given = side::runtime(|| {
            self.binding.bind_input("input_ids", &tokens.tensor)?;
            if self.position_ids {
                self.binding.bind_input("position_ids", &positions.tensor)?;
            }
            self.binding.bind_input(self.lm_head.row_index, &wanted.tensor)?;
            // Of no rows, too: a run must have an output.
            self.binding.bind_output_to_device("logits", &self.cpu)?;
            if hidden {
                self.binding.bind_output_to_device(self.lm_head.hidden_output, &self.cpu)?;
            }
            self.session.run_binding_with_options(&self.binding, &self.stop.options)
        });
        let mut given = given?;
        let logits = session::take(&mut given, "logits")?;
        let logits = (wanted.len() > 0).then_some(logits);
        let hidden = if hidden { Some(session::take(&mut given, self.lm_head.hidden_output)?) } else { None };
        Ok(Outputs { logits, hidden })
    }

    fn run_rows(
        &mut self,
        rows: &[(&mut Arc<PagedKv>, Feed<'_>)],
        take: &mut dyn FnMut(usize, Given<'_, Arc<PagedKv>>),
    ) -> ort::Result<()> {
        let feeds = || rows.iter().map(|(_, feed)| feed);
        let tokens = feeds().map(|feed| feed.tokens.len()).sum();
        self.inputs.tokens.fill([1, tokens], feeds().flat_map(|feed| feed.tokens).map(|token| i64::from(token.0)))?;
        if self.position_ids {
            let positions = feeds().flat_map(|feed| (feed.past as i64..).take(feed.tokens.len()));
            self.inputs.positions.fill([1, tokens], positions)?;
        }
        let wanted = feeds().scan(0, |behind, feed| {
            let first = *behind;
            *behind += feed.tokens.len();
            Some(feed.logits_of.iter().map(move |index| (first + index) as i64))
        });
        self.inputs.wanted.fill([feeds().map(|feed| feed.logits_of.len()).sum()], wanted.flatten())?;
        let hidden = rows.iter().any(|(_, feed)| feed.hidden);
        for (kv, Feed { tokens, past, cached, .. }) in rows {
            let (room, end) = (kv.capacity(), past + tokens.len());
            assert!(!tokens.is_empty(), "a row of no token on {past} cached ones");
            assert!((*past..=end).contains(cached), "{cached} tokens are cached of a row from {past} up to {end}");
            assert!(end <= room, "a row of tokens up to {end} in room for {room}");
        }
        self.batch.fill(rows.iter().map(|(kv, feed)| BatchRow {
            kv: Arc::clone(kv),
            past: feed.past,
            cached: feed.cached,
            position: feed.past,
            tokens: feed.tokens.len(),
        }));
        let outputs = self.execute(hidden)?;
        let [wide_logits, wide_hidden] = &mut self.wide;
        let mut logits = match &outputs.logits {
            Some(logits) => session::floats(logits, wide_logits)?,
            None => &[],
        };
        let mut hidden = match &outputs.hidden {
            Some(hidden) => session::floats(hidden, wide_hidden)?,
            None => &[],
        };
        let width = self.contract.hidden.unwrap_or(0);
        for (index, (_, feed)) in rows.iter().enumerate() {
            let mine = logits.split_off(..feed.logits_of.len() * self.contract.vocab);
            let states = if hidden.is_empty() { None } else { hidden.split_off(..feed.tokens.len() * width) };
            let mine = mine.ok_or_else(|| ort::Error::new("the run gave fewer logits than were asked for"))?;
            take(index, Given { logits: mine, hidden: states.unwrap_or_default(), kv: None });
        }
        if !logits.is_empty() {
            return Err(ort::Error::new("the run gave more logits than were asked for"));
        }
        Ok(())
    }
}

/// What a run is given.
struct Inputs {
    /// `[1, tokens]`.
    tokens: Numbers,
    /// `[1, tokens]`, where the graph asks for them.
    positions: Numbers,
    /// Which tokens give logits, `[rows]`.
    wanted: Numbers,
}

/// An input of the graph, kept from run to run: a decode of the same rows is given in the same memory.
struct Numbers {
    tensor: Tensor<i64>,
}

impl Numbers {
    fn new() -> ort::Result<Self> {
        Ok(Self { tensor: Tensor::new(&Allocator::default(), [0usize])? })
    }

    fn len(&self) -> usize {
        self.tensor.shape().num_elements()
    }

    /// Takes the shape's numbers from `numbers`.
    fn fill<const N: usize>(&mut self, shape: [usize; N], numbers: impl Iterator<Item = i64>) -> ort::Result<()> {
        if self.tensor.shape().len() != N || self.len() != shape.iter().product::<usize>() {
            self.tensor = side::runtime(|| Tensor::new(&Allocator::default(), shape))?;
        }
        let (mut filled, mut numbers) = (0, numbers);
        for (to, number) in self.tensor.extract_tensor_mut().1.iter_mut().zip(&mut numbers) {
            *to = number;
            filled += 1;
        }
        let wanted = self.len();
        assert!(filled == wanted, "{filled} numbers for an input of {wanted}");
        assert!(numbers.next().is_none(), "more than {wanted} numbers for an input");
        Ok(())
    }
}

/// What a run gave, each if wanted: `[rows, vocab]` and `[1, tokens, hidden]`.
struct Outputs {
    logits: Option<DynTensor>,
    hidden: Option<DynTensor>,
}

impl Backend for PagedGraph {
    type Kv = Arc<PagedKv>;

    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn empty(&self) -> ort::Result<Self::Kv> {
        Ok(Arc::new(PagedKv::new(&self.store, self.window)))
    }

    fn capacity(&self, kv: &Self::Kv) -> usize {
        kv.capacity()
    }

    fn make_room(&self, kv: &mut Self::Kv, feed: &Feed<'_>) -> ort::Result<Option<Self::Kv>> {
        let new = feed.past + feed.tokens.len() - feed.cached;
        alone(kv).make_room(feed.cached, new).map_err(no_memory)?;
        Ok(None)
    }

    fn settle(&self, kv: &mut Self::Kv, rows: usize) {
        alone(kv).settle(rows);
    }

    fn copy(&self, from: &Self::Kv, kept: &[Kept<'_>], new: usize) -> ort::Result<Self::Kv> {
        let mut copy = from.copy(kept).map_err(no_memory)?;
        copy.make_room(kept.iter().map(|kept| kept.rows.len()).sum(), new).map_err(no_memory)?;
        Ok(Arc::new(copy))
    }

    /// Its pages are counted by their store.
    fn bytes(&self, _: &Self::Kv) -> usize {
        0
    }

    fn store(&self) -> Option<&Arc<KvStore>> {
        Some(&self.store)
    }

    fn adopt(&self, held: &Resident) -> Result<Self::Kv, String> {
        let memory = |page: &Page| page.memory::<attention::Page>();
        let pages: Option<Vec<_>> = held.pages.iter().map(memory).collect();
        let pages = pages.ok_or("the pages are another engine's")?;
        let adopted = PagedKv::adopt(&self.store, pages.into_iter(), held.kv_len, self.window);
        adopted.map(Arc::new).map_err(|why| why.to_string())
    }

    fn take_held(&self, kv: &mut Self::Kv, rows: usize) -> Option<Held> {
        let (keep, pages) = alone(kv).take_changes(rows);
        Some(Held { keep, pages: pages.iter().map(|page| Page::new(Arc::clone(page))).collect(), kv_len: rows })
    }

    fn run(
        &mut self,
        rows: &mut [(&mut Self::Kv, Feed<'_>)],
        take: &mut dyn FnMut(usize, Given<'_, Self::Kv>),
    ) -> Result<(), RunError> {
        let result = self.run_rows(rows, take);
        self.batch.clear();
        // The binding would keep this run's outputs alive until the next.
        side::runtime(|| self.binding.clear_outputs());
        // With one row it is clear whose fault a failure is.
        let row = (rows.len() == 1).then_some(0);
        result.map_err(|error| RunError { row, error })
    }

    /// Each token is alone in its cache, whatever its position: attention gives it its own values.
    fn keys_at(&mut self, positions: &[usize], tokens: &[TokenId]) -> ort::Result<Vec<LayerKeys>> {
        let places: Vec<_> = iter::once(0).chain(positions.iter().copied()).collect();
        let rows = || places.iter().flat_map(|position| tokens.iter().map(move |token| (*position, *token)));
        let shape = [1, rows().count()];
        self.inputs.tokens.fill(shape, rows().map(|(_, token)| i64::from(token.0)))?;
        if self.position_ids {
            self.inputs.positions.fill(shape, rows().map(|(position, _)| position as i64))?;
        }
        self.inputs.wanted.fill([0], iter::empty())?;
        let mut caches = rows().map(|_| self.empty()).collect::<ort::Result<Vec<_>>>()?;
        caches.iter_mut().try_for_each(|kv| alone(kv).make_room(0, 1)).map_err(no_memory)?;
        let row = |((position, _), kv): (_, &Arc<PagedKv>)| {
            let kv = Arc::clone(kv);
            BatchRow { kv, past: 0, cached: 0, position, tokens: 1 }
        };
        self.batch.fill(rows().zip(&caches).map(row));
        let result = self.execute(false);
        self.batch.clear();
        self.binding.clear_outputs();
        result?;
        caches.iter_mut().for_each(|kv| alone(kv).settle(1));
        let keys = |layer: usize| {
            let mut caches = caches.chunks(tokens.len());
            let mut next = || caches.next().into_iter().flatten().flat_map(|kv| kv.keys(layer, 0)).collect();
            let zero = next();
            LayerKeys {
                zero,
                at: positions.iter().map(|position| KeysAt { position: *position, keys: next() }).collect(),
            }
        };
        Ok((0..self.contract.layers).map(keys).collect())
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.stop.clone()
    }

    fn take_interrupt(&self) -> bool {
        self.stop.take()
    }
}

/// A cache between runs, when nobody else has it: the batch is cleared behind each.
fn alone(kv: &mut Arc<PagedKv>) -> &mut PagedKv {
    let others = Arc::strong_count(kv) - 1;
    Arc::get_mut(kv).unwrap_or_else(|| panic!("{others} others have a conversation's table between two runs"))
}

/// Said in the runtime's own words, which [`session::engine_error`] knows.
fn no_memory(cause: NoRoom) -> ort::Error {
    ort::Error::new(format!("{} for keys and values: {cause}", session::NO_MEMORY))
}
