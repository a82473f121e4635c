//! One unfinished request: what it asks for, how far it is, and what it is charged with.

use std::{sync::Arc, time::Duration};

use super::event::{ActorIndex, Arrival, Ask, Given, Time};
use crate::{
    engine::Sampled,
    job::{Outcome, Work},
    message::ConversationId,
    tokens::TokenId,
};

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its text is to be tokenised at its turn, when it is known what stands before it.
    Untokenised,
    /// Its text is being tokenised.
    Tokenising,
    /// It waits for its turn, or for its actor.
    Waiting,
    /// An actor has it.
    Assigned(ActorIndex),
}

/// When a request has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The moment.
    pub(super) at: Time,
    /// How long that was from its arrival.
    pub(super) allowed: Duration,
}

/// A request that was admitted and is not over.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// `None`: it has no conversation, and leaves nothing behind.
    pub(super) conversation: Option<ConversationId>,
    /// What is asked for.
    pub(super) ask: Ask,
    /// Whether it brought an input at all, be it one without tokens.
    pub(super) has_input: bool,
    /// Its input; empty until it is tokenised.
    pub(super) tokens: Arc<Vec<TokenId>>,
    /// How far it has come.
    pub(super) stage: Stage,
    /// `None`: it may take as long as it takes.
    pub(super) deadline: Option<Deadline>,
    /// Actors that died in a run with this request.
    pub(super) deaths: u32,
    /// Tokens of a streamed step that are committed and shown.
    pub(super) shown: Vec<Sampled>,
    /// How many of them are from earlier jobs than the one an actor has now.
    pub(super) shown_before: usize,
    /// Whether the last of them stops the step.
    pub(super) stopped: bool,
    /// Its present job began with a restored history.
    pub(super) restored: bool,
    /// The caller has its answer; only the end of the job is awaited.
    pub(super) told: bool,
    /// The actor committed something after the caller had its answer.
    pub(super) undo: bool,
}

impl Pending {
    /// A request that has just come in.
    pub(super) fn new(arrival: Arrival, deadline: Option<Deadline>) -> Self {
        let has_input = arrival.input.is_some();
        let (tokens, stage) = match arrival.input {
            Some(Given::Tokens(tokens)) => (tokens, Stage::Waiting),
            Some(Given::Text { .. }) => (Vec::new(), Stage::Untokenised),
            None => (Vec::new(), Stage::Waiting),
        };
        Self {
            conversation: arrival.conversation,
            ask: arrival.ask,
            has_input,
            tokens: Arc::new(tokens),
            stage,
            deadline,
            deaths: 0,
            shown: Vec::new(),
            shown_before: 0,
            stopped: false,
            restored: false,
            told: false,
            undo: false,
        }
    }

    /// What is still to be done: a streamed step goes on after the last token shown.
    pub(super) fn work(&self) -> Work {
        let tokens = if self.shown.is_empty() { Arc::clone(&self.tokens) } else { Arc::default() };
        match &self.ask {
            Ask::Embed => Work::Embed { tokens },
            Ask::Score => Work::Score { tokens },
            Ask::Step(step) => Work::Step {
                tokens,
                count: step.count.saturating_sub(self.shown.len()),
                sampling: step.sampling.clone(),
                seed: step.seed,
                top: step.top,
                stream: step.stream,
            },
            Ask::Reset | Ask::Close => Work::Forget,
        }
    }

    /// A streamed step whose last token was shown, though its actor died before it could say so.
    pub(super) fn finished_stream(&mut self) -> Option<Outcome> {
        let stopped = self.stopped;
        self.has_shown_all().then(|| Outcome::Stepped { sampled: std::mem::take(&mut self.shown), stopped })
    }

    /// Whether the last token shown is the step's last.
    pub(super) fn has_shown_all(&self) -> bool {
        let Ask::Step(step) = &self.ask else {
            return false;
        };
        !self.shown.is_empty() && (self.stopped || self.shown.len() >= step.count)
    }

    /// The whole outcome, where the last of several jobs ended with `outcome`.
    pub(super) fn whole(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Stepped { sampled, stopped } if self.shown_before > 0 => {
                self.shown.truncate(self.shown_before);
                self.shown.extend(sampled);
                Outcome::Stepped { sampled: std::mem::take(&mut self.shown), stopped }
            }
            outcome => outcome,
        }
    }
}
