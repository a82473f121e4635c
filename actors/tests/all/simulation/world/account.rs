//! The account of what was asked and answered, and what an answer may say by itself. Whether it is right is another's
//! matter (`truth`).

use std::{collections::BTreeMap, time::Duration};

use motorbrain_actors::{
    engine::{Resident, Sampled},
    job::{Holding, Outcome, Report, RequestId, Work},
    message::{BrainError, ConversationId},
    policy::{ActorIndex, Answer, Arrival, Ask, Assignment, Event, Health},
    tokens::TokenId,
    vectors::Framed,
};

use super::super::model;
use super::{World, ensure, time};

/// One request's account.
pub(super) struct Asked {
    pub(super) arrival: Arrival,
    /// Its tokens, where it came as text.
    pub(super) tokens: Vec<TokenId>,
    /// Where its pieces end, each of which is to have a vector; none where it has one.
    pub(super) ends: Vec<usize>,
    pub(super) at: u64,
    pub(super) shown: Vec<Sampled>,
    pub(super) end: Option<End>,
    /// A job of it has rebuilt its conversation.
    pub(super) rebuilds: bool,
    /// Tokens of its input that its last job found read.
    pub(super) found: usize,
    /// Tokens of the probe behind it that were: another's that came to nothing.
    pub(super) probe_found: usize,
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
    /// Runs that it was to have alone when it was last given to an actor.
    pub(super) alone: u32,
}

impl Asked {
    /// The conversations in whose queues it waits.
    pub(super) fn names(&self) -> impl Iterator<Item = &ConversationId> {
        let to = match &self.arrival.ask {
            Ask::Fork { to, .. } => Some(to),
            _ => None,
        };
        self.arrival.conversation.iter().chain(to)
    }

    /// What stands around its tokens, where a probe gives their vector.
    pub(super) fn frame(&self) -> Option<&Framed> {
        match &self.arrival.ask {
            Ask::Embed(embed) => embed.frame.as_deref(),
            _ => None,
        }
    }

    /// All tokens that are run for it behind its conversation, where it is not too long for a window.
    pub(super) fn runs(&self) -> Vec<TokenId> {
        match self.frame() {
            Some(_) if self.tokens.is_empty() => Vec::new(),
            Some(frame) if self.arrival.conversation.is_none() => {
                [&frame.prefix[..], &self.tokens, &frame.probe].concat()
            }
            Some(frame) => [&self.tokens[..], &frame.probe].concat(),
            None => self.tokens.clone(),
        }
    }

    /// The pieces of which each is to have a vector, where that is more than one vector of what runs at once.
    pub(super) fn pieces(&self) -> Option<Vec<&[TokenId]>> {
        let slides = self.frame().is_some() && self.runs().len() > model::WINDOW.size;
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        let pieces = || begins.zip(&self.ends).map(|(begin, &end)| &self.tokens[begin..end]).collect();
        (self.ends.len() > 1 || self.ends.len() == 1 && slides).then(pieces)
    }

    /// Whether a streamed step has come to its end.
    pub(super) fn has_shown_all(&self) -> bool {
        let (count, grammar) = match &self.arrival.ask {
            Ask::Step(step) => (step.count, step.grammar.as_ref()),
            _ => (0, None),
        };
        let spelled = || grammar.is_some_and(|grammar| model::has_spelled(grammar, &self.shown));
        self.shown.len() == count || model::has_ended(&self.shown) || spelled()
    }
}

impl World {
    /// A job is given to an actor: alone where it is suspected, and only then; and not to one that died of it before, where
    /// there is another.
    pub(super) fn account_job(&mut self, job: &Assignment, actor: ActorIndex) -> Result<(), String> {
        self.court.at(self.now);
        let killed = self.asked.get(&job.serves).and_then(|asked| self.court.avoids(asked));
        let is_bound = job.held == Holding::Slot || self.returned.contains(&job.request);
        let again = killed == Some(actor) && !is_bound && self.ledger.has_other(actor);
        ensure(!again, || format!("{:?} has killed {actor:?} and is given to it again", job.request))?;
        let account = self.jobs.entry(job.request).or_insert(JobAccount { serves: job.serves, alone: 0 });
        account.alone = job.alone;
        let alone = self.asked.get(&job.serves).map_or(0, |asked| self.court.runs_alone(asked));
        self.tally.adopted += u64::from(alone > 0 && self.pages.is_some() && !job.context.tokens.is_empty());
        let probes = job.request != job.serves && matches!(job.work, Work::Embed { .. });
        let begins = job.carried.is_none() && !input(&job.work).is_empty();
        if let (Holding::Pages(Resident { kv_len, .. }), Some(asked)) = (&job.held, self.asked.get_mut(&job.serves))
            && begins
        {
            let found = if probes { &mut asked.probe_found } else { &mut asked.found };
            *found = kv_len.saturating_sub(job.context.tokens.len());
        }
        ensure(account.serves == job.serves, || format!("{:?} serves another than before", job.request))?;
        ensure(job.alone == alone, || format!("{:?} has {} runs alone, expected {alone}", job.request, job.alone))
    }

