//! Actors' lives: loads, turns and what is said of them, and how they end.

use std::{sync::atomic::Ordering, time::Duration};

use motorbrain_actors::{
    engine::LoadError,
    job::{Report, RequestId},
    policy::{Chaos, Event},
};

use super::super::engine::{NEVER, Seen};
use super::{Due, LOAD_MAX, LifeKey, Mail, World, ensure, time};

impl World {
    pub(super) fn loaded(&mut self, key: LifeKey) {
        let fault = if self.faults { self.chance.below(if self.slow_loads { 25 } else { 100 }) } else { 100 };
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else { return };
        if life.stopped || life.abandoned {
            return self.end(key, Vec::new());
        }
        match fault {
            0..4 => {
                let error = LoadError { transient: true, message: "busy".to_owned(), hint: None };
                self.say(key, Report::LoadFailed(error), self.now);
                self.end(key, Vec::new());
            }
            4..6 => self.end(key, Vec::new()),
            // It hangs, and may come back much too late.
            6..8 => {
                self.tally.loads_hung += 1;
                let takes = if self.chance.chance(70) { LOAD_MAX + 50 } else { NEVER };
                self.later(takes, Due::Loaded(key));
            }
            _ => {
                life.loaded = true;
                self.say(key, Report::Ready(self.cradle.loader.info.clone()), self.now);
                self.later(0, Due::Wake(key));
            }
        }
    }

    pub(super) fn post(&mut self, key: LifeKey, mail: Mail) {
        if let Some(life) = self.lives.get_mut(&key) {
            life.post(mail);
            self.later(0, Due::Wake(key));
        }
    }

    /// An actor turns to its messages, until one takes time.
    pub(super) fn wake(&mut self, key: LifeKey) -> Result<(), String> {
        loop {
            let Some(life) = self.lives.get_mut(&key) else { return Ok(()) };
            let Some(mail) = life.next_mail(self.now) else { break };
            if self.plan.log {
                self.log.push(super::scrubbed(&format!("{:>6} {key:?} turns to {mail:?}", self.now)));
            }
            let turn = life.turn(mail, self.now)?;
            if let Some(running) = turn.died {
                life.ending = true;
                self.later(turn.until - self.now, Due::End(key, running));
            } else {
                self.check_suspects(key, &turn.seen, &turn.reports)?;
            }
            self.see(key, &turn.seen)?;
            for (at, report) in turn.reports {
                self.note_end(key, &report, &turn.seen);
                self.say(key, report, at);
            }
        }
        let Some(life) = self.lives.get(&key).filter(|life| life.busy_until > self.now) else { return Ok(()) };
        if life.has_mail() && !life.ending {
            self.later(life.busy_until - self.now, Due::Wake(key));
        }
        Ok(())
    }

    /// Takes note of what a turn did with the engine.
    fn see(&mut self, key: LifeKey, seen: &Seen) -> Result<(), String> {
        ensure(!seen.nameless, || format!("{key:?} does something for nobody"))?;
        self.tally.cursed += u64::from(seen.cursed);
        self.tally.runs += seen.runs.len() as u64;
        for job in &seen.blamed {
            self.blamed.extend(self.jobs.get(job).map(|job| job.serves));
        }
        for &(job, anew) in &seen.begun {
            self.check_order(key, job)?;
            let Some(given) = self.lives.get_mut(&key).and_then(|life| life.job(job)) else { continue };
            let (serves, context, lacks) = (given.serves, given.context, given.lacks);
            given.begun = true;
            let Some(has_slid) = context.filter(|_| anew || lacks) else { continue };
            self.tally.restored += 1;
            if has_slid && let Some(asked) = self.asked.get_mut(&serves) {
                asked.rebuilds = true;
                self.rebuilding.extend(asked.arrival.conversation.clone());
            }
        }
        Ok(())
    }

    /// Of one client's jobs without a conversation, all of which read, the first is begun first.
    fn check_order(&mut self, key: LifeKey, job: RequestId) -> Result<(), String> {
        let Some(life) = self.lives.get(&key) else { return Ok(()) };
        let waits =
            |given: &super::Given| !given.begun && !given.conversation && !given.suspect && !self.is_part(given.serves);
        let Some((_, given)) = life.jobs.iter().find(|(its, given)| *its == job && waits(given)) else { return Ok(()) };
        let first = life.jobs.iter().find(|(_, other)| waits(other) && other.party == given.party);
        ensure(first.is_none_or(|(first, _)| *first == job), || {
            format!("{job:?} is begun before {:?}", first.map(|(first, _)| first))
        })
    }

    fn is_part(&self, serves: RequestId) -> bool {
        self.asked.get(&serves).is_some_and(|asked| asked.arrival.conversation.is_some())
    }

