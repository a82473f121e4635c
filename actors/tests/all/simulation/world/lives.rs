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
    /// Since then it only writes what has no meaning, for as long as it can.
    pub(super) garbles: bool,
    /// When its last report reaches the brain: reports stay in order.
    pub(super) said_at: u64,
    /// Blocked until then, as by `hang`.
    pub(super) blocked_until: u64,
}

impl Life {
    /// It ends, and with it all that it had.
    pub(super) fn die(&mut self) {
        self.dead = true;
        self.actor = SimActor::new(None);
    }
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
        let pages = self.store.as_ref().map(|store| store.size);
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else {
            return;
        };
        match fault {
            0..4 => {
                life.die();
                let error = LoadError { transient: true, message: "busy".to_owned(), hint: None };
                self.report(key, vec![Report::LoadFailed(error)]);
                self.say_died(key, Vec::new());
            }
            4..6 => {
                life.die();
                self.say_died(key, Vec::new());
            }
            // It hangs, and may come back much too late.
            6..8 => {
                self.tally.loads_hung += 1;
                self.later(LOAD_MAX + 50, Due::Loaded(key));
            }
            _ => {
                life.loaded = true;
                self.report(key, vec![Report::Ready(model::info(pages))]);
                self.later(0, Due::Begin(key));
            }
        }
    }

    pub(super) fn begin(&mut self, key: LifeKey) {
        let (fault, slow) = (self.rng.below(100), self.rng.below(4));
        let Some(life) = self.lives.get_mut(&key) else {
            return;
        };
        if life.dead || life.garbles || !life.loaded || life.run.is_some() || !life.actor.has_work() {
            return;
        }
        if life.blocked_until > self.now {
            let pause = life.blocked_until - self.now;
            return self.later(pause, Due::Begin(key));
        }
        let mut reports = Vec::new();
        let requests = life.actor.begin(&self.cancelled, &mut reports);
        if requests.is_empty() {
            return self.report(key, reports);
        }
        let (mut cursed, mut restored) = (false, false);
        for job in life.actor.restoring() {
            restored = true;
            let asked = self.asked.get_mut(&job.serves);
            let name = asked.as_ref().and_then(|asked| asked.arrival.conversation.clone());
            cursed |= name.as_ref().is_some_and(|name| self.cursed.contains(name));
            if job.context.has_slid() {
                self.rebuilding.extend(name);
                asked.into_iter().for_each(|asked| asked.rebuilds = true);
            }
        }
        self.tally.restored += u64::from(restored);
        self.tally.cursed += u64::from(cursed);
        let poisoned = cursed || life.actor.riding().any(|job| self.poison.contains(&job.serves));
        life.run = Some(ObservedRun { since: time(self.now), requests });
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
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.garbles) else {
            return;
        };
        let Some(run) = life.run.take() else { return };
        let mut reports = Vec::new();
        match ending {
            Ending::Well => life.actor.end(None, &mut reports),
            Ending::Refused => life.actor.end(run.requests.first().copied(), &mut reports),
            Ending::Death => {
                if !life.dead {
                    life.die();
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
                life.die();
                self.say_died(key, Vec::new());
            }
            Chaos::Crash => {}
            Chaos::Hang(duration) => life.blocked_until = self.now + duration.as_millis() as u64,
        }
    }
}
