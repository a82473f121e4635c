//! The fake engine with faults: at every call it may die, hang, take long, err or refuse memory, as the seed says.
//!
//! A call that takes time moves the virtual clock on and leaves behind what the pulse said meanwhile, for the world to
//! see when it looks. What a call came to is known at once, and told when its time has passed. A death is a panic that
//! says nothing on the terminal.

use std::{
    cell::{Cell, RefCell},
    panic::resume_unwind,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    vec::Drain,
};

use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, Held, Interrupt, Resident, Row, RowOutput, SlotIndex, Want,
    },
    job::{Pulse, RequestId, Running},
    tokens::TokenId,
};
use motorbrain_testing::{FakeEngine, page_number};

use super::{model::poison, rng::Rng};

/// Longer than any history.
pub(crate) const NEVER: u64 = 1 << 40;

/// What engines do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Anything.
    Wild,
    /// Only what is poison kills, and hangs.
    OnlyPoison,
    /// Nothing.
    Well,
}

/// The payload of a death as drawn, to be told from a panic of the worker.
pub(crate) struct Death;

/// What a pulse said for a time.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    /// In milliseconds.
    pub(crate) until: u64,
    pub(crate) running: Option<Running>,
    /// Interrupting it does not end it.
    pub(crate) deaf: bool,
}

/// What the calls of one turn of a worker were.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) beats: Vec<Beat>,
    /// Jobs that were begun on, and whether on nothing at all.
    pub(crate) begun: Vec<(RequestId, bool)>,
    /// The jobs of each run, and whether it went well.
    pub(crate) runs: Vec<(Vec<RequestId>, bool)>,
    /// Jobs to which an error was told.
    pub(crate) blamed: Vec<RequestId>,
    /// Pages that were told of.
    pub(crate) told: Vec<u64>,
    /// Something was done while the pulse named nobody for whom.
    pub(crate) nameless: bool,
    /// Somebody read a curse and died.
    pub(crate) cursed: bool,
}

/// One life's fate: what is drawn for it, and what was seen.
pub(crate) struct Fate {
    pub(crate) rng: Rng,
    pub(crate) nature: Rc<Cell<Nature>>,
    /// In nanoseconds.
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) pulse: Pulse,
    pub(crate) run_max: u64,
    pub(crate) seen: Seen,
}

/// How a call ends.
#[derive(Clone, Copy)]
enum Ending {
    Well,
    /// After it has done its work, or before.
    Death {
        done: bool,
    },
    Error(EngineErrorKind, Option<usize>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Run { rows: usize },
    Begin,
    Rewind,
    Leave,
}

impl Fate {
    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed) / 1_000_000
    }

    /// Time passes in a call.
    pub(crate) fn spend(&mut self, takes: u64, deaf: bool) {
        if takes > 0 {
            let until = self.now() + takes;
            self.clock.store(until * 1_000_000, Ordering::Relaxed);
            self.seen.beats.push(Beat { until, running: self.pulse.running(), deaf });
        }
    }

    fn hang(&mut self) {
        let takes = if self.rng.chance(30) { NEVER } else { self.run_max + self.rng.below(2 * self.run_max) };
        let deaf = self.rng.chance(60);
        self.spend(takes, deaf);
    }

    /// Draws what becomes of a call, and lets its time pass.
    fn draw(&mut self, call: Call) -> Ending {
        use EngineErrorKind::{Fatal, Interrupted, OutOfMemory, Rejected};
        let (lot, slow) = (self.rng.below(1000), self.rng.below(4));
        if self.nature.get() != Nature::Wild {
            if let Call::Run { .. } = call {
                self.spend(1 + slow, false);
            }
            return Ending::Well;
        }
        let (takes, ending) = match (call, lot) {
            (Call::Run { .. }, 0..15) => (1 + slow, Ending::Death { done: lot < 7 }),
            (Call::Run { .. }, 15..30) => return self.hangs(Ending::Well),
            (Call::Run { .. }, 30..40) => return self.hangs(Ending::Death { done: true }),
            (Call::Run { rows }, 40..65) => (1, Ending::Error(Rejected, Some(lot as usize % rows))),
            (Call::Run { .. }, 65..75) => (1, Ending::Error(Rejected, None)),
            (Call::Run { .. }, 75..85) => (1, Ending::Error(OutOfMemory, None)),
            (Call::Run { .. }, 85..90) => (1, Ending::Error(Fatal, None)),
            (Call::Run { .. }, 90..100) => (1, Ending::Error(Interrupted, None)),
            (Call::Run { .. }, 100..160) => (20 * slow, Ending::Well),
            (Call::Run { .. }, _) => (slow, Ending::Well),
            (_, 0..6) => (slow, Ending::Death { done: lot < 3 }),
            (_, 6..11) => return self.hangs(Ending::Well),
            (Call::Begin, 11..20) => (0, Ending::Error(OutOfMemory, None)),
            (Call::Rewind, 11..60) => (0, Ending::Error(Rejected, None)),
            (Call::Begin | Call::Rewind, 60..63) => (0, Ending::Error(Fatal, None)),
            (_, 100..130) => (slow, Ending::Well),
            _ => (0, Ending::Well),
        };
        self.spend(takes, false);
        ending
    }

    fn hangs(&mut self, ending: Ending) -> Ending {
        self.hang();
        ending
    }

    /// The jobs that the pulse names.
    fn named(&self) -> Vec<RequestId> {
        self.pulse.running().map(|running| running.requests).unwrap_or_default()
    }

    /// What a call comes to but for its work.
    fn face<T>(&mut self, call: Call, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        self.seen.nameless |= self.named().is_empty();
        match self.draw(call) {
            Ending::Well => work(),
            Ending::Death { done } => {
                if done {
                    drop(work());
                }
                resume_unwind(Box::new(Death))
            }
            Ending::Error(kind, row) => {
                let named = self.named();
                match (row, &named[..]) {
                    _ if matches!(kind, EngineErrorKind::Fatal | EngineErrorKind::Interrupted) => {}
                    (Some(row), named) => self.seen.blamed.extend(named.get(row)),
                    (None, [one]) => self.seen.blamed.push(*one),
                    // Whose slide it was stands nowhere.
                    (None, named) if call == Call::Rewind => self.seen.blamed.extend(named),
                    (None, _) => {}
                }
                Err(EngineError { kind, row, message: "the engine fails as drawn".to_owned() })
            }
        }
    }
}

