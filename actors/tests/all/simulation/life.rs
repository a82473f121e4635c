//! One life of an actor, on no thread: the real worker with a mailbox, as `EmbedderActor` runs it.
//!
//! A turn does what one message asks for, all at once; what it says is told as time passes, and until its time has passed
//! messages wait.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use motorbrain_actors::{
    clock::Clock,
    embedder::{EmbedderArguments, ReportTo, Worker},
    engine::Engine,
    job::{Job, Pulse, Report, RequestId, Running},
    message::Party,
    policy::Assignment,
    spans::JobSpans,
};
use motorbrain_testing::{FakeControl, FakeEngine, FakeLoader, page_number};

use super::{
    engine::{Beat, Death, Fate, Faulty, Nature, Seen},
    model,
    rng::Rng,
};

/// What an actor is told.
#[derive(Debug)]
pub(crate) enum Mail {
    Job(Box<Job>),
    Cancel(RequestId),
    Recall(Vec<RequestId>),
    Crash,
    /// For so many milliseconds.
    Hang(u64),
    /// Its own message to itself.
    Continue,
}

/// What all lives of a history have in common.
pub(crate) struct Cradle {
    pub(crate) seed: u64,
    pub(crate) loader: FakeLoader,
    pub(crate) nature: Rc<Cell<Nature>>,
    /// In nanoseconds.
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) run_max: u64,
    pub(crate) chunk: usize,
    pub(crate) beside_max: Duration,
}

/// What a turn came to.
pub(crate) struct Turn {
    /// With the times at which they are made, in milliseconds.
    pub(crate) reports: Vec<(u64, Report)>,
    pub(crate) seen: Seen,
    /// When it is over, in milliseconds.
    pub(crate) until: u64,
    /// The actor died at its end, doing something for these jobs.
    pub(crate) died: Option<Vec<RequestId>>,
}

/// What is known of a job that a life was given.
pub(crate) struct Given {
    pub(crate) serves: RequestId,
    pub(crate) conversation: bool,
    pub(crate) party: Party,
    /// It was suspect when it was given.
    pub(crate) suspect: bool,
    /// Runs that it is still to have to itself.
    pub(crate) alone: u32,
    /// It was said to be cleared, or had never been suspect.
    pub(crate) cleared: bool,
    /// It goes on from tokens, and some have left.
    pub(crate) context: Option<bool>,
    /// It is given less than that.
    pub(super) lacks: bool,
    pub(crate) begun: bool,
    /// The numbers of the pages that it was given.
    pub(crate) pages: BTreeSet<u64>,
}

/// See the module's page. It goes on after it was abandoned, and what it says then must not count.
pub(crate) struct Life {
    pub(crate) engine: Rc<RefCell<FakeEngine>>,
    worker: Option<Worker>,
    fate: Rc<RefCell<Fate>>,
    said: Arc<Mutex<Vec<(u64, Report)>>>,
    pub(crate) pulse: Pulse,
    pub(crate) interrupted: Arc<AtomicBool>,
    mailbox: VecDeque<Mail>,
    continuing: bool,
    /// What its pulse says, and until when.
    beats: VecDeque<Beat>,
    /// Those that it has, in the order of their arrival in its mailbox.
    pub(crate) jobs: Vec<(RequestId, Given)>,
    pub(crate) loaded: bool,
    /// Its thread has ended.
    pub(crate) dead: bool,
    /// It was told to stop.
    pub(crate) stopped: bool,
    /// The policy has given it up.
    pub(crate) abandoned: bool,
    /// Since then it writes what has no meaning, for as long as it can.
    pub(crate) garbles: bool,
    /// Its end has been drawn, though it is yet to come.
    pub(crate) ending: bool,
    /// Pages that it had just told of when it died, which lie in its jobs until its thread ends.
    told: BTreeSet<u64>,
    /// When its last report reaches the brain: reports stay in order.
    pub(crate) said_at: u64,
    /// Its present turn is over then.
    pub(crate) busy_until: u64,
}

