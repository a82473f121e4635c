//! Turns: the requests of one conversation in the order of their arrival, one at a time with an
//! actor. A text is tokenised at its turn, since its tokens depend on what stands before it. What runs nothing needs no
//! actor: at its turn no job is out, so it is done here. A fork waits in the queues of both of its conversations.

use super::{
    ActorIndex, Answer, Ask, Assignment, Effect, Epoch, Pending, Policy, Stage, actors::Life, all_down,
    moves::no_such_choice, placement, state::State,
};
use crate::{
    job::{History, Holding, RequestId, Work},
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
    /// A new conversation of its tokens.
    Fork { from: ConversationId, to: ConversationId, at: Option<usize> },
    /// An earlier length.
    Rewind { context_len: usize },
    /// Several answers, each a part of its own.
    Part,
    /// An actor.
    Dispatch,
}

impl Policy {
    pub(super) fn advance_if_any(&mut self, name: Option<&ConversationId>, effects: &mut Vec<Effect>) {
        if let Some(name) = name {
            self.advance(name, effects);
        }
    }

    pub(super) fn advance_each(&mut self, names: impl Iterator<Item = ConversationId>, effects: &mut Vec<Effect>) {
        for name in names {
            self.advance(&name, effects);
        }
    }

    /// Takes turns until one has to wait, and forgets the conversation if nothing is left of it. Those that a fork has
    /// made wait no more follow, one after the other and not one within the other: there may be as many as requests.
    pub(super) fn advance(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let mut others = Vec::new();
        self.advance_one(name, &mut others, effects);
        while let Some(other) = others.pop() {
            self.advance_one(&other, &mut others, effects);
        }
    }

    fn advance_one(&mut self, name: &ConversationId, others: &mut Vec<ConversationId>, effects: &mut Vec<Effect>) {
        loop {
            let Some(conversation) = self.conversations.get(name) else {
                return;
            };
            let first = conversation.queue.first().copied();
            let is_out = |request| matches!(self.requests.get(&request), Some(it) if it.stage.is_out());
            if conversation.moved && !first.is_some_and(is_out) {
                self.settle_down(name);
            }
            let Some(request) = first else {
                break;
            };
            match self.turn(name, request) {
                Turn::Wait => return,
                Turn::Tokenise => return self.tokenise(name, request, effects),
                Turn::Refuse(error) => self.fail(request, error, effects),
                Turn::Clear { close } => {
                    self.clear(name, close, effects);
                    self.remove(request);
                    effects.push(Effect::Answer { request, answer: Answer::done() });
                }
                Turn::Fork { from, to, at } => {
                    self.fork(request, &from, &to, at, effects);
                    others.push(if *name == from { to } else { from });
                }
                Turn::Rewind { context_len } => self.rewind(request, name, context_len, effects),
                Turn::Part => return self.part(request, effects),
                Turn::Dispatch => match self.actor_for(name) {
                    Some(actor) => return self.send(request, actor, effects),
                    None if self.actors.iter().all(|actor| actor.life == Life::Down) => {
                        self.fail(request, all_down(), effects);
                    }
                    None => return,
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
            (Stage::Assigned(_) | Stage::Parted, _) => Turn::Wait,
            (_, Ask::Fork { to, at }) => self.fork_turn(request, pending.conversation.as_ref(), to, *at),
            (_, Ask::Reset) => Turn::Clear { close: false },
            (_, Ask::Close) if conversation.known || conversation.quarantined => Turn::Clear { close: true },
            (_, Ask::Close) => Turn::Refuse(BrainError::UnknownConversation { conversation: name.clone() }),
            _ if conversation.quarantined => Turn::Refuse(BrainError::Quarantined { conversation: name.clone() }),
            (Stage::Tokenising, _) => Turn::Wait,
            (_, Ask::Rewind { context_len }) => Turn::Rewind { context_len: *context_len },
            _ => match conversation.base(pending.choice) {
                None => Turn::Refuse(no_such_choice(conversation, pending.choice)),
                Some(_) if pending.stage == Stage::Untokenised => Turn::Tokenise,
                Some(base) if !pending.has_input && base.history.total == 0 => {
                    Turn::Refuse(BrainError::EmptyInput { reason: "a step without input on an empty conversation" })
                }
                Some(_) if pending.answers() > 1 => Turn::Part,
                Some(_) => Turn::Dispatch,
            },
        }
    }

    /// A fork's turn has come when it is first in both queues.
    fn fork_turn(
        &self,
        request: RequestId,
        from: Option<&ConversationId>,
        to: &ConversationId,
        at: Option<usize>,
    ) -> Turn {
        let is_first = |name: &ConversationId| {
            self.conversations.get(name).is_some_and(|conversation| conversation.queue.first() == Some(&request))
        };
        match from {
            Some(from) if is_first(from) && is_first(to) => Turn::Fork { from: from.clone(), to: to.clone(), at },
            _ => Turn::Wait,
        }
    }

    fn tokenise(&mut self, name: &ConversationId, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get_mut(&request) else { return };
        pending.stage = Stage::Tokenising;
        let base = self.conversations.get(name).and_then(|conversation| conversation.base(pending.choice));
        let behind = base.and_then(|base| base.history.tokens.last().copied());
        effects.push(Effect::Tokenise { request, behind });
    }

    fn clear(&mut self, name: &ConversationId, close: bool, effects: &mut Vec<Effect>) {
        self.give_slot_back(name, effects);
        self.stand_up(name);
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.clear();
            conversation.known &= !close;
        }
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
            serves: RequestId(self.next_own_job),
            conversation: Some(name.clone()),
            epoch: conversation.epoch,
            context: History::default(),
            held: Holding::Slot,
            carried: None,
            work: Work::Forget,
            alone: false,
        };
        self.next_own_job -= 1;
        effects.push(Effect::Send { actor, incarnation: self.actors[actor.0].incarnation, job });
    }

