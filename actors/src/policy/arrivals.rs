//! Requests at the door: admitted or refused at once; and their tokens, when they were text.

use super::{Arrival, Ask, Deadline, Effect, Notice, Pending, Phase, Policy, Stage, admission, refuse};
use crate::{
    job::RequestId,
    message::{BrainError, ConversationId, worth_waiting},
    tokens::TokenId,
};

impl Policy {
    /// A request has come: it is refused at once, or admitted and put into its queue.
    pub(super) fn arrived(&mut self, arrival: Arrival, effects: &mut Vec<Effect>) {
        let request = arrival.request;
        if let Err(error) = self.admit(&arrival) {
            return refuse(request, error, effects);
        }
        let deadline = arrival
            .deadline
            .or(self.config.limits.deadline)
            .map(|allowed| Deadline { at: self.now + allowed, allowed });
        self.deadlines.extend(deadline.map(|deadline| (deadline.at, request)));
        let mut pending = Pending::new(arrival, self.now, deadline);
        let names: Vec<_> = pending.names().collect();
        let is_loose = pending.conversation.is_none();
        if is_loose && pending.stage == Stage::Untokenised {
            pending.stage = Stage::Tokenising;
            let behind = pending.frame().and_then(|frame| frame.prefix.last().copied());
            effects.push(Effect::Tokenise { request, conversation: None, behind });
        } else if is_loose {
            self.waiting.insert(request);
        }
        self.requests.insert(request, Box::new(pending));
        for name in &names {
            self.conversations.get_or_make(name).queue.insert(request);
            self.wake(name, effects);
        }
        self.make_room(effects);
        self.advance_each(names.into_iter(), effects);
        if is_loose {
            self.place_waiting(effects);
        }
    }

    fn admit(&self, arrival: &Arrival) -> Result<(), BrainError> {
        admission::check_ranges(arrival, &self.config.limits)?;
        self.check_open()?;
        let Some(name) = &arrival.conversation else {
            return Ok(());
        };
        self.check_queue(name, &arrival.ask)?;
        // What creates nothing of an unknown conversation is gone again when its turn is over, at once.
        let creates = match &arrival.ask {
            Ask::Reset | Ask::Close | Ask::Rewind { .. } | Ask::Export => 0,
            // It may have to wait in both queues.
            Ask::Fork { to, .. } => [name, to].into_iter().filter(|it| !self.conversations.contains_key(it)).count(),
            Ask::Embed(_) | Ask::Step(_) | Ask::Score { .. } | Ask::Import { .. } => {
                usize::from(!self.conversations.contains_key(name))
            }
        };
        self.check_room(creates)
    }

    /// Whether a conversation may have one more request; what ends it or begins it anew is always taken.
    fn check_queue(&self, name: &ConversationId, ask: &Ask) -> Result<(), BrainError> {
        let limit = self.config.limits.conversation_requests;
        let queued = self.conversations.get(name).map_or(0, |conversation| conversation.queue.len());
        if queued < limit || matches!(ask, Ask::Reset | Ask::Close) {
            return Ok(());
        }
        let retry_after = Some(worth_waiting(self.takes));
        Err(BrainError::Overloaded { what: "requests of a conversation", limit, retry_after })
    }

    /// Whether anything new is taken at all.
    fn check_open(&self) -> Result<(), BrainError> {
        match self.phase {
            Phase::Starting | Phase::Serving if self.are_all_down() => Err(self.unavailable()),
            Phase::Starting | Phase::Serving => Ok(()),
            Phase::Draining(_) | Phase::Stopping(_) | Phase::Over => {
                Err(BrainError::Unavailable { reason: "the brain is shutting down".to_owned() })
            }
        }
    }

    /// A text has become tokens, or none.
    pub(super) fn tokenised(
        &mut self,
        request: RequestId,
        result: Result<Vec<TokenId>, BrainError>,
        ends: Vec<usize>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(pending) = self.requests.get_mut(&request) else {
            return;
        }; // it met its deadline
        if pending.stage != Stage::Tokenising {
            effects.push(Effect::Notice(Notice::Impossible("a request was tokenised twice")));
            return;
        }
        let names = pending.names();
        match result {
            Err(error) => {
                self.fail(request, error, effects);
            }
            Ok(tokens) => {
                pending.stage = Stage::Waiting;
                pending.take_text(tokens);
                pending.ends = ends;
                if pending.conversation.is_none() {
                    self.waiting.insert(request);
                    self.place_waiting(effects);
                }
            }
        }
        self.advance_each(names, effects);
    }
}
