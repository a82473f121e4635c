//! Actors' lives: loads, runs and reports, and how they go wrong.

use motorbrain_actors::{
    engine::LoadError,
    job::{Report, RequestId},
    policy::{Chaos, Event, ObservedRun},
};

use super::super::model;
use super::{Due, LOAD_MAX, LifeKey, SimActor, World, time};

/// One life of an actor. It goes on after it was abandoned, and what it says then must not count.
pub(super) struct Life {
    pub(super) actor: SimActor,
    /// Since when it runs, and which requests have a row.
    pub(super) run: Option<ObservedRun>,
    pub(super) loaded: bool,
    pub(super) dead: bool,
    /// The policy has given it up.
    pub(super) abandoned: bool,
    /// When its last report reaches the brain: reports stay in order.
    pub(super) said_at: u64,
    /// Blocked until then, as by `hang`.
    pub(super) blocked_until: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    Well,
    Refused,
    Death,
}

impl World {
    pub(super) fn loaded(&mut self, key: LifeKey) {
        let fault = if self.faults { self.rng.below(100) } else { 100 };
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else {
            return;
        };
        match fault {
            0..4 => {
                life.dead = true;
                let error = LoadError { transient: true, message: "busy".to_owned(), hint: None };
                self.report(key, vec![Report::LoadFailed(error)]);
                self.say_died(key, Vec::new());
            }
            4..6 => {
                life.dead = true;
                self.say_died(key, Vec::new());
            }
            // It hangs, and may come back much too late.
            6..8 => {
                self.tally.loads_hung += 1;
                self.later(LOAD_MAX + 50, Due::Loaded(key));
            }
            _ => {
                life.loaded = true;
                self.report(key, vec![Report::Ready(model::info())]);
                self.later(0, Due::Begin(key));
            }
        }
    }

    pub(super) fn begin(&mut self, key: LifeKey) {
        let (fault, slow) = (self.rng.below(100), self.rng.below(4));
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        if life.dead || !life.loaded || life.run.is_some() || !life.actor.has_work() {
            return;
        }
        if life.blocked_until > self.now {
            let pause = life.blocked_until - self.now;
            return self.later(pause, Due::Begin(key));
        }
        let mut reports = Vec::new();
        let requests = life.actor.begin(&self.cancelled, &mut reports);
        let restores = life.actor.restores();
        self.tally.restored += u64::from(!restores.is_empty());
        let cursed = restores.iter().any(|name| self.cursed.contains(name));
        self.tally.cursed += u64::from(cursed);
        let poisoned = cursed || requests.iter().any(|request| self.poison.contains(request));
        life.run = Some(ObservedRun { since: time(self.now), requests });
        self.rebuilding.extend(life.actor.rebuilds());
        self.report(key, reports);
        let (lasts, ending) = match fault {
            _ if poisoned => (1, Ending::Death),
            _ if !self.faults => (1, Ending::Well),
            0..2 => (1 + slow, Ending::Death),
            2..4 => (2 * self.run_max, Ending::Well),
            4..5 => (2 * self.run_max, Ending::Death),
            5..8 => (1, Ending::Refused),
            8..14 => (20 * slow, Ending::Well),
            _ => (slow, Ending::Well),
        };
        self.later(lasts, Due::End(key, ending));
    }

    pub(super) fn end(&mut self, key: LifeKey, ending: Ending) {
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        let Some(run) = life.run.take() else { return };
        let mut reports = Vec::new();
        match ending {
            Ending::Well => life.actor.end(None, &mut reports),
            Ending::Refused => life.actor.end(run.requests.first().copied(), &mut reports),
            Ending::Death => {
                if !life.dead {
                    life.dead = true;
                    self.say_died(key, run.requests);
                }
                return;
            }
        }
        self.report(key, reports);
        self.later(0, Due::Begin(key));
    }

    /// Reports arrive late, but in order.
    fn report(&mut self, key: LifeKey, reports: Vec<Report>) {
        for report in reports {
            let (actor, incarnation) = key;
            self.say(key, Event::Reported { actor, incarnation, report });
        }
    }

    pub(super) fn say_died(&mut self, key: LifeKey, running: Vec<RequestId>) {
        let (actor, incarnation) = key;
        self.say(key, Event::Died { actor, incarnation, running });
    }

    fn say(&mut self, key: LifeKey, event: Event) {
        let late = if self.rng.chance(10) { self.rng.below(30) } else { 0 };
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        life.said_at = life.said_at.max(self.now + late);
        let after = life.said_at - self.now;
        self.later(after, Due::Tell(event));
    }

    pub(super) fn inflict(&mut self, key: LifeKey, chaos: Chaos) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else {
            return;
        };
        match chaos {
            // The message waits until the run is over, so the death is outside a run.
            Chaos::Crash if life.run.is_none() => {
                life.dead = true;
                self.say_died(key, Vec::new());
            }
            Chaos::Crash => {}
            Chaos::Hang(duration) => life.blocked_until = self.now + duration.as_millis() as u64,
        }
    }
}
