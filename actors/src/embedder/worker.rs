//! The work of an embedder actor without the actor: jobs in, runs of the engine, reports out.
//!
//! Each call of [`Worker::run`] is at most one execution of the model: it lets the least served ride
//! (`worker/riding.rs`), runs them, and hands the outputs to the tasks (`worker/ending.rs` ends these). It costs what its
//! riders cost, however many wait. A run that fails is charged to one row. Where the engine cannot say which, each of its
//! rows runs alone once, and the one that fails then is to blame.
//!
//! Whatever is done with the engine stands in the [`Pulse`], with the jobs that it is done for. A panic of the engine
//! passes through, and so does a fatal error: the pulse then still names what was done, for the owner to see for whom.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use super::{
    EmbedderArguments, ReportTo,
    crowd::Crowd,
    lane::{Lane, LaneKey},
    pace::{FEW, Pace},
    readers::{Readers, Reads},
    task::{Shown, Task},
};
use crate::{
    clock::{Clock, Time},
    engine::{Engine, EngineError, EngineErrorKind, EngineInfo, Row, RowOutput, Want},
    grammar::Foresight,
    job::{Carried, Job, Pulse, Report, RequestId, Running},
    reuse::emptied,
    shares::Shares,
    vectors::Straighten,
};

mod ending;
mod invariants;
mod riding;

/// The longest that a run waits for those who are about to come back: several times what a caller on this machine takes.
const DALLY: Duration = Duration::from_millis(2);

/// For how long one that asks token by token is waited for at least.
const LINGER_MIN: Duration = Duration::from_millis(500);

/// A lane with a row in the run.
struct Rider {
    key: LaneKey,
    /// How many new tokens its row has at most.
    tokens: usize,
    /// Whether it counts as a decode.
    decodes: bool,
    restoring: bool,
}

/// An engine with the jobs that wait for it: what an [`EmbedderActor`](super::EmbedderActor) does, for hosts with a loop
/// of their own. One thread, no waiting, and no time but that of the arguments' clock.
///
/// Reports go where the arguments say, from within the calls. After an error, which is fatal, or a panic of the engine
/// it must not be used again; the pulse names the jobs for which the engine was at work.
pub struct Worker {
    engine: Box<dyn Engine>,
    info: EngineInfo,
    lanes: BTreeMap<LaneKey, Lane>,
    /// Where each job is: its lane and the number of its arrival.
    jobs: BTreeMap<RequestId, (LaneKey, u64)>,
    arrivals: u64,
    /// Lanes whose next row decodes, each under a number of its own, for as long as all of them may ride, and how many of
    /// them still wait: shares are kept where there is too little.
    free: Vec<(LaneKey, u64)>,
    free_len: usize,
    numbers: u64,
    /// Those that do not all ride; those whose next row reads, and those that ride alone.
    decoding: Shares<LaneKey>,
    reading: Shares<LaneKey>,
    alone: Shares<LaneKey>,
    /// Whether the last run was one that nobody shared for its rider's sake. As if so at first: who may kill the actor
    /// comes behind those who need not die with it.
    was_alone: bool,
    /// Whether a run has gone well.
    has_run: bool,
    crowd: Crowd,
    readers: Readers,
    /// Since when the next run waits for those who are about to come back.
    dallies_since: Option<Time>,
    pace: Pace,
    /// A row that reads no more tokens and then samples counts as a decode.
    few: usize,
    report: ReportTo,
    pulse: Pulse,
    clock: Clock,
    straighten: Option<Arc<dyn Straighten>>,
    /// From the first step on that has a grammar.
    foresight: Option<Foresight>,
    /// As last reported.
    kv_bytes: usize,
    /// Whether the pulse is that of a run, and so of all that is done until it ends.
    running: bool,
    /// What a run needs, kept between runs for its memory; empty then.
    riders: Vec<Rider>,
    rows: Vec<Row<'static>>,
    requests: Vec<RequestId>,
    outputs: Vec<RowOutput>,
}

