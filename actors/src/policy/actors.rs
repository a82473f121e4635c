//! One actor as the policy sees it: where it is in its life, what it was given, how often it died.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Time, config::Supervision, event::Incarnation};
use crate::job::RequestId;

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its model is being loaded, and given up at this time.
    Loading {
        /// Until when.
        until: Time,
    },
    /// It takes jobs.
    Ready,
    /// It died and starts again at this time.
    Restarting {
        /// When.
        at: Time,
    },
    /// It died too often, or too many threads hang; it is tried again at this time.
    Down {
        /// When.
        at: Time,
    },
    /// It was told to stop; its end is awaited.
    Stopping,
    /// It has stopped, and will not start again.
    Stopped,
}

/// What a death leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequel {
    /// It starts again after this pause.
    Restart(Duration),
    /// It is tried again after this pause, and until then its conversations live elsewhere.
    Down(Duration),
}

/// What is known when a life ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fall<'a> {
    pub(super) now: Time,
    pub(super) supervision: &'a Supervision,
    /// Something that was asked is to blame.
    pub(super) charged: bool,
    /// More threads hang than may.
    pub(super) crowded: bool,
    /// What its pauses are drawn from.
    pub(super) seed: u64,
}

/// An embedder actor as the policy knows it.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    /// Whether it serves, and if not, what comes next.
    pub(super) life: Life,
    /// The life that it is in or was in last.
    pub(super) incarnation: Incarnation,
    /// Requests it was given and has not finished.
    pub(super) jobs: BTreeSet<RequestId>,
    /// Those of them that it was asked to give back.
    pub(super) recalled: BTreeSet<RequestId>,
    /// Slots that it was told to give back, and has not yet, by the numbers of these jobs.
    pub(super) releasing: BTreeSet<RequestId>,
    /// How often its conversations have moved out: who lived here before that lives nowhere.
    pub(super) tenure: u64,
    /// Conversations whose last job was here in this tenure.
    pub(super) conversations: usize,
    /// As last reported.
    pub(super) kv_bytes: usize,
    /// Bytes of that which it was told to give back since.
    pub(super) freeing: usize,
    /// When to look at it; set while it is busy or loads.
    pub(super) watch_at: Option<Time>,
    /// How long all had stood still before the last look at its pulse, which is still to be told of.
    pub(super) late: Duration,
    /// Of the run that began then, time in which all stood still.
    pub(super) lost: (Time, Duration),
    /// Its deaths with which nobody was charged, within the span in which they are counted, oldest first.
    deaths: VecDeque<Time>,
    /// Lives in a row in which nothing went well.
    barren: usize,
    /// How often in a row it was tried again and came down.
    trials: u32,
    /// It is down since more threads hang than may.
    crowded_out: bool,
}

impl Actor {
    /// An actor that is not started yet.
    pub(super) fn new() -> Self {
        Self {
            life: Life::Loading { until: Time::default() },
            incarnation: Incarnation(0),
            jobs: BTreeSet::new(),
            recalled: BTreeSet::new(),
            releasing: BTreeSet::new(),
            tenure: 0,
            conversations: 0,
            kv_bytes: 0,
            freeing: 0,
            watch_at: None,
            late: Duration::ZERO,
            lost: (Time::default(), Duration::ZERO),
            deaths: VecDeque::new(),
            barren: 0,
            trials: 0,
            crowded_out: false,
        }
    }

    /// Jobs that it has and will keep.
    pub(super) fn load(&self) -> usize {
        self.jobs.len() - self.recalled.len()
    }

    /// Whether something is running that can die.
    pub(super) fn lives(&self) -> bool {
        matches!(self.life, Life::Loading { .. } | Life::Ready | Life::Stopping)
    }

    /// Whether a thread is its own, or about to be.
    pub(super) fn has_thread(&self) -> bool {
        self.lives() || matches!(self.life, Life::Restarting { .. })
    }

    /// Whether it has something to do.
    pub(super) fn is_busy(&self) -> bool {
        !(self.jobs.is_empty() && self.releasing.is_empty())
    }

    /// It is to give a slot back, which may hang as well as a run.
    pub(super) fn release(&mut self, job: RequestId, now: Time, supervision: &Supervision) {
        self.watch_from(now, supervision);
        self.releasing.insert(job);
    }

    /// A job is its own now.
    pub(super) fn take_on(&mut self, request: RequestId, now: Time, supervision: &Supervision) {
        self.watch_from(now, supervision);
        debug_assert!(self.life == Life::Ready, "{request:?} is given to an actor in {:?}", self.life);
        let is_new = self.jobs.insert(request);
        debug_assert!(is_new, "{request:?} is given to its actor twice");
    }

