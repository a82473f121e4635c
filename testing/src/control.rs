//! The handle that scripts a fake engine's faults from outside and counts what it does.
//!
//! One control serves all the engines that its loader makes, so a script outlives the death of an
//! engine: "the third run from now panics" holds even where a restart lies between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::fake::{FakeEngine, restore, save};
use motorbrain_actors::{
    engine::{
        Engine, EngineError, EngineErrorKind, EngineInfo, EngineLoader, LoadError, Origin, Page, PageError, Row,
        SlotIndex,
    },
    tokens::TokenId,
};

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The engine panics.
    Panic,
    /// The run fails.
    Fail {
        /// As which kind.
        kind: EngineErrorKind,
        /// Whether the error names a row: the one with the token, or the run's first.
        blamed: bool,
    },
    /// The run takes long, then goes on as if nothing had happened.
    Hang {
        /// How long at most; `None`: until [`FakeControl::release_hangs`].
        limit: Option<Duration>,
        /// Whether it cannot be interrupted.
        deaf: bool,
    },
}

impl Fault {
    /// A row that the engine refuses, by name.
    pub const REJECT: Self = Self::Fail { kind: EngineErrorKind::Rejected, blamed: true };
    /// An engine that is broken.
    pub const FATAL: Self = Self::Fail { kind: EngineErrorKind::Fatal, blamed: false };
    /// A hang until released or interrupted.
    pub const HANG: Self = Self::Hang { limit: None, deaf: false };
}

/// What goes wrong in a load.
#[derive(Clone, Debug)]
pub enum LoadFault {
    /// The load fails.
    Error(LoadError),
    /// The loader panics.
    Panic,
}

/// What a fake's engines have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Loads begun.
    pub loads: u64,
    /// Runs begun.
    pub runs: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows of the widest run.
    pub rows_max: usize,
    /// Runs that hang now.
    pub hanging: usize,
}

/// A row as an engine was given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSeen {
    /// The slot.
    pub slot: SlotIndex,
    /// Its new tokens.
    pub tokens: Vec<TokenId>,
}

/// Scripts the faults of all engines of one [`FakeLoader`]; clones are the same control.
#[derive(Clone, Debug, Default)]
pub struct FakeControl(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    /// Told of every change that a held load or a hanging run waits for.
    changed: Condvar,
    pages: Mutex<Living>,
    tally: watch::Sender<Tally>,
}

/// The pages that there are, by their numbers.
#[derive(Debug, Default)]
struct Living {
    next: u64,
    numbers: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Script {
    in_run: BTreeMap<u64, Fault>,
    on_token: BTreeMap<TokenId, Fault>,
    load_faults: Vec<(u32, LoadFault)>,
    loads_held: bool,
    /// How often hangs were released; a hang waits for the next time.
    releases: u64,
    slots_max: Option<usize>,
    record: Option<Vec<Vec<RowSeen>>>,
}

impl FakeControl {
    /// The `number`-th run from now on (1 is the next) has this fault.
    pub fn fault_in_run(&self, number: u64, fault: Fault) {
        let runs = self.tally().runs;
        self.script().in_run.insert(runs + number, fault);
    }

    /// From now on a run with a row that gives this token has this fault.
    pub fn fault_on_token(&self, token: TokenId, fault: Fault) {
        self.script().on_token.insert(token, fault);
    }

    /// Takes back every fault of a run that has not happened yet.
    pub fn heal(&self) {
        let mut script = self.script();
        script.in_run.clear();
        script.on_token.clear();
    }

    /// The next `times` loads have this fault, after those told before.
    pub fn fault_in_loads(&self, times: u32, fault: LoadFault) {
        self.script().load_faults.push((times, fault));
    }

    /// Loads wait until [`Self::release_loads`].
    pub fn hold_loads(&self) {
        self.script().loads_held = true;
    }

    /// Loads go on.
    pub fn release_loads(&self) {
        self.script().loads_held = false;
        self.wake();
    }

    /// Every run that hangs now goes on.
    pub fn release_hangs(&self) {
        self.script().releases += 1;
        self.wake();
    }

    /// From now on an engine has memory for so many slots.
    pub fn set_slots_max(&self, slots_max: Option<usize>) {
        self.script().slots_max = slots_max;
    }

    /// Begins to record the rows of every run, forgetting what was recorded before.
    pub fn record(&self) {
        self.script().record = Some(Vec::new());
    }

    /// The rows of every run since [`Self::record`].
    pub fn recorded(&self) -> Vec<Vec<RowSeen>> {
        self.script().record.clone().unwrap_or_default()
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        *self.0.tally.borrow()
    }

    /// Waits until the tally is as `condition` says.
    pub async fn until(&self, condition: impl FnMut(&Tally) -> bool) -> Tally {
        let mut tally = self.0.tally.subscribe();
        let reached = tally.wait_for(condition).await.map(|tally| *tally);
        // The sender lives as long as `self`.
        reached.unwrap_or_else(|_| self.tally())
    }

    /// Pages of all engines that somebody has.
    pub fn pages(&self) -> usize {
        self.living().numbers.len()
    }

