//! How jobs end: answered without a run, charged with one that failed, taken back, or done.

use std::mem;

use super::{LaneKey, Rider, Worker};
use crate::{
    embedder::{lane::Lane, task::Task},
    engine::{EngineError, EngineErrorKind},
    job::{Commit, Done, JobError, Outcome, Report, Work},
    message::BrainError,
};

impl Worker {
    /// Answers front tasks until one needs a run.
    pub(super) fn settle(&mut self, key: &LaneKey) -> Result<(), EngineError> {
        while let Some(task) = self.lanes.get_mut(key).and_then(Lane::front_mut) {
            if matches!(task.job.work, Work::Forget) {
                self.finish(key, Ok(Outcome::Forgotten))?;
            } else if let Err(error) = task.make_ready(&self.info) {
                self.finish(key, Err(JobError::Failed(error)))?;
            } else {
                return Ok(());
            }
        }
        Ok(())
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
                        lane.doubted = true;
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends a front task with what the engine says of it.
    pub(super) fn fail(&mut self, key: &LaneKey, error: EngineError) -> Result<(), EngineError> {
        let failed = match error.kind {
            EngineErrorKind::Fatal => return Err(error),
            EngineErrorKind::ContextFull => {
                let lane = self.lanes.get(key);
                // What would have been read was counted when the job began, so it was the token
                // to be sampled that did not fit.
                let rest = lane.and_then(Lane::front).map_or(0, Task::rest);
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

    /// Ends a job that nobody waits for any more, wherever it stands in its lane's queue.
    pub(super) fn end_cancelled(&mut self, key: &LaneKey, arrival: u64) -> Result<(), EngineError> {
        let Some(lane) = self.lanes.get_mut(key) else { return Ok(()) };
        if lane.queue.first_key_value().is_some_and(|(first, _)| *first == arrival) {
            self.stop_waiting(key);
            self.finish(key, Err(JobError::Cancelled))?;
            return self.wait(key);
        }
        let Some(task) = lane.queue.remove(&arrival) else { return Ok(()) };
        let request = task.job.request;
        self.jobs.remove(&request);
        (self.report)(Report::Done(Done {
            request,
            outcome: Err(JobError::Cancelled),
            commit: Commit::default(),
            context_len: task.job.context.tokens.len(),
            rebuilt: false,
            lost: false,
            read: None,
        }));
        Ok(())
    }

    /// Ends a front task: commits or undoes what it did, and reports it.
    pub(super) fn finish(&mut self, key: &LaneKey, outcome: Result<Outcome, JobError>) -> Result<(), EngineError> {
        let Some(request) = self.lanes.get(key).and_then(Lane::front).map(|task| task.job.request) else {
            return Ok(());
        };
        let entered = self.enter(request);
        let Some(lane) = self.lanes.get_mut(key) else { return Ok(()) };
        let engine = &mut *self.engine;
        let (mut commit, mut read) = (Commit::default(), None);
        let (mut lost, began) = (false, lane.begun);
        lane.doubted = false;
        match &outcome {
            Ok(Outcome::Forgotten) => lane.give_back(engine),
            Ok(_) => {
                commit = lane.commit(engine);
                lane.end(engine);
            }
            Err(_) => (read, lost) = lane.undo(engine)?,
        }
        if matches!(key, LaneKey::Single(_)) {
            lane.give_back(engine);
        }
        let Some((_, mut task)) = lane.queue.pop_first() else { return Ok(()) };
        // Its owner goes on with the tokens as soon as it hears of the end, and would copy what is still shared.
        let committed = mem::take(&mut task.job.context).tokens.len();
        let context_len = match &outcome {
            Ok(Outcome::Forgotten) => 0,
            _ if began => lane.committed_len(),
            _ => committed,
        };
        let rebuilt = outcome.is_ok() && mem::take(&mut lane.rebuilt);
        if mem::take(&mut lane.counts) {
            match &outcome {
                Ok(_) => self.crowd.away(key, self.clock.now()),
                Err(_) => self.crowd.leave(key),
            }
        }
        self.forget_if_empty(key);
        self.jobs.remove(&request);
        // Before the answer, so that statistics asked for after it know of its memory.
        self.report_memory();
        self.leave(entered);
        task.job.spans.work().in_scope(|| match &outcome {
            Ok(_) => tracing::debug!(appended = commit.appended.len(), context_len, rebuilt, "a job is done"),
            Err(error) => tracing::debug!(?error, context_len, "a job failed"),
        });
        task.job.spans.end();
        (self.report)(Report::Done(Done { request, outcome, commit, context_len, rebuilt, lost, read }));
        Ok(())
    }
}
