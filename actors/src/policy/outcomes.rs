//! What actors report about their jobs: tokens, results, failures. Here commits become history.
//!
//! What an actor committed for a request whose caller was already told otherwise is not taken over. Pages that it
//! filled are then nobody's; a slot in the place of pages, which differs from the history now, is given back, and the
//! context read again by the next job.

use std::sync::Arc;

use super::{
    ActorIndex, Answer, Caller, Effect, Notice, Pending, Policy, Stage, Time, broken_commit, conversations::Slot,
    requests::Commits,
};
use crate::{
    engine::Sampled,
    job::{Carried, Commit, Done, JobError, Outcome, RequestId},
    message::ConversationId,
};

/// What a streamed step shows.
pub(super) struct Tokens {
    /// Those that its grammar forced.
    pub(super) forced: Vec<Sampled>,
    /// The one that was sampled behind them.
    pub(super) sampled: Option<Sampled>,
    /// Whether the step stops behind them.
    pub(super) stopped: bool,
}

impl Policy {
    /// A streamed step's next tokens, one at least.
    pub(super) fn tokens(
        &mut self,
        actor: ActorIndex,
        request: RequestId,
        tokens: Tokens,
        commit: &Commit,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.requests.get_mut(&request).filter(|pending| pending.stage == Stage::Assigned(actor))
        else {
            effects.push(Effect::Notice(Notice::Impossible("an actor showed a token of a job it does not have")));
            return;
        };
        if pending.caller == Caller::Told {
            let name = pending.conversation.clone();
            // What is read from here on follows what does not count.
            pending.base = None;
            return self.went_astray(name.as_ref());
        }
        let commits = pending.commits();
        let name = commits.name.clone();
        if self.commit(commits, commit) {
            let Some(pending) = self.requests.get_mut(&request) else { return };
            let Tokens { forced, sampled, stopped } = tokens;
            let mut left = forced.len() + sampled.iter().count();
            pending.shown.sampled.extend(forced.iter().chain(&sampled).cloned());
            pending.shown.stopped = stopped;
            let all = pending.has_shown_all();
            for sampled in forced.into_iter().chain(sampled) {
                left -= 1;
                effects.push(Effect::Show { request, sampled, last: all && left == 0 });
            }
        } else {
            // Its actor lost count.
            effects.push(Effect::Notice(Notice::Impossible("a commit dropped more tokens than there are")));
            self.went_astray(name.as_ref());
            self.give_up(request, broken_commit(), effects);
        }
    }

    /// An actor went on where the conversation does not: its slot, if it keeps one, is to be given back.
    fn went_astray(&mut self, name: Option<&ConversationId>) {
        if let Some(conversation) = name.and_then(|name| self.conversations.get_mut(name))
            && let Slot::Clean(actor, incarnation) = conversation.slot
        {
            conversation.slot = Slot::Dirty(actor, incarnation);
        }
    }

    pub(super) fn done(&mut self, actor: ActorIndex, mut done: Done, effects: &mut Vec<Effect>) {
        if !self.actors[actor.0].let_go(done.request) {
            return; // a slot was given back: nobody asked
        }
        if done.outcome.is_ok() {
            self.survived(done.request, false);
        }
        let serves = self.requests.get(&done.request).and_then(|pending| pending.whole_of()).unwrap_or(done.request);
        let sharing = self.sharing_of(serves);
        let Some(mut pending) = self.remove(done.request) else {
            effects.push(Effect::Notice(Notice::Impossible("an actor had a job of no request")));
            return;
        };
        if let Some(read) = done.read.take() {
            self.keep_read(&mut pending, &read, &sharing);
        }
        if let Some(whole) = pending.whole_of() {
            return self.part_ended(whole, done, pending, effects);
        }
        let name = pending.conversation.clone();
        if let Some(name) = name.as_ref().filter(|_| done.rebuilt) {
            effects.push(Effect::Notice(Notice::Rebuilt(name.clone())));
        }
        if let Some(conversation) = name.as_ref().and_then(|name| self.conversations.get_mut(name)) {
            conversation.rebuilt |= done.rebuilt;
            if done.rebuilt {
                // Reading all its tokens would lead elsewhere now.
                conversation.state.history.left = Arc::default();
            }
            if done.lost {
                conversation.slot = Slot::Absent;
            }
        }
        // The answer that it went on from is not where its conversation stands.
        if pending.choice.is_some() && done.outcome.is_err() {
            self.went_astray(name.as_ref());
        }
        self.settle(done, pending, name.as_ref(), effects);
        if let Some(name) = &name {
            self.give_dirty_back(name, effects);
            self.advance(name, effects);
        }
    }

