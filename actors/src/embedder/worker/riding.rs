//! Who rides in the next run: the least served, as many as the pace allows.
//!
//! Lanes wait in three fair queues, by what their next row does: it decodes, it reads, or it shares its run with nobody.
//! Those that decode wait in none as long as all of them may ride, which they mostly do. Decodes ride up to a bound on
//! rows, reads up to a bound on tokens, least served first, and what they are given is charged at once. A lane begins when
//! it is about to ride and not before, so that those who wait hold nothing and a caller that leaves has cost nothing. Runs
//! alone and shared runs take turns while both wait.

use std::mem;

use super::{Rider, Worker};
use crate::{
    embedder::{
        lane::{LaneKey, Need, Queue, Waits},
        pace::{Alive, FEW, Prompts},
        readers::Reads,
    },
    engine::{EngineError, EngineErrorKind},
    shares::{Next, Shares},
};

impl Worker {
    /// What rides in the next run. It may be nobody where all that could have failed to begin.
    pub(super) fn choose(&mut self, riders: &mut Vec<Rider>) -> Result<(), EngineError> {
        let room = self.pace.room(self.alive());
        let shared_next = self.was_alone && self.free_len + self.decoding.len() + self.reading.len() > 0;
        if !(self.alone.is_empty() || shared_next) {
            self.was_alone = true;
            // At least one token: a look at what decodes cost is not for those who read alone.
            self.board(riders, Queue::Alone, 1, room.prompts.or_one())?;
            if !riders.is_empty() {
                return Ok(());
            }
        }
        self.was_alone = false;
        self.board_free(riders, room.rows)?;
        self.board(riders, Queue::Decoding, room.rows, Prompts::NONE)?;
        self.board(riders, Queue::Reading, usize::MAX, room.prompts)
    }

    fn alive(&self) -> Alive {
        Alive {
            decodes: self.free_len + self.decoding.len(),
            readers: self.reading.len(),
            fewest: self.readers.fewest(),
            others: self.alone.len(),
            rows: self.crowd.rows(),
            parties: self.crowd.parties(),
            modest: self.crowd.modest(),
            steps: self.crowd.steps(),
            prompt: self.crowd.is_prompt(),
        }
    }