    /// Takes note of deaths that count, and of who survived what.
    pub(super) fn hear(&mut self, event: &Event) {
        let run_max = Duration::from_millis(self.run_max);
        let charged = match event {
            Event::Died { actor, incarnation, running } => self.ledger.having((*actor, *incarnation), running).count(),
            Event::Observed { actor, incarnation, run: Some(run) } => {
                self.ledger.having((*actor, *incarnation), &run.requests).count()
            }
            _ => 0,
        };
        self.wards.hear(event, charged);
        let (key, running) = match event {
            Event::Died { actor, incarnation, running } => ((*actor, *incarnation), running),
            Event::Observed { actor, incarnation, run: Some(run) } if time(self.now).since(run.since) >= run_max => {
                ((*actor, *incarnation), &run.requests)
            }
            Event::Reported { actor, incarnation, report } => {
                let survived = match report {
                    Report::Cleared { request } => Some((*request, u32::MAX)),
                    Report::Done(done) if done.outcome.is_ok() => Some((done.request, 1)),
                    Report::Returned { request, .. } => {
                        self.returned.insert(*request);
                        None
                    }
                    _ => None,
                };
                // What somebody says whose death was told is not heard any more.
                let counts = self.lives.get(&(*actor, *incarnation)).is_some_and(|life| !life.abandoned)
                    && self.wards.is_current(*actor, *incarnation);
                let Some((job, runs)) = survived.filter(|_| counts) else { return };
                if let Some(JobAccount { serves, alone: alone @ 1.. }) = self.jobs.get(&job)
                    && let Some(asked) = self.asked.get(serves)
                {
                    self.court.survive(asked, runs.min(*alone));
                }
                return;
            }
            _ => return,
        };
        if self.lives.get(&key).is_none_or(|life| life.abandoned || life.stopped) {
            return;
        }
        // Of a run's jobs some may have ended before it did.
        let all = running.len();
        let running: Vec<RequestId> = self.ledger.having(key, running).copied().collect();
        let asked = running.iter().filter_map(|job| self.asked.get(&self.jobs.get(job)?.serves));
        self.court.charge(asked, running.len() == all, key.0, self.now);
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
        let (rebuilt, paged) = (answer.rebuilt, self.pages.is_some());
        ensure(paged || answer.reused == 0, || format!("{request:?} reuses what nobody shares"))?;
        ensure(!(paged && rebuilt) || self.tally.left > 0, || {
            format!("{request:?} says it was rebuilt, and pages are never gone")
        })?;
        let asked = self.open(request)?;
        let moved = matches!(answer.outcome, Outcome::Forgotten | Outcome::Moved);
        // What pieces take over is added up.
        let in_pieces = matches!(answer.outcome, Outcome::Pieces(_));
        let (found, reused) = (asked.found + asked.probe_found, answer.reused);
        let has_pieces = asked.pieces().is_some();
        // Where nothing is sampled, no job need be given.
        let samples_nothing = matches!(&asked.arrival.ask, Ask::Step(step) if step.count == 0 && step.n == 1);
        let tokens = asked.tokens.len();
        let present = samples_nothing && reused > 0 && (tokens..=tokens + 1).contains(&(reused + 1));
        // The last token before the input may have been sampled, and not have been read yet either.
        ensure(moved || in_pieces || present || (found..=found + 1).contains(&reused), || {
            format!("{request:?} says that it reuses {reused} tokens, of its input {found} were there")
        })?;
        let (rebuilds, terms) = (asked.rebuilds && !moved && asked.shown.is_empty(), asked.arrival.terms.clone());
        let (ask, name) = (asked.arrival.ask.clone(), asked.arrival.conversation.clone());
        self.close(request, End::Answered(answer))?;
        self.tally.pieces += u64::from(has_pieces);
        self.tally.present += u64::from(present && !self.jobs.contains_key(&request));
        let Some(name) = name else {
            return Ok(());
        };
        match &ask {
            Ask::Reset | Ask::Close => {
                self.rebuilding.remove(&name);
                self.court.pardon(&name);
            }
            Ask::Fork { to, .. } => {
                self.tally.forks += 1;
                if self.left.contains(&name) {
                    self.left.insert(to.clone());
                }
            }
            Ask::Rewind { .. } => self.tally.rewinds += 1,
            Ask::Step(step) if step.n > 1 => self.tally.severals += 1,
            _ => {}
        }
        // Of several answers the first may have slid.
        let several = matches!(&ask, Ask::Step(step) if step.n > 1);
        if !several && matches!(ask, Ask::Embed(_) | Ask::Step(_) | Ask::Score { .. } | Ask::Reset | Ask::Close) {
            self.left.remove(&name);
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
            let (now, cleared) = (self.now, matches!(ask, Ask::Reset | Ask::Close));
            ensure(cleared || !self.court.condemns(&name, now), || format!("{request:?} of `{name}` is answered"))?;
            let before = self.last_answered.insert(name.clone(), request);
            ensure(before < Some(request), || format!("`{name}` answers {request:?} after {before:?}"))?;
        }
        Ok(())
    }