    /// What it is given first begins the watch.
    fn watch_from(&mut self, now: Time, supervision: &Supervision) {
        if !self.is_busy() {
            self.watch_at = Some(now + supervision.look_every());
        }
    }

    /// Whether the request was this actor's.
    pub(super) fn let_go(&mut self, request: RequestId) -> bool {
        let was_here = self.jobs.remove(&request);
        self.recalled.remove(&request);
        self.releasing.remove(&request);
        if !self.is_busy() {
            self.watch_at = None;
        }
        was_here
    }

    /// A new life begins.
    pub(super) fn rise(&mut self, now: Time, supervision: &Supervision) -> Incarnation {
        self.incarnation.0 += 1;
        self.begin(now, supervision)
    }

    /// The life that is counted begins with its load.
    pub(super) fn begin(&mut self, now: Time, supervision: &Supervision) -> Incarnation {
        self.loads_until(now + supervision.load_max, now);
        self.incarnation
    }

    /// A run went well: it is no longer counted what came before.
    pub(super) fn goes_well(&mut self) {
        (self.barren, self.trials) = (0, 0);
    }

    /// The life ends; its jobs are taken back by the caller. A death that something asked is to blame for is not held
    /// against the actor; but where nothing went well in several lives in a row, the next begins after a pause. Deaths are
    /// forgotten with time only by lives that served: loads that fail in a row count however long each of them took.
    pub(super) fn fall(&mut self, fall: Fall<'_>) -> (Sequel, BTreeSet<RequestId>) {
        let Fall { now, supervision, charged, crowded, seed } = fall;
        (self.kv_bytes, self.freeing) = (0, 0);
        self.watch_at = None;
        self.recalled.clear();
        self.releasing.clear();
        let served = self.life == Life::Ready;
        while served && self.deaths.front().is_some_and(|&death| now.since(death) > supervision.restarts_within) {
            self.deaths.pop_front();
        }
        self.barren += 1;
        self.crowded_out = crowded;
        if !charged {
            self.deaths.push_back(now);
            // More are never asked for.
            let old = self.deaths.len().saturating_sub(supervision.restarts_max.saturating_add(1));
            self.deaths.drain(..old);
        }
        let sequel = if crowded || self.deaths.len() > supervision.restarts_max {
            let pause = supervision.retry(self.trials, seed ^ self.incarnation.0);
            self.trials = self.trials.saturating_add(1);
            (self.tenure, self.conversations) = (self.tenure + 1, 0);
            self.life = Life::Down { at: now + pause };
            Sequel::Down(pause)
        } else {
            let pause = supervision.backoff(self.deaths.len().max(self.barren));
            self.life = Life::Restarting { at: now + pause };
            Sequel::Restart(pause)
        };
        (sequel, std::mem::take(&mut self.jobs))
    }

    /// It has stopped for good; its jobs are taken back by the caller.
    pub(super) fn stop(&mut self) -> BTreeSet<RequestId> {
        self.life = Life::Stopped;
        self.watch_at = None;
        self.recalled.clear();
        self.releasing.clear();
        std::mem::take(&mut self.jobs)
    }

    /// Whether it waits for a thread that hangs.
    pub(super) fn is_crowded_out(&self) -> bool {
        self.crowded_out && matches!(self.life, Life::Down { .. })
    }

    /// When something has to be done about it, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match self.life {
            Life::Restarting { at } | Life::Down { at } => Some(at),
            Life::Loading { .. } | Life::Ready => self.watch_at,
            Life::Stopping | Life::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_fails_forgives_no_death_however_long_it_took() {
        let supervision = Supervision { restarts_within: Duration::from_millis(100), ..Supervision::default() };
        let mut actor = Actor::new();
        let mut fall = |life, at| {
            actor.goes_well();
            actor.life = life;
            let now = Time(Duration::from_millis(at));
            actor.fall(Fall { now, supervision: &supervision, charged: false, crowded: false, seed: 0 }).0
        };
        let pause = |deaths| Sequel::Restart(supervision.backoff(deaths));
        assert_eq!(fall(Life::Ready, 0), pause(1));
        assert_eq!(fall(Life::Ready, 50), pause(2));
        assert_eq!(fall(Life::Loading { until: Time::default() }, 300), pause(3));
        assert_eq!(fall(Life::Ready, 350), pause(2), "a life that served does");
    }
}