/// See the module's page.
pub(crate) struct Faulty {
    info: EngineInfo,
    inner: Rc<RefCell<FakeEngine>>,
    fate: Rc<RefCell<Fate>>,
    interrupted: Arc<AtomicBool>,
    /// Where the outputs lie until they are taken.
    outputs: Vec<RowOutput>,
}

impl Faulty {
    pub(crate) fn new(inner: Rc<RefCell<FakeEngine>>, fate: Rc<RefCell<Fate>>, interrupted: Arc<AtomicBool>) -> Self {
        let info = inner.borrow().info().clone();
        Self { info, inner, fate, interrupted, outputs: Vec::new() }
    }

    /// Whoever does what is poison does not come back, or late.
    fn swallow(&self, rows: &[Row<'_>]) {
        let mut fate = self.fate.borrow_mut();
        if fate.nature.get() == Nature::Well {
            return;
        }
        let inner = self.inner.borrow();
        let reads = |poison: TokenId| rows.iter().any(|row| row.tokens.contains(&poison));
        let late = |row: &Row<'_>| {
            let context = inner.context(row.slot);
            let behind = context.iter().rev().position(|token| *token == poison::KILLS_LATE);
            behind.is_some_and(|behind| behind >= 3) && matches!(row.want, Want::Next { .. })
        };
        let cursed = |row: &Row<'_>| row.want == Want::Nothing && row.tokens.contains(&poison::CURSE);
        let is_cursed = rows.iter().any(cursed);
        fate.seen.cursed |= is_cursed;
        if reads(poison::HANGS) {
            fate.hang();
        } else if is_cursed || reads(poison::KILLS) || rows.iter().any(late) {
            fate.spend(1, false);
            resume_unwind(Box::new(Death));
        }
    }
}

impl Engine for Faulty {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        let mut fate = self.fate.borrow_mut();
        let named = fate.named();
        fate.seen.begun.extend(named.into_iter().map(|job| (job, true)));
        fate.face(Call::Begin, || self.inner.borrow_mut().open())
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        let mut fate = self.fate.borrow_mut();
        let named = fate.named();
        fate.seen.begun.extend(named.into_iter().map(|job| (job, false)));
        fate.face(Call::Begin, || self.inner.borrow_mut().adopt(context, held))
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        self.inner.borrow_mut().pin(slot, pinned);
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let mut fate = self.fate.borrow_mut();
        let held = fate.face(Call::Leave, || Ok(self.inner.borrow_mut().take_held(slot))).ok()??;
        fate.seen.told.extend(held.pages.iter().filter_map(page_number));
        Some(held)
    }

    fn close(&mut self, slot: SlotIndex) {
        drop(self.fate.borrow_mut().face(Call::Leave, || {
            self.inner.borrow_mut().close(slot);
            Ok(())
        }));
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        self.fate.borrow_mut().face(Call::Rewind, || self.inner.borrow_mut().rewind(slot, context_len))
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        self.swallow(rows);
        let mut fate = self.fate.borrow_mut();
        let result = fate.face(Call::Run { rows: rows.len() }, || {
            let mut inner = self.inner.borrow_mut();
            inner.run(rows).map(|outputs| outputs.collect())
        });
        let named = fate.named();
        fate.seen.runs.push((named, result.is_ok()));
        self.outputs = result?;
        Ok(self.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        self.inner.borrow().kv_bytes()
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Interrupter(Arc::clone(&self.interrupted)))
    }
}

struct Interrupter(Arc<AtomicBool>);

impl Interrupt for Interrupter {
    fn interrupt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
