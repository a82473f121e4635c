//! One actor as the policy sees it: where it is in its life, what it was given, how often it died.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{
    config::Supervision,
    event::{Incarnation, Time},
};
use crate::job::RequestId;

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Its model is being loaded, and given up at this time.
    Starting {
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
    /// It died too often.
    Down,
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
    /// It does not.
    Down,
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
    /// Conversations whose last job was here.
    pub(super) conversations: usize,
    /// As last reported.
    pub(super) kv_bytes: usize,
    /// When to look at its pulse; set while it has jobs.
    pub(super) watch_at: Option<Time>,
    /// Its deaths within the span in which they are counted, oldest first.
    deaths: VecDeque<Time>,
}

impl Actor {
    /// An actor that is not started yet.
    pub(super) fn new() -> Self {
        Self {
            life: Life::Starting { until: Time::default() },
            incarnation: Incarnation(0),
            jobs: BTreeSet::new(),
            recalled: BTreeSet::new(),
            conversations: 0,
            kv_bytes: 0,
            watch_at: None,
            deaths: VecDeque::new(),
        }
    }

    /// Jobs that it has and will keep.
    pub(super) fn load(&self) -> usize {
        self.jobs.len() - self.recalled.len()
    }

    /// Whether something is running that can die.
    pub(super) fn lives(&self) -> bool {
        matches!(self.life, Life::Starting { .. } | Life::Ready | Life::Stopping)
    }

    /// A job is its own now; the first one begins the watch over its runs.
    pub(super) fn take_on(&mut self, request: RequestId, now: Time, run_max: Duration) {
        if self.jobs.is_empty() {
            self.watch_at = Some(now + run_max);
        }
        debug_assert!(self.life == Life::Ready, "{request:?} is given to an actor in {:?}", self.life);
        let is_new = self.jobs.insert(request);
        debug_assert!(is_new, "{request:?} is given to its actor twice");
    }

    /// Whether the request was this actor's.
    pub(super) fn let_go(&mut self, request: RequestId) -> bool {
        let was_here = self.jobs.remove(&request);
        self.recalled.remove(&request);
        if self.jobs.is_empty() {
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
        self.life = Life::Starting { until: now + supervision.load_max };
        self.incarnation
    }

    /// The life ends; its jobs are taken back by the caller. Deaths are forgotten with time only by
    /// lives that served: loads that fail in a row count however long each of them took.
    pub(super) fn fall(&mut self, now: Time, supervision: &Supervision) -> (Sequel, BTreeSet<RequestId>) {
        self.kv_bytes = 0;
        self.watch_at = None;
        self.recalled.clear();
        let served = self.life == Life::Ready;
        while served && self.deaths.front().is_some_and(|&death| now.since(death) > supervision.restarts_within) {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
        let restart = self.deaths.len();
        let sequel = if restart > supervision.restarts_max {
            self.life = Life::Down;
            Sequel::Down
        } else {
            let pause = supervision.backoff(restart);
            self.life = Life::Restarting { at: now + pause };
            Sequel::Restart(pause)
        };
        (sequel, std::mem::take(&mut self.jobs))
    }

    /// When something has to be done about it, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match self.life {
            Life::Starting { until: at } | Life::Restarting { at } => Some(at),
            _ => self.watch_at,
        }
    }
}
