//! Requests that are done in parts. Several answers to one step: the input is read once, then each answer is a part of
//! its own that goes on from there. A vector by a probe behind a conversation: the input is read, then the probe goes on
//! from there, and what it has led to is dropped. A text of its own that is too long for the window: piece by piece. One of
//! which each piece is to have a vector: one piece behind the other, a probe behind each while the next one is read.
//!
//! A part is a request of nobody, with a number of its own and a state in the place of a conversation: first the one
//! that reads the input, then one for each answer, which runs the last token again for its logits and decodes beside
//! the others, or the one that runs the probe. They share pages, so none of them reads what another has read. Nothing of
//! it belongs to the conversation before all are done: then the conversation stands at the input, and the answers wait
//! beside it.

use std::{collections::BTreeSet, ops::Range};

use super::{
    Answer, Ask, Caller, Effect, Pending, Policy, Stage, broken_commit,
    parts::{Part, PartOf, Several, ending, pieces},
};
use crate::{
    job::{Choice, Commit, Outcome, RequestId},
    message::BrainError,
};

impl Policy {
    /// Begins with the parts of a request whose turn has come.
    pub(super) fn part(&mut self, request: RequestId) {
        let pieces = self.pieces(request);
        let Some(pending) = self.requests.get_mut(&request) else { return };
        let answers = match &pending.ask {
            Ask::Step(step) => step.n,
            _ => 0,
        };
        let conversation = pending.conversation.as_ref().and_then(|name| self.conversations.get(name));
        let start = conversation.and_then(|conversation| conversation.base(pending.choice));
        let start = start.cloned().unwrap_or_default();
        let first = match (&pending.conversation, pending.frame()) {
            (None, _) if !pending.ends.is_empty() => Some(Part::Next(0)),
            (None, _) => Some(Part::Piece(0)),
            (_, Some(_)) => Some(Part::Reading),
            (_, None) => (!pending.tokens.is_empty()).then_some(Part::Reading),
        };
        let lacks = self.model.as_ref().is_some_and(|model| model.pages.is_some()) && start.lacks_rows();
        pending.several = Some(Box::new(Several {
            parts: BTreeSet::new(),
            had: start.len() > 0,
            start,
            rebuilt: false,
            done: vec![None; answers],
            pieces,
            read: 0,
            vectors: Vec::new(),
        }));
        pending.stage = Stage::Parted;
        self.parted += 1;
        self.waiting.remove(&request);
        self.reserve(request);
        match first {
            Some(part) => self.add_part(request, part),
            // What left memory is read again once, and then the others go on from there.
            None if lacks => self.add_part(request, Part::Answering(0)),
            None => self.add_answers(request, 0),
        }
    }

    /// Whether a text that stands in no conversation is too long for one piece.
    pub(super) fn is_long(&self, request: RequestId) -> bool {
        let each = self.requests.get(&request).filter(|pending| !pending.ends.is_empty());
        // What slides is gone behind a probe alone.
        each.is_some_and(|each| each.frame().is_some() && each.tokens.len() > self.window().size)
            || self.pieces(request).len() > 1
    }

    /// The pieces of a text that no conversation stands before: those that each have a vector, or those of one that is too
    /// long for the window with its probe.
    fn pieces(&self, request: RequestId) -> Vec<Range<usize>> {
        let pending = self.requests.get(&request).filter(|pending| pending.conversation.is_none());
        if let Some(each) = pending.filter(|pending| !pending.ends.is_empty()) {
            return ending(&each.ends);
        }
        let frame = pending.and_then(|pending| Some((pending.text_len, pending.frame()?)));
        frame.map_or(Vec::new(), |(len, frame)| pieces(len, self.window().size.saturating_sub(frame.len())))
    }

