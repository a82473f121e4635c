//! Several answers to one step: the input is read once, then each answer is a part of its own that goes on from there.
//!
//! A part is a request of nobody, with a number of its own and a state in the place of a conversation: first the one
//! that reads the input, then one for each answer, which runs the last token again for its logits and decodes beside
//! the others. They share pages, so none of them reads what another has read. Nothing of it belongs to the conversation
//! before all are done: then the conversation stands at the input, and the answers wait beside it.

use std::collections::BTreeSet;

use super::{
    Answer, Ask, Caller, Effect, Pending, Policy, Stage, broken_commit,
    parts::{Part, PartOf, Several},
};
use crate::{
    job::{Choice, Commit, Outcome, RequestId},
    message::BrainError,
};

impl Policy {
    /// Begins with the answers of a request whose turn has come.
    pub(super) fn part(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else { return };
        let Ask::Step(step) = &pending.ask else { return };
        let conversation = pending.conversation.as_ref().and_then(|name| self.conversations.get(name));
        let Some(start) = conversation.and_then(|conversation| conversation.base(pending.choice)) else { return };
        let several = Several {
            parts: BTreeSet::new(),
            had: start.len() > 0,
            start: start.clone(),
            rebuilt: false,
            done: vec![None; step.n],
        };
        let reads = !pending.tokens.is_empty();
        let lacks = self.model.as_ref().is_some_and(|model| model.pages.is_some()) && start.lacks_rows();
        pending.several = Some(Box::new(several));
        pending.stage = Stage::Parted;
        self.parted += 1;
        self.waiting.remove(&request);
        self.reserve(request);
        if reads {
            self.add_part(request, Part::Reading);
        } else if lacks {
            // What left memory is read again once, and then the others go on from there.
            self.add_part(request, Part::Answering(0));
        } else {
            self.add_answers(request, 0);
        }
        self.place_waiting(effects);
    }

    fn add_answers(&mut self, request: RequestId, first: usize) {
        let count = self.requests.get(&request).map_or(0, |pending| pending.answers());
        for index in first..count {
            self.add_part(request, Part::Answering(index));
        }
    }

    fn add_part(&mut self, request: RequestId, part: Part) {
        let number = RequestId(self.next_own_job);
        self.next_own_job -= 1;
        let Some(pending) = self.requests.get_mut(&request) else { return };
        let Some(several) = &mut pending.several else { return };
        several.parts.insert(number);
        let state = several.start.clone();
        let Some(pending) = pending.as_part(request, number, part, state) else { return };
        self.requests.insert(number, Box::new(pending));
        self.waiting.insert_part(number, request);
    }

    /// A part has come to something.
    pub(super) fn part_done(
        &mut self,
        mut part: Box<Pending>,
        outcome: Outcome,
        commit: &Commit,
        context_len: usize,
        rebuilt: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(PartOf { whole: request, part: kind, mut state }) = part.part.take().map(|part| *part) else { return };
        let (window, pages) = (self.window(), self.page_size());
        let possible = state.commit(commit, part.base.take(), &window);
        let Some(pending) = self.requests.get_mut(&request) else { return };
        pending.reused += part.reused;
        let Some(several) = &mut pending.several else { return };
        several.rebuilt |= rebuilt;
        match (kind, outcome) {
            _ if !possible => self.fail_parted(request, broken_commit(), effects),
            (Part::Reading, _) => {
                several.start = state;
                self.add_answers(request, 0);
                self.place_waiting(effects);
            }
            (Part::Answering(index), Outcome::Stepped { sampled, stopped }) => {
                let alone = index == 0 && several.parts.is_empty() && several.done.iter().all(Option::is_none);
                if alone {
                    several.start.read_again(&state, pages);
                }
                several.done[index] = Some((Choice { sampled, stopped, context_len }, state));
                if several.done.iter().all(Option::is_some) {
                    self.answer_parted(request, effects);
                } else if alone {
                    self.add_answers(request, 1);
                    self.place_waiting(effects);
                }
            }
            (Part::Answering(_), _) => self.fail_parted(request, broken_commit(), effects),
        }
    }

    /// Ends a request of several answers with an error; its parts are given up.
    pub(super) fn fail_parted(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        self.tell(request, error, effects);
        self.give_up_parts(request, effects);
    }

    /// Nobody waits for a request of several answers any more.
    pub(super) fn drop_parted(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        self.tell_nothing(request, effects);
        self.give_up_parts(request, effects);
    }

    /// Whether a request was told how it ended while its parts are still being done.
    pub(super) fn is_given_up(&self, request: RequestId) -> bool {
        self.requests.get(&request).is_some_and(|whole| whole.caller == Caller::Told)
    }

    /// Takes out the parts that no actor has, and the request with the last of them.
    pub(super) fn give_up_parts(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let parts = self.requests.get(&request).and_then(|pending| pending.several.as_ref());
        let parts: Vec<RequestId> = parts.map(|several| several.parts.iter().copied().collect()).unwrap_or_default();
        let waits = |part: &RequestId| self.requests.get(part).is_some_and(|part| part.stage == Stage::Waiting);
        let (waiting, out): (Vec<_>, Vec<_>) = parts.into_iter().partition(waits);
        for part in waiting {
            self.remove(part);
        }
        for part in out {
            self.cancel_job(part, effects);
        }
        self.end_parted(request, effects);
    }

    /// A part is over and others go on, unless it was the last of a request that was given up.
    pub(super) fn end_parted(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let parts = self.requests.get(&request).and_then(|pending| pending.several.as_ref());
        if self.is_given_up(request)
            && parts.is_some_and(|several| several.parts.is_empty())
            && let Some(pending) = self.remove(request)
        {
            self.advance_if_any(pending.conversation.as_ref(), effects);
        }
    }

    /// All answers are there: the conversation stands at the input, and they wait beside it.
    fn answer_parted(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(mut pending) = self.remove(request) else { return };
        let (Some(several), Some(name)) = (pending.several.take(), pending.conversation.take()) else { return };
        let (choices, states): (Vec<_>, Vec<_>) = several.done.into_iter().flatten().unzip();
        let state = several.start;
        let context_len = state.len();
        let Some(conversation) = self.conversations.get_mut(&name) else { return };
        let (had, before) = (several.had, conversation.sharing.clone());
        conversation.choices = states;
        conversation.state = state;
        (conversation.known, conversation.moved) = (true, true);
        conversation.share(pending.sharing.take(), had);
        let rebuilt = std::mem::take(&mut conversation.rebuilt) || several.rebuilt;
        self.give_slot_back(&name, effects);
        self.leave_wrong_seat(&name, &before);
        let (tokens, reused) = (pending.tokens.len(), pending.reused);
        let answer = Answer { outcome: Outcome::Several(choices), tokens, context_len, rebuilt, reused };
        effects.push(Effect::Answer { request, answer });
        self.advance(&name, effects);
    }
}