    /// Who is suspect rides alone, as often as it was told, and is then cleared.
    fn check_suspects(&mut self, key: LifeKey, seen: &Seen, reports: &[(u64, Report)]) -> Result<(), String> {
        let Some(life) = self.lives.get_mut(&key) else { return Ok(()) };
        for (jobs, well) in &seen.runs {
            for job in jobs {
                let Some(given) = life.job(*job).filter(|given| given.alone > 0) else { continue };
                ensure(jobs.len() == 1, || format!("{job:?} is suspect and rides with {jobs:?}"))?;
                given.alone -= u32::from(*well);
            }
        }
        for (_, report) in reports {
            match report {
                Report::Cleared { request } => {
                    let given = life.job(*request);
                    let rightly = given.as_ref().is_some_and(|given| !given.cleared && given.alone == 0);
                    given.into_iter().for_each(|given| given.cleared = true);
                    ensure(rightly, || format!("{request:?} is cleared, and should not be"))?;
                }
                Report::Done(done) => life.job(done.request).into_iter().for_each(|given| given.cleared = true),
                Report::Returned { request, .. } => life.job(*request).into_iter().for_each(|it| it.cleared = true),
                _ => {}
            }
        }
        let forgotten = life.jobs.iter().find(|(_, given)| given.alone == 0 && !given.cleared);
        ensure(forgotten.is_none(), || format!("{:?} is never cleared", forgotten.map(|(job, _)| job)))
    }

    /// A life has said that it does not have a job any more.
    fn note_end(&mut self, key: LifeKey, report: &Report, seen: &Seen) {
        let Some(life) = self.lives.get_mut(&key) else { return };
        match report {
            Report::Done(done) => life.let_go(done.request),
            Report::Returned { request, .. } => {
                if let Some(given) = life.job(*request) {
                    let carried = self.carried.entry(given.serves).or_default();
                    carried.extend(given.pages.iter().chain(&seen.told));
                }
                life.let_go(*request);
            }
            _ => {}
        }
    }

    /// A thread ends, at work for these jobs.
    pub(super) fn end(&mut self, key: LifeKey, running: Vec<RequestId>) {
        let Some(life) = self.lives.get_mut(&key).filter(|life| !life.dead) else { return };
        life.die();
        let now = self.now;
        // What an interrupted run would have said is never said.
        self.due.retain(|&(at, _), due| match due {
            Due::Tell(Event::Reported { actor, incarnation, .. }) => (*actor, *incarnation) != key || at < now + 50,
            _ => true,
        });
        let (actor, incarnation) = key;
        self.tell_later(key, Event::Died { actor, incarnation, running }, now);
    }

    fn say(&mut self, key: LifeKey, report: Report, at: u64) {
        let (actor, incarnation) = key;
        self.tell_later(key, Event::Reported { actor, incarnation, report }, at);
    }

    /// Word of it arrives late, but in order.
    fn tell_later(&mut self, key: LifeKey, event: Event, at: u64) {
        let late = if self.chance.chance(10) { self.chance.below(30) } else { 0 };
        let Some(life) = self.lives.get_mut(&key) else { return };
        // What would have been said behind a hang that was cut short holds up nothing.
        let before = if life.said_at >= self.now + NEVER / 2 { 0 } else { life.said_at };
        life.said_at = before.max(at + late);
        let after = life.said_at - self.now;
        self.later(after, Due::Tell(event));
    }

    pub(super) fn inflict(&mut self, key: LifeKey, chaos: Chaos) {
        let mail = match chaos {
            Chaos::Crash => Mail::Crash,
            Chaos::Hang(duration) => Mail::Hang(duration.as_millis() as u64),
        };
        self.post(key, mail);
    }

    /// Its run is interrupted, and its thread left to itself.
    pub(super) fn abandon(&mut self, key: LifeKey) {
        self.tally.hangs += 1;
        self.abandoned.insert(key);
        let (garbles, soon) = (self.chance.chance(70), self.chance.below(5));
        let Some(life) = self.lives.get_mut(&key) else { return };
        if let Some(run) = life.pulse.interrupter() {
            run.interrupt();
        }
        (life.abandoned, life.garbles) = (true, garbles);
        if life.dead || !life.loaded {
            return;
        }
        let after = match life.beat(self.now) {
            Some(beat) if beat.deaf => life.busy_until - self.now,
            _ => soon,
        };
        self.tally.interrupted += u64::from(after == soon && life.interrupted.load(Ordering::Relaxed));
        self.later(after, Due::End(key, Vec::new()));
    }

    /// It ends when its present turn is over; what an engine has to give back may take time.
    pub(super) fn stop(&mut self, key: LifeKey) {
        let slow = if self.chance.chance(10) { 1_500 } else { self.chance.below(3) };
        let Some(life) = self.lives.get_mut(&key) else { return };
        life.stopped = true;
        if life.loaded && !life.dead {
            let after = life.busy_until.saturating_sub(self.now) + slow;
            self.later(after, Due::End(key, Vec::new()));
        }
    }

    /// What hangs is found out in time.
    pub(super) fn check_hangs(&self) -> Result<(), String> {
        for (key, since) in self.ledger.busy() {
            let Some(run) = self.lives.get(key).and_then(|life| life.observe(self.now)) else { continue };
            let known = run.since.max(time(since));
            ensure(time(self.now) <= known + Duration::from_millis(self.run_max), || {
                format!("{key:?} hangs since {known:?}, and nobody has noticed at {}", self.now)
            })?;
        }
        Ok(())
    }
}
