//! What actors report about their jobs: tokens, results, failures. Here commits become history.
//!
//! What an actor committed for a request whose caller was already told otherwise is not taken over;
//! the slot, which then differs from the history, is given back and restored by the next job.

use super::{ActorIndex, Answer, Effect, Notice, Pending, Policy, Stage};
use crate::{
    engine::Sampled,
    job::{Commit, Done, JobError, Outcome, RequestId},
    message::{BrainError, ConversationId},
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
        let name = pending.conversation.clone();
        if self.commit(name.as_ref(), commit, effects) {
            let pending = self.requests.get_mut(&request);
            let last = pending.is_some_and(|pending| {
                pending.shown.push(sampled.clone());
                pending.stopped = stopped;
                pending.has_shown_all()
            });
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
        let Some(mut pending) = self.remove(done.request) else {
            effects.push(Effect::Notice(Notice::Impossible("an actor had a job of no request")));
            return;
        };
        let name = pending.conversation.take();
        if done.rebuilt
            && let Some(conversation) = name.as_ref().and_then(|name| self.conversations.get_mut(name))
        {
            conversation.rebuilt = true;
        }
        if !self.settle(done, pending, name.as_ref(), effects)
            && let Some(name) = &name
        {
            self.give_slot_back(name, effects);
        }
        self.advance_if_any(name.as_ref(), effects);
    }

    /// Answers the request; false if the actor's slot may now differ from the history.
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
            Ok(outcome) if self.commit(name, &commit, effects) => {
                let rebuilt = name
                    .and_then(|name| self.conversations.get_mut(name))
                    .is_some_and(|conversation| std::mem::take(&mut conversation.rebuilt));
                let tokens = pending.tokens.len();
                let outcome = pending.whole(outcome);
                effects.push(Effect::Answer { request, answer: Answer { outcome, tokens, context_len, rebuilt } });
                return true;
            }
            Ok(_) => {
                effects.push(Effect::Fail { request, error: broken_commit(), committed });
                return false;
            }
            Err(JobError::Failed(error)) => effects.push(Effect::Fail { request, error, committed }),
            Err(JobError::Cancelled) => effects.push(Effect::Drop(request)),
        }
        // Where a restored history was not read to its end, only the actor knows how much of it is there.
        !pending.restored
    }

    /// Takes a commit over into the conversation's history; a stateless request has none.
    fn commit(&mut self, name: Option<&ConversationId>, commit: &Commit, effects: &mut Vec<Effect>) -> bool {
        let Some(conversation) = name.and_then(|name| self.conversations.get_mut(name)) else {
            return true;
        };
        let sinks = self.model.as_ref().map_or(0, |model| model.window.sinks);
        let possible = conversation.commit(commit, sinks);
        if !possible {
            effects.push(Effect::Notice(Notice::Impossible("a commit dropped more tokens than there are")));
        }
        possible
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
        let (context_len, rebuilt) = conversation.map_or((0, false), |conversation| {
            (conversation.history.tokens.len(), std::mem::take(&mut conversation.rebuilt))
        });
        let answer = Answer { outcome, tokens: pending.tokens.len(), context_len, rebuilt };
        effects.push(Effect::Answer { request, answer });
    }
}

fn broken_commit() -> BrainError {
    BrainError::Engine { message: "the engine dropped more tokens than its context holds".to_owned() }
}
