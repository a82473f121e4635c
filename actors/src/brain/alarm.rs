//! The brain's one timer.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::notes::{Note, Post};
use crate::policy::Time;

/// The timer: one note at the nearest deadline, or a little early.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set: Option<(Time, JoinHandle<()>)>,
}

impl Alarm {
    /// Sees to it that a note comes at `due` at the latest. One that is set for earlier stays: it
    /// is cheaper to wake once too often than to set the timer anew with every message.
    pub(super) fn set(&mut self, now: Time, due: Time, post: &Post) {
        if let Some((at, timer)) = &self.set {
            if *at <= due {
                return;
            }
            timer.abort();
        }
        // Rounded up, so that the deadline has passed when the note comes.
        let pause = due.since(now).saturating_add(Duration::from_millis(1));
        let post = post.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            post.put(Note::Alarm);
        });
        self.set = Some((due, timer));
    }

    /// Whether a note comes at `due` at the latest.
    pub(super) fn is_set_by(&self, due: Time) -> bool {
        self.set.as_ref().is_some_and(|(at, _)| *at <= due)
    }

    /// The note has come.
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