impl Life {
    pub(crate) fn new(cradle: &Cradle, number: u64) -> Self {
        let pulse = Pulse::default();
        let said: Arc<Mutex<Vec<(u64, Report)>>> = Arc::default();
        let fate = Fate {
            rng: Rng::of(cradle.seed, number),
            nature: Rc::clone(&cradle.nature),
            clock: Arc::clone(&cradle.clock),
            pulse: pulse.clone(),
            run_max: cradle.run_max,
            seen: Seen::default(),
        };
        let fate = Rc::new(RefCell::new(fate));
        let (info, control): (_, FakeControl) = (cradle.loader.info.clone(), cradle.loader.control.clone());
        let engine = Rc::new(RefCell::new(FakeEngine::new(info, control)));
        let interrupted: Arc<AtomicBool> = Arc::default();
        let faulty = Faulty::new(Rc::clone(&engine), Rc::clone(&fate), Arc::clone(&interrupted));
        pulse.set_interrupter(faulty.interrupter());
        let (clock, place) = (Arc::clone(&cradle.clock), Arc::clone(&said));
        let report: ReportTo = Arc::new(move |report| {
            let now = clock.load(Ordering::Relaxed) / 1_000_000;
            place.lock().unwrap().push((now, report));
        });
        let arguments = EmbedderArguments {
            loader: Arc::new(cradle.loader.clone()),
            report,
            pulse: pulse.clone(),
            clock: Clock::told(Arc::clone(&cradle.clock)),
            straighten: None,
            chunk: cradle.chunk,
            beside_max: cradle.beside_max,
        };
        Self {
            engine,
            worker: Some(Worker::new(Box::new(faulty), &arguments)),
            fate,
            said,
            pulse,
            interrupted,
            mailbox: VecDeque::new(),
            continuing: false,
            beats: VecDeque::new(),
            jobs: Vec::new(),
            loaded: false,
            dead: false,
            stopped: false,
            abandoned: false,
            garbles: false,
            ending: false,
            told: BTreeSet::new(),
            said_at: 0,
            busy_until: 0,
        }
    }

    /// A message for it; what is given to the dead is lost with them.
    pub(crate) fn post(&mut self, mail: Mail) {
        if !self.dead {
            self.mailbox.push_back(mail);
        }
    }

    /// A job for it, as the shell makes one of the policy's.
    pub(crate) fn give(&mut self, job: Assignment, given: Given) {
        let Assignment { request, conversation, context, held, carried, work, pins, party, alone, .. } = job;
        let text = match &work {
            motorbrain_actors::job::Work::Step { tokens, count: 1.., .. } => {
                Some(model::step_text(&context.tokens, tokens))
            }
            _ => None,
        };
        let spans = JobSpans::new(tracing::Span::none());
        let job = Job { request, conversation, context, held, carried, work, pins, text, party, alone, spans };
        if !self.dead {
            self.jobs.push((request, given));
        }
        self.post(Mail::Job(Box::new(job)));
    }

    pub(crate) fn job(&mut self, request: RequestId) -> Option<&mut Given> {
        self.jobs.iter_mut().find(|(job, _)| *job == request).map(|(_, given)| given)
    }

    pub(crate) fn let_go(&mut self, request: RequestId) {
        self.jobs.retain(|(job, _)| *job != request);
    }

    /// Whether a message waits that it could turn to.
    pub(crate) fn next_mail(&mut self, now: u64) -> Option<Mail> {
        let is_free = self.loaded && !self.dead && !self.stopped && !self.abandoned && !self.ending;
        if is_free && self.busy_until <= now { self.mailbox.pop_front() } else { None }
    }

