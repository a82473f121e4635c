//! How a request ends before its job is done: its deadline passes, it is taken back, its caller leaves. And how it is taken
//! out of everything when it is over.
//!
//! Its caller is told at once, wherever it is. A job that an actor has ends between two runs, and only then what the
//! request takes up is free ([`Effect::Release`]); whoever asks with short deadlines would pile up work otherwise.

use super::{Caller, Effect, Pending, Policy, Stage};
use crate::{
    job::RequestId,
    message::{BrainError, ConversationId},
};

impl Policy {
    /// A request's time is over.
    pub(super) fn expire(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(deadline) = self.requests.get(&request).and_then(|pending| pending.deadline) else { return };
        self.give_up(request, BrainError::Timeout { deadline: deadline.allowed }, effects);
    }

    /// Answers a request with an error, wherever it is.
    pub(super) fn give_up(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get(&request).filter(|pending| pending.caller != Caller::Told) else {
            return;
        };
        match pending.stage {
            Stage::Assigned(_) => {
                self.tell(request, error, effects);
                self.cancel_job(request, effects);
            }
            Stage::Parted => self.fail_parted(request, error, effects),
            Stage::Untokenised | Stage::Tokenising | Stage::Waiting => {
                let names = pending.names();
                self.fail(request, error, effects);
                self.advance_each(names, effects);
            }
        }
    }

    /// Takes everything back that is unfinished in a conversation, the newest first, so that none of it begins.
    pub(super) fn cancel_all(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get(name) else { return };
        let requests: Vec<RequestId> = conversation.queue.iter().rev().copied().collect();
        for request in requests {
            self.give_up(request, BrainError::Cancelled, effects);
        }
    }

    /// A caller went away: its request need not be answered.
    pub(super) fn gone(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request).filter(|pending| pending.caller == Caller::Waits) else {
            return;
        };
        match pending.stage {
            Stage::Assigned(_) => {
                pending.caller = Caller::Left;
                self.cancel_job(request, effects);
            }
            Stage::Parted => self.drop_parted(request, effects),
            Stage::Untokenised | Stage::Tokenising | Stage::Waiting => {
                let names = pending.names();
                self.drop_left(request, effects);
                self.advance_each(names, effects);
            }
        }
    }

    /// Ends a request of which no job is out and for which nobody waits.
    pub(super) fn drop_left(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        self.remove(request);
        effects.push(Effect::Drop { request, lingers: false });
    }

    /// Answers everything that is unfinished with one error.
    pub(super) fn fail_all(&mut self, error: &BrainError, effects: &mut Vec<Effect>) {
        let requests: Vec<RequestId> = self.requests.keys().rev().copied().collect();
        for request in requests {
            if self.requests.get(&request).is_some_and(|pending| pending.part.is_none()) {
                self.give_up(request, error.clone(), effects);
            }
        }
    }

    /// Tells a request's caller while its job is still out.
    pub(super) fn tell(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        if let Some(committed) = self.is_told(request) {
            effects.push(Effect::Fail { request, error, committed, lingers: true });
        }
    }

    /// The same of one that nobody waits for any more.
    pub(super) fn tell_nothing(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        if self.is_told(request).is_some() {
            effects.push(Effect::Drop { request, lingers: true });
        }
    }

    /// Takes note that its caller is told; `None` where that was before. How many tokens were shown.
    fn is_told(&mut self, request: RequestId) -> Option<usize> {
        let pending = self.requests.get_mut(&request).filter(|pending| pending.caller != Caller::Told)?;
        pending.caller = Caller::Told;
        if let Some(deadline) = pending.deadline.take() {
            self.deadlines.remove(&(deadline.at, request));
        }
        Some(pending.shown.sampled.len())
    }

    /// Has whoever works on a request, if an actor does, end that.
    pub(super) fn cancel_job(&self, request: RequestId, effects: &mut Vec<Effect>) {
        if let Some(Stage::Assigned(actor)) = self.requests.get(&request).map(|pending| pending.stage) {
            let incarnation = self.actors[actor.0].incarnation;
            effects.push(Effect::Cancel { actor, incarnation, request });
        }
    }

    /// Ends a request of which no job is out with an error, unless its caller already has one.
    pub(super) fn fail(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        if let Some(pending) = self.remove(request)
            && pending.caller != Caller::Told
            && pending.part.is_none()
        {
            let committed = pending.shown.sampled.len();
            effects.push(Effect::Fail { request, error, committed, lingers: false });
        }
    }

    /// Takes a request out of everything.
    pub(super) fn remove(&mut self, request: RequestId) -> Option<Box<Pending>> {
        self.unreserve(request);
        let pending = self.requests.remove(&request)?;
        if let Some(deadline) = pending.deadline {
            self.deadlines.remove(&(deadline.at, request));
        }
        if let Stage::Assigned(actor) = pending.stage {
            self.actors[actor.0].let_go(request);
        }
        for name in pending.conversation.iter().chain(&pending.other) {
            if let Some(conversation) = self.conversations.get_mut(name) {
                conversation.queue.remove(&request);
            }
        }
        self.waiting.remove(&request);
        self.parted -= usize::from(pending.stage == Stage::Parted);
        match &pending.part {
            None if pending.caller == Caller::Told => self.over.push(request),
            None => {}
            Some(part) => {
                if let Some(several) = self.requests.get_mut(&part.whole).and_then(|whole| whole.several.as_mut()) {
                    several.parts.remove(&request);
                }
            }
        }
        Some(pending)
    }
}
