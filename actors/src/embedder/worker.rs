//! The work of an embedder actor without the actor: jobs in, runs of the engine, reports out.
//!
//! Each call of [`Worker::run`] is at most one execution of the model: it settles what needs none,
//! lets [`batch`](super::batch) choose what rides, runs it, and hands the outputs to the tasks. A run
//! that fails is charged to one row. Where the engine cannot say which, each of its rows runs alone
//! once, and the one that fails then is to blame.
//!
//! A panic of the engine passes through, and so does a fatal error: the [`Pulse`] then still names
//! the run, for the owner to see who was in it.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::{Duration, Instant},
};

use super::{
    EmbedderArguments, EmbeddingConfig, ReportTo,
    batch::{self, Candidate, Need},
    lane::Lane,
    pace::Pace,
    task::Task,
};
use crate::{
    engine::{Engine, EngineError, EngineErrorKind, EngineInfo, Row, RowOutput, Want},
    job::{Carried, Job, Pulse, Report, RequestId, Running},
    message::ConversationId,
    reuse::emptied,
};

mod ending;

/// Whose lane it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LaneKey {
    Conversation(ConversationId),
    /// A job without a conversation has a lane to itself.
    Single(RequestId),
}

/// A lane with a row in the run.
struct Rider {
    key: LaneKey,
    /// How many new tokens its row has at most.
    tokens: usize,
    restoring: bool,
}

/// An engine with the jobs that wait for it.
pub(super) struct Worker {
    engine: Box<dyn Engine>,
    info: EngineInfo,
    lanes: BTreeMap<LaneKey, Lane>,
    /// Lanes with a job, each once, in the order of their last ride, longest ago first.
    ready: VecDeque<LaneKey>,
    report: ReportTo,
    pulse: Pulse,
    embedding: EmbeddingConfig,
    pace: Pace,
    /// As last reported.
    kv_bytes: usize,
    /// What a run needs, kept between runs for its memory; empty then.
    riders: Vec<Rider>,
    rows: Vec<Row<'static>>,
    requests: Vec<RequestId>,
    outputs: Vec<RowOutput>,
}