impl Worker {
    /// Nothing waits. The arguments' loader is not asked: this is its engine.
    pub fn new(engine: Box<dyn Engine>, arguments: &EmbedderArguments) -> Self {
        let info = engine.info().clone();
        let linger = LINGER_MIN.max(arguments.beside_max.saturating_mul(2));
        Self {
            engine,
            info,
            lanes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            arrivals: 0,
            free: Vec::new(),
            free_len: 0,
            numbers: 0,
            decoding: Shares::new(),
            reading: Shares::new(),
            alone: Shares::new(),
            was_alone: true,
            has_run: false,
            crowd: Crowd::new(linger),
            readers: Readers::new(linger),
            dallies_since: None,
            pace: Pace::new(arguments.chunk.max(1), arguments.beside_max),
            few: FEW.min(arguments.chunk),
            report: arguments.report.clone(),
            pulse: arguments.pulse.clone(),
            clock: arguments.clock.clone(),
            straighten: arguments.straighten.clone(),
            foresight: None,
            kv_bytes: 0,
            running: false,
            riders: Vec::new(),
            rows: Vec::new(),
            requests: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Whether a job waits for a run.
    pub fn has_work(&self) -> bool {
        !(self.free_len == 0 && self.decoding.is_empty() && self.reading.is_empty() && self.alone.is_empty())
    }

    /// Puts a job at the end of its conversation's queue. One that needs no run and has none before it ends now.
    ///
    /// # Errors
    /// The engine's fatal error.
    pub fn accept(&mut self, job: Job) -> Result<(), EngineError> {
        let request = job.request;
        let key = match &job.conversation {
            Some(conversation) => LaneKey::Conversation(conversation.clone()),
            None => LaneKey::Single(request),
        };
        self.arrivals += 1;
        self.jobs.insert(request, (key.clone(), self.arrivals));
        let lane = self.lanes.entry(key.clone()).or_default();
        let has_none = lane.queue.is_empty();
        lane.queue.insert(self.arrivals, Box::new(Task::new(job)));
        if has_none { self.wait(&key) } else { Ok(()) }
    }

    /// Nobody waits for this job any more: it ends with [`JobError::Cancelled`](crate::job::JobError::Cancelled). One
    /// that is not here is no matter.
    ///
    /// # Errors
    /// The engine's fatal error.
    pub fn cancel(&mut self, request: RequestId) -> Result<(), EngineError> {
        let Some((key, arrival)) = self.jobs.get(&request).cloned() else { return Ok(()) };
        self.end_cancelled(&key, arrival)
    }

    /// Gives jobs back with what was done of them, for others to go on with; those that are not here or not the first of
    /// their conversation, or that the engine's own memory binds to it, or that are on a long way back, are not.
    ///
    /// # Errors
    /// The engine's fatal error.
    pub fn recall(&mut self, requests: &[RequestId]) -> Result<(), EngineError> {
        for request in requests {
            let Some((key, arrival)) = self.jobs.get(request).cloned() else { continue };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let is_first = lane.queue.first_key_value().is_some_and(|(first, _)| *first == arrival);
            let is_bound = lane.begun && (self.info.pages.is_none() || lane.replays());
            if !is_first || is_bound {
                continue;
            }
            self.stop_waiting(&key);
            let entered = self.enter(*request);
            let task = self.lanes.get_mut(&key).and_then(|lane| lane.take_front(&mut *self.engine));
            self.leave(entered);
            self.leave_crowd(&key);
            self.jobs.remove(request);
            if let Some(mut task) = task {
                task.job.spans.end();
                (self.report)(Report::Returned { request: *request, carried: Carried::new(*task) });
            }
            self.wait(&key)?;
        }
        Ok(())
    }

    /// Blocks the thread for so long, as a run that belongs to nobody: for a watchdog to see.
    pub(super) fn hang(&self, duration: Duration) {
        self.pulse.begin(Running { since: self.clock.now(), requests: Vec::new() });
        std::thread::sleep(duration);
        drop(self.pulse.end());
    }

    /// Whether the next run is better begun a little later, 2 ms at most: beside somebody who reads, those who ask token by
    /// token would miss it by as much as they take to ask again, and then wait for two runs and not for one. A host asks
    /// before each run, lets its mailbox in, and asks again; one that never asks makes them wait.
    pub fn dallies(&mut self) -> bool {
        if self.reading.is_empty() || !self.crowd.awaits() {
            return false;
        }
        let now = self.clock.now();
        now.since(*self.dallies_since.get_or_insert(now)) < DALLY
    }

    /// Runs the model once if anything waits for it.
    ///
    /// # Errors
    /// The engine's fatal error.
    pub fn run(&mut self) -> Result<(), EngineError> {
        let now = self.clock.now();
        self.crowd.expire(now);
        self.readers.expire(now);
        self.crowd.run_begins(self.dallies_since.take().is_some());
        let mut riders = mem::take(&mut self.riders);
        assert!(riders.is_empty(), "{} riders of an earlier run are left", riders.len());
        self.choose(&mut riders)?;
        if !riders.is_empty() {
            self.run_rows(&riders)?;
            for rider in riders.drain(..) {
                self.wait(&rider.key)?;
            }
        }
        self.riders = riders;
        Ok(())
    }

    /// One execution of the model. The pulse names it until all that it gave is taken in.
    fn run_rows(&mut self, riders: &[Rider]) -> Result<(), EngineError> {
        let mut rows = emptied(mem::take(&mut self.rows));
        let mut requests = mem::take(&mut self.requests);
        requests.clear();
        for rider in riders {
            let Some(lane) = self.lanes.get(&rider.key) else { continue };
            let (Some(slot), Some(task)) = (lane.slot, lane.front()) else { continue };
            requests.push(task.job.request);
            let (tokens, want) = if rider.restoring {
                (&lane.to_restore()[..rider.tokens], Want::Nothing)
            } else {
                task.row(rider.tokens, lane.total())
            };
            rows.push(Row { slot, tokens, want });
        }
        let (made, wanted) = (rows.len(), riders.len());
        assert!(made == wanted, "{made} of {wanted} riders have a slot and a job");
        let decodes: usize = riders.iter().filter(|rider| rider.decodes).map(|rider| 1 + rider.tokens).sum();
        let since = self.clock.now();
        self.pulse.begin(Running { since, requests });
        self.running = true;
        for row in &rows {
            if let Want::Next { guide: Some(guide), .. } = row.want {
                self.foresight.get_or_insert_with(Foresight::new).begin(guide);
            }
        }
        let result = self.engine.run(&rows).map(|outputs| self.outputs.extend(outputs));
        self.rows = emptied(rows);
        match result {
            Ok(()) => {
                if !std::mem::replace(&mut self.has_run, true) {
                    (self.report)(Report::Runs);
                }
                // Not what was offered: a row ends where a slide is due, and where enough is scored.
                let behind = |rider: &Rider| self.lanes.get(&rider.key).map_or(0, Lane::read_len);
                let reads = riders.iter().zip(&self.outputs).filter(|(rider, _)| !rider.decodes);
                let (tokens, contexts) = reads.fold((0, 0), |(tokens, contexts), (rider, output)| {
                    (tokens + output.taken, contexts + output.taken * behind(rider))
                });
                let (reads, took) =
                    (Reads { tokens, context: contexts / tokens.max(1) }, self.clock.now().since(since));
                tracing::trace!(rows = made, decodes, ?reads, ?took, "run");
                self.pace.observe(decodes, reads, took);
                let read = self.outputs.iter().map(|output| output.taken).sum();
                let sampled = self.outputs.iter().filter(|output| output.sampled.is_some()).count();
                self.pulse.ran(made, read, sampled);
                self.absorb_all(riders)?;
            }
            Err(error) => self.blame(riders, error)?,
        }
        self.report_memory();
        self.running = false;
        if let Some(Running { requests, .. }) = self.pulse.end() {
            self.requests = requests;
        }
        Ok(())
    }

    /// What is done with the engine from now on is done for this job, unless it is a part of a run; true if so.
    fn enter(&mut self, request: RequestId) -> bool {
        if !self.running {
            let mut requests = mem::take(&mut self.requests);
            requests.clear();
            requests.push(request);
            self.pulse.begin(Running { since: self.clock.now(), requests });
        }
        !self.running
    }

    /// It is done.
    fn leave(&mut self, entered: bool) {
        if entered && let Some(Running { requests, .. }) = self.pulse.end() {
            self.requests = requests;
        }
    }

    /// Takes in what a run gave.
    fn absorb_all(&mut self, riders: &[Rider]) -> Result<(), EngineError> {
        let mut outputs = mem::take(&mut self.outputs);
        let (given, wanted) = (outputs.len(), riders.len());
        assert!(given == wanted, "a run of {wanted} rows gave {given} outputs");
        for (rider, output) in riders.iter().zip(outputs.drain(..)) {
            self.absorb(rider, output)?;
        }
        self.outputs = outputs;
        Ok(())
    }

    /// Takes in what a run gave one row.
    fn absorb(&mut self, rider: &Rider, output: RowOutput) -> Result<(), EngineError> {
        let Some(lane) = self.lanes.get_mut(&rider.key) else { return Ok(()) };
        lane.doubted = false;
        if rider.restoring {
            lane.absorb_restored(&*self.engine, &output);
            lane.front_mut().into_iter().for_each(|task| task.job.spans.ran(output.taken, false));
            self.survive(&rider.key);
            return Ok(());
        }
        let Some((arrival, mut task)) = lane.queue.pop_first() else { return Ok(()) };
        task.job.spans.ran(output.taken, output.sampled.is_some());
        lane.absorb(&*self.engine, task.row(rider.tokens, 0).0, task.pins(), &output);
        let progress = task.absorb(output, self.straighten.as_deref(), &self.info.end_tokens);
        let request = task.job.request;
        lane.queue.insert(arrival, task);
        let made = lane.make_way(&mut *self.engine, false);
        if !self.has_made_way(&rider.key, made)? {
            return Ok(());
        }
        let Some(lane) = self.lanes.get_mut(&rider.key) else { return Ok(()) };
        if let Some(Shown { forced, sampled, stopped }) = progress.shown {
            let commit = lane.commit(&mut *self.engine);
            let context_len = lane.context_len();
            (self.report)(Report::Token { request, forced, sampled, stopped, commit, context_len });
        }
        match progress.outcome {
            Some(outcome) => self.finish(&rider.key, outcome.map_err(Into::into)),
            None => {
                let made = lane.make_way(&mut *self.engine, true);
                if self.has_made_way(&rider.key, made)? {
                    self.survive(&rider.key);
                }
                Ok(())
            }
        }
    }

    /// Ends a front task for which the window could not slide.
    fn has_made_way(&mut self, key: &LaneKey, made: Result<(), EngineError>) -> Result<bool, EngineError> {
        match made {
            Err(error) if error.kind != EngineErrorKind::Fatal => self.fail(key, error).map(|()| false),
            made => made.map(|()| true),
        }
    }

    /// A front task goes on behind a run: one of those that it has alone is survived.
    fn survive(&mut self, key: &LaneKey) {
        let Some(task) = self.lanes.get_mut(key).and_then(Lane::front_mut) else { return };
        if task.job.alone > 0 {
            task.job.alone -= 1;
            if task.job.alone == 0 {
                (self.report)(Report::Cleared { request: task.job.request });
            }
        }
    }

    /// A lane's front task does not decode any more.
    fn leave_crowd(&mut self, key: &LaneKey) {
        self.crowd.leave(key);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.counts = false;
        }
    }

    /// Forgets a lane with nothing in it.
    fn forget_if_empty(&mut self, key: &LaneKey) {
        if self.lanes.get(key).is_some_and(Lane::is_empty) {
            self.lanes.remove(key);
        }
    }

    /// Of an engine that keeps keys and values to itself: pages are their loader's.
    fn report_memory(&mut self) {
        if self.info.pages.is_some() {
            return;
        }
        let kv_bytes = self.engine.kv_bytes();
        if mem::replace(&mut self.kv_bytes, kv_bytes) != kv_bytes {
            (self.report)(Report::Memory { kv_bytes });
        }
    }
}
