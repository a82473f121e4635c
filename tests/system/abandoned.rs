//! Runs that nobody waits for any more: from their own threads they write garbage, to all that they may write to, for as
//! long as they live.
//!
//! [`Garbage`] is what such a run has of one conversation: the pages that were resident when it began, with the leases
//! that the engine itself would have taken on them. [`Wild`] makes engines of which a chosen run, in the place of giving
//! an answer, goes on like that. Every second of those gives it after all, when nobody waits for it any more.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
    vec::Drain,
};

use motorbrain::{engine::OnnxLoader, model::Contract};
use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineInfo, EngineLoader, Held, Interrupt, LoadError, Resident, Row, RowOutput, SlotIndex,
    },
    tokens::TokenId,
};
use motorbrain_kernels::{
    Threads,
    attention::{self, BatchRow, Heads, Layer, PagedKv, Plan, Shape},
};

/// So often a run writes garbage without a rest; then it rests, so that many leave the processor to others.
const UNRESTING: usize = 20;
/// So many times as long as it has written.
const REST: u32 = 20;

/// No threads but the caller's.
pub(crate) struct Alone;

impl Threads for Alone {
    type Error = Infallible;

    fn share(&self, count: usize, task: &(dyn Fn(usize) + Sync + Send)) -> Result<(), Infallible> {
        (0..count).for_each(task);
        Ok(())
    }
}

/// A conversation's pages in a run, with room for some tokens more.
pub(crate) struct Garbage {
    rows: [BatchRow; 1],
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Garbage {
    /// Behind what is resident, which are some pages.
    pub(crate) fn behind(resident: &Resident, tokens: usize, contract: &Contract) -> Self {
        let pages: Vec<_> = resident.pages.iter().map(|page| page.memory::<attention::Page>().unwrap()).collect();
        let (store, past) = (Arc::clone(pages[0].store()), resident.kv_len);
        let mut kv = PagedKv::adopt(&store, pages.into_iter(), past, past + tokens).unwrap();
        kv.make_room(past, tokens).unwrap();
        let rows = [BatchRow { kv: Arc::new(kv), past, cached: past, position: past, tokens }];
        Self { rows, layers: contract.layers, kv_heads: contract.kv_heads, head_dim: contract.head_dim }
    }

    /// Writes to every row that the run may write to, in all layers.
    pub(crate) fn write(&self, round: usize) {
        let (kv_heads, head_dim, tokens) = (self.kv_heads, self.head_dim, self.rows[0].tokens);
        let width = kv_heads * head_dim;
        let garbage = vec![if round.is_multiple_of(2) { f32::NAN } else { 1e9 + round as f32 }; tokens * width];
        let part = Heads { data: &garbage, width, first: 0, head_dim };
        let mut output = vec![0.0; tokens * width];
        for layer in 0..self.layers {
            let (scale, softcap, window) = (1.0, None, None);
            let shape = Shape { layer, heads: kv_heads, kv_heads, head_dim, scale, softcap, window };
            let layer = Layer { shape, rows: &self.rows, queries: part, keys: part, values: part, rotary: None };
            layer.check(tokens).unwrap();
            let (mut plan, mut pieces) = (Plan::default(), Vec::new());
            layer.plan(&mut plan);
            layer.cut(&mut output, &mut pieces);
            let Ok(()) = layer.run(&plan, &[], &pieces, &Alone);
        }
    }
}

/// Tells the engines of a [`Wild`] loader what to do.
pub(crate) struct Orders {
    /// After how long a run gives its answer that does.
    late: Duration,
    /// Runs that are to go wild.
    due: AtomicUsize,
    /// Those that have.
    gone: AtomicUsize,
    /// Conversations whose pages they write to.
    spoilt: AtomicUsize,
    /// How often they have written to all of them.
    rounds: AtomicUsize,
    /// Those that are over.
    over: AtomicUsize,
    /// They end.
    end: AtomicUsize,
}

impl Orders {
    /// `run_max`: the watchdog's limit. What is late comes long after it.
    pub(crate) fn new(run_max: Duration) -> Self {
        let counts = [(); 6].map(|()| AtomicUsize::new(0));
        let [due, gone, spoilt, rounds, over, end] = counts;
        Self { late: 4 * run_max, due, gone, spoilt, rounds, over, end }
    }