    pub(crate) fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// Does what a message asks for.
    ///
    /// # Errors
    /// A broken invariant, or a panic of the worker's own.
    pub(crate) fn turn(&mut self, mail: Mail, now: u64) -> Result<Turn, String> {
        self.fate.borrow_mut().seen = Seen::default();
        let clock = Arc::clone(&self.fate.borrow().clock);
        clock.store(now * 1_000_000, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| self.handle(mail)));
        let until = clock.load(Ordering::Relaxed) / 1_000_000;
        let died = match result {
            Ok(true) => None,
            Ok(false) => Some(()),
            Err(payload) if payload.is::<Death>() => Some(()),
            Err(payload) => return Err(format!("a worker panicked: {}", words(&*payload))),
        };
        if died.is_none()
            && let Some(broken) = self.worker.as_ref().and_then(|worker| worker.check_invariants().into_iter().next())
        {
            return Err(format!("a worker's: {broken}"));
        }
        let seen = mem::take(&mut self.fate.borrow_mut().seen);
        self.beats.retain(|beat| beat.until > now);
        self.beats.extend(seen.beats.iter().cloned());
        self.busy_until = until;
        // What it died of stands there until it is buried.
        let running = self.pulse.running();
        if died.is_some() {
            self.told.extend(&seen.told);
            let beat = Beat { until: u64::MAX, running: running.clone(), deaf: false };
            self.beats.push_back(beat);
        }
        let died = died.map(|()| running.map(|running| running.requests).unwrap_or_default());
        Ok(Turn { reports: mem::take(&mut *self.said.lock().unwrap()), seen, until, died })
    }

    /// As `EmbedderActor` does; false where the engine is broken.
    fn handle(&mut self, mail: Mail) -> bool {
        let Some(worker) = &mut self.worker else { return true };
        let result = match mail {
            Mail::Job(job) => worker.accept(*job),
            Mail::Cancel(request) => worker.cancel(request),
            Mail::Recall(requests) => worker.recall(&requests),
            Mail::Crash => return false,
            Mail::Hang(takes) => {
                let mut fate = self.fate.borrow_mut();
                let since = Clock::told(Arc::clone(&fate.clock)).now();
                self.pulse.begin(Running { since, requests: Vec::new() });
                fate.spend(takes, true);
                drop(self.pulse.end());
                Ok(())
            }
            Mail::Continue => {
                self.continuing = false;
                worker.run()
            }
        };
        if result.is_ok() && worker.has_work() && !mem::replace(&mut self.continuing, true) {
            self.mailbox.push_back(Mail::Continue);
        }
        result.is_ok()
    }

    /// What its pulse says now.
    pub(crate) fn observe(&self, now: u64) -> Option<Running> {
        let Running { since, requests } = self.beat(now)?.running.clone()?;
        Some(Running { since, requests })
    }

    /// What it is doing now that takes time.
    pub(crate) fn beat(&self, now: u64) -> Option<&Beat> {
        self.beats.iter().find(|beat| beat.until > now)
    }

    /// Its thread ends, and with it all that it had.
    pub(crate) fn die(&mut self) {
        self.dead = true;
        self.fate.borrow_mut().nature = Rc::new(Cell::new(Nature::Well));
        self.worker = None;
        self.mailbox.clear();
        self.jobs.clear();
        *self.engine.borrow_mut() = FakeEngine::new(model::info(None), FakeControl::default());
    }

    /// The numbers of all pages that it may have.
    pub(crate) fn pages(&self) -> BTreeSet<u64> {
        let given = self.jobs.iter().flat_map(|(_, given)| given.pages.iter().copied());
        self.engine.borrow().page_numbers().chain(given).chain(self.told.iter().copied()).collect()
    }

    pub(crate) fn slots(&self) -> usize {
        self.engine.borrow().slots().count()
    }

    pub(crate) fn kv_bytes(&self) -> usize {
        self.engine.borrow().kv_bytes()
    }

    /// An abandoned run's last deeds. How many.
    pub(crate) fn garble(&mut self) -> usize {
        self.engine.borrow_mut().garble()
    }
}

/// The pages that a job is given.
pub(crate) fn pages_of(job: &Assignment) -> BTreeSet<u64> {
    match &job.held {
        motorbrain_actors::job::Holding::Pages(held) => held.pages.iter().filter_map(page_number).collect(),
        _ => BTreeSet::new(),
    }
}

/// What a panic says.
pub(crate) fn words(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied())
        .unwrap_or("nothing")
}
