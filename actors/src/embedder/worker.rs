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
    time::Instant,
};

use super::{
    EmbedderArguments, EmbeddingConfig, ReportTo,
    batch::{self, Candidate, Need},
    lane::Lane,
    task::Task,
};
use crate::{
    engine::{Engine, EngineError, EngineErrorKind, EngineInfo, Row, RowOutput, Want},
    job::{Commit, Done, Job, JobError, Outcome, Pulse, Report, RequestId, Running, Work},
    message::{BrainError, ConversationId},
};

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
    chunk: usize,
    /// As last reported.
    kv_bytes: usize,
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
            chunk: arguments.chunk.max(1),
            kv_bytes: 0,
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

    /// Answers what needs no run, then runs the model once if anything else waits.
    ///
    /// # Errors
    /// The engine's fatal error; the worker must not be used again.
    pub(super) fn run(&mut self) -> Result<(), EngineError> {
        self.settle_all()?;
        let riders = self.riders();
        if !riders.is_empty() {
            let result = self.run_rows(&riders);
            if !matches!(&result, Err(error) if error.kind == EngineErrorKind::Fatal) {
                self.pulse.end();
            }
            match result {
                Ok(outputs) => {
                    assert_eq!(outputs.len(), riders.len(), "a run gives one output a row");
                    for (rider, output) in riders.iter().zip(outputs) {
                        self.absorb(rider, output)?;
                    }
                }
                Err(error) => self.blame(&riders, error)?,
            }
            self.rotate(riders);
        }
        self.report_memory();
        Ok(())
    }

    /// Brings every lane to a front task that needs a run; lanes without one are ready no more.
    fn settle_all(&mut self) -> Result<(), EngineError> {
        for key in mem::take(&mut self.ready) {
            if self.settle(&key)? {
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    /// Answers front tasks until one needs a run; false if none does.
    fn settle(&mut self, key: &LaneKey) -> Result<bool, EngineError> {
        while let Some(lane) = self.lanes.get_mut(key)
            && let Some(task) = lane.queue.front_mut()
        {
            if let Some(history) = task.job.restore.take()
                && lane.slot.is_none()
                && lane.history.total == 0
            {
                lane.history = history;
            }
            if matches!(task.job.work, Work::Forget) {
                self.finish(key, Ok(Outcome::Forgotten))?;
            } else if task.job.cancel.is_cancelled() {
                self.finish(key, Err(JobError::Cancelled))?;
            } else if !task.started
                && let Err(error) = task.start(lane.history.tokens.len(), &self.info)
            {
                self.finish(key, Err(JobError::Failed(error)))?;
            } else if lane.slot.is_some() {
                return Ok(true);
            } else {
                match self.engine.open() {
                    Ok(slot) => lane.slot = Some(slot),
                    Err(error) => self.fail(key, error)?,
                }
            }
        }
        Ok(false)
    }

    /// What rides in the next run.
    fn riders(&self) -> Vec<Rider> {
        let (lanes, candidates): (Vec<_>, Vec<_>) = self
            .ready
            .iter()
            .filter_map(|key| {
                let lane = self.lanes.get(key)?;
                let task = lane.queue.front()?;
                let need = match lane.history.tokens.len() - lane.restored {
                    0 => task.need(),
                    rest => Need::Prefill(rest),
                };
                Some((
                    (key, lane),
                    Candidate {
                        need,
                        alone: task.job.alone || lane.suspect,
                    },
                ))
            })
            .unzip();
        batch::plan(&candidates, self.chunk)
            .into_iter()
            .map(|ride| {
                let (key, lane) = lanes[ride.index];
                Rider {
                    key: key.clone(),
                    tokens: ride.tokens,
                    restoring: lane.restoring(),
                }
            })
            .collect()
    }

    /// One execution of the model, named in the pulse.
    fn run_rows(&mut self, riders: &[Rider]) -> Result<Vec<RowOutput>, EngineError> {
        let mut rows = Vec::with_capacity(riders.len());
        let mut requests = Vec::with_capacity(riders.len());
        for rider in riders {
            let Some(lane) = self.lanes.get(&rider.key) else {
                continue;
            };
            let (Some(slot), Some(task)) = (lane.slot, lane.queue.front()) else {
                continue;
            };
            let (tokens, want) = if rider.restoring {
                (
                    &lane.history.tokens[lane.restored..lane.restored + rider.tokens],
                    Want::Nothing,
                )
            } else {
                requests.push(task.job.request);
                task.row(rider.tokens, lane.total(), self.embedding)
            };
            rows.push(Row { slot, tokens, want });
        }
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        tracing::trace!(
            rows = rows.len(),
            tokens,
            restoring = rows.len() - requests.len(),
            "run"
        );
        self.pulse.begin(Running {
            since: now(),
            requests,
        });
        self.engine.run(&rows)
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
        if let Some(sampled) = progress.token {
            let commit = lane.commit(self.info.window.sinks);
            let context_len = lane.context_len();
            (self.report)(Report::Token {
                request,
                sampled,
                commit,
                context_len,
            });
        }
        match progress.outcome {
            Some(outcome) => self.finish(&rider.key, Ok(outcome)),
            None => Ok(()),
        }
    }

    /// Charges a failed run to one row, or has its rows run alone to find out which.
    fn blame(&mut self, riders: &[Rider], error: EngineError) -> Result<(), EngineError> {
        tracing::debug!(kind = ?error.kind, row = error.row, rows = riders.len(), "a run failed");
        match (
            error.kind,
            error.row.and_then(|row| riders.get(row)),
            riders,
        ) {
            (EngineErrorKind::Fatal, _, _) => Err(error),
            // Nobody is to blame; those nobody waits for any more end before the next run.
            (EngineErrorKind::Interrupted, _, _) => Ok(()),
            (_, Some(rider), _) | (_, None, [rider]) => self.fail(&rider.key, error),
            (_, None, riders) => {
                for rider in riders {
                    if let Some(lane) = self.lanes.get_mut(&rider.key) {
                        lane.suspect = true;
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends a front task with what the engine says of it.
    fn fail(&mut self, key: &LaneKey, error: EngineError) -> Result<(), EngineError> {
        let failed = match error.kind {
            EngineErrorKind::Fatal => return Err(error),
            EngineErrorKind::ContextFull => {
                let lane = self.lanes.get(key);
                BrainError::ContextFull {
                    context_len: lane.map_or(0, |lane| lane.history.tokens.len()),
                    new: lane
                        .and_then(|lane| lane.queue.front())
                        .map_or(0, Task::appending),
                    size: self.info.window.size,
                }
            }
            _ => BrainError::Engine {
                message: error.message,
            },
        };
        self.finish(key, Err(JobError::Failed(failed)))
    }

    /// Ends a front task: commits or undoes what it did, and reports it.
    fn finish(
        &mut self,
        key: &LaneKey,
        outcome: Result<Outcome, JobError>,
    ) -> Result<(), EngineError> {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Ok(());
        };
        let Some(task) = lane.queue.pop_front() else {
            return Ok(());
        };
        let _entered = task.job.span.enter();
        lane.suspect = false;
        let mut commit = Commit::default();
        match &outcome {
            Ok(Outcome::Forgotten) => lane.forget(&mut *self.engine),
            Ok(_) => commit = lane.commit(self.info.window.sinks),
            Err(_) => lane.undo(&mut *self.engine)?,
        }
        let context_len = lane.context_len();
        let rebuilt = outcome.is_ok() && mem::take(&mut lane.rebuilt);
        if matches!(key, LaneKey::Single(_)) {
            lane.forget(&mut *self.engine);
            commit = Commit::default();
        }
        if lane.is_empty() {
            self.lanes.remove(key);
        }
        match &outcome {
            Ok(_) => tracing::debug!(
                appended = commit.appended.len(),
                context_len,
                rebuilt,
                "a job is done"
            ),
            Err(error) => tracing::debug!(?error, context_len, "a job failed"),
        }
        let request = task.job.request;
        (self.report)(Report::Done(Done {
            request,
            outcome,
            commit,
            context_len,
            rebuilt,
        }));
        Ok(())
    }

    /// Those who rode go to the back; those who have no job left leave.
    fn rotate(&mut self, riders: Vec<Rider>) {
        self.ready
            .retain(|key| riders.iter().all(|rider| rider.key != *key));
        let busy = |rider: &Rider| {
            self.lanes
                .get(&rider.key)
                .is_some_and(|lane| !lane.queue.is_empty())
        };
        let back = riders.into_iter().filter(busy).map(|rider| rider.key);
        self.ready.extend(back);
    }

    fn report_memory(&mut self) {
        let kv_bytes = self.engine.kv_bytes();
        if mem::replace(&mut self.kv_bytes, kv_bytes) != kv_bytes {
            (self.report)(Report::Memory { kv_bytes });
        }
    }
}

/// When a run began, for an owner with a watchdog; nothing here depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the actor's one clock read, for its owner's watchdog"
)]
fn now() -> Instant {
    Instant::now()
}
