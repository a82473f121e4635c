//! How jobs end: answered without a run, charged with one that failed, or done.

use std::mem;

use super::{LaneKey, Rider, Worker};
use crate::{
    embedder::{lane::Lane, task::Task},
    engine::{EngineError, EngineErrorKind},
    job::{Commit, Done, JobError, Outcome, Report, Work},
    message::BrainError,
};

impl Worker {
    /// Brings every lane to a front task that needs a run; lanes without one are ready no more.
    pub(super) fn settle_all(&mut self) -> Result<(), EngineError> {
        for _ in 0..self.ready.len() {
            if let Some(key) = self.ready.pop_front()
                && self.settle(&key)?
            {
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    /// Answers front tasks until one needs a run; false if none does.
    fn settle(&mut self, key: &LaneKey) -> Result<bool, EngineError> {
        while let Some(lane) = self.lanes.get_mut(key) {
            let Some(task) = lane.queue.front_mut() else {
                return Ok(false);
            };
            if matches!(task.job.work, Work::Forget) {
                self.finish(key, Ok(Outcome::Forgotten))?;
            } else if task.job.cancel.is_cancelled() {
                self.finish(key, Err(JobError::Cancelled))?;
            } else if !task.started
                && let Err(error) = task.start(&self.info)
            {
                self.finish(key, Err(JobError::Failed(error)))?;
            } else if lane.begun {
                return Ok(true);
            } else if let Err(error) = lane.begin(&mut *self.engine) {
                self.fail(key, error)?;
            }
        }
        Ok(false)
    }

    /// Charges a failed run to one row, or has its rows run alone to find out which.
    pub(super) fn blame(&mut self, riders: &[Rider], error: EngineError) -> Result<(), EngineError> {
        tracing::debug!(kind = ?error.kind, row = error.row, rows = riders.len(), "a run failed");
        match (error.kind, error.row.and_then(|row| riders.get(row)), riders) {
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
                // What would have been read was counted when the job began, so it was the token
                // to be sampled that did not fit.
                let rest = lane.and_then(|lane| lane.queue.front()).map_or(0, Task::rest);
                BrainError::ContextFull {
                    context_len: lane.map_or(0, Lane::committed_len),
                    new: lane.map_or(0, Lane::pending_len) + rest + 1,
                    size: self.info.window.size,
                }
            }
            _ => BrainError::Engine { message: error.message },
        };
        self.finish(key, Err(JobError::Failed(failed)))
    }

    /// Ends a front task: commits or undoes what it did, and reports it.
    pub(super) fn finish(&mut self, key: &LaneKey, outcome: Result<Outcome, JobError>) -> Result<(), EngineError> {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Ok(());
        };
        let Some(mut task) = lane.queue.pop_front() else {
            return Ok(());
        };
        // Its owner goes on with the tokens as soon as it hears of the end, and would copy what is still shared.
        let committed = mem::take(&mut task.job.context).tokens.len();
        let _entered = task.job.span.enter();
        lane.suspect = false;
        let engine = &mut *self.engine;
        let mut commit = Commit::default();
        let (mut lost, began) = (false, lane.begun);
        match &outcome {
            Ok(Outcome::Forgotten) => lane.give_back(engine),
            Ok(_) => {
                commit = lane.commit(engine);
                lane.end(engine);
            }
            Err(_) => lost = lane.undo(engine)?,
        }
        let context_len = match &outcome {
            Ok(Outcome::Forgotten) => 0,
            _ if began => lane.committed_len(),
            _ => committed,
        };
        let rebuilt = outcome.is_ok() && mem::take(&mut lane.rebuilt);
        if matches!(key, LaneKey::Single(_)) {
            lane.give_back(engine);
        }
        if lane.is_empty() {
            self.lanes.remove(key);
        }
        match &outcome {
            Ok(_) => tracing::debug!(appended = commit.appended.len(), context_len, rebuilt, "a job is done"),
            Err(error) => tracing::debug!(?error, context_len, "a job failed"),
        }
        let request = task.job.request;
        // Before the answer, so that statistics asked for after it know of its memory.
        self.report_memory();
        (self.report)(Report::Done(Done { request, outcome, commit, context_len, rebuilt, lost }));
        Ok(())
    }
}
