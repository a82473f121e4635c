//! Turns: the requests of one conversation in the order of their arrival, one at a time with an
//! actor. A text is tokenised at its turn, since its tokens depend on what stands before it. What runs nothing needs no
//! actor: at its turn no job is out, so it is done here. A fork waits in the queues of both of its conversations.

use super::{
    ActorIndex, Answer, Ask, Assignment, Effect, Incarnation, Policy, Stage, actors::Life, admission,
    blame::Fingerprint, conversations::Slot, moves::no_such_choice, state::State,
};
use crate::{
    job::{History, Holding, RequestId, Work},
    message::{BrainError, ConversationId, Party},
};

/// What the first request of a queue calls for.
enum Turn {
    /// Nothing now: it is with an actor, or its tokens are not there yet.
    Wait,
    /// Tokens of its text, which follows the context that there is now.
    Tokenise,
    /// An error.
    Refuse(BrainError),
    /// The conversation is emptied; a close forgets it, too.
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
                Turn::Dispatch => match self.actor_for(name, request) {
                    Some(actor) => match self.check_work(request) {
                        Ok(()) => return self.send(request, actor, effects),
                        Err(error) => self.fail(request, error, effects),
                    },
                    None => {
                        self.waiting.insert(request);
                        return;
                    }
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
            (Stage::Tokenising, _) => Turn::Wait,
            (_, ask) => match (ask, self.check_quarantine(name)) {
                (Ask::Close, Ok(())) if !conversation.known => {
                    Turn::Refuse(BrainError::UnknownConversation { conversation: name.clone() })
                }
                (Ask::Close, _) => Turn::Clear { close: true },
                (_, Err(error)) => Turn::Refuse(error),
                (Ask::Rewind { context_len }, Ok(())) => Turn::Rewind { context_len: *context_len },
                (_, Ok(())) => match conversation.base(pending.choice) {
                    None => Turn::Refuse(no_such_choice(conversation, pending.choice)),
                    _ if pending.stage == Stage::Untokenised => Turn::Tokenise,
                    _ if pending.answers() > 1 => Turn::Part,
                    _ => Turn::Dispatch,
                },
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
        effects.push(Effect::Tokenise { request, conversation: Some(name.clone()), behind });
    }

    /// Whether a conversation's requests are refused, since they have killed actors.
    pub(super) fn check_quarantine(&self, name: &ConversationId) -> Result<(), BrainError> {
        match self.blame.is_empty() {
            true => Ok(()),
            false => self.check_blame(&Fingerprint::Conversation(name.clone())),
        }
    }

    /// Whether there is anything to do of what a request asks, and with tokens that the model knows. An actor is ready,
    /// so it is known which those are.
    fn check_work(&self, request: RequestId) -> Result<(), BrainError> {
        let (Some(pending), Some(model)) = (self.requests.get(&request), &self.model) else { return Ok(()) };
        let whole = pending.whole_of().and_then(|whole| self.requests.get(&whole)).unwrap_or(pending);
        let conversation = whole.conversation.as_ref().and_then(|name| self.conversations.get(name));
        let base = conversation.and_then(|conversation| conversation.base(whole.choice));
        admission::check_work(whole, base.map_or(0, State::len), model)
    }

    fn clear(&mut self, name: &ConversationId, close: bool, effects: &mut Vec<Effect>) {
        self.blame.pardon(&Fingerprint::Conversation(name.clone()));
        self.give_slot_back(name, effects);
        self.stand_up(name);
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.clear();
            conversation.known &= !close;
        }
    }

    /// Makes the actor forget what it holds of the conversation; the next job restores it.
    pub(super) fn give_slot_back(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        let Some(conversation) = self.conversations.get_mut(name) else { return };
        let slot = std::mem::take(&mut conversation.slot);
        let (Slot::Clean(actor, incarnation) | Slot::Dirty(actor, incarnation)) = slot else { return };
        if !self.serves(actor, incarnation) {
            return;
        }
        let request = RequestId(self.next_own_job);
        self.next_own_job -= 1;
        let job = Assignment {
            request,
            serves: request,
            conversation: Some(name.clone()),
            context: History::default(),
            held: Holding::Slot,
            carried: None,
            work: Work::Forget,
            party: Party::default(),
            alone: 0,
        };
        effects.push(Effect::Send { actor, incarnation, job });
    }

