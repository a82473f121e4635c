//! How the server ends: what was accepted is answered within a time, what comes meanwhile is sent elsewhere.
//!
//! Whoever has accepted a request holds an [`Accepted`] until the last byte of its answer is written or its reader is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It takes requests.
    Serving,
    /// It finishes what it has taken.
    Draining,
    /// Nothing is waited for any more.
    Closing,
}

/// The server's end, as all its parts see it.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    accepted: Arc<AtomicUsize>,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), accepted: Arc::default() }
    }

    /// Where it is now.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns when it is there, or behind it.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender lives as long as this does.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Takes a request, if any are taken.
    pub(crate) fn accept(&self) -> Option<Accepted> {
        self.accepted.fetch_add(1, Ordering::AcqRel);
        let accepted = Accepted(self.clone());
        (self.phase() == Phase::Serving).then_some(accepted)
    }

    /// How many requests are not answered to their end.
    pub(crate) fn open(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// Takes nothing more and waits for what was taken, no longer than `within`: whether all of it was finished.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        let mut changes = self.phase.subscribe();
        self.phase.send_replace(Phase::Draining);
        let finished = timeout(within, async {
            while self.open() > 0 {
                // Each end is a change.
                let _ = changes.changed().await;
            }
        });
        let finished = finished.await.is_ok();
        self.phase.send_replace(Phase::Closing);
        finished
    }
}

/// A request that is not answered to its end.
#[derive(Debug)]
pub(crate) struct Accepted(Drain);

impl Drop for Accepted {
    fn drop(&mut self) {
        self.0.accepted.fetch_sub(1, Ordering::AcqRel);
        if self.0.phase() != Phase::Serving {
            self.0.phase.send_modify(|_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn what_was_accepted_is_waited_for_and_nothing_more_is() {
        let drain = Drain::new();
        let one = drain.accept().expect("it serves");
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.drain(LONG).await }
        });
        drain.reached(Phase::Draining).await;
        assert!(drain.accept().is_none());
        drop(one);
        assert_eq!(draining.await.ok(), Some(true));
        assert_eq!((drain.phase(), drain.open()), (Phase::Closing, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_not() {
        let drain = Drain::new();
        let one = drain.accept();
        assert!(!drain.drain(LONG).await);
        assert!(one.is_some() && drain.open() == 1);
        assert!(Drain::new().drain(Duration::ZERO).await, "nothing was to be waited for");
    }
}
