//! A worker on one thread under a clock that only its engine and its host move: an owner that keeps what conversations
//! hold, and an engine whose runs take what they are said to cost and that writes down in whose name it is used.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
    vec::Drain,
};

use motorbrain_actors::{
    clock::{Clock, Time},
    embedder::{EmbedderArguments, Worker},
    engine::{Engine, EngineError, EngineInfo, Held, Interrupt, Resident, Row, RowOutput, SlotIndex},
    job::{Commit, Done, History, Holding, Job, Outcome, Pulse, Report, RequestId, Work},
    message::{ConversationId, Party},
    spans::JobSpans,
    tokens::TokenId,
};
use motorbrain_testing::{FakeControl, FakeEngine, FakeLoader};

/// What runs take.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) run: Duration,
    pub(crate) row: Duration,
    pub(crate) token: Duration,
    /// A token more, for each thousand that stand before it.
    pub(crate) behind: Duration,
}

impl Cost {
    pub(crate) const NOTHING: Self =
        Self { run: Duration::ZERO, row: Duration::ZERO, token: Duration::ZERO, behind: Duration::ZERO };

    fn of(&self, rows: &[Row<'_>], engine: &FakeEngine) -> Duration {
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        let pairs: usize = rows.iter().map(|row| row.tokens.len() * engine.context(row.slot).len()).sum();
        self.run + self.row * rows.len() as u32 + self.token * tokens as u32 + self.behind * pairs as u32 / 1000
    }
}

/// A use of the engine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Used {
    pub(crate) call: &'static str,
    /// In whose name, by the pulse; `None`: in nobody's.
    pub(crate) pulse: Option<Vec<RequestId>>,
}

struct Timed {
    engine: FakeEngine,
    clock: Arc<AtomicU64>,
    cost: Cost,
    pulse: Pulse,
    uses: Arc<Mutex<Vec<Used>>>,
    /// Whether outputs tell of a token more than there is.
    lies: Arc<AtomicBool>,
    outputs: Vec<RowOutput>,
}

impl Timed {
    fn note(&self, call: &'static str) {
        let pulse = self.pulse.running().map(|running| running.requests);
        self.uses.lock().unwrap().push(Used { call, pulse });
    }
}

impl Engine for Timed {
    fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    fn open(&mut self) -> Result<SlotIndex, EngineError> {
        self.note("open");
        self.engine.open()
    }

    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        self.note("adopt");
        self.engine.adopt(context, held)
    }

    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        self.note("take_held");
        self.engine.take_held(slot)
    }

    fn pin(&mut self, slot: SlotIndex, pinned: usize) {
        self.engine.pin(slot, pinned);
    }

    fn close(&mut self, slot: SlotIndex) {
        self.note("close");
        self.engine.close(slot);
    }

    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError> {
        self.note("rewind");
        self.engine.rewind(slot, context_len)
    }

    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError> {
        self.note("run");
        self.clock.fetch_add(self.cost.of(rows, &self.engine).as_nanos() as u64, Ordering::AcqRel);
        self.outputs.extend(self.engine.run(rows)?);
        if self.lies.load(Ordering::Acquire) {
            self.outputs.iter_mut().for_each(|output| output.context_len += 1);
        }
        Ok(self.outputs.drain(..))
    }

    fn kv_bytes(&self) -> usize {
        self.engine.kv_bytes()
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.engine.interrupter()
    }
}

/// A worker and its owner.
pub(crate) struct Host {
    pub(crate) worker: Worker,
    pub(crate) control: FakeControl,
    pub(crate) pulse: Pulse,
    pub(crate) clock: Clock,
    /// Set, the engine tells of contexts that it does not have.
    pub(crate) lies: Arc<AtomicBool>,
    time: Arc<AtomicU64>,
    uses: Arc<Mutex<Vec<Used>>>,
    reports: Arc<Mutex<Vec<Report>>>,
    info: EngineInfo,
    jobs: u64,
    owners: BTreeMap<RequestId, Option<ConversationId>>,
    pub(crate) histories: BTreeMap<ConversationId, History>,
    pub(crate) held: BTreeMap<ConversationId, Holding>,
}

