//! The end: a graceful one (finish what was accepted, then stop the actors), and that of a brain
//! whose actors never could start. Both wait for the actors' threads, though not for ever.

use std::{collections::BTreeSet, time::Duration};

use super::{ActorIndex, Arrival, Effect, Event, Life, Phase, Policy, Time, actors::Actor, refuse};
use crate::{engine::LoadError, message::BrainError};

/// How long an actor is awaited whose job was taken from it at the end.
const GRACE: Duration = Duration::from_secs(1);

impl Policy {
    pub(super) fn shut_down(&mut self, within: Duration) {
        let until = self.now + within;
        match self.phase {
            Phase::Starting | Phase::Serving => self.phase = Phase::Draining(until),
            Phase::Draining(before) => self.phase = Phase::Draining(before.min(until)),
            Phase::Stopping(before) => self.phase = Phase::Stopping(before.min(until + GRACE)),
            Phase::Over => {}
        }
    }

    /// Moves on with a shutdown as far as it can go.
    pub(super) fn stop_when_drained(&mut self, effects: &mut Vec<Effect>) {
        if let Phase::Draining(until) = self.phase {
            if self.requests.is_empty() {
                self.stop_actors(until.max(self.now + GRACE), effects);
            } else if until <= self.now {
                let reason = "the brain shut down before this was done".to_owned();
                self.fail_all(&BrainError::Unavailable { reason }, effects);
                self.stop_actors(self.now + GRACE, effects);
            }
        }
        let Phase::Stopping(until) = self.phase else {
            return;
        };
        if until <= self.now {
            self.abandon_stopping(effects);
        }
        if self.actors.iter().all(|actor| actor.life == Life::Stopped) {
            self.phase = Phase::Over;
            effects.push(match self.start_failed.take() {
                Some(error) => Effect::StartFailed(error),
                None => Effect::ShutdownComplete,
            });
        }
    }

    /// Every actor is down, and nobody wants it tried again.
    pub(super) fn stop_for(&mut self, reason: String, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        effects.push(Effect::GaveUp(reason));
    }

    /// The end has come, and a request still does.
    pub(super) fn come_too_late(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Arrived(Arrival { request, .. }) | Event::Chaos { request, .. } => {
                refuse(request, BrainError::Unavailable { reason: "the brain has stopped".to_owned() }, effects);
            }
            _ => {}
        }
    }

    fn stop_actors(&mut self, until: Time, effects: &mut Vec<Effect>) {
        self.phase = Phase::Stopping(until);
        for (index, state) in self.actors.iter_mut().enumerate() {
            let stop = Effect::Stop { actor: ActorIndex(index), incarnation: state.incarnation };
            match state.life {
                // A load is awaited, too, though nobody wants its model any more: a program that ends
                // while the runtime is at work on another thread can crash in its last moment.
                Life::Ready | Life::Loading { .. } => {
                    state.life = Life::Stopping;
                    state.watch_at = state.watch_at.filter(|_| state.is_busy());
                    effects.push(stop);
                }
                Life::Restarting { .. } | Life::Down { .. } => state.life = Life::Stopped,
                Life::Stopping | Life::Stopped => {}
            }
        }
    }

    fn abandon_stopping(&mut self, effects: &mut Vec<Effect>) {
        let stopping = |(index, state): (usize, &Actor)| (state.life == Life::Stopping).then_some(ActorIndex(index));
        for actor in self.actors.iter().enumerate().filter_map(stopping).collect::<Vec<_>>() {
            // Their callers were told before; what they take up is nobody's now.
            let jobs = self.actors[actor.0].stop();
            self.take_back(jobs, &BTreeSet::new(), &BTreeSet::new(), effects);
            self.abandon(actor, effects);
        }
    }

    /// No actor was ever ready, and trying again would not help. Told when every actor has stopped.
    pub(super) fn give_up_starting(&mut self, error: LoadError, effects: &mut Vec<Effect>) {
        let reason = format!("the model could not be loaded: {}", error.message);
        let until = match self.phase {
            Phase::Draining(until) => until + GRACE,
            _ => self.now + self.config.supervision.run_max,
        };
        self.stop_actors(until, effects);
        self.start_failed = Some(error);
        self.fail_all(&BrainError::Unavailable { reason }, effects);
    }
}
