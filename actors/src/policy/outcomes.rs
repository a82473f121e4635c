//! What actors report about their jobs: tokens, results, failures. Here commits become history.
//!
//! What an actor committed for a request whose caller was already told otherwise is not taken over. Pages that it
//! filled are then nobody's; a slot in the place of pages, which differs from the history now, is given back, and the
//! context read again by the next job.

use super::{ActorIndex, Answer, Effect, Notice, Pending, Policy, Stage, broken_commit, requests::Commits};
use crate::{
    engine::Sampled,
    job::{Carried, Commit, Done, JobError, Outcome, RequestId},
    message::ConversationId,
};

impl Policy {
    pub(super) fn token(
        &mut self,
        actor: ActorIndex,
        request: RequestId,
        sampled: Sampled,
        stopped: bool,
        commit: &Commit,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.requests.get_mut(&request).filter(|pending| pending.stage == Stage::Assigned(actor))
        else {
            effects.push(Effect::Notice(Notice::Impossible("an actor showed a token of a job it does not have")));
            return;
        };
        if pending.told {
            pending.undo = true;
            return;
        }
        let commits = pending.commits();
        if self.commit(commits, commit) {
            let Some(pending) = self.requests.get_mut(&request) else { return };
            pending.shown.push(sampled.clone());
            pending.stopped = stopped;
            let last = pending.has_shown_all();
            effects.push(Effect::Show { request, sampled, last });
        } else {
            self.expire_broken(request, effects);
        }
    }

    /// A streamed step whose actor lost count: told now, its job cancelled, its slot given back then.
    fn expire_broken(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        };
        pending.told = true;
        pending.undo = true;
        let committed = pending.shown.len();
        if let Some(deadline) = pending.deadline.take() {
            self.deadlines.remove(&(deadline.at, request));
        }
        effects.extend([Effect::Cancel(request), Effect::Fail { request, error: broken_commit(), committed }]);
    }

    pub(super) fn done(&mut self, actor: ActorIndex, done: Done, effects: &mut Vec<Effect>) {
        if !self.actors[actor.0].let_go(done.request) {
            return; // a slot was given back: nobody asked
        }
        let Some(pending) = self.remove(done.request) else {
            effects.push(Effect::Notice(Notice::Impossible("an actor had a job of no request")));
            return;
        };
        if let Some(whole) = pending.whole_of() {
            return self.part_ended(whole, done, pending, effects);
        }
        let name = pending.conversation.clone();
        if let Some(conversation) = name.as_ref().and_then(|name| self.conversations.get_mut(name)) {
            conversation.rebuilt |= done.rebuilt;
            conversation.held &= !done.lost;
        }
        if !self.settle(done, pending, name.as_ref(), effects)
            && let Some(name) = &name
        {
            self.give_slot_back(name, effects);
        }
        self.advance_if_any(name.as_ref(), effects);
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
        let Some(pending) = self.requests.get_mut(&request) else {
            effects.push(Effect::Notice(Notice::Impossible("an actor gave back a job of no request")));
            return;
        };
        pending.stage = Stage::Waiting;
        pending.carried = Some(carried);
        let (name, told) = (pending.conversation.clone(), pending.told);
        let whole = pending.whole_of();
        if told {
            self.remove(request);
        } else if name.is_none() {
            self.loose.insert(request);
        }
        if let Some(whole) = whole.filter(|whole| self.requests.get(whole).is_some_and(|whole| whole.told)) {
            self.give_up_parts(whole, effects);
        }
        self.place_loose(effects);
        self.advance_if_any(name.as_ref(), effects);
    }

    /// A part of several answers has ended.
    fn part_ended(&mut self, request: RequestId, done: Done, part: Pending, effects: &mut Vec<Effect>) {
        let Some(whole) = self.requests.get_mut(&request) else { return };
        if whole.told {
            return self.give_up_parts(request, effects);
        }
        let Done { outcome, commit, context_len, rebuilt, .. } = done;
        match outcome {
            Ok(outcome) => self.part_done(part, outcome, &commit, context_len, rebuilt, effects),
            Err(JobError::Failed(error)) => self.fail_parted(request, error, effects),
            Err(JobError::Cancelled) => self.drop_parted(request, effects),
        }
    }

    /// Answers the request; false if a slot in the place of pages may now differ from the history.
    fn settle(
        &mut self,
        done: Done,
        mut pending: Pending,
        name: Option<&ConversationId>,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Done { request, outcome, commit, context_len, .. } = done;
        let committed = pending.shown.len();
        if pending.told {
            return !pending.undo && !pending.restored && outcome.is_err();
        }
        match outcome {
            Ok(outcome) if self.commit(pending.commits(), &commit) => {
                let conversation = name.and_then(|name| self.conversations.get_mut(name));
                let rebuilt = conversation.is_some_and(|conversation| std::mem::take(&mut conversation.rebuilt));
                let (tokens, reused) = (pending.tokens.len(), pending.reused);
                let outcome = pending.whole(outcome);
                effects
                    .push(Effect::Answer { request, answer: Answer { outcome, tokens, context_len, rebuilt, reused } });
                return true;
            }
            Ok(_) => {
                effects.push(Effect::Notice(Notice::Impossible("a commit dropped more tokens than there are")));
                effects.push(Effect::Fail { request, error: broken_commit(), committed });
                return false;
            }
            Err(JobError::Failed(error)) => effects.push(Effect::Fail { request, error, committed }),
            Err(JobError::Cancelled) => effects.push(Effect::Drop(request)),
        }
        // Where a context was not read again to its end, only the actor knows how much of it is there.
        !pending.restored
    }

    /// Takes a commit over into the conversation, which from then on stands where the request's choice says; false if it
    /// cannot be one, and then nothing changed. A request without a conversation leaves nothing behind.
    fn commit(&mut self, commits: Commits, commit: &Commit) -> bool {
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
        let Some(outcome) = self.requests.get_mut(&request).and_then(Pending::finished_stream) else {
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
        let (tokens, reused) = (pending.tokens.len(), pending.reused);
        effects.push(Effect::Answer { request, answer: Answer { outcome, tokens, context_len, rebuilt, reused } });
    }
}
