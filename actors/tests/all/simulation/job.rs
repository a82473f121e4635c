//! One job of a simulated actor: how far it is, and what another actor needs to go on with it.

use std::sync::Arc;

use motorbrain_actors::{
    engine::{Page, Resident, Sampled},
    job::{Carried, Commit, History, Outcome, Report, Work},
    policy::Assignment,
    tokens::TokenId,
};

use super::{model, pages::Store, slot::Slot};

/// Tokens of an input that a step reads in one run.
const CHUNK: usize = 2;

/// What was done of a job.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    /// The job as it was begun, where it is on its way: of what was shown since, the policy speaks no more.
    work: Option<Work>,
    /// Tokens of its input that were read, or were there already.
    read: usize,
    sampled: Vec<Sampled>,
    /// Since the last commit.
    pub(crate) pending: Commit,
}

impl Progress {
    /// The context that a job goes on from, and where its rows lie: on what it was given, and what it has done.
    pub(crate) fn behind(&mut self, job: &Assignment, given: &Resident) -> (History, Resident) {
        let (mut context, mut resident) = (job.context.clone(), given.clone());
        let there = resident.kv_len.saturating_sub(context.tokens.len());
        if there > 0 && self.pending.held.is_none() {
            let input = input(&job.work);
            assert!(there < input.len(), "{there} of {} new tokens are there already", input.len());
            self.read = there;
            self.pending.appended = input[..there].to_vec();
        }
        self.pending.apply(&mut context, model::WINDOW.sinks);
        resident.apply(self.pending.held.clone());
        (context, resident)
    }

    pub(crate) fn pages(&self) -> impl Iterator<Item = &Page> {
        self.pending.held.iter().flat_map(|held| &held.pages)
    }
}

/// Where a job is.
pub(crate) struct Job {
    pub(crate) assignment: Assignment,
    pub(crate) progress: Progress,
    /// `None`: it has not begun.
    pub(crate) slot: Option<Slot>,
    /// What it came to.
    pub(crate) outcome: Option<Outcome>,
}

impl Job {
    /// A job that begins, or goes on where another actor gave it back.
    pub(crate) fn new(mut assignment: Assignment) -> Self {
        let carried = assignment.carried.take().and_then(Carried::unpack::<Arc<Progress>>);
        let mut progress = carried.map(Arc::unwrap_or_clone).unwrap_or_default();
        assignment.work = progress.work.take().unwrap_or(assignment.work);
        Self { assignment, progress, slot: None, outcome: None }
    }

    /// Packs it for another actor.
    pub(crate) fn carry(mut self, store: &Store) -> Carried {
        if let Some(mut slot) = self.slot.take() {
            self.progress.pending = slot.commit(&mut self.progress.pending);
        }
        let progress = Arc::new(Progress { work: Some(self.assignment.work), ..self.progress });
        store.carry(&progress);
        Carried::new(progress)
    }

    /// One run's worth of it; true when it is done.
    pub(crate) fn work(&mut self, reports: &mut Vec<Report>) -> bool {
        let Self { assignment, progress: Progress { read, sampled, pending, .. }, .. } = self;
        let Some(slot) = &mut self.slot else { return false };
        let Work::Step { tokens, count, seed, stream, .. } = &assignment.work else {
            assert_eq!(*read, 0, "what is embedded or scored is read to its end");
            self.outcome = Some(slot.context.perform(pending, &assignment.work));
            slot.write();
            return true;
        };
        let end = tokens.len().min(*read + CHUNK);
        tokens[*read..end].iter().for_each(|&token| slot.context.append(pending, token));
        slot.context.read();
        *read = end;
        let all_read = end == tokens.len();
        let next = (all_read && sampled.len() < *count).then(|| slot.context.next(*seed));
        if let Some(next) = &next {
            slot.context.append(pending, next.token);
            sampled.push(next.clone());
        }
        slot.write();
        let stopped = model::has_ended(sampled);
        if let Some(sampled) = next.filter(|_| *stream) {
            let (commit, context_len) = (slot.commit(pending), slot.context.len());
            reports.push(Report::Token { request: assignment.request, sampled, stopped, commit, context_len });
        }
        let is_done = all_read && (stopped || sampled.len() >= *count);
        self.outcome = is_done.then(|| Outcome::Stepped { sampled: sampled.clone(), stopped });
        is_done
    }
}

/// What a work appends before it samples.
pub(crate) fn input(work: &Work) -> &[TokenId] {
    match work {
        Work::Embed { tokens } | Work::Step { tokens, .. } | Work::Score { tokens } => tokens,
        Work::Forget => &[],
    }
}
