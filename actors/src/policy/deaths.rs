//! Actors' lives: ready, dead, hung, down. Who is to blame, and what becomes of their conversations.
//!
//! A request that had a row in the run that died is charged and from then on runs alone, so a second
//! death has one culprit: it is answered `restarted`, its conversation quarantined. A row that read the
//! conversation's history again counts as well, or a history that kills would kill every actor.
//! Requests that only waited, and a death outside a run, charge nobody.

use super::{
    ActorIndex, Effect, Life, Notice, ObservedRun, Pending, Phase, Policy, Stage, actors::Sequel, admission, all_down,
    prefixes::Prefixes,
};
use crate::{
    engine::{EngineInfo, LoadError},
    job::RequestId,
    message::{BrainError, ConversationId},
};

/// Deaths after which a request is given up.
const DEATHS_MAX: u32 = 2;

impl Policy {
    /// An actor has loaded its model and serves.
    pub(super) fn ready(&mut self, actor: ActorIndex, model: EngineInfo, effects: &mut Vec<Effect>) {
        let state = &mut self.actors[actor.0];
        let incarnation = state.incarnation;
        if !matches!(state.life, Life::Starting { .. }) {
            return; // told to stop meanwhile
        }
        if self.model.as_ref().is_some_and(|first| *first != model) {
            // Histories and checks are those of the first model: another one's tokens mean something else.
            let message = "the model is another one than at start-up".to_owned();
            effects.push(Effect::Abandon { actor, incarnation });
            return self.load_failed(actor, LoadError { transient: true, message, hint: None }, effects);
        }
        state.life = Life::Ready;
        effects.push(Effect::Notice(Notice::Ready { actor, incarnation }));
        if self.model.is_none() {
            effects.push(Effect::Started(model.clone()));
            self.prefixes = model.pages.map(|page| {
                let bytes = self.config.cached_bytes;
                Prefixes::new(page.tokens, bytes / page.bytes.max(1))
            });
            self.model = Some(model.clone());
            if self.phase == Phase::Starting {
                self.phase = Phase::Serving;
            }
            self.check_waiting(&model, effects);
        }
        self.advance_all(effects);
    }

    /// What came in before the model was known is checked against it now.
    fn check_waiting(&mut self, model: &EngineInfo, effects: &mut Vec<Effect>) {
        let refused: Vec<(RequestId, BrainError)> = self
            .requests
            .iter()
            .filter_map(|(&request, pending)| {
                Some((request, admission::check_model(&pending.ask, &pending.tokens, model).err()?))
            })
            .collect();
        for (request, error) in refused {
            let name = self.requests.get(&request).and_then(|pending| pending.conversation.clone());
            self.fail(request, error, effects);
            self.advance_if_any(name.as_ref(), effects);
        }
    }

    /// An actor has no engine: it is tried again, or the start is over.
    pub(super) fn load_failed(&mut self, actor: ActorIndex, error: LoadError, effects: &mut Vec<Effect>) {
        if self.actors[actor.0].life == Life::Stopping {
            return; // its end is awaited, and follows
        }
        effects.push(Effect::Notice(Notice::LoadFailed { actor, error: error.clone() }));
        if self.model.is_none() && !error.transient {
            return self.give_up_starting(error, effects);
        }
        self.end_life(actor, &[], effects);
        if self.model.is_none() && self.actors.iter().all(|actor| actor.life == Life::Down) {
            self.give_up_starting(error, effects);
        }
    }

    /// An actor has died in a run of these requests, which are charged with it.
    pub(super) fn died(&mut self, actor: ActorIndex, running: &[RequestId], effects: &mut Vec<Effect>) {
        match self.actors[actor.0].life {
            Life::Stopping => self.actors[actor.0].life = Life::Stopped,
            Life::Starting { .. } => {
                let message = "the actor died while it loaded its model".to_owned();
                self.load_failed(actor, LoadError { transient: true, message, hint: None }, effects);
            }
            _ => self.end_life(actor, running, effects),
        }
    }

    /// What a pulse showed of an actor that has been busy for long.
    pub(super) fn observed(&mut self, actor: ActorIndex, run: Option<ObservedRun>, effects: &mut Vec<Effect>) {
        let run_max = self.config.supervision.run_max;
        let state = &mut self.actors[actor.0];
        if state.jobs.is_empty() {
            return;
        }
        // A run that has not begun yet cannot be over its limit before `run_max` has passed.
        let since = run.as_ref().map_or(self.now, |run| run.since);
        state.watch_at = Some(since + run_max);
        let ran = self.now.since(since);
        if let Some(run) = run
            && ran >= run_max
        {
            let incarnation = state.incarnation;
            effects.push(Effect::Notice(Notice::Hung { actor, incarnation, ran }));
            effects.push(Effect::Abandon { actor, incarnation });
            self.end_life(actor, &run.requests, effects);
        }
    }

