//! Slots: a request holds one from the moment it is read until its answer is written, and nothing is read without.
//!
//! So memory is bounded whoever sends and whoever does not read. What is answered at once, such as a refusal, holds one of
//! few places besides: the next line is then read when its answer can soon be written, and no refusal is old when it comes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The brain lets in so many times `limits.requests`: as much work, and as many resets and closes, which wait as well.
const LANES: usize = 2;

/// Requests that are not known to wait, or whose answers came at once and are not written.
const AT_ONCE: usize = 64;

/// All slots.
#[derive(Debug)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

/// One of them, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _slot: OwnedSemaphorePermit,
    at_once: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// More than may wait where the brain lets in `requests_max`, so that what comes on top is read and refused.
    pub(super) fn new(requests_max: usize) -> Self {
        let all = requests_max.saturating_mul(LANES).saturating_add(AT_ONCE).min(Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The next one that is free; `None` is never, since nobody closes them.
    pub(super) async fn take(&self) -> Option<Slot> {
        let at_once = Some(Arc::clone(&self.at_once).acquire_owned().await.ok()?);
        Some(Slot { _slot: Arc::clone(&self.all).acquire_owned().await.ok()?, at_once })
    }

    /// One that is free now.
    pub(super) fn try_take(&self) -> Option<Slot> {
        let at_once = Some(Arc::clone(&self.at_once).try_acquire_owned().ok()?);
        Some(Slot { _slot: Arc::clone(&self.all).try_acquire_owned().ok()?, at_once })
    }
}

impl Slot {
    /// Its request waits for somebody, and is in nobody's way.
    pub(super) fn waits(&mut self) {
        self.at_once = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many can be taken now, each by a request that `waits` or not.
    fn taken(slots: &Slots, waits: bool) -> Vec<Slot> {
        let mut taken = Vec::new();
        while let Some(mut slot) = slots.try_take() {
            if waits {
                slot.waits();
            }
            taken.push(slot);
        }
        taken
    }

    #[test]
    fn what_waits_leaves_room_for_what_is_answered_at_once() {
        let slots = Slots::new(100);
        assert_eq!(taken(&slots, false).len(), AT_ONCE);
        let all = taken(&slots, true);
        assert_eq!(all.len(), 2 * 100 + AT_ONCE);
        // The brain lets in no more than it has permits: the rest is refused, over and over.
        let waiting: Vec<Slot> = all.into_iter().skip(AT_ONCE).collect();
        for _ in 0..3 {
            let refused = taken(&slots, false);
            assert_eq!((waiting.len(), refused.len()), (200, AT_ONCE));
        }
    }
}