    fn give_dirty_back(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|conversation| matches!(conversation.slot, Slot::Dirty(..))) {
            self.give_slot_back(name, effects);
        }
    }

    /// A job comes back to be gone on with by another actor.
    pub(super) fn returned(
        &mut self,
        actor: ActorIndex,
        request: RequestId,
        carried: Carried,
        effects: &mut Vec<Effect>,
    ) {
        self.actors[actor.0].let_go(request);
        self.unreserve(request);
        let Some(pending) = self.requests.get_mut(&request) else {
            effects.push(Effect::Notice(Notice::Impossible("an actor gave back a job of no request")));
            return;
        };
        pending.stage = Stage::Waiting;
        pending.carried = Some(carried);
        pending.moves = false;
        let (name, caller) = (pending.conversation.clone(), pending.caller);
        let whole = pending.whole_of();
        match caller {
            Caller::Told => drop(self.remove(request)),
            Caller::Left => self.drop_left(request, effects),
            Caller::Waits => match whole {
                None => self.waiting.insert(request),
                Some(whole) => self.waiting.insert_part(request, whole),
            },
        }
        if let Some(whole) = whole.filter(|whole| self.is_given_up(*whole)) {
            self.give_up_parts(whole, effects);
        }
        self.advance_if_any(name.as_ref(), effects);
        self.place_waiting(effects);
    }

    /// A part of a request has ended.
    fn part_ended(&mut self, request: RequestId, done: Done, part: Box<Pending>, effects: &mut Vec<Effect>) {
        let whole = self.requests.get(&request).and_then(|whole| whole.conversation.as_ref());
        if let Some(name) = whole.filter(|_| done.rebuilt) {
            effects.push(Effect::Notice(Notice::Rebuilt(name.clone())));
        }
        if self.is_given_up(request) {
            return self.give_up_parts(request, effects);
        }
        let Done { outcome, commit, context_len, rebuilt, .. } = done;
        match outcome {
            Ok(outcome) => self.part_done(part, outcome, &commit, context_len, rebuilt, effects),
            Err(JobError::Failed(error)) => self.fail_parted(request, error, effects),
            Err(JobError::Cancelled) => self.drop_parted(request, effects),
        }
    }

    /// Answers the request.
    fn settle(
        &mut self,
        done: Done,
        mut pending: Box<Pending>,
        name: Option<&ConversationId>,
        effects: &mut Vec<Effect>,
    ) {
        let Done { request, outcome, commit, context_len, .. } = done;
        let committed = pending.shown.sampled.len();
        if outcome.is_ok() {
            self.keep_prefix(&pending, &commit);
        }
        let fail = |error| Effect::Fail { request, error, committed, lingers: false };
        match outcome {
            // What it committed after its caller was told does not count.
            outcome if pending.caller == Caller::Told => {
                if outcome.is_ok() {
                    self.went_astray(name);
                }
            }
            Ok(outcome) if self.commit(pending.commits(), &commit) => {
                let conversation = name.and_then(|name| self.conversations.get_mut(name));
                let rebuilt = conversation.is_some_and(|conversation| std::mem::take(&mut conversation.rebuilt));
                let (tokens, reused) = (pending.text_len, pending.reused);
                self.took(pending.since);
                let outcome = pending.whole(outcome);
                effects
                    .push(Effect::Answer { request, answer: Answer { outcome, tokens, context_len, rebuilt, reused } });
            }
            Ok(_) => {
                effects.push(Effect::Notice(Notice::Impossible("a commit dropped more tokens than there are")));
                self.went_astray(name);
                effects.push(fail(broken_commit()));
            }
            Err(JobError::Failed(error)) => effects.push(fail(error)),
            Err(JobError::Cancelled) => effects.push(Effect::Drop { request, lingers: false }),
        }
    }

    /// A request was answered that came then.
    pub(super) fn took(&mut self, since: Time) {
        self.takes = (self.takes * 7 + self.now.since(since)) / 8;
    }

    /// Takes a commit over into the conversation, which from then on stands where the request's choice says; false if it
    /// cannot be one, and then nothing changed. A request without a conversation leaves nothing behind.
    pub(super) fn commit(&mut self, commits: Commits, commit: &Commit) -> bool {
        let Commits { name, choice, base, sharing } = commits;
        let window = self.window();
        let Some(name) = name else { return true };
        let Some(conversation) = self.conversations.get_mut(&name) else { return true };
        if !conversation.base(choice).is_some_and(|state| state.takes(commit, &window)) {
            return false;
        }
        conversation.choose(choice);
        let (had, before) = (conversation.state.len() > 0, conversation.sharing.clone());
        conversation.state.commit(commit, base, &window);
        conversation.share(sharing, had);
        (conversation.known, conversation.moved) = (true, true);
        self.leave_wrong_seat(&name, &before);
        true
    }

    /// Answers a streamed step that has shown all its tokens before its actor died.
    pub(super) fn finish_shown(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(outcome) = self.requests.get_mut(&request).and_then(|pending| pending.finished_stream()) else {
            return;
        };
        self.finish(request, outcome, effects);
    }

    fn finish(&mut self, request: RequestId, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(pending) = self.remove(request) else {
            return;
        };
        let conversation = pending.conversation.as_ref().and_then(|name| self.conversations.get_mut(name));
        let (context_len, rebuilt) = conversation
            .map_or((0, false), |conversation| (conversation.state.len(), std::mem::take(&mut conversation.rebuilt)));
        let (tokens, reused) = (pending.text_len, pending.reused);
        self.took(pending.since);
        effects.push(Effect::Answer { request, answer: Answer { outcome, tokens, context_len, rebuilt, reused } });
    }
}