    /// Their numbers, see [`page_number`](super::page_number).
    pub fn page_numbers(&self) -> BTreeSet<u64> {
        self.living().numbers.clone()
    }

    /// A page more; its number, which no other one has or had.
    pub(super) fn begin_page(&self) -> u64 {
        let mut living = self.living();
        living.next += 1;
        let number = living.next;
        living.numbers.insert(number);
        number
    }

    /// A page less.
    pub(super) fn end_page(&self, number: u64) {
        self.living().numbers.remove(&number);
    }

    fn living(&self) -> MutexGuard<'_, Living> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slots_max(&self) -> Option<usize> {
        self.script().slots_max
    }

    /// Lets whoever hangs look again.
    pub(super) fn wake(&self) {
        // Under the lock, or one that is about to wait would miss it.
        let _script = self.script();
        self.0.changed.notify_all();
    }

    /// A load begins.
    fn enter_load(&self) -> Result<(), LoadError> {
        self.0.tally.send_modify(|tally| tally.loads += 1);
        let mut script = self.script();
        while script.loads_held {
            script = self.0.changed.wait(script).unwrap_or_else(PoisonError::into_inner);
        }
        let Some((times, fault)) = script.load_faults.first_mut() else {
            return Ok(());
        };
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            script.load_faults.remove(0);
        }
        drop(script);
        match fault {
            LoadFault::Error(error) => Err(error),
            LoadFault::Panic => panic!("the loader panics as told"),
        }
    }

    /// A run begins: counts it, and fails or hangs as the script says.
    pub(super) fn enter(&self, rows: &[Row<'_>], interrupted: &AtomicBool) -> Result<(), EngineError> {
        let mut runs = 0;
        self.0.tally.send_modify(|tally| {
            tally.runs += 1;
            tally.rows += rows.len() as u64;
            tally.rows_max = tally.rows_max.max(rows.len());
            runs = tally.runs;
        });
        let mut script = self.script();
        if let Some(record) = &mut script.record {
            let seen = |row: &Row<'_>| RowSeen { slot: row.slot, tokens: row.tokens.to_vec() };
            record.push(rows.iter().map(seen).collect());
        }
        let fault = script.in_run.remove(&runs).map(|fault| (0, fault)).or_else(|| {
            let fault_of = |row: &Row<'_>| row.tokens.iter().find_map(|token| script.on_token.get(token).copied());
            rows.iter().enumerate().find_map(|(index, row)| Some((index, fault_of(row)?)))
        });
        drop(script);
        match fault {
            None => {}
            Some((_, Fault::Panic)) => panic!("the engine panics as told"),
            Some((row, Fault::Fail { kind, blamed })) => {
                let message = format!("the engine fails as told: {kind:?}");
                return Err(EngineError { kind, row: blamed.then_some(row), message });
            }
            Some((_, Fault::Hang { limit, deaf })) => self.hang(limit, deaf, interrupted),
        }
        if interrupted.swap(false, Ordering::AcqRel) {
            let message = "the run was interrupted".to_owned();
            return Err(EngineError { kind: EngineErrorKind::Interrupted, row: None, message });
        }
        Ok(())
    }

    fn hang(&self, limit: Option<Duration>, deaf: bool, interrupted: &AtomicBool) {
        let script = self.script();
        let releases = script.releases;
        self.0.tally.send_modify(|tally| tally.hanging += 1);
        let hangs = |script: &mut Script| script.releases == releases && (deaf || !interrupted.load(Ordering::Acquire));
        // A real clock, as a real hang has; a century stands for no limit.
        let limit = limit.unwrap_or(Duration::from_secs(3_153_600_000));
        drop(self.0.changed.wait_timeout_while(script, limit, hangs));
        self.0.tally.send_modify(|tally| tally.hanging -= 1);
    }

    /// A panic as told leaves the script whole.
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes [`FakeEngine`]s.
#[derive(Clone, Debug)]
pub struct FakeLoader {
    /// What they are.
    pub info: EngineInfo,
    /// What they do wrong.
    pub control: FakeControl,
}

impl EngineLoader for FakeLoader {
    fn load(&self) -> Result<Box<dyn Engine>, LoadError> {
        self.control.enter_load()?;
        Ok(Box::new(FakeEngine::new(self.info.clone(), self.control.clone())))
    }

    fn kv_bytes(&self) -> usize {
        self.info.pages.map_or(0, |size| self.control.pages() * size.bytes)
    }

    fn origin(&self) -> Result<Origin, PageError> {
        self.info.pages.ok_or(PageError::NoPages)?;
        let (form, layout) = ("fake".to_owned(), "a hash a row".to_owned());
        Ok(Origin { model: [0; 32], form, layout, window: self.info.window })
    }

    fn saved_bytes(&self, page: &Page, rows: usize) -> Result<usize, PageError> {
        save(page, rows).map(|bytes| bytes.len())
    }

    fn save(&self, page: &Page, rows: usize, to: &mut Vec<u8>) -> Result<(), PageError> {
        to.extend(save(page, rows)?);
        Ok(())
    }

    fn restore(&self, bytes: &[u8], rows: usize) -> Result<Page, PageError> {
        restore(bytes, rows, self.info.pages.ok_or(PageError::NoPages)?, &self.control)
    }
}