    /// Takes those who wait to decode where they are no more than so many rows together; otherwise they wait for their
    /// shares. What is no less for it is not charged.
    fn board_free(&mut self, riders: &mut Vec<Rider>, rows: usize) -> Result<(), EngineError> {
        let mut free = mem::take(&mut self.free);
        self.free_len = 0;
        let size = |(key, number): &(LaneKey, u64)| match self.lanes.get(key) {
            Some(lane) if lane.waits == Some(Waits::Freely(*number)) => match lane.need(self.few) {
                Need::Decode(few) | Need::Read(few) => 1 + few,
            },
            _ => 0,
        };
        let all = self.decoding.is_empty() && free.iter().map(size).sum::<usize>() <= rows;
        for (key, number) in free.drain(..) {
            // One that has left since, and perhaps come back, is not this one.
            let Some(lane) = self.lanes.get(&key) else { continue };
            let (Some(Waits::Freely(waits)), Some(task)) = (lane.waits, lane.front()) else { continue };
            if waits != number {
                continue;
            }
            if !all {
                let party = task.job.party.clone();
                let place = self.decoding.push(&party, &key.flow(), key.clone());
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.waits = Some(Waits::For(Queue::Decoding, place));
                }
            } else if self.begin(&key)? {
                match self.next_row(&key) {
                    Some((Need::Decode(few), restoring)) => {
                        riders.push(Rider { key, tokens: few, decodes: true, restoring });
                    }
                    _ => self.wait(&key)?,
                }
            }
        }
        // What has begun to wait meanwhile does so in the list that is there now.
        free.append(&mut self.free);
        self.free = free;
        Ok(())
    }

    /// Takes at most so many rows from a queue, and what fits of those that read. A decode counts as a row and as so many
    /// more as it reads tokens.
    fn board(
        &mut self,
        riders: &mut Vec<Rider>,
        queue: Queue,
        mut rows: usize,
        mut prompts: Prompts,
    ) -> Result<(), EngineError> {
        while rows > 0 && (queue == Queue::Decoding || !prompts.is_over()) {
            let Some(Next { party, flow, item: key }) = self.shares(queue).pop() else { break };
            if !self.begin(&key)? {
                continue;
            }
            let Some((need, restoring)) = self.next_row(&key) else { continue };
            let token = self.lanes.get(&key).map_or_else(Default::default, |lane| self.pace.token(lane.read_len()));
            let row = match need {
                Need::Decode(few) => few,
                // Its pages were not what they seemed: it waits with those who read.
                Need::Read(_) if queue == Queue::Decoding => {
                    self.wait(&key)?;
                    continue;
                }
                Need::Read(rest) => rest.min(prompts.fits(token)),
            };
            let decodes = matches!(need, Need::Decode(_));
            let size = row + usize::from(decodes);
            let charge = if decodes { size as u64 } else { token.charge(row) };
            self.shares(queue).charge(&party, &flow, charge);
            riders.push(Rider { key, tokens: row, decodes, restoring });
            rows = rows.saturating_sub(if decodes { size } else { 1 });
            prompts.take(row, token);
        }
        Ok(())
    }

    /// Begins a lane that was taken from its queue. False where it does not ride: its task ended, and what stands behind
    /// it waits.
    fn begin(&mut self, key: &LaneKey) -> Result<bool, EngineError> {
        let Some(lane) = self.lanes.get_mut(key) else { return Ok(false) };
        lane.waits = None;
        let Some(request) = lane.front().map(|task| task.job.request) else { return Ok(false) };
        if lane.begun {
            return Ok(true);
        }
        lane.front_mut().into_iter().for_each(|task| task.job.spans.begin());
        let entered = self.enter(request);
        let begun = self.lanes.get_mut(key).map_or(Ok(()), |lane| lane.begin(&mut *self.engine));
        match begun {
            Ok(()) => {
                self.leave(entered);
                Ok(true)
            }
            Err(error) => {
                if error.kind == EngineErrorKind::Fatal {
                    return Err(error);
                }
                self.leave(entered);
                self.fail(key, error)?;
                self.wait(key)?;
                Ok(false)
            }
        }
    }

    fn next_row(&self, key: &LaneKey) -> Option<(Need, bool)> {
        let lane = self.lanes.get(key)?;
        Some((lane.need(self.few), lane.restoring()))
    }

    fn shares(&mut self, queue: Queue) -> &mut Shares<LaneKey> {
        match queue {
            Queue::Decoding => &mut self.decoding,
            Queue::Reading => &mut self.reading,
            Queue::Alone => &mut self.alone,
        }
    }

    /// Brings a lane that waits nowhere to a front task that needs a run, and has it wait for one; without such a task it
    /// is forgotten, unless its slot is kept.
    pub(super) fn wait(&mut self, key: &LaneKey) -> Result<(), EngineError> {
        self.settle(key)?;
        let Some(lane) = self.lanes.get(key) else { return Ok(()) };
        let Some(task) = lane.front() else {
            self.forget_if_empty(key);
            return Ok(());
        };
        let need = lane.need(self.few);
        let queue = match need {
            _ if lane.doubted || task.job.alone > 0 => Queue::Alone,
            Need::Decode(_) => Queue::Decoding,
            Need::Read(_) => Queue::Reading,
        };
        let (party, short) = (task.job.party.clone(), task.job.work.count() <= FEW);
        let (decodes, counts) = (queue == Queue::Decoding, lane.counts);
        if let Need::Read(tokens) = need {
            let reads = Reads { tokens, context: lane.read_len() };
            self.readers.wants(&party, reads, self.clock.now());
        }
        if !decodes {
            self.leave_crowd(key);
        } else if !counts {
            self.crowd.here(key, &party, short);
        }
        let waits = if decodes {
            self.numbers += 1;
            self.free_len += 1;
            self.free.push((key.clone(), self.numbers));
            Waits::Freely(self.numbers)
        } else {
            Waits::For(queue, self.shares(queue).push(&party, &key.flow(), key.clone()))
        };
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.waits = Some(waits);
            lane.counts = decodes;
        }
        Ok(())
    }

    /// Takes a lane out of its queue.
    pub(super) fn stop_waiting(&mut self, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        match lane.waits.take() {
            None => {}
            // Its place in the list is passed over, or goes with the last one that waits there.
            Some(Waits::Freely(_)) => {
                self.free_len -= 1;
                if self.free_len == 0 {
                    self.free.clear();
                }
            }
            Some(Waits::For(queue, place)) => {
                let Some(party) = lane.front().map(|task| task.job.party.clone()) else { return };
                self.shares(queue).remove(&party, &key.flow(), place);
            }
        }
    }
}
