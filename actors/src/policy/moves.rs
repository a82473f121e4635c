//! Forks and rewinds: what moves a conversation and runs nothing. Both are a matter of states, which share their pages.

use super::{Answer, Effect, Policy, conversations::Conversation, state::State};
use crate::{
    job::{Outcome, RequestId},
    keep::Kept,
    message::{BrainError, ConversationId, N_MAX, Sharing},
};

impl Policy {
    /// Makes a conversation of another's first tokens. Both queues have come to this request.
    pub(super) fn fork(
        &mut self,
        request: RequestId,
        from: &ConversationId,
        to: &ConversationId,
        at: Option<usize>,
        effects: &mut Vec<Effect>,
    ) {
        let choice = self.requests.get(&request).and_then(|pending| pending.choice);
        let moved = self.forked(from, to, at, choice);
        match moved {
            Ok(state) => {
                let context_len = state.len();
                self.give_slot_back(to, effects);
                self.stand_up(to);
                let (sharing, withheld) = self
                    .conversations
                    .get(from)
                    .map(|parent| (parent.sharing.clone(), parent.withheld))
                    .unwrap_or_default();
                if let Some(parent) = self.conversations.get_mut(from).filter(|_| choice.is_none()) {
                    parent.choices.clear();
                }
                let child = self.conversations.get_or_make(to);
                (child.state, child.known, child.moved) = (state, true, true);
                // An empty one that was told how to share keeps to that, and gives nothing of what others let it have.
                let own = child.sharing != Sharing::default();
                child.withheld = withheld || own && child.sharing != sharing;
                if !own {
                    child.sharing = sharing;
                }
                self.settle_down(to);
                self.remove(request);
                effects.push(stands(request, context_len));
            }
            Err(error) => self.fail(request, error, effects),
        }
    }

    fn forked(
        &self,
        from: &ConversationId,
        to: &ConversationId,
        at: Option<usize>,
        choice: Option<usize>,
    ) -> Result<State, BrainError> {
        for name in [from, to] {
            self.check_quarantine(name)?;
        }
        let parent = self.known(from)?;
        let mut state = parent.base(choice).ok_or_else(|| no_such_choice(parent, choice))?.clone();
        let len = at.unwrap_or(state.len());
        check_length("at", len, &state)?;
        if state.history.has_slid() && len != state.len() {
            let most = state.len();
            return Err(BrainError::BehindSlide { conversation: from.clone(), found: len, least: most, most });
        }
        if self.conversations.get(to).is_some_and(|child| child.state.history.total > 0) {
            return Err(BrainError::ConversationExists { conversation: to.clone() });
        }
        state.rewind(len, self.page_size());
        Ok(state)
    }

    /// Takes a conversation back to its first tokens.
    pub(super) fn rewind(
        &mut self,
        request: RequestId,
        name: &ConversationId,
        context_len: usize,
        effects: &mut Vec<Effect>,
    ) {
        let checked = self.known(name).and_then(|conversation| {
            let state = &conversation.state;
            check_length("context_len", context_len, state)?;
            if state.lengths().contains(&context_len) {
                return Ok(());
            }
            let (least, most) = state.lengths().into_inner();
            Err(BrainError::BehindSlide { conversation: name.clone(), found: context_len, least, most })
        });
        if let Err(error) = checked {
            return self.fail(request, error, effects);
        }
        self.give_slot_back(name, effects);
        let pages = self.page_size();
        if let Some(conversation) = self.conversations.get_mut(name) {
            conversation.choices.clear();
            conversation.state.rewind(context_len, pages);
            conversation.moved = true;
        }
        self.settle_down(name);
        self.remove(request);
        effects.push(stands(request, context_len));
    }

    /// Tells what a conversation is.
    pub(super) fn export(&mut self, request: RequestId, name: &ConversationId, effects: &mut Vec<Effect>) {
        let exported = self.known(name).map(|conversation| {
            let states = conversation.states().map(State::kept).collect();
            (Outcome::Exported(states), conversation.state.len())
        });
        match exported {
            Err(error) => self.fail(request, error, effects),
            Ok((outcome, context_len)) => {
                self.remove(request);
                let answer = Answer { outcome, tokens: 0, context_len, rebuilt: false, reused: 0 };
                effects.push(Effect::Answer { request, answer });
            }
        }
    }

    /// Makes a conversation of what another one was.
    pub(super) fn import(
        &mut self,
        request: RequestId,
        name: &ConversationId,
        states: Vec<Kept>,
        effects: &mut Vec<Effect>,
    ) {
        let imported = self.imported(name, states);
        match imported {
            Err(error) => self.fail(request, error, effects),
            Ok((state, choices)) => {
                let context_len = state.len();
                self.clear(name, false, effects);
                if let Some(conversation) = self.conversations.get_mut(name) {
                    (conversation.state, conversation.choices, conversation.known) = (state, choices, true);
                    // A file may say anything of its keys and values, and not with whom it shared.
                    (conversation.sharing, conversation.withheld) = (Sharing::Nobody, true);
                }
                self.remove(request);
                effects.push(stands(request, context_len));
            }
        }
    }

    fn imported(&self, name: &ConversationId, states: Vec<Kept>) -> Result<(State, Vec<State>), BrainError> {
        if self.conversations.get(name).is_some_and(|there| there.state.history.total > 0) {
            return Err(BrainError::ConversationExists { conversation: name.clone() });
        }
        let Some(model) = &self.model else {
            return Err(BrainError::Unavailable { reason: "no actor has loaded the model yet".to_owned() });
        };
        let count = states.len();
        let states: Option<Vec<State>> = states.into_iter().map(|kept| State::of(kept, model)).collect();
        let mut states =
            states.filter(|states| (1..=1 + N_MAX).contains(&states.len())).unwrap_or_default().into_iter();
        let Some(state) = states.next() else {
            let expected = "what a conversation of this model was".to_owned();
            return Err(BrainError::BadRequest { what: "states", found: format!("{count} that cannot be"), expected });
        };
        Ok((state, states.collect()))
    }

    fn known(&self, name: &ConversationId) -> Result<&Conversation, BrainError> {
        let known = self.conversations.get(name).filter(|conversation| conversation.known);
        known.ok_or_else(|| BrainError::UnknownConversation { conversation: name.clone() })
    }
}

/// The error of a choice that does not wait.
pub(super) fn no_such_choice(conversation: &Conversation, choice: Option<usize>) -> BrainError {
    let expected = match conversation.choices.len() {
        0 => "none: no answers wait in the conversation".to_owned(),
        waiting => format!("below {waiting}, the answers that wait"),
    };
    BrainError::BadRequest { what: "choice", found: choice.unwrap_or_default().to_string(), expected }
}

fn check_length(what: &'static str, found: usize, state: &State) -> Result<(), BrainError> {
    if found <= state.len() {
        return Ok(());
    }
    let expected = format!("at most {}, the tokens in the context", state.len());
    Err(BrainError::BadRequest { what, found: found.to_string(), expected })
}

fn stands(request: RequestId, context_len: usize) -> Effect {
    let answer = Answer { outcome: Outcome::Moved, tokens: 0, context_len, rebuilt: false, reused: 0 };
    Effect::Answer { request, answer }
}