    /// What time asks of the actors: looks at pulses, restarts, ends of loads that do not return.
    pub(super) fn tend_actors(&mut self, effects: &mut Vec<Effect>) {
        let supervision = &self.config.supervision;
        let mut hung = Vec::new();
        for (index, state) in self.actors.iter_mut().enumerate() {
            let actor = ActorIndex(index);
            match (state.life, state.watch_at) {
                (Life::Restarting { at }, _) if at <= self.now => {
                    effects.push(Effect::Spawn { actor, incarnation: state.rise(self.now, supervision) });
                }
                (Life::Ready, Some(at)) if at <= self.now => {
                    state.watch_at = Some(self.now + supervision.run_max);
                    effects.push(Effect::Observe { actor, incarnation: state.incarnation });
                }
                (Life::Starting { until }, _) if until <= self.now => hung.push(actor),
                _ => {}
            }
        }
        self.loads_hung(hung, effects);
    }

    /// Loads do not return. At start-up somebody waits for them, and no more than once.
    fn loads_hung(&mut self, hung: Vec<ActorIndex>, effects: &mut Vec<Effect>) {
        let first = self.model.is_none();
        for &actor in &hung {
            let state = &mut self.actors[actor.0];
            effects.push(Effect::Abandon { actor, incarnation: state.incarnation });
            if first {
                state.life = Life::Stopped;
            }
        }
        let seconds = self.config.supervision.load_max.as_secs_f64();
        let error = LoadError {
            transient: !first,
            message: format!("the model was not loaded within {seconds} s"),
            hint: Some("see what keeps its files from being read, or give a load more time".to_owned()),
        };
        for actor in hung.into_iter().take(if first { 1 } else { usize::MAX }) {
            self.load_failed(actor, error.clone(), effects);
        }
    }

    /// A life is over: its requests are charged or not, and wait again; it restarts or is down.
    fn end_life(&mut self, actor: ActorIndex, running: &[RequestId], effects: &mut Vec<Effect>) {
        let state = &mut self.actors[actor.0];
        let incarnation = state.incarnation;
        let (sequel, jobs) = state.fall(self.now, &self.config.supervision);
        if self.page_size().is_none() {
            let held = self.conversations.values_mut().filter(|conversation| conversation.owner == Some(actor));
            held.for_each(|conversation| conversation.held = false);
        }
        let charged = jobs.iter().filter(|request| running.contains(request)).count();
        match sequel {
            Sequel::Restart(pause) => {
                effects.push(Effect::Notice(Notice::Restarting { actor, incarnation, pause, charged }));
            }
            Sequel::Down => self.move_out(actor, effects),
        }
        for request in jobs {
            self.take_back(request, running.contains(&request), effects);
        }
        if self.actors.iter().all(|actor| actor.life == Life::Down) {
            self.fail_all(&all_down(), effects);
        }
        self.advance_all(effects);
    }

    /// The conversations of an actor that is down find another home at their next turn.
    fn move_out(&mut self, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let mut moved = 0;
        for conversation in self.conversations.values_mut().filter(|conversation| conversation.owner == Some(actor)) {
            conversation.owner = None;
            moved += 1;
        }
        self.actors[actor.0].conversations = 0;
        effects.push(Effect::Notice(Notice::Down { actor, conversations: moved }));
    }

    /// A job comes back from a dead actor.
    fn take_back(&mut self, request: RequestId, charged: bool, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        };
        pending.stage = Stage::Waiting;
        pending.deaths += u32::from(charged);
        pending.base = None;
        let (name, told, deaths) = (pending.conversation.clone(), pending.told, pending.deaths);
        if let Some(whole) = pending.whole_of() {
            return self.take_part_back(request, whole, deaths >= DEATHS_MAX, effects);
        }
        if told {
            self.remove(request);
        } else if deaths >= DEATHS_MAX {
            self.fail(request, BrainError::Restarted, effects);
            self.quarantine(name, effects);
        } else if name.is_none() {
            self.loose.insert(request);
        } else {
            self.finish_shown(request, effects);
        }
    }

    /// A part of several answers comes back from a dead actor.
    fn take_part_back(&mut self, part: RequestId, whole: RequestId, killed: bool, effects: &mut Vec<Effect>) {
        let deaths = self.requests.get(&part).map_or(0, |part| part.deaths);
        let Some(pending) = self.requests.get_mut(&whole) else { return };
        pending.deaths = pending.deaths.max(deaths);
        let (told, name) = (pending.told, pending.conversation.clone());
        if told || killed {
            self.remove(part);
        } else {
            self.loose.insert(part);
        }
        if killed && !told {
            // First, or what waits behind it would be sent.
            self.quarantine(name, effects);
            self.fail_parted(whole, BrainError::Restarted, effects);
        } else if told {
            self.give_up_parts(whole, effects);
        }
    }

    fn quarantine(&mut self, name: Option<ConversationId>, effects: &mut Vec<Effect>) {
        if let Some(name) = name
            && let Some(conversation) = self.conversations.get_mut(&name)
        {
            conversation.quarantined = true;
            effects.push(Effect::Notice(Notice::Quarantined(name)));
        }
    }

    /// Answers everything that is unfinished with one error.
    pub(super) fn fail_all(&mut self, error: &BrainError, effects: &mut Vec<Effect>) {
        let names: Vec<_> = self.requests.values().flat_map(Pending::names).collect();
        let requests: Vec<RequestId> = self.requests.keys().copied().collect();
        for request in requests {
            self.fail(request, error.clone(), effects);
        }
        for name in &names {
            self.advance(name, effects);
        }
    }
}
