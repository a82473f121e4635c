//! Turns: the requests of one conversation in the order of their arrival, one at a time with an
//! actor. A text is tokenised at its turn, since its tokens depend on what stands before it. What runs nothing needs no
//! actor: at its turn no job is out, so it is done here. A fork waits in the queues of both of its conversations.

use super::{Answer, Ask, Effect, Policy, Stage, admission, blame::Fingerprint, moves::no_such_choice};
use crate::{
    job::{History, RequestId},
    keep::Kept,
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
    /// The conversation is emptied; a close forgets it, too.
    Clear { close: bool },
    /// A new conversation of its tokens.
    Fork { from: ConversationId, to: ConversationId, at: Option<usize> },
    /// What it is.
    Export,
    /// What another one was.
    Import(Vec<Kept>),
    /// An earlier length.
    Rewind { context_len: usize },
    /// Several answers, or a probe behind what it reads: parts of their own.
    Part,
    /// An actor.
    Dispatch,
}

impl Turn {
    /// Whether it needs keys and values that may be outside of memory.
    fn needs_rows(&self) -> bool {
        matches!(self, Self::Fork { .. } | Self::Rewind { .. } | Self::Export | Self::Part | Self::Dispatch)
    }

    /// Whose, where the turn is `name`'s.
    fn whose<'a>(&'a self, name: &'a ConversationId) -> &'a ConversationId {
        if let Self::Fork { from, .. } = self { from } else { name }
    }
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
            let turn = self.turn(name, request);
            if turn.needs_rows() && self.is_coming(turn.whose(name)) {
                return;
            }
            let dispatches = matches!(turn, Turn::Dispatch | Turn::Part);
            let fetches = turn.needs_rows() && self.is_kept(turn.whose(name));
            if matches!(turn, Turn::Dispatch) && !fetches && self.answer_by_pages(name, request, effects) {
                continue;
            }
            if (dispatches || fetches) && !self.has_room(request) {
                self.waiting.insert(request);
                return;
            }
            if fetches {
                self.waiting.remove(&request);
                self.reserve(request);
                return self.fetch(turn.whose(name), effects);
            }
            if !dispatches {
                self.waiting.remove(&request);
            }
            match turn {
                Turn::Wait => return,
                Turn::Tokenise => return self.tokenise(name, request, effects),
                Turn::Refuse(error) => self.fail(request, error, effects),
                Turn::Clear { close } => {
                    self.blame.pardon(&Fingerprint::Conversation(name.clone()));
                    self.clear(name, close, effects);
                    self.remove(request);
                    effects.push(Effect::Answer { request, answer: Answer::done() });
                }
                Turn::Fork { from, to, at } => {
                    self.fork(request, &from, &to, at, effects);
                    others.push(if *name == from { to } else { from });
                }
                Turn::Rewind { context_len } => self.rewind(request, name, context_len, effects),
                Turn::Export => self.export(request, name, effects),
                Turn::Import(states) => self.import(request, name, states, effects),
                Turn::Part => match self.check_size(request) {
                    Ok(()) => {
                        self.part(request);
                        return self.place_waiting(effects);
                    }
                    Err(error) => self.fail(request, error, effects),
                },
                Turn::Dispatch => match self.actor_for(name, request, effects) {
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
        self.rest(name, effects);
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
                (Ask::Export, Ok(())) => Turn::Export,
                (Ask::Import { states }, Ok(())) => Turn::Import(states.clone()),
                (Ask::Rewind { context_len }, Ok(())) => Turn::Rewind { context_len: *context_len },
                (_, Ok(())) => match conversation.base(pending.choice) {
                    None => Turn::Refuse(no_such_choice(conversation, pending.choice)),
                    _ if pending.stage == Stage::Untokenised => Turn::Tokenise,
                    _ if pending.is_parted() => Turn::Part,
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
    pub(super) fn check_work(&self, request: RequestId) -> Result<(), BrainError> {
        let (Some(pending), Some(model)) = (self.requests.get(&request), &self.model) else { return Ok(()) };
        let whole = pending.whole_of().and_then(|whole| self.requests.get(&whole)).unwrap_or(pending);
        let conversation = whole.conversation.as_ref().and_then(|name| self.conversations.get(name));
        let base = conversation.and_then(|conversation| conversation.base(whole.choice));
        let nothing = History::default();
        admission::check_work(whole, base.map_or(&nothing, |state| &state.history), model)?;
        self.check_size(request)
    }

    pub(super) fn clear(&mut self, name: &ConversationId, close: bool, effects: &mut Vec<Effect>) {
        self.forget_kept(name, effects);
        self.give_slot_back(name, effects);
        self.stand_up(name);
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.clear();
            conversation.known &= !close;
        }
    }

    pub(super) fn forget_if_blank(&mut self, name: &ConversationId, effects: &mut Vec<Effect>) {
        if self.conversations.get(name).is_some_and(|conversation| conversation.is_blank()) {
            self.give_slot_back(name, effects);
            self.stand_up(name);
            let home = self.conversations.remove(name).and_then(|conversation| conversation.home);
            if let Some(actor) = self.lives_with(home) {
                self.actors[actor.0].conversations -= 1;
            }
        }
    }
}