    /// Of a text of which each piece has a vector: what is to be done once all is done that was.
    fn go_on(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let window = self.window();
        let Some(pending) = self.requests.get_mut(&request) else { return };
        // Beyond the window two at once would take two of them.
        let together = pending.tokens.len() <= window.size;
        let probe = pending.frame().map_or(0, |frame| frame.probe.len());
        let Some(several) = pending.several.as_mut().filter(|several| several.parts.is_empty()) else { return };
        let (read, probed, all) = (several.read, several.vectors.len(), several.pieces.len());
        if probed == all {
            // With the probe, as of a text in one piece.
            let total = several.start.history.total + probe as u64;
            let (vectors, context_len) = (std::mem::take(&mut several.vectors), window.len_after(total));
            return self.answer_pieces(request, vectors, context_len.unwrap_or(window.size), effects);
        }
        if read > probed {
            self.add_part(request, Part::Probing);
        }
        if read < all && (together || read == probed) {
            self.add_part(request, Part::Next(read));
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
        let probes = pending.frame().is_some();
        let Some(several) = &mut pending.several else { return };
        several.rebuilt |= rebuilt;
        match (kind, outcome) {
            _ if !possible => self.fail_parted(request, broken_commit(), effects),
            (Part::Reading, _) => {
                several.start = state;
                match pending.frame() {
                    Some(_) => self.add_part(request, Part::Probing),
                    None => self.add_answers(request, 0),
                }
                self.place_waiting(effects);
            }
            (Part::Probing, outcome @ Outcome::Embedded(_)) if pending.conversation.is_some() => {
                self.answer_parted(request, outcome, effects);
            }
            (Part::Probing, Outcome::Embedded(vector)) => {
                several.vectors.push(vector);
                self.go_on(request, effects);
            }
            // By a probe a piece is read, and else it gives the vector.
            (Part::Next(index), outcome) if probes != matches!(outcome, Outcome::Embedded(_)) => {
                (several.start, several.read) = (state, index + 1);
                if let Outcome::Embedded(vector) = outcome {
                    several.vectors.push(vector);
                }
                if index == 0 {
                    self.keep_first(request);
                }
                self.go_on(request, effects);
            }
            // One after the other, so that they take no more memory than one.
            (Part::Piece(index), Outcome::Embedded(vector)) => {
                several.vectors.push(vector);
                if several.vectors.len() < several.pieces.len() {
                    self.add_part(request, Part::Piece(index + 1));
                    self.place_waiting(effects);
                } else {
                    let vectors = std::mem::take(&mut several.vectors);
                    self.answer_pieces(request, vectors, window.size, effects);
                }
            }
            (Part::Answering(index), Outcome::Stepped { sampled, stopped }) => {
                let alone = index == 0 && several.parts.is_empty() && several.done.iter().all(Option::is_none);
                if alone {
                    several.start.read_again(&state, pages);
                }
                several.done[index] = Some((Choice { sampled, stopped, context_len }, state));
                if several.done.iter().all(Option::is_some) {
                    self.choose_later(request, effects);
                } else if alone {
                    self.add_answers(request, 1);
                    self.place_waiting(effects);
                }
            }
            (Part::Answering(_) | Part::Probing | Part::Next(_) | Part::Piece(_), _) => {
                self.fail_parted(request, broken_commit(), effects)
            }
        }
    }

    /// Ends a request with an error whose parts are given up.
    pub(super) fn fail_parted(&mut self, request: RequestId, error: BrainError, effects: &mut Vec<Effect>) {
        self.tell(request, error, effects);
        self.give_up_parts(request, effects);
    }

    /// Nobody waits for a request any more that is done in parts.
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

    /// All answers are there.
    fn choose_later(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let several = self.requests.get(&request).and_then(|pending| pending.several.as_ref());
        let answers = several.map_or(&[][..], |several| &several.done[..]);
        let choices = answers.iter().flatten().map(|(choice, _)| choice.clone()).collect();
        self.answer_parted(request, Outcome::Several(choices), effects);
    }

    /// All pieces of a text have their vectors.
    fn answer_pieces(
        &mut self,
        request: RequestId,
        vectors: Vec<Vec<f32>>,
        context_len: usize,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.remove(request) else { return };
        self.took(pending.since);
        let (tokens, reused) = (pending.text_len, pending.reused);
        let answer = Answer { outcome: Outcome::Pieces(vectors), tokens, context_len, rebuilt: false, reused };
        effects.push(Effect::Answer { request, answer });
    }

    /// All parts are done: the conversation stands at the input, and answers, if there are any, wait beside it.
    fn answer_parted(&mut self, request: RequestId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(mut pending) = self.remove(request) else { return };
        let (Some(several), Some(name)) = (pending.several.take(), pending.conversation.take()) else { return };
        let states = several.done.into_iter().flatten().map(|(_, state)| state).collect();
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
        let (tokens, reused) = (pending.text_len, pending.reused);
        self.took(pending.since);
        let answer = Answer { outcome, tokens, context_len, rebuilt, reused };
        effects.push(Effect::Answer { request, answer });
        self.advance(&name, effects);
    }
}
