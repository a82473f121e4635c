//! Requests at the door: admitted or refused at once; their tokens, when they were text; and callers
//! that leave again.

use super::{Arrival, Ask, Deadline, Effect, Given, Life, Notice, Pending, Phase, Policy, Stage, admission, all_down};
use crate::{job::RequestId, message::BrainError, tokens::TokenId};

impl Policy {
    /// A request has come: it is refused at once, or admitted and put into its queue.
    pub(super) fn arrived(&mut self, arrival: Arrival, effects: &mut Vec<Effect>) {
        let request = arrival.request;
        if let Err(error) = self.admit(&arrival) {
            effects.push(Effect::Fail { request, error, committed: 0 });
            return;
        }
        let deadline = arrival
            .deadline
            .or(self.config.limits.deadline)
            .map(|allowed| Deadline { at: self.now + allowed, allowed });
        self.deadlines.extend(deadline.map(|deadline| (deadline.at, request)));
        let mut pending = Pending::new(arrival, deadline);
        let conversation = pending.conversation.clone();
        let names = pending.names();
        let waits = pending.stage == Stage::Waiting;
        if conversation.is_none() && !waits {
            pending.stage = Stage::Tokenising;
            effects.push(Effect::Tokenise { request, behind: None });
        }
        self.asked += pending.answers();
        self.requests.insert(request, pending);
        match conversation {
            Some(_) => {
                let names: Vec<_> = names.collect();
                for name in &names {
                    self.conversations.entry(name.clone()).or_default().queue.insert(request);
                }
                self.advance_each(names.into_iter(), effects);
            }
            None if waits => {
                self.loose.insert(request);
                self.place_loose(effects);
            }
            None => {}
        }
    }

    fn admit(&self, arrival: &Arrival) -> Result<(), BrainError> {
        admission::check_ranges(arrival, &self.config.limits)?;
        if let (Some(model), Some(Given::Tokens(tokens))) = (&self.model, &arrival.input) {
            admission::check_model(&arrival.ask, tokens, model)?;
        }
        self.check_open()?;
        let limits = &self.config.limits;
        let answers = match &arrival.ask {
            Ask::Step(step) => step.n,
            _ => 1,
        };
        if self.asked + answers > limits.requests {
            return Err(BrainError::Overloaded { what: "requests", limit: limits.requests });
        }
        let Some(name) = &arrival.conversation else {
            return Ok(());
        };
        // What creates nothing of an unknown conversation is gone again when its turn is over, at once.
        let creates = match &arrival.ask {
            Ask::Reset | Ask::Close | Ask::Rewind { .. } => 0,
            // It may have to wait in both queues.
            Ask::Fork { to, .. } => [name, to].into_iter().filter(|it| !self.conversations.contains_key(*it)).count(),
            Ask::Embed | Ask::Step(_) | Ask::Score => usize::from(!self.conversations.contains_key(name)),
        };
        if creates > 0 && self.conversations.len() + creates > limits.conversations {
            return Err(BrainError::Overloaded { what: "conversations", limit: limits.conversations });
        }
        Ok(())
    }

    /// Whether anything new is taken at all.
    fn check_open(&self) -> Result<(), BrainError> {
        match self.phase {
            Phase::Starting | Phase::Serving if self.actors.iter().any(|actor| actor.life != Life::Down) => Ok(()),
            Phase::Starting | Phase::Serving => Err(all_down()),
            Phase::Draining | Phase::Stopping(_) | Phase::Over => {
                Err(BrainError::Unavailable { reason: "the brain is shutting down".to_owned() })
            }
        }
    }

    /// A text has become tokens, or none.
    pub(super) fn tokenised(
        &mut self,
        request: RequestId,
        result: Result<Vec<TokenId>, BrainError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        }; // it met its deadline
        if pending.stage != Stage::Tokenising {
            effects.push(Effect::Notice(Notice::Impossible("a request was tokenised twice")));
            return;
        }
        pending.stage = Stage::Waiting;
        let checked = result.and_then(|tokens| match &self.model {
            _ if tokens.is_empty() => Err(BrainError::EmptyInput { reason: "the text has no tokens" }),
            Some(model) => admission::check_model(&pending.ask, &tokens, model).map(|()| tokens),
            None => Ok(tokens),
        });
        let conversation = pending.conversation.clone();
        match checked {
            Ok(tokens) => pending.tokens = tokens.into(),
            Err(error) => {
                self.fail(request, error, effects);
                return self.advance_if_any(conversation.as_ref(), effects);
            }
        }
        if conversation.is_none() {
            self.loose.insert(request);
            self.place_loose(effects);
        }
        self.advance_if_any(conversation.as_ref(), effects);
    }

    /// A caller went away: its request need not be answered.
    pub(super) fn gone(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let Some(pending) = self.requests.get(&request).filter(|pending| !pending.told) else {
            return;
        };
        if matches!(pending.stage, Stage::Assigned(_)) {
            // Should it have committed already, then it stays done: nobody was told otherwise.
            effects.push(Effect::Cancel(request));
            return;
        }
        if pending.stage == Stage::Parted {
            return self.drop_parted(request, effects);
        }
        let names = pending.names();
        self.remove(request);
        effects.push(Effect::Drop(request));
        self.advance_each(names, effects);
    }
}