impl Host {
    pub(crate) fn new(info: EngineInfo, chunk: usize, cost: Cost) -> Self {
        let (control, pulse, time) = (FakeControl::default(), Pulse::default(), Arc::<AtomicU64>::default());
        control.record();
        let (uses, reports) = (Arc::<Mutex<Vec<Used>>>::default(), Arc::<Mutex<Vec<Report>>>::default());
        let (clock, lies) = (Clock::told(time.clone()), Arc::<AtomicBool>::default());
        let engine = Timed {
            engine: FakeEngine::new(info.clone(), control.clone()),
            clock: time.clone(),
            cost,
            pulse: pulse.clone(),
            uses: uses.clone(),
            lies: lies.clone(),
            outputs: Vec::new(),
        };
        let arguments = EmbedderArguments {
            loader: Arc::new(FakeLoader { info: info.clone(), control: control.clone() }),
            report: Arc::new({
                let reports = reports.clone();
                move |report| reports.lock().unwrap().push(report)
            }),
            pulse: pulse.clone(),
            clock: clock.clone(),
            straighten: None,
            chunk,
            beside_max: Duration::from_millis(250),
        };
        Self {
            worker: Worker::new(Box::new(engine), &arguments),
            control,
            pulse,
            clock,
            lies,
            time,
            uses,
            reports,
            info,
            jobs: 0,
            owners: BTreeMap::new(),
            histories: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    pub(crate) fn info(&self) -> EngineInfo {
        self.info.clone()
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Nothing happens until then.
    pub(crate) fn wait_until(&self, time: Time) {
        self.time.fetch_max(time.0.as_nanos() as u64, Ordering::AcqRel);
    }

    /// A job on what its conversation holds.
    pub(crate) fn job(&mut self, client: &str, conversation: Option<&str>, work: Work) -> Job {
        let request = RequestId(self.jobs);
        self.jobs += 1;
        let conversation = conversation.map(ConversationId::from);
        self.owners.insert(request, conversation.clone());
        let context = conversation.as_ref().and_then(|name| self.histories.get(name)).cloned().unwrap_or_default();
        let held = conversation.as_ref().and_then(|name| self.held.get(name)).cloned().unwrap_or(Holding::Nothing);
        Job {
            request,
            conversation,
            context,
            held,
            carried: None,
            work,
            pins: false,
            text: None,
            party: Party { client: client.into(), ..Party::default() },
            alone: 0,
            spans: JobSpans::new(tracing::Span::none()),
        }
    }

    pub(crate) fn send(&mut self, client: &str, conversation: Option<&str>, work: Work) -> RequestId {
        let job = self.job(client, conversation, work);
        self.send_job(job)
    }

    pub(crate) fn send_job(&mut self, job: Job) -> RequestId {
        let request = job.request;
        self.worker.accept(job).unwrap();
        request
    }

    /// One run.
    pub(crate) fn run(&mut self) {
        self.worker.run().unwrap();
    }

    /// What a conversation, a job or a call has left behind is looked for.
    pub(crate) fn check(&self) {
        assert_eq!(self.worker.check_invariants(), Vec::<String>::new());
    }

    /// What the worker has reported since this was last asked, taken over as an owner does.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        let reports = std::mem::take(&mut *self.reports.lock().unwrap());
        for report in &reports {
            match report {
                Report::Token { request, commit, .. } => self.keep(*request, commit, false),
                Report::Done(Done { request, outcome, commit, lost, .. }) if outcome.is_ok() || *lost => {
                    let forgotten = *outcome == Ok(Outcome::Forgotten);
                    if let (true, Some(name)) = (forgotten, &self.owners[request]) {
                        self.histories.remove(name);
                    }
                    self.keep(*request, commit, forgotten || *lost);
                }
                // Whatever has become of it, the engine may have a beginning of the context.
                Report::Done(Done { request, .. }) if self.info.pages.is_none() => {
                    if let Some(name) = self.owners[request].clone() {
                        self.held.insert(name, Holding::Slot);
                    }
                }
                _ => {}
            }
        }
        reports
    }

    fn keep(&mut self, request: RequestId, commit: &Commit, nothing: bool) {
        let Some(name) = self.owners[&request].clone() else { return };
        if nothing {
            self.held.remove(&name);
            return;
        }
        let history = self.histories.entry(name.clone()).or_default();
        commit.apply(history, &self.info.window);
        let held = self.held.entry(name).or_insert(Holding::Nothing);
        let mut resident = if let Holding::Pages(resident) = held { resident.clone() } else { Resident::default() };
        resident.apply(commit.held.clone());
        *held = if self.info.pages.is_some() { Holding::Pages(resident) } else { Holding::Slot };
    }

    /// Runs until nothing waits; what was reported.
    pub(crate) fn drain(&mut self) -> Vec<Report> {
        let mut reports = self.reports();
        while self.worker.has_work() {
            self.run();
            self.check();
            reports.extend(self.reports());
        }
        reports
    }

    /// Runs until this job is done, which is among the last things that the worker then says.
    pub(crate) fn done(&mut self, request: RequestId) -> Done {
        let mut reports = self.reports();
        loop {
            let found = reports.into_iter().find_map(|report| match report {
                Report::Done(done) if done.request == request => Some(done),
                _ => None,
            });
            match found {
                Some(done) => return done,
                None => assert!(self.worker.has_work(), "{request:?} is not done and nothing waits"),
            }
            self.run();
            self.check();
            reports = self.reports();
        }
    }

    /// Nobody waits for a job any more.
    pub(crate) fn cancel(&mut self, request: RequestId) {
        self.worker.cancel(request).unwrap();
        self.check();
    }

    /// How the engine was used since this was last asked.
    pub(crate) fn uses(&self) -> Vec<Used> {
        std::mem::take(&mut *self.uses.lock().unwrap())
    }

    /// What it was called for.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.uses().into_iter().map(|used| used.call).collect()
    }
}