    /// The next run goes wild.
    pub(crate) fn go_wild(&self) {
        self.due.fetch_add(1, Ordering::Relaxed);
    }

    /// No run that is still to come goes wild.
    pub(crate) fn stay_calm(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// Runs that have gone wild.
    pub(crate) fn gone(&self) -> usize {
        self.gone.load(Ordering::Relaxed)
    }

    /// Conversations that they write to, and how often they have.
    pub(crate) fn written(&self) -> (usize, usize) {
        (self.spoilt.load(Ordering::Relaxed), self.rounds.load(Ordering::Relaxed))
    }

    /// Ends them; true when none is left.
    pub(crate) fn end(&self) -> bool {
        self.end.store(1, Ordering::Relaxed);
        self.over.load(Ordering::Relaxed) == self.gone()
    }
}

/// Makes engines that go wild when told to.
pub(crate) struct Wild {
    pub(crate) loader: Arc<OnnxLoader>,
    pub(crate) contract: Contract,
    pub(crate) orders: Arc<Orders>,
}

impl EngineLoader for Wild {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        let (engine, contract) = (self.loader.load()?, self.contract.clone());
        Ok(Box::new(WildEngine { engine, contract, orders: Arc::clone(&self.orders), held: HashMap::new() }))
    }

    fn kv_bytes(&self) -> usize {
        self.loader.kv_bytes()
    }
}

struct WildEngine {
    engine: Box<dyn Engine>,
    contract: Contract,
    orders: Arc<Orders>,
    /// The pages of each slot, as its owner knows them.
    held: HashMap<SlotIndex, Resident>,
}

impl WildEngine {
    /// In the place of a run, or before it: the watchdog gives its thread up meanwhile.
    fn go_wild(&mut self, rows: &[Row<'_>]) {
        let mut garbage = Vec::new();
        for row in rows {
            let resident = self.held.entry(row.slot).or_default();
            resident.apply(self.engine.take_held(row.slot));
            if resident.kv_len > 0 {
                // As the run itself, and into the page behind it.
                garbage.push(Garbage::behind(resident, row.tokens.len() + 40, &self.contract));
            }
        }
        let orders = &self.orders;
        orders.spoilt.fetch_add(garbage.len(), Ordering::Relaxed);
        let answers_late = orders.gone.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let since = Instant::now();
        for round in 0.. {
            if orders.end.load(Ordering::Relaxed) > 0 || answers_late && since.elapsed() > orders.late {
                break;
            }
            let begun = Instant::now();
            garbage.iter().for_each(|garbage| garbage.write(round));
            orders.rounds.fetch_add(1, Ordering::Relaxed);
            if round > UNRESTING {
                thread::park_timeout(REST * begun.elapsed());
            }
        }
        orders.over.fetch_add(1, Ordering::Relaxed);
    }
}

impl Engine for WildEngine {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        self.engine.open()
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        let slot = self.engine.adopt(context, held)?;
        self.held.insert(slot, held.clone());
        Ok(slot)
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let held = self.engine.take_held(slot);
        self.held.entry(slot).or_default().apply(held.clone());
        held
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        self.engine.pin(slot, pinned);
    }

    fn close(&mut self, slot: SlotIndex) {
        self.held.remove(&slot);
        self.engine.close(slot);
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        self.engine.rewind(slot, context_len)
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        let take = |due: usize| due.checked_sub(1);
        if self.orders.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            self.go_wild(rows);
        }
        self.engine.run(rows)
    }

    fn kv_bytes(&self) -> usize {
        self.engine.kv_bytes()
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.engine.interrupter()
    }
}