impl Worker {
    pub(super) fn new(engine: Box<dyn Engine>, arguments: &EmbedderArguments) -> Self {
        let info = engine.info().clone();
        Self {
            engine,
            info,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            report: arguments.report.clone(),
            pulse: arguments.pulse.clone(),
            embedding: arguments.embedding,
            pace: Pace::new(arguments.chunk.max(1)),
            kv_bytes: 0,
            riders: Vec::new(),
            rows: Vec::new(),
            requests: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Whether a job waits.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts a job at the end of its conversation's queue.
    pub(super) fn accept(&mut self, job: Job) {
        let key = match &job.conversation {
            Some(conversation) => LaneKey::Conversation(conversation.clone()),
            None => LaneKey::Single(job.request),
        };
        let lane = self.lanes.entry(key.clone()).or_default();
        if lane.queue.is_empty() {
            self.ready.push_back(key);
        }
        lane.queue.push_back(Task::new(job));
    }

    /// Gives jobs back with what was done of them, for others to go on with; those that are not here, or that the
    /// engine's own memory binds to it, are not.
    pub(super) fn recall(&mut self, requests: &[RequestId]) {
        let is_recalled = |lane: &Lane| lane.queue.front().is_some_and(|task| requests.contains(&task.job.request));
        let keys: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| is_recalled(lane)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(task) = lane.take_front(&mut *self.engine) else { continue };
            if lane.queue.is_empty() {
                self.ready.retain(|ready| *ready != key);
            }
            if lane.is_empty() {
                self.lanes.remove(&key);
            }
            (self.report)(Report::Returned { request: task.job.request, carried: Carried::new(task) });
        }
    }

    /// Blocks the thread for so long, as a run that belongs to nobody: for a watchdog to see.
    pub(super) fn hang(&self, duration: Duration) {
        self.pulse.begin(Running { since: now(), requests: Vec::new() });
        std::thread::sleep(duration);
        drop(self.pulse.end());
    }

    /// Answers what needs no run, then runs the model once if anything else waits.
    ///
    /// # Errors
    /// The engine's fatal error; the worker must not be used again.
    pub(super) fn run(&mut self) -> Result<(), EngineError> {
        self.settle_all()?;
        let mut riders = mem::take(&mut self.riders);
        assert!(riders.is_empty(), "{} riders of an earlier run are left", riders.len());
        self.choose(&mut riders);
        if !riders.is_empty() {
            let result = self.run_rows(&riders);
            if !matches!(&result, Err(error) if error.kind == EngineErrorKind::Fatal)
                && let Some(Running { requests, .. }) = self.pulse.end()
            {
                self.requests = requests;
            }
            match result {
                Ok(()) => self.absorb_all(&riders)?,
                Err(error) => self.blame(&riders, error)?,
            }
            self.rotate(&mut riders);
        }
        self.riders = riders;
        self.report_memory();
        Ok(())
    }

    /// What rides in the next run.
    fn choose(&self, riders: &mut Vec<Rider>) {
        let alone = self.candidates().next().is_some_and(|(_, front)| front.alone);
        let decoding = !alone && self.candidates().any(|(_, other)| other.need == Need::Decode && !other.alone);
        let rides = batch::plan(self.candidates(), self.pace.chunk(decoding));
        riders.extend(rides.map(|((key, lane), tokens)| Rider {
            key: key.clone(),
            tokens,
            restoring: lane.restoring(),
        }));
    }

    /// Lanes that have a row ready.
    fn candidates(&self) -> impl Iterator<Item = ((&LaneKey, &Lane), Candidate)> {
        self.ready.iter().filter_map(|key| {
            let lane = self.lanes.get(key)?;
            let task = lane.queue.front()?;
            let need = match lane.to_restore().len() {
                0 => task.need(),
                rest => Need::Prefill(rest),
            };
            Some(((key, lane), Candidate { need, alone: task.job.alone || lane.suspect }))
        })
    }

    /// One execution of the model, named in the pulse; `outputs` then has one a rider.
    fn run_rows(&mut self, riders: &[Rider]) -> Result<(), EngineError> {
        let mut rows = emptied(mem::take(&mut self.rows));
        let mut requests = mem::take(&mut self.requests);
        requests.clear();
        let restoring = riders.iter().filter(|rider| rider.restoring).count();
        for rider in riders {
            let Some(lane) = self.lanes.get(&rider.key) else {
                continue;
            };
            let (Some(slot), Some(task)) = (lane.slot, lane.queue.front()) else {
                continue;
            };
            requests.push(task.job.request);
            let (tokens, want) = if rider.restoring {
                (&lane.to_restore()[..rider.tokens], Want::Nothing)
            } else {
                task.row(rider.tokens, lane.total(), self.embedding)
            };
            rows.push(Row { slot, tokens, want });
        }
        let (made, wanted) = (rows.len(), riders.len());
        assert!(made == wanted, "{made} of {wanted} riders have a slot and a job");
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        tracing::trace!(rows = rows.len(), tokens, restoring, "run");
        let since = now();
        self.pulse.begin(Running { since, requests });
        self.outputs.extend(self.engine.run(&rows)?);
        let decodes = rows.iter().filter(|row| row.tokens.is_empty()).count();
        self.pace.observe(decodes, tokens, now().saturating_duration_since(since));
        self.rows = emptied(rows);
        Ok(())
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
        let Some(lane) = self.lanes.get_mut(&rider.key) else {
            return Ok(());
        };
        lane.suspect = false;
        if rider.restoring {
            lane.absorb_restored(&output);
            return Ok(());
        }
        let Some(mut task) = lane.queue.pop_front() else {
            return Ok(());
        };
        let span = task.job.span.clone();
        let _entered = span.enter();
        lane.absorb(task.row(rider.tokens, 0, self.embedding).0, &output);
        let progress = task.absorb(output, self.embedding, &self.info.end_tokens);
        let request = task.job.request;
        lane.queue.push_front(task);
        if let Some((sampled, stopped)) = progress.token {
            let commit = lane.commit(&mut *self.engine);
            let context_len = lane.context_len();
            (self.report)(Report::Token { request, sampled, stopped, commit, context_len });
        }
        match progress.outcome {
            Some(outcome) => self.finish(&rider.key, Ok(outcome)),
            None => Ok(()),
        }
    }

    /// Those who rode go to the back; those who have no job left leave.
    fn rotate(&mut self, riders: &mut Vec<Rider>) {
        // Riders stand in the order of `ready`, so one walk over both finds them.
        let mut riding = riders.iter().peekable();
        self.ready.retain(|key| riding.next_if(|rider| rider.key == *key).is_none());
        let lost = riding.next().map(|rider| &rider.key);
        assert!(lost.is_none(), "{lost:?} rode and was not ready");
        let busy = |rider: &Rider| self.lanes.get(&rider.key).is_some_and(|lane| !lane.queue.is_empty());
        let back = riders.drain(..).filter(busy).map(|rider| rider.key);
        self.ready.extend(back);
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

/// For an owner with a watchdog, and for the pace of prompts.
#[expect(clippy::disallowed_methods, reason = "the actor's one clock read")]
fn now() -> Instant {
    Instant::now()
}
