//! The end of a life: who is charged with it (`blame`), what becomes of its jobs and of the actor.
//!
//! Jobs wait again, and any actor goes on with them. Those that the actor was at work for are charged, be it a run or
//! anything else that it did with its engine; those that only waited are not, and a death in which it did nothing for
//! anybody is charged to nobody. Who is condemned is told so, and refused for a time.

use std::collections::BTreeSet;

use super::{
    ActorIndex, Caller, Effect, Life, Notice, Phase, Policy, Stage, WhenDown,
    actors::{Fall, Sequel},
    blame::Fingerprint,
};
use crate::{engine::LoadError, job::RequestId, message::BrainError};

impl Policy {
    /// An actor has died of what it did for these requests.
    pub(super) fn died(&mut self, actor: ActorIndex, running: &[RequestId], effects: &mut Vec<Effect>) {
        match self.actors[actor.0].life {
            Life::Stopping => {
                let jobs = self.actors[actor.0].stop();
                self.take_back(jobs, &BTreeSet::new(), &BTreeSet::new(), effects);
            }
            Life::Loading { .. } => {
                let message = "the actor died while it loaded its model".to_owned();
                self.load_failed(actor, LoadError { transient: true, message, hint: None }, effects);
            }
            _ => self.end_life(actor, running, effects),
        }
    }

    /// A life is over: its requests are charged or not, and wait again; it restarts or is down.
    pub(super) fn end_life(&mut self, actor: ActorIndex, running: &[RequestId], effects: &mut Vec<Effect>) {
        let (charged, condemned) = self.charge(actor, running);
        let fall = Fall {
            now: self.now,
            supervision: &self.config.supervision,
            charged: charged > 0,
            crowded: self.room_for_threads(Some(actor)) == 0,
            seed: self.config.seed ^ (actor.0 as u64).rotate_left(32),
        };
        let state = &mut self.actors[actor.0];
        let (incarnation, conversations) = (state.incarnation, state.conversations);
        let (sequel, jobs) = state.fall(fall);
        effects.push(Effect::Notice(match sequel {
            Sequel::Restart(pause) => Notice::Restarting { actor, incarnation, pause, charged },
            Sequel::Down(pause) => Notice::Down { actor, conversations, reason: self.why_down().to_owned(), pause },
        }));
        self.take_back(jobs, &running.iter().copied().collect(), &condemned, effects);
        if self.are_all_down() && self.model.is_some() {
            self.all_are_down(effects);
        }
        self.place_waiting(effects);
    }

    /// Charges what these requests ask with a death: how many fingerprints that are, and which of them are condemned.
    fn charge(&mut self, actor: ActorIndex, running: &[RequestId]) -> (usize, BTreeSet<Fingerprint>) {
        let charged: BTreeSet<Fingerprint> = running.iter().filter_map(|&it| self.fingerprint(it)).collect();
        // One of which nothing is known any more may have been it as well.
        let is_known = |request: &RequestId| self.requests.contains_key(request);
        let (alone, now) = (charged.len() == 1 && running.iter().all(is_known), self.now);
        let condemned = charged.iter().filter(|who| self.blame.charge(who, actor, alone, now)).cloned().collect();
        (charged.len(), condemned)
    }

    /// What a request asks, as it is charged with deaths; `None` where there is no such request.
    pub(super) fn fingerprint(&self, request: RequestId) -> Option<Fingerprint> {
        let pending = self.requests.get(&request)?;
        let whole = pending.whole_of().and_then(|whole| self.requests.get(&whole)).unwrap_or(pending);
        Some(match &whole.conversation {
            Some(name) => Fingerprint::Conversation(name.clone()),
            None => Fingerprint::of_input(self.config.seed, &whole.ask, &whole.tokens),
        })
    }

    /// A job has survived all runs that it had to itself, or was done before that, in one of them at least.
    pub(super) fn survived(&mut self, request: RequestId, all: bool) {
        let alone = self.requests.get(&request).map_or(0, |pending| pending.alone);
        if alone > 0
            && let Some(who) = self.fingerprint(request)
        {
            self.blame.survive(&who, if all { alone } else { 1 });
        }
    }

    /// Why a request is refused that may have killed actors.
    pub(super) fn check_blame(&self, who: &Fingerprint) -> Result<(), BrainError> {
        match self.blame.refused(who, self.now) {
            None => Ok(()),
            Some(retry_after) => {
                Err(BrainError::Quarantined { conversation: who.conversation().cloned(), retry_after })
            }
        }
    }

    /// The jobs of a dead actor wait again, but for those that nobody waits for and those that killed it once too often.
    pub(super) fn take_back(
        &mut self,
        jobs: BTreeSet<RequestId>,
        running: &BTreeSet<RequestId>,
        condemned: &BTreeSet<Fingerprint>,
        effects: &mut Vec<Effect>,
    ) {
        for who in condemned {
            effects.push(Effect::Notice(Notice::Quarantined(who.conversation().cloned())));
        }
        let mut names = Vec::new();
        for request in jobs {
            let killed = running.contains(&request);
            let guilty = killed && self.fingerprint(request).is_some_and(|who| condemned.contains(&who));
            self.unreserve(request);
            let Some(pending) = self.requests.get_mut(&request) else { continue };
            pending.stage = Stage::Waiting;
            pending.base = None;
            pending.moves = true;
            names.extend(pending.names());
            let told = pending.caller == Caller::Told;
            let left = pending.caller == Caller::Left;
            match pending.whole_of() {
                Some(whole) => self.take_part_back(request, whole, guilty, effects),
                None if told => drop(self.remove(request)),
                None if left => self.drop_left(request, effects),
                None if guilty => self.fail(request, BrainError::Restarted, effects),
                None => {
                    self.waiting.insert(request);
                    self.finish_shown(request, effects);
                }
            }
        }
        self.advance_each(names.into_iter(), effects);
    }

    /// A part of a request comes back from a dead actor.
    fn take_part_back(&mut self, part: RequestId, whole: RequestId, guilty: bool, effects: &mut Vec<Effect>) {
        if self.requests.get(&whole).is_none_or(|whole| whole.caller == Caller::Told) {
            self.remove(part);
            self.give_up_parts(whole, effects);
        } else if guilty {
            self.remove(part);
            self.fail_parted(whole, BrainError::Restarted, effects);
        } else {
            self.waiting.insert_part(part, whole);
        }
    }

    pub(super) fn are_all_down(&self) -> bool {
        self.actors.iter().all(|actor| matches!(actor.life, Life::Down { .. }))
    }

    /// Nobody is left to serve: who waits is told, and the brain goes on trying or gives up, as it was told to.
    fn all_are_down(&mut self, effects: &mut Vec<Effect>) {
        let error = self.unavailable();
        match self.config.when_down {
            WhenDown::Retry => self.fail_all(&error, effects),
            WhenDown::Stop if matches!(self.phase, Phase::Draining(_)) => self.fail_all(&error, effects),
            WhenDown::Stop => {
                self.fail_all(&error, effects);
                self.stop_for(self.why_down().to_owned(), effects);
            }
        }
    }

    /// What a request is told while every actor is down.
    pub(super) fn unavailable(&self) -> BrainError {
        let next = self.actors.iter().filter_map(|actor| match actor.life {
            Life::Down { at } => Some(at.since(self.now)),
            _ => None,
        });
        let pause = next.min().unwrap_or_default().as_millis();
        BrainError::Unavailable { reason: format!("every actor is down and is tried again in {pause} ms") }
    }
}