    /// Whether this life of an actor takes jobs.
    pub(super) fn serves(&self, actor: ActorIndex, incarnation: Incarnation) -> bool {
        let state = &self.actors[actor.0];
        state.incarnation == incarnation && state.life == Life::Ready
    }

    fn forget_if_blank(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|conversation| conversation.is_blank()) {
            self.give_slot_back(name, effects);
            self.stand_up(name);
            let home = self.conversations.remove(name).and_then(|conversation| conversation.home);
            if let Some(actor) = self.lives_with(home) {
                self.actors[actor.0].conversations -= 1;
            }
        }
    }

    /// What waits for an actor is given to those that are ready, oldest request first.
    pub(super) fn place_waiting(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&request) = self.waiting.first() {
            let Some(actor) = self.least_busy(None, request) else { return };
            self.waiting.remove(&request);
            let Some(pending) = self.requests.get(&request) else { continue };
            match pending.conversation.clone() {
                Some(name) => self.advance(&name, effects),
                None => self.place(request, actor, effects),
            }
        }
    }

    /// Gives a request without a conversation, or a part, to an actor, unless it is refused.
    fn place(&mut self, request: RequestId, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let whole = self.requests.get(&request).and_then(|pending| pending.whole_of());
        let known = if self.blame.is_empty() { None } else { self.fingerprint(request) };
        let checked = known.map_or(Ok(()), |who| self.check_blame(&who)).and_then(|()| self.check_work(request));
        match (checked, whole) {
            (Ok(()), _) => self.send(request, actor, effects),
            (Err(error), Some(whole)) => self.fail_parted(whole, error, effects),
            (Err(error), None) => self.fail(request, error, effects),
        }
    }

    fn send(&mut self, request: RequestId, actor: ActorIndex, effects: &mut Vec<Effect>) {
        let serves = self.requests.get(&request).and_then(|pending| pending.whole_of()).unwrap_or(request);
        let sharing = self.sharing_of(serves);
        let suspect = if self.blame.is_empty() { None } else { self.fingerprint(request) };
        let alone = suspect.map_or(0, |who| self.blame.runs_alone(&who, self.now));
        let Some(mut pending) = self.requests.remove(&request) else { return };
        let name = pending.conversation.clone();
        let mut holding = Holding::Nothing;
        let incarnation = self.actors[actor.0].incarnation;
        let keeps = self.model.as_ref().is_some_and(|model| model.pages.is_none());
        let state = match (name.as_ref().and_then(|name| self.conversations.get_mut(name)), &pending.part) {
            (Some(conversation), _) => {
                let first = conversation.queue.first();
                debug_assert!(first == Some(&request), "{request:?} is sent, {first:?} is first");
                if pending.choice.is_none() && conversation.slot == Slot::Clean(actor, incarnation) {
                    holding = Holding::Slot;
                }
                if keeps {
                    conversation.slot = Slot::Clean(actor, incarnation);
                }
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
                if pending.shown.sampled.is_empty() {
                    pending.reused = reused; // what an earlier job began with, and came to nothing, was for nothing
                }
                resident
            };
            pending.base = Some(resident.clone());
            holding = Holding::Pages(resident);
        }
        pending.stage = Stage::Assigned(actor);
        pending.alone = alone;
        let carried = pending.carried.take();
        if carried.is_none() {
            pending.shown.before = pending.shown.sampled.len();
        }
        let job = Assignment {
            request,
            serves,
            conversation: name,
            context: state.history,
            held: holding,
            carried,
            work: pending.work(),
            party: pending.party.clone(),
            alone,
        };
        self.requests.insert(request, pending);
        self.waiting.remove(&request);
        let owner = &mut self.actors[actor.0];
        owner.take_on(request, self.now, self.config.supervision.run_max);
        effects.push(Effect::Send { actor, incarnation, job });
    }
}
