//! Turns: the requests of one conversation in the order of their arrival, one at a time with its
//! actor. A text is tokenised at its turn, since its tokens depend on what stands before it. A reset or
//! a close needs no actor: at its turn no job is out, so it is done here, and the actor is only told to
//! give the slot back.

use std::sync::Arc;

use super::{ActorIndex, Answer, Ask, Assignment, Effect, Epoch, Policy, Stage, actors::Life, all_down, placement};
use crate::{
    job::{Outcome, RequestId, Work},
    message::{BrainError, ConversationId},
};

/// What the first request of a queue calls for.
enum Turn {
    /// Nothing now: it is with an actor, or its tokens are not there yet.
    Wait,
    /// Tokens of its text, which follows the context that there is now.
    Tokenise,
    /// An error.
    Refuse(BrainError),
    /// The conversation starts a new epoch; a close forgets it, too.
    Clear { close: bool },
    /// An actor.
    Dispatch,
}

impl Policy {
    pub(super) fn advance_if_any(&mut self, name: Option<&ConversationId>, effects: &mut Vec<Effect>) {
        if let Some(name) = name {
            self.advance(name, effects);
        }
    }

    /// Takes turns until one has to wait, and forgets the conversation if nothing is left of it.
    pub(super) fn advance(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        loop {
            let Some(conversation) = self.conversations.get(name) else {
                return;
            };
            let Some(&request) = conversation.queue.first() else {
                break;
            };
            match self.turn(name, request) {
                Turn::Wait => return,
                Turn::Tokenise => return self.tokenise(name, request, effects),
                Turn::Refuse(error) => self.fail(request, error, effects),
                Turn::Clear { close } => {
                    self.clear(name, close, effects);
                    self.remove(request);
                    let answer = Answer { outcome: Outcome::Forgotten, tokens: 0, context_len: 0, rebuilt: false };
                    effects.push(Effect::Answer { request, answer });
                }
                Turn::Dispatch => match self.home(name) {
                    Some(actor) if self.actors[actor.0].life == Life::Ready => {
                        return self.send(request, actor, effects);
                    }
                    Some(_) => return,
                    None => self.fail(request, all_down(), effects),
                },
            }
        }
        self.forget_if_blank(name, effects);
    }

    fn turn(&self, name: &ConversationId, request: RequestId) -> Turn {
        let (Some(conversation), Some(pending)) = (self.conversations.get(name), self.requests.get(&request)) else {
            return Turn::Wait;
        };
        match (pending.stage, &pending.ask) {
            (Stage::Assigned(_), _) => Turn::Wait,
            (_, Ask::Reset) => Turn::Clear { close: false },
            (_, Ask::Close) if conversation.known || conversation.quarantined => Turn::Clear { close: true },
            (_, Ask::Close) => Turn::Refuse(BrainError::UnknownConversation { conversation: name.clone() }),
            _ if conversation.quarantined => Turn::Refuse(BrainError::Quarantined { conversation: name.clone() }),
            (Stage::Untokenised, _) => Turn::Tokenise,
            (Stage::Tokenising, _) => Turn::Wait,
            _ if !pending.has_input && conversation.history.total == 0 => {
                Turn::Refuse(BrainError::EmptyInput { reason: "a step without input on an empty conversation" })
            }
            _ => Turn::Dispatch,
        }
    }

    fn tokenise(&mut self, name: &ConversationId, request: RequestId, effects: &mut Vec<Effect>) {
        if let Some(pending) = self.requests.get_mut(&request) {
            pending.stage = Stage::Tokenising;
        }
        let behind = self.conversations.get(name).and_then(|conversation| conversation.history.tokens.last().copied());
        effects.push(Effect::Tokenise { request, behind });
    }

    fn clear(&mut self, name: &ConversationId, close: bool, effects: &mut Vec<Effect>) {
        self.give_slot_back(name, effects);
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.clear();
            conversation.known &= !close;
        }
    }

    /// The conversation's home, chosen now if it has none.
    fn home(&mut self, name: &ConversationId) -> Option<ActorIndex> {
        let conversation = self.conversations.get_mut(name)?;
        if conversation.owner.is_none() {
            let actor = placement::home(&self.actors)?;
            self.actors[actor.0].conversations += 1;
            conversation.owner = Some(actor);
        }
        conversation.owner
    }

    /// Makes the actor forget what it holds of the conversation; the next job restores it.
    pub(super) fn give_slot_back(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get_mut(name) else {
            return;
        };
        let (true, Some(actor)) = (conversation.held, conversation.owner) else {
            return;
        };
        conversation.held = false;
        let job = Assignment {
            request: RequestId(self.next_own_job),
            conversation: Some(name.clone()),
            epoch: conversation.epoch,
            context: Arc::default(),
            restore: None,
            work: Work::Forget,
            alone: false,
        };
        self.next_own_job -= 1;
        effects.push(Effect::Send { actor, incarnation: self.actors[actor.0].incarnation, job });
    }

    fn forget_if_blank(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|conversation| conversation.is_blank()) {
            self.give_slot_back(name, effects);
            let owner = self.conversations.remove(name).and_then(|conversation| conversation.owner);
            if let Some(actor) = owner {
                self.actors[actor.0].conversations -= 1;
            }
        }
    }

    /// Gives stateless requests to actors that are ready.
    pub(super) fn place_loose(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&request) = self.loose.first()
            && let Some(actor) = placement::least_busy(&self.actors)
        {
            self.loose.remove(&request);
            self.send(request, actor, effects);
        }
    }

    /// Everything that waits is looked at again, oldest request first.
    pub(super) fn advance_all(&mut self, effects: &mut Vec<Effect>) {
        let mut waiting: Vec<(Option<RequestId>, ConversationId)> = self
            .conversations
            .iter()
            .filter(|(_, conversation)| !conversation.queue.is_empty() || conversation.is_blank())
            .map(|(name, conversation)| (conversation.queue.first().copied(), name.clone()))
            .collect();
        waiting.sort();
        for (_, name) in waiting {
            self.advance(&name, effects);
        }
        self.place_loose(effects);
    }

    fn send(&mut self, request: RequestId, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        };
        let mut epoch = Epoch::default();
        let mut restore = None;
        let mut context = Arc::default();
        if let Some(conversation) = pending.conversation.as_ref().and_then(|name| self.conversations.get_mut(name)) {
            restore = conversation.to_restore();
            context = Arc::clone(&conversation.history.tokens);
            let (tokens, total) = (conversation.history.tokens.len(), conversation.history.total);
            debug_assert!(tokens as u64 <= total, "{tokens} tokens are to be read again of a history of {total}");
            let first = conversation.queue.first();
            debug_assert!(first == Some(&request), "{request:?} is sent, {first:?} is first");
            conversation.held = true;
            epoch = conversation.epoch;
        }
        pending.stage = Stage::Assigned(actor);
        pending.shown_before = pending.shown.len();
        pending.restored = restore.is_some();
        let job = Assignment {
            request,
            conversation: pending.conversation.clone(),
            epoch,
            context,
            restore,
            work: pending.work(),
            alone: pending.deaths > 0,
        };
        let owner = &mut self.actors[actor.0];
        owner.take_on(request, self.now, self.config.supervision.run_max);
        effects.push(Effect::Send { actor, incarnation: owner.incarnation, job });
    }
}
