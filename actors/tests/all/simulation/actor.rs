//! A simulated embedder actor: it works on pages or keeps slots, batches what waits, undoes what it must not keep. It
//! has no faults of its own; the world decides when a run ends badly.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use motorbrain_actors::{
    engine::Resident,
    job::{Commit, Done, Holding, JobError, Outcome, Report, RequestId, Work},
    message::{BrainError, ConversationId},
    policy::Assignment,
};

use super::{
    job::Job,
    pages::{Memory, Store, address},
    slot::Slot,
};

pub(crate) struct SimActor {
    /// `None`: slots stay here.
    store: Option<Store>,
    slots: BTreeMap<ConversationId, Slot>,
    jobs: VecDeque<Job>,
    /// Those to be given back.
    recalled: BTreeSet<RequestId>,
    /// Whose turn it is in the run now going on: indexes into `jobs`.
    riders: Vec<usize>,
}

impl SimActor {
    pub(crate) fn new(store: Option<Store>) -> Self {
        Self { store, slots: BTreeMap::new(), jobs: VecDeque::new(), recalled: BTreeSet::new(), riders: Vec::new() }
    }

    pub(crate) fn accept(&mut self, assignment: Assignment) {
        self.jobs.push_back(Job::new(assignment));
    }

    pub(crate) fn recall(&mut self, requests: Vec<RequestId>) {
        self.recalled.extend(requests);
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// The conversations whose slots are here.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &ConversationId> {
        self.slots.keys()
    }

    /// Gives back what was recalled and ends what was cancelled and what needs no run, then chooses who rides. Returns
    /// the jobs with a row in the run, those among them that read a context again.
    pub(crate) fn begin(&mut self, cancelled: &BTreeSet<RequestId>, reports: &mut Vec<Report>) -> Vec<RequestId> {
        self.give_back(reports);
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
            } else if cancelled.contains(&job.serves) {
                first_of.retain(|name| Some(name) != job.conversation.as_ref());
                self.end_badly(place, JobError::Cancelled, reports);
            } else {
                self.riders.push(place);
                place += 1;
            }
        }
        if let Some(&alone) = self.riders.iter().find(|&&place| self.jobs[place].assignment.alone) {
            self.riders = vec![alone];
        }
        for place in self.riders.clone() {
            self.open(place);
        }
        self.riding().map(|job| job.request).collect()
    }

    /// The jobs with a row in the run.
    pub(crate) fn riding(&self) -> impl Iterator<Item = &Assignment> {
        self.riders.iter().map(|&place| &self.jobs[place].assignment)
    }

    /// Those of them that read a context again.
    pub(crate) fn restoring(&self) -> impl Iterator<Item = &Assignment> {
        let restores = |place: &usize| self.jobs[*place].slot.as_ref().is_some_and(|slot| slot.restoring);
        self.riders.iter().copied().filter(restores).map(|place| &self.jobs[place].assignment)
    }

    /// Between two runs: what was recalled goes back, with what was done of it.
    fn give_back(&mut self, reports: &mut Vec<Report>) {
        let Some(store) = &self.store else { return };
        let recalled = std::mem::take(&mut self.recalled);
        let (back, stay) = self.jobs.drain(..).partition(|job| recalled.contains(&job.assignment.request));
        self.jobs = stay;
        let back: VecDeque<Job> = back;
        for job in back {
            let request = job.assignment.request;
            reports.push(Report::Returned { request, carried: job.carry(store) });
        }
    }

    /// Begins a job on what there is of its context.
    fn open(&mut self, place: usize) {
        let job = &mut self.jobs[place];
        if job.slot.is_some() {
            return;
        }
        let (context, name) = (&job.assignment.context, job.assignment.conversation.as_ref());
        let slot = match (&job.assignment.held, &self.store) {
            (Holding::Pages(resident), Some(store)) => {
                let (present, resident) = job.progress.behind(&job.assignment, resident);
                Slot::adopt(store, present, &resident)
            }
            (Holding::Slot, None) => {
                let slot = name.and_then(|name| self.slots.remove(name)).unwrap_or_else(|| Slot::new(context.clone()));
                assert!(!slot.restoring, "{name:?} is not here");
                assert_eq!(slot.context.history, *context, "{name:?} is another one here");
                slot
            }
            (Holding::Nothing, None) => {
                drop(name.and_then(|name| self.slots.remove(name)));
                Slot::new(context.clone())
            }
            (held, _) => panic!("{held:?} is none of this engine's"),
        };
        job.slot = Some(slot);
    }

    /// The run went well. `refused` is a request the engine will not do.
    pub(crate) fn end(&mut self, refused: Option<RequestId>, reports: &mut Vec<Report>) {
        let mut finished = Vec::new();
        for place in std::mem::take(&mut self.riders) {
            let job = &mut self.jobs[place];
            if let Some(slot) = job.slot.as_mut().filter(|slot| slot.restoring) {
                slot.restore();
            } else if Some(job.assignment.request) == refused {
                finished.push((place, false));
            } else if job.work(reports) {
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

    fn end_well(&mut self, place: usize, reports: &mut Vec<Report>) {
        let Some(mut job) = self.jobs.remove(place) else {
            return;
        };
        let (Some(outcome), Some(mut slot)) = (job.outcome, job.slot) else { return };
        let mut done = done(job.assignment.request, Ok(outcome));
        done.commit = slot.commit(&mut job.progress.pending);
        done.context_len = slot.context.len();
        done.rebuilt = std::mem::take(&mut slot.rebuilt);
        self.keep(job.assignment.conversation, slot);
        reports.push(Report::Done(done));
    }

    fn end_badly(&mut self, place: usize, error: JobError, reports: &mut Vec<Report>) {
        let Some(job) = self.jobs.remove(place) else {
            return;
        };
        let mut done = done(job.assignment.request, Err(error));
        if let Some(mut slot) = job.slot.filter(|slot| slot.pages.is_none()) {
            if slot.undo(&job.progress.pending) {
                self.keep(job.assignment.conversation, slot);
            } else {
                done.lost = true;
            }
        }
        reports.push(Report::Done(done));
    }

    /// A slot without pages stays for the conversation's next job.
    fn keep(&mut self, name: Option<ConversationId>, slot: Slot) {
        if let Some(name) = name.filter(|_| slot.pages.is_none()) {
            self.slots.insert(name, slot);
        }
    }

    /// The pages that its jobs have.
    pub(crate) fn pages(&self) -> impl Iterator<Item = *const Memory> {
        let of_job = |job: &Job| {
            let begun = job.slot.iter().filter_map(|slot| slot.pages.as_ref()).flat_map(|pages| pages.addresses());
            let given = match &job.assignment.held {
                Holding::Pages(Resident { pages, .. }) => &pages[..],
                _ => &[],
            };
            begun.chain(given.iter().chain(job.progress.pages()).map(address)).collect::<Vec<_>>()
        };
        self.jobs.iter().flat_map(of_job)
    }

    /// An abandoned run's last deeds: rows of no meaning in whatever it may write to. How many.
    pub(crate) fn garble(&mut self) -> u64 {
        let slots = self.jobs.iter_mut().filter_map(|job| job.slot.as_mut());
        slots.filter_map(|slot| slot.pages.as_mut()).map(|pages| u64::from(pages.garble())).sum()
    }
}

fn done(request: RequestId, outcome: Result<Outcome, JobError>) -> Done {
    Done { request, outcome, commit: Commit::default(), context_len: 0, rebuilt: false, lost: false }
}
