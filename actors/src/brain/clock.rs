//! The brain's one clock and one timer.

use std::time::{Duration, Instant};

use ractor::ActorRef;
use tokio::task::JoinHandle;

use super::message::{BrainMessage, Internal, Note};
use crate::policy::Time;

/// Time since the brain's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins at zero now.
    pub(super) fn start() -> Self {
        Self { start: read() }
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Time {
        self.time_of(read())
    }

    /// An instant of the system's clock on this one; zero where it lies before the start.
    pub(super) fn time_of(&self, instant: Instant) -> Time {
        Time(instant.saturating_duration_since(self.start))
    }
}

#[expect(clippy::disallowed_methods, reason = "the brain's one clock read")]
fn read() -> Instant {
    Instant::now()
}

/// The timer: one message at the nearest deadline, or a little early.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set: Option<(Time, JoinHandle<()>)>,
}

impl Alarm {
    /// Sees to it that a message comes at `due` at the latest. One that is set for earlier stays: it
    /// is cheaper to wake once too often than to set the timer anew with every message.
    pub(super) fn set(&mut self, now: Time, due: Time, brain: &ActorRef<BrainMessage>) {
        if let Some((at, timer)) = &self.set {
            if *at <= due {
                return;
            }
            timer.abort();
        }
        // Rounded up, so that the deadline has passed when the message comes.
        let pause = due.since(now).saturating_add(Duration::from_millis(1));
        let brain = brain.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // A brain that has stopped needs no timer.
            let _ = brain.cast(BrainMessage::Internal(Internal(Note::Alarm)));
        });
        self.set = Some((due, timer));
    }

    /// The message has come.
    pub(super) fn has_rung(&mut self) {
        self.set = None;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((_, timer)) = &self.set {
            timer.abort();
        }
    }
}
