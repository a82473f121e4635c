//! Requests that are taken back, and callers that went away.
//!
//! Whoever waits by a [`Brain`](super::Brain) says so when it goes, at no cost to those who stay. Ports that came with a
//! message cannot be awaited; of those a few are looked at now and then, however many there are.

use std::{ops::Bound, time::Duration};

use ractor::ActorRef;

use super::{
    message::{BrainMessage, Inner, Internal, Ticket},
    meters::Came,
    shell::Shell,
};
use crate::{
    job::RequestId,
    message::{BrainError, ErrorCode},
    policy::Event,
};

/// How often callers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many of those that still wait are looked at once.
const LOOK_AT: usize = 256;

impl Shell {
    /// Takes a request back; false where there is nothing to take back any more.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(&request) = self.tickets.get(&ticket) else { return false };
        self.count_cancelled(|shell| {
            if shell.is_ask(request) {
                if let Some(open) = shell.close(request, false) {
                    shell.cancelled += 1;
                    shell.meters.came(shell.clock.now(), open.op, Came::Failed(ErrorCode::Cancelled), 0);
                    open.fail(BrainError::Cancelled, 0);
                }
            } else {
                shell.tell(Event::Cancelled(request));
            }
        }) > 0
    }

    /// How many requests are answered with [`BrainError::Cancelled`] by what `cancel` does.
    pub(super) fn count_cancelled(&mut self, cancel: impl FnOnce(&mut Self)) -> usize {
        let before = self.cancelled;
        cancel(self);
        self.cancelled - before
    }

    /// The caller of this request went away, or had its answer just before it did.
    pub(super) fn gone(&mut self, ticket: Ticket) {
        if let Some(&request) = self.tickets.get(&ticket) {
            self.leave(request);
            self.catch_up();
        }
    }

    /// Looks at some of the callers, those behind whom it looked last time, for some that went away.
    pub(super) fn look_for_abandoned(&mut self) {
        let now = self.clock.now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let from = self.looked_to.take().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut waiting, mut gone) = (0, Vec::new());
        for (&request, open) in self.open.range((from, Bound::Unbounded)) {
            let abandoned = open.is_abandoned();
            // One that went away and is not over, since an actor has it, is no news.
            waiting += usize::from(!abandoned || open.gone);
            gone.extend(abandoned.then_some(request));
            if waiting == LOOK_AT {
                self.looked_to = Some(request);
                break;
            }
        }
        gone.into_iter().for_each(|request| self.leave(request));
    }

    /// Nobody waits for this request any more.
    fn leave(&mut self, request: RequestId) {
        if self.is_ask(request) {
            drop(self.close(request, false));
        } else if let Some(open) = self.open.get_mut(&request) {
            open.gone = true;
            self.events.push_back(Event::Gone(request));
        }
    }

    fn is_ask(&self, request: RequestId) -> bool {
        self.open.get(&request).is_some_and(|open| open.is_ask())
    }
}

/// Says that a caller goes away, when it is dropped before it has its answer.
#[derive(Debug)]
pub(super) struct Waits {
    brain: ActorRef<BrainMessage>,
    /// `None`: it has its answer.
    ticket: Option<Ticket>,
}

impl Waits {
    /// A caller waits for the answer to this request.
    pub(super) fn new(brain: &ActorRef<BrainMessage>, ticket: Ticket) -> Self {
        Self { brain: brain.clone(), ticket: Some(ticket) }
    }

    /// It has it.
    pub(super) fn is_over(&mut self) {
        self.ticket = None;
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // A brain that is stopping looks at the callers itself.
            let _ = self.brain.cast(BrainMessage::Internal(Internal(Inner::Gone(ticket))));
        }
    }
}
