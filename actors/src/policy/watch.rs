//! What time asks of the actors: looks at what they do, restarts, trials of those that are down, ends of loads. And the
//! threads that hang: each is left to itself with its engine, so there may only be so many of them.
//!
//! Time in which nobody ran is nobody's hang: a process is stopped and goes on, or gets no processor. Then the looks are
//! late, too, and by as much what is under way has more time.

use std::time::Duration;

use super::{ActorIndex, Effect, Incarnation, Life, Notice, Policy, Supervision, Time, actors::Actor};
use crate::job::Running;

/// How often an actor is looked at that is busy or loads, and besides when its limit is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A look that is later by more tells of a process that stood still, whatever the limits are: timers of one that runs are
/// late by milliseconds.
const LATE: Duration = Duration::from_secs(1);

impl Supervision {
    /// How long after one look at an actor that is busy the next one is due.
    pub(super) fn look_every(&self) -> Duration {
        LOOK_EVERY.min(self.run_max)
    }
}

impl Actor {
    /// Goes on loading, for which it has until then.
    pub(super) fn loads_until(&mut self, until: Time, now: Time) {
        self.life = Life::Loading { until };
        self.watch_at = Some(until.min(now + LOOK_EVERY));
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
                    state.late = stood_still(at, self.now);
                    state.watch_at = Some(self.now + supervision.look_every());
                    effects.push(Effect::Observe { actor, incarnation: state.incarnation });
                }
                (Life::Loading { until }, Some(at)) if at <= self.now => {
                    let until = until + stood_still(at, self.now);
                    match until <= self.now {
                        true => hung.push(actor),
                        false => state.loads_until(until, self.now),
                    }
                }
                _ => {}
            }
        }
        self.loads_hang(&hung, effects);
    }

    /// What a look at an actor's pulse showed.
    pub(super) fn observed(&mut self, actor: ActorIndex, run: Option<Running>, effects: &mut Vec<Effect>) {
        let (run_max, look_every) = (self.config.supervision.run_max, self.config.supervision.look_every());
        let state = &mut self.actors[actor.0];
        // One that is stopping is awaited as a shutdown says, and does not start again.
        if !state.is_busy() || state.life != Life::Ready {
            return;
        }
        let since = run.as_ref().map_or(self.now, |run| run.since);
        let lost = if state.lost.0 == since { state.lost.1 } else { Duration::ZERO };
        // What has begun since the look was due has lost no more than its time.
        let lost = lost + std::mem::take(&mut state.late).min(self.now.since(since));
        state.lost = (since, lost);
        let ran = self.now.since(since).saturating_sub(lost);
        state.watch_at = Some(self.now + run_max.saturating_sub(ran).min(look_every));
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

/// For how long all stood still, where a look that was due then comes now.
fn stood_still(due: Time, now: Time) -> Duration {
    let late = now.since(due);
    if late > LATE { late } else { Duration::ZERO }
}
