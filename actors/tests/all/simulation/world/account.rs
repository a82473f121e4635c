//! The account of what was asked and answered, and what an answer may say by itself. Whether it is right is another's
//! matter (`truth`).

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    engine::{Resident, Sampled},
    job::{Holding, Outcome, RequestId},
    message::BrainError,
    policy::{Answer, Arrival, Ask, Assignment, Event},
    tokens::TokenId,
};

use super::super::{job::input, model};
use super::{World, ensure, time};

/// One request's account.
pub(super) struct Asked {
    pub(super) arrival: Arrival,
    /// Its tokens, where it came as text.
    pub(super) tokens: Vec<TokenId>,
    pub(super) at: u64,
    pub(super) shown: Vec<Sampled>,
    pub(super) end: Option<End>,
    /// Actors that died or hung in a run with it, or with the worst of its parts.
    pub(super) deaths: u32,
    /// A job of it has rebuilt its conversation.
    pub(super) rebuilds: bool,
    /// Tokens of its input that its last job found read.
    pub(super) found: usize,
}

pub(super) enum End {
    Answered(Answer),
    Failed(BrainError),
    Dropped,
}

/// One job's account.
pub(super) struct JobAccount {
    /// The request that it serves.
    pub(super) serves: RequestId,
    pub(super) deaths: u32,
}

impl Asked {
    /// Whether a streamed step has come to its end.
    pub(super) fn has_shown_all(&self) -> bool {
        let count = match &self.arrival.ask {
            Ask::Step(step) => step.count,
            _ => 0,
        };
        self.shown.len() == count || model::has_ended(&self.shown)
    }
}

impl World {
    /// A job is given to an actor: alone where it is suspected, and only then.
    pub(super) fn account_job(&mut self, job: &Assignment) -> Result<(), String> {
        // A part begins with what its request is charged with.
        let deaths = self.asked.get(&job.serves).map_or(0, |asked| asked.deaths);
        let new = JobAccount { serves: job.serves, deaths };
        let account = self.jobs.entry(job.request).or_insert(new);
        self.tally.adopted += u64::from(account.deaths > 0 && self.store.is_some() && !job.context.tokens.is_empty());
        let begins = job.carried.is_none() && !input(&job.work).is_empty();
        if let (Holding::Pages(Resident { kv_len, .. }), Some(asked)) = (&job.held, self.asked.get_mut(&job.serves))
            && begins
        {
            asked.found = kv_len.saturating_sub(job.context.tokens.len());
        }
        ensure(account.serves == job.serves, || format!("{:?} serves another than before", job.request))?;
        ensure(job.alone == (account.deaths > 0), || {
            format!("{:?} with {} deaths runs alone: {}", job.request, account.deaths, job.alone)
        })
    }

    /// Whose run ended in a death that counts.
    pub(super) fn account_deaths(&mut self, event: &Event) {
        let run_max = Duration::from_millis(self.run_max);
        let (key, running) = match event {
            Event::Died { actor, incarnation, running } => ((*actor, *incarnation), running),
            Event::Observed { actor, incarnation, run: Some(run) } if time(self.now).since(run.since) >= run_max => {
                ((*actor, *incarnation), &run.requests)
            }
            _ => return,
        };
        if self.lives.get(&key).is_none_or(|life| life.abandoned) {
            return;
        }
        for request in running {
            if let Some(job) = self.jobs.get_mut(request) {
                job.deaths += 1;
                if let Some(asked) = self.asked.get_mut(&job.serves) {
                    asked.deaths = asked.deaths.max(job.deaths);
                }
            }
        }
    }

    pub(super) fn open(&mut self, request: RequestId) -> Result<&mut Asked, String> {
        let asked = self.asked.get_mut(&request).ok_or_else(|| format!("{request:?} was never asked"))?;
        match asked.end {
            None => Ok(asked),
            Some(_) => Err(format!("{request:?} is named again after its end")),
        }
    }

    pub(super) fn close(&mut self, request: RequestId, end: End) -> Result<(), String> {
        self.open(request)?.end = Some(end);
        self.unanswered.remove(&request);
        Ok(())
    }

    pub(super) fn answered(&mut self, request: RequestId, answer: Answer) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.answered += 1;
        self.tally.rebuilt += u64::from(answer.rebuilt);
        self.tally.reused += u64::from(answer.reused > 0);
        let (rebuilt, paged) = (answer.rebuilt, self.store.is_some());
        ensure(paged || answer.reused == 0, || format!("{request:?} reuses what nobody shares"))?;
        ensure(!(paged && rebuilt), || format!("{request:?} says it was rebuilt, and pages are never gone"))?;
        let asked = self.open(request)?;
        let moved = matches!(answer.outcome, Outcome::Forgotten | Outcome::Moved);
        let (found, reused) = (asked.found, answer.reused);
        // The last token before the input may have been sampled, and not have been read yet either.
        ensure(moved || (found..=found + 1).contains(&reused), || {
            format!("{request:?} says that it reuses {reused} tokens, of its input {found} were there")
        })?;
        let (rebuilds, terms) = (asked.rebuilds && !moved && asked.shown.is_empty(), asked.arrival.terms.clone());
        let (ask, name) = (asked.arrival.ask.clone(), asked.arrival.conversation.clone());
        self.close(request, End::Answered(answer))?;
        let Some(name) = name else {
            return Ok(());
        };
        match &ask {
            Ask::Reset | Ask::Close => {
                self.cursed.remove(&name);
                self.quarantined.remove(&name);
            }
            Ask::Fork { .. } => self.tally.forks += 1,
            Ask::Rewind { .. } => self.tally.rewinds += 1,
            Ask::Step(step) if step.n > 1 => self.tally.severals += 1,
            _ => {}
        }
        self.tally.choices += u64::from(terms.choice.is_some());
        ensure(rebuilt || !rebuilds, || format!("{request:?} does not say that `{name}` was rebuilt"))?;
        if rebuilt {
            ensure(self.rebuilding.remove(&name), || format!("`{name}` says it was rebuilt, and was not"))?;
        }
        let others = match &ask {
            Ask::Fork { to, .. } => Some(to.clone()),
            _ => None,
        };
        for name in others.into_iter().chain([name]) {
            ensure(!self.quarantined.contains(&name), || format!("{request:?} of `{name}` is answered"))?;
            let before = self.last_answered.insert(name.clone(), request);
            ensure(before < Some(request), || format!("`{name}` answers {request:?} after {before:?}"))?;
        }
        Ok(())
    }

    pub(super) fn failed(&mut self, request: RequestId, error: BrainError, committed: usize) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.failed += 1;
        let (now, unavailable) = (self.now, self.down == self.actors || self.start_failed);
        let asked = self.open(request)?;
        let shown = asked.shown.len();
        ensure(shown == committed, || format!("{request:?} committed {committed}, {shown} were shown"))?;
        let deserved = match &error {
            BrainError::Timeout { deadline } => asked.at + deadline.as_millis() as u64 == now,
            BrainError::Restarted => asked.deaths >= 2,
            BrainError::Unavailable { .. } => unavailable,
            BrainError::Quarantined { .. } => true,
            _ => asked.deaths < 2,
        };
        let deaths = asked.deaths;
        let broken = format!("{request:?} with {deaths} deaths is answered {error:?} at {now}");
        let quarantined = matches!(error, BrainError::Quarantined { .. });
        self.close(request, End::Failed(error))?;
        self.tally.quarantined += u64::from(quarantined);
        ensure(deserved, || broken)
    }
}

/// Jobs by their numbers.
pub(super) type Jobs = BTreeMap<RequestId, JobAccount>;
