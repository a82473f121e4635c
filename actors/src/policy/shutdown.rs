//! The end: a graceful one (finish what was accepted, then stop the actors), and that of a brain
//! whose actors never could start. Both wait for the actors' threads, though not for ever.

use super::{ActorIndex, Effect, Life, Phase, Policy};
use crate::{engine::LoadError, message::BrainError};

impl Policy {
    pub(super) fn shut_down(&mut self) {
        if matches!(self.phase, Phase::Starting | Phase::Serving) {
            self.phase = Phase::Draining;
        }
    }

    /// Moves on with a shutdown as far as it can go. A run that hangs is ended by the watchdog, so no
    /// request keeps the brain for ever.
    pub(super) fn stop_when_drained(&mut self, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Draining && self.requests.is_empty() {
            self.stop_actors(effects);
        }
        let Phase::Stopping(until) = self.phase else {
            return;
        };
        if until <= self.now {
            self.abandon_stopping(effects);
        }
        if self.actors.iter().all(|actor| matches!(actor.life, Life::Down | Life::Stopped)) {
            self.phase = Phase::Over;
            effects.push(match self.start_failed.take() {
                Some(error) => Effect::StartFailed(error),
                None => Effect::ShutdownComplete,
            });
        }
    }

    fn stop_actors(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Stopping(self.now + self.config.supervision.run_max);
        for (index, state) in self.actors.iter_mut().enumerate() {
            let stop = Effect::Stop { actor: ActorIndex(index), incarnation: state.incarnation };
            match state.life {
                // A load is awaited, too, though nobody wants its model any more: a program that ends
                // while the runtime is at work on another thread can crash in its last moment.
                Life::Ready | Life::Starting { .. } => {
                    state.life = Life::Stopping;
                    effects.push(stop);
                }
                Life::Restarting { .. } => state.life = Life::Stopped,
                Life::Down | Life::Stopping | Life::Stopped => {}
            }
        }
    }

    fn abandon_stopping(&mut self, effects: &mut Vec<Effect>) {
        for (index, state) in self.actors.iter_mut().enumerate() {
            if state.life == Life::Stopping {
                state.life = Life::Stopped;
                effects.push(Effect::Abandon { actor: ActorIndex(index), incarnation: state.incarnation });
            }
        }
    }

    /// No actor was ever ready, and trying again would not help. Told when every actor has stopped.
    pub(super) fn give_up_starting(&mut self, error: LoadError, effects: &mut Vec<Effect>) {
        let reason = format!("the model could not be loaded: {}", error.message);
        self.stop_actors(effects);
        self.start_failed = Some(error);
        self.fail_all(&BrainError::Unavailable { reason }, effects);
    }
}
