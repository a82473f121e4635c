//! A simulated embedder actor: it keeps slots, batches what waits, undoes what it must not keep. It
//! has no faults of its own; the world decides when a run ends badly.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use motorbrain_actors::{
    engine::Sampled,
    job::{Commit, Done, History, JobError, Outcome, Report, RequestId, Work},
    message::{BrainError, ConversationId},
    policy::Assignment,
};

use super::model;

/// Where a job is.
struct Job {
    assignment: Assignment,
    /// The history is still to be read.
    restoring: bool,
    /// The input was read.
    begun: bool,
    sampled: Vec<Sampled>,
    /// Since the last commit.
    pending: Commit,
    /// What it came to.
    outcome: Option<Outcome>,
}

/// A conversation's place; `context` holds the committed tokens and the pending ones.
#[derive(Default)]
struct Slot {
    committed: History,
    context: History,
    rebuilt: bool,
}

#[derive(Default)]
pub(crate) struct SimActor {
    slots: BTreeMap<ConversationId, Slot>,
    jobs: VecDeque<Job>,
    /// Whose turn it is in the run now going on: indexes into `jobs`.
    riders: Vec<usize>,
}

impl SimActor {
    pub(crate) fn accept(&mut self, assignment: Assignment) {
        let restoring = assignment.restore.is_some();
        self.jobs.push_back(Job {
            assignment,
            restoring,
            begun: false,
            sampled: Vec::new(),
            pending: Commit::default(),
            outcome: None,
        });
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Ends what was cancelled and what needs no run, then chooses who rides. Returns the requests
    /// with a row in the run, one that reads a history again among them.
    pub(crate) fn begin(&mut self, cancelled: &BTreeSet<RequestId>, reports: &mut Vec<Report>) -> Vec<RequestId> {
        let mut first_of = BTreeSet::new();
        let mut place = 0;
        self.riders.clear();
        while place < self.jobs.len() {
            let job = &self.jobs[place].assignment;
            if job.conversation.as_ref().is_some_and(|name| !first_of.insert(name.clone())) {
                place += 1; // behind another job of its conversation
            } else if job.work == Work::Forget {
                if let Some(job) = self.jobs.remove(place) {
                    first_of.retain(|name| Some(name) != job.assignment.conversation.as_ref());
                    job.assignment.conversation.and_then(|name| self.slots.remove(&name));
                    reports.push(Report::Done(done(job.assignment.request, Ok(Outcome::Forgotten))));
                }
            } else if cancelled.contains(&job.request) {
                self.end_badly(place, JobError::Cancelled, reports);
            } else {
                self.riders.push(place);
                place += 1;
            }
        }
        if let Some(&alone) = self.riders.iter().find(|&&place| self.jobs[place].assignment.alone) {
            self.riders = vec![alone];
        }
        self.riders.iter().map(|&place| self.jobs[place].assignment.request).collect()
    }

    /// The run went well. `refused` is a request the engine will not do.
    pub(crate) fn end(&mut self, refused: Option<RequestId>, reports: &mut Vec<Report>) {
        let mut finished = Vec::new();
        for place in std::mem::take(&mut self.riders) {
            if self.jobs[place].restoring {
                self.restore(place);
            } else if Some(self.jobs[place].assignment.request) == refused {
                finished.push((place, false));
            } else if self.work(place, reports) {
                finished.push((place, true));
            }
        }
        for (place, well) in finished.into_iter().rev() {
            if well {
                self.end_well(place, reports);
            } else {
                let refusal = BrainError::Engine { message: "refused".to_owned() };
                self.end_badly(place, JobError::Failed(refusal), reports);
            }
        }
    }

    fn restore(&mut self, place: usize) {
        let job = &mut self.jobs[place];
        job.restoring = false;
        let (Some(name), Some(history)) = (&job.assignment.conversation, job.assignment.restore.take()) else {
            return;
        };
        let slot = self.slots.entry(name.clone()).or_default();
        assert_eq!(slot.committed, History::default(), "`{name}` is restored over what is there");
        slot.rebuilt |= history.has_slid();
        slot.committed = history.clone();
        slot.context = history;
    }

    /// One run's worth of a job; true when it is done.
    fn work(&mut self, place: usize, reports: &mut Vec<Report>) -> bool {
        let job = &mut self.jobs[place];
        let mut single = Slot::default();
        let slot = match &job.assignment.conversation {
            Some(name) => self.slots.entry(name.clone()).or_default(),
            None => &mut single,
        };
        let request = job.assignment.request;
        let Work::Step { tokens, count, seed, stream, .. } = &job.assignment.work else {
            job.outcome = Some(model::perform(&mut slot.context, &mut job.pending, &job.assignment.work));
            return true;
        };
        if !job.begun {
            job.begun = true;
            tokens.iter().for_each(|&token| model::append(&mut slot.context, &mut job.pending, token));
        }
        if job.sampled.len() < *count {
            let sampled = model::next(&slot.context, *seed);
            model::append(&mut slot.context, &mut job.pending, sampled.token);
            job.sampled.push(sampled.clone());
            if *stream {
                let commit = std::mem::take(&mut job.pending);
                commit.apply(&mut slot.committed, model::WINDOW.sinks);
                let context_len = slot.context.tokens.len();
                let stopped = model::has_ended(&job.sampled);
                reports.push(Report::Token { request, sampled, stopped, commit, context_len });
            }
        }
        let stopped = model::has_ended(&job.sampled);
        let is_done = stopped || job.sampled.len() >= *count;
        job.outcome = is_done.then(|| Outcome::Stepped { sampled: job.sampled.clone(), stopped });
        is_done
    }

    fn end_well(&mut self, place: usize, reports: &mut Vec<Report>) {
        let Some(job) = self.jobs.remove(place) else {
            return;
        };
        let Some(outcome) = job.outcome else { return };
        let mut done = done(job.assignment.request, Ok(outcome));
        if let Some(slot) = job.assignment.conversation.and_then(|name| self.slots.get_mut(&name)) {
            job.pending.apply(&mut slot.committed, model::WINDOW.sinks);
            assert_eq!(slot.committed, slot.context, "the slot holds other than what was committed");
            done.commit = job.pending;
            done.context_len = slot.context.tokens.len();
            done.rebuilt = std::mem::take(&mut slot.rebuilt);
        }
        reports.push(Report::Done(done));
    }

    fn end_badly(&mut self, place: usize, error: JobError, reports: &mut Vec<Report>) {
        let Some(job) = self.jobs.remove(place) else {
            return;
        };
        if let Some(name) = &job.assignment.conversation
            && let Some(slot) = self.slots.get_mut(name)
        {
            slot.context = slot.committed.clone();
        }
        reports.push(Report::Done(done(job.assignment.request, Err(error))));
    }

    /// The conversations whose history the run going on reads again.
    pub(crate) fn restores(&self) -> Vec<ConversationId> {
        self.restored_ones(|_| true)
    }

    /// Those of them that had slid.
    pub(crate) fn rebuilds(&self) -> Vec<ConversationId> {
        self.restored_ones(History::has_slid)
    }

    fn restored_ones(&self, which: impl Fn(&History) -> bool) -> Vec<ConversationId> {
        let rides = self.riders.iter().map(|&place| &self.jobs[place].assignment);
        let chosen = rides.filter(|job| job.restore.as_ref().is_some_and(&which));
        chosen.filter_map(|job| job.conversation.clone()).collect()
    }
}

fn done(request: RequestId, outcome: Result<Outcome, JobError>) -> Done {
    Done { request, outcome, commit: Commit::default(), context_len: 0, rebuilt: false }
}
