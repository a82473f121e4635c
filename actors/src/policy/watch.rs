//! What time asks of the actors: looks at what they do, restarts, trials of those that are down, ends of loads. And the
//! threads that hang: each is left to itself with its engine, so there may only be so many of them.
//!
//! Time in which nobody ran is nobody's hang: a process is stopped and goes on, or gets no processor. Then the looks are late,
//! too, and what is under way when the next one comes has its whole limit anew.

use std::time::Duration;

use super::{ActorIndex, Effect, Incarnation, Life, Notice, Policy, Supervision, actors::Actor};
use crate::{clock::Time, job::Running};

/// How often an actor is looked at that is busy, and how late a look is that tells of a process that stood still.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Supervision {
    /// How long after one look at an actor that is busy the next one is due.
    pub(super) fn look_every(&self) -> Duration {
        LOOK_EVERY.min(self.run_max)
    }
}

impl Policy {
    pub(super) fn tend_actors(&mut self, effects: &mut Vec<Effect>) {
        let mut room = self.room_for_threads(None);
        let supervision = &self.config.supervision;
        let mut hung = Vec::new();
        for (index, state) in self.actors.iter_mut().enumerate() {
            let actor = ActorIndex(index);
            match (state.life, state.watch_at) {
                (Life::Down { at }, _) if at <= self.now && room == 0 => {
                    state.life = Life::Down { at: self.now + supervision.retry_max };
                }
                (Life::Restarting { at } | Life::Down { at }, _) if at <= self.now => {
                    room -= usize::from(matches!(state.life, Life::Down { .. }));
                    effects.push(Effect::Spawn { actor, incarnation: state.rise(self.now, supervision) });
                }
                (Life::Ready, Some(at)) if at <= self.now => {
                    if stood_still(at, self.now) {
                        self.woke = self.now;
                    }
                    state.watch_at = Some(self.now + supervision.look_every());
                    effects.push(Effect::Observe { actor, incarnation: state.incarnation });
                }
                (Life::Loading { until }, _) if until <= self.now => match stood_still(until, self.now) {
                    true => state.life = Life::Loading { until: self.now + supervision.load_max },
                    false => hung.push(actor),
                },
                _ => {}
            }
        }
        self.loads_hang(&hung, effects);
    }

    /// What a pulse showed of an actor that has been busy for long.
    pub(super) fn observed(&mut self, actor: ActorIndex, run: Option<Running>, effects: &mut Vec<Effect>) {
        let (run_max, look_every) = (self.config.supervision.run_max, self.config.supervision.look_every());
        let state = &mut self.actors[actor.0];
        // One that is stopping is awaited as a shutdown says, and does not start again.
        if !state.is_busy() || state.life != Life::Ready {
            return;
        }
        // What has not begun yet cannot be over its limit before `run_max` has passed.
        let since = run.as_ref().map_or(self.now, |run| run.since.max(self.woke));
        state.watch_at = Some((since + run_max).min(self.now + look_every));
        let ran = self.now.since(since);
        if let Some(run) = run
            && ran >= run_max
        {
            let incarnation = state.incarnation;
            effects.push(Effect::Notice(Notice::Hung { actor, incarnation, ran }));
            self.abandon(actor, effects);
            self.end_life(actor, &run.requests, effects);
        }
    }

    /// Leaves an actor's thread to itself.
    pub(super) fn abandon(&mut self, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let incarnation = self.actors[actor.0].incarnation;
        self.abandoned.insert((actor, incarnation));
        effects.push(Effect::Abandon { actor, incarnation });
    }

    /// How many threads more there may be: as many hang as may beside one for each actor. So whoever dies can be started
    /// again, and of those who hang only so many. `dying`: an actor whose own thread has ended, or hangs.
    pub(super) fn room_for_threads(&self, dying: Option<ActorIndex>) -> usize {
        let lives = |(index, actor): &(usize, &Actor)| actor.has_thread() && dying != Some(ActorIndex(*index));
        let living = self.actors.iter().enumerate().filter(lives).count();
        let most = self.config.supervision.abandoned_max.saturating_add(self.actors.len());
        most.saturating_sub(self.abandoned.len() + living)
    }

    /// An abandoned thread has ended after all: who was down for it may start.
    pub(super) fn freed(&mut self, actor: ActorIndex, incarnation: Incarnation, effects: &mut Vec<Effect>) {
        let abandoned = self.abandoned.len();
        effects.push(Effect::Notice(Notice::Freed { actor, incarnation, abandoned }));
        if let Some(state) = self.actors.iter_mut().find(|state| state.is_crowded_out()) {
            state.life = Life::Down { at: self.now };
        }
    }
}

/// Whether what was due then comes so late that all stood still meanwhile.
fn stood_still(due: Time, now: Time) -> bool {
    now.since(due) > LOOK_EVERY
}