    /// A conversation is gone of which nothing is asked.
    pub(super) fn forget(&mut self, name: ConversationId) {
        self.tally.forgotten += 1;
        self.left.remove(&name);
        self.rebuilding.remove(&name);
        let next = self.asked.last_key_value().map_or(0, |(request, _)| request.0 + 1);
        self.forgotten.push((RequestId(next), name));
    }

    /// How many others are unfinished in a request's conversation, those among them whose jobs go on.
    fn queued_with(&self, request: RequestId) -> usize {
        let name = self.asked.get(&request).and_then(|asked| asked.arrival.conversation.as_ref());
        let is_there = |other: &&RequestId| {
            let names = self.asked.get(other).into_iter().flat_map(Asked::names);
            **other != request && names.into_iter().any(|its| Some(its) == name)
        };
        self.unanswered.union(&self.lingering).filter(is_there).count()
    }

    pub(super) fn failed(&mut self, request: RequestId, error: BrainError, committed: usize) -> Result<(), String> {
        if request.0 >= 1_000_000 {
            return Ok(());
        }
        self.tally.failed += 1;
        self.tally.cancelled += u64::from(error == BrainError::Cancelled);
        let (now, down) = (self.now, matches!(self.policy.health(), Health::Down { .. }));
        let unavailable = down || self.start_failed || self.shut;
        let asked = self.open(request)?;
        let shown = asked.shown.len();
        ensure(shown == committed, || format!("{request:?} committed {committed}, {shown} were shown"))?;
        let at = asked.at;
        let guilty = |world: &Self| world.asked.get(&request).is_some_and(|asked| world.court.is_condemned(asked, now));
        let deserved = match &error {
            BrainError::Timeout { deadline } => at + deadline.as_millis() as u64 == now,
            BrainError::Restarted => guilty(self),
            BrainError::Quarantined { .. } => guilty(self) || self.court.condemns_any(now),
            BrainError::Engine { .. } => self.blamed.contains(&request),
            BrainError::Unavailable { .. } => unavailable,
            BrainError::Cancelled => self.cancels.contains(&request),
            // One answer always fits.
            BrainError::TooLarge { .. } => {
                matches!(&self.asked[&request].arrival.ask, Ask::Step(step) if step.n > 1)
            }
            BrainError::Overloaded { what: "requests of a conversation", limit, .. } => {
                self.queued_with(request) >= *limit
            }
            _ => true,
        };
        let accused = matches!(error, BrainError::Restarted | BrainError::Quarantined { .. });
        let innocent = self.only_poison && accused && !self.is_poison(request);
        let broken = format!("{request:?} is answered {error:?} at {now}, innocent: {innocent}");
        let deserved = deserved && !innocent;
        let quarantined = matches!(error, BrainError::Quarantined { .. });
        self.tally.overloaded += u64::from(matches!(error, BrainError::Overloaded { .. }));
        self.close(request, End::Failed(error))?;
        self.tally.quarantined += u64::from(quarantined);
        ensure(deserved, || broken)
    }
}

/// Jobs by their numbers.
pub(super) type Jobs = BTreeMap<RequestId, JobAccount>;

/// What a work appends before it samples.
fn input(work: &Work) -> &[TokenId] {
    match work {
        Work::Embed { tokens, .. } | Work::Step { tokens, .. } | Work::Score { tokens, .. } => tokens,
        Work::Forget => &[],
    }
}
