//! Loads: the first one, for which somebody waits, and those of actors that start again.
//!
//! Before any actor was ready a load that cannot get better ends the start, and so does one that does not return. Later
//! ones are a death like another: the actor is tried again, whatever the reason, since files may come back.

use super::{ActorIndex, Effect, Life, Notice, Phase, Policy, prefixes::Prefixes};
use crate::engine::{EngineInfo, LoadError};

impl Policy {
    /// An actor has loaded its model and serves.
    pub(super) fn ready(&mut self, actor: ActorIndex, model: EngineInfo, effects: &mut Vec<Effect>) {
        if !matches!(self.actors[actor.0].life, Life::Loading { .. }) {
            return; // told to stop meanwhile
        }
        match &self.model {
            None => self.first_ready(model, effects),
            Some(first) if *first != model => {
                // Histories and checks are those of the first model: another one's tokens mean something else.
                let message = "the model is another one than at start-up".to_owned();
                self.abandon(actor, effects);
                return self.load_failed(actor, LoadError { transient: true, message, hint: None }, effects);
            }
            Some(_) => {}
        }
        let state = &mut self.actors[actor.0];
        (state.life, state.watch_at) = (Life::Ready, None);
        effects.push(Effect::Notice(Notice::Ready { actor, incarnation: state.incarnation }));
        self.place_waiting(effects);
    }

    /// It is known now what the model is.
    fn first_ready(&mut self, model: EngineInfo, effects: &mut Vec<Effect>) {
        effects.push(Effect::Started(model.clone()));
        self.prefixes = model.pages.map(|page| {
            let bytes = self.config.cached_bytes;
            Prefixes::new(page.tokens, bytes / page.bytes.max(1))
        });
        self.model = Some(model);
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
        }
    }

    /// An actor has no engine.
    pub(super) fn load_failed(&mut self, actor: ActorIndex, error: LoadError, effects: &mut Vec<Effect>) {
        if self.actors[actor.0].life == Life::Stopping {
            return; // its end is awaited, and follows
        }
        effects.push(Effect::Notice(Notice::LoadFailed { actor, error: error.clone() }));
        if self.model.is_some() {
            self.end_life(actor, &[], effects);
        } else if error.transient {
            self.first_load_failed(actor, error, effects);
        } else {
            self.give_up_starting(error, effects);
        }
    }

    /// It may get better: the start is over when every actor has tried often enough.
    fn first_load_failed(&mut self, actor: ActorIndex, error: LoadError, effects: &mut Vec<Effect>) {
        self.end_life(actor, &[], effects);
        if self.are_all_down() {
            self.give_up_starting(error, effects);
        }
    }

    /// Loads do not return.
    pub(super) fn loads_hang(&mut self, hung: &[ActorIndex], effects: &mut Vec<Effect>) {
        let Some(&first) = hung.first() else { return };
        let seconds = self.config.supervision.load_max.as_secs_f64();
        let error = LoadError {
            transient: self.model.is_some(),
            message: format!("the model was not loaded within {seconds} s"),
            hint: Some("see what keeps its files from being read, or give a load more time".to_owned()),
        };
        for &actor in hung {
            self.abandon(actor, effects);
        }
        if self.model.is_some() {
            hung.iter().for_each(|&actor| self.load_failed(actor, error.clone(), effects));
        } else {
            // Somebody waits for the start, and is told once.
            hung.iter().for_each(|actor| drop(self.actors[actor.0].stop()));
            self.load_failed(first, error, effects);
        }
    }
}