    fn forget_if_blank(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|conversation| conversation.is_blank()) {
            self.give_slot_back(name, effects);
            self.stand_up(name);
            let owner = self.conversations.remove(name).and_then(|conversation| conversation.owner);
            if let Some(actor) = owner {
                self.actors[actor.0].conversations -= 1;
            }
        }
    }

    /// Gives requests without a conversation to actors that are ready.
    pub(super) fn place_loose(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&request) = self.loose.first()
            && let Some(actor) = placement::least_busy(&self.actors, None)
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
        let serves = self.requests.get(&request).and_then(Pending::whole_of).unwrap_or(request);
        let sharing = self.sharing_of(serves);
        let Some(mut pending) = self.requests.remove(&request) else { return };
        let name = pending.conversation.clone();
        let (mut epoch, mut holding) = (Epoch::default(), Holding::Nothing);
        let state = match (name.as_ref().and_then(|name| self.conversations.get_mut(name)), &pending.part) {
            (Some(conversation), _) => {
                let first = conversation.queue.first();
                debug_assert!(first == Some(&request), "{request:?} is sent, {first:?} is first");
                epoch = conversation.epoch;
                if pending.choice.is_none() {
                    holding = conversation.holding();
                }
                conversation.held = self.model.as_ref().is_some_and(|model| model.pages.is_none());
                conversation.base(pending.choice).cloned().unwrap_or_default()
            }
            (None, Some(part)) => part.state.clone(),
            (None, None) => State::default(),
        };
        if self.page_size().is_some() {
            let resident = if pending.carried.is_some() {
                // What was done of it is told of the pages that it began with.
                pending.base.take().unwrap_or_else(|| state.resident.clone())
            } else {
                let (resident, reused) = self.pages_for(&state, &pending, &sharing);
                if pending.shown.is_empty() {
                    pending.reused = reused; // what an earlier job began with, and came to nothing, was for nothing
                }
                resident
            };
            pending.base = Some(resident.clone());
            holding = Holding::Pages(resident);
        }
        pending.restored = holding == Holding::Nothing && state.len() > 0;
        pending.stage = Stage::Assigned(actor);
        let carried = pending.carried.take();
        if carried.is_none() {
            pending.shown_before = pending.shown.len();
        }
        let job = Assignment {
            request,
            serves,
            conversation: name,
            epoch,
            context: state.history,
            held: holding,
            carried,
            work: pending.work(),
            alone: pending.deaths > 0,
        };
        self.requests.insert(request, pending);
        let owner = &mut self.actors[actor.0];
        owner.take_on(request, self.now, self.config.supervision.run_max);
        effects.push(Effect::Send { actor, incarnation: owner.incarnation, job });
    }
}
