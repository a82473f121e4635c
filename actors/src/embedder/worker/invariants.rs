//! What always holds between two calls of a worker. Simulations ask after every one of them.

use super::{Lane, LaneKey, Worker};
use crate::embedder::lane::{Queue, Waits};

impl Worker {
    /// Every broken invariant, as a sentence; empty if all hold. After an error or a panic nothing does. Costs time in
    /// proportion to all that there is.
    pub fn check_invariants(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.running || !self.riders.is_empty() || self.pulse.running().is_some() {
            broken.push(format!("{} riders are left of a run that is over", self.riders.len()));
        }
        let queued: usize = self.lanes.values().map(|lane| lane.queue.len()).sum();
        if queued != self.jobs.len() {
            broken.push(format!("{queued} jobs stand in queues, {} are known", self.jobs.len()));
        }
        for (request, (key, arrival)) in &self.jobs {
            let task = self.lanes.get(key).and_then(|lane| lane.queue.get(arrival));
            if task.is_none_or(|task| task.job.request != *request) {
                broken.push(format!("{request:?} is not where it should wait"));
            }
        }
        self.lanes.iter().for_each(|(key, lane)| self.check_lane(key, lane, &mut broken));
        for (queue, shares) in
            [(Queue::Decoding, &self.decoding), (Queue::Reading, &self.reading), (Queue::Alone, &self.alone)]
        {
            let waiting = self.count(|waits| matches!(waits, Waits::For(its, _) if its == queue));
            if waiting != shares.len() {
                broken.push(format!("{} lanes are queued as {queue:?}, {waiting} wait so", shares.len()));
            }
        }
        let free = self.count(|waits| matches!(waits, Waits::Freely(_)));
        if free != self.free_len || (free == 0) != self.free.is_empty() {
            broken.push(format!("{} lanes decode freely, {free} wait so", self.free_len));
        }
        broken
    }

    fn count(&self, which: impl Fn(Waits) -> bool) -> usize {
        self.lanes.values().filter(|lane| lane.waits.is_some_and(&which)).count()
    }

    fn check_lane(&self, key: &LaneKey, lane: &Lane, broken: &mut Vec<String>) {
        if lane.is_empty() {
            broken.push(format!("{key:?} is kept for nothing"));
        }
        if lane.queue.is_empty() == lane.waits.is_some() {
            broken.push(format!("{key:?} waits as {:?} with {} jobs", lane.waits, lane.queue.len()));
        }
        if let Some(Waits::Freely(number)) = lane.waits
            && !self.free.iter().any(|(of, at)| of == key && *at == number)
        {
            broken.push(format!("{key:?} decodes freely and waits nowhere"));
        }
        if lane.begun && (lane.slot.is_none() || lane.queue.is_empty()) {
            broken.push(format!("{key:?} has begun without a slot or a job"));
        }
        let keeps = self.info.pages.is_none() && matches!(key, LaneKey::Conversation(_));
        if !lane.begun && lane.slot.is_some() && !keeps {
            broken.push(format!("{key:?} keeps a slot behind its job"));
        }
        if lane.counts && lane.queue.is_empty() {
            broken.push(format!("{key:?} counts as decoding and has no job"));
        }
    }
}
