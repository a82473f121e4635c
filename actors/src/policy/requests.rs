//! One unfinished request: what it asks for, how far it is, and what it is charged with.

use std::{sync::Arc, time::Duration};

use super::{
    Time,
    config::mix,
    event::{ActorIndex, Arrival, Ask, EmbedAsk, Given, StepAsk},
    parts::{Part, PartOf, Several},
    state::State,
};
use crate::{
    engine::{Resident, Sampled, Sampling},
    job::{Carried, Outcome, RequestId, Work},
    message::{ConversationId, Party, Sharing, Terms},
    tokens::TokenId,
    vectors::{Framed, Pooling},
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
    /// Its parts are being done.
    Parted,
}

impl Stage {
    /// Whether a job of it may be with an actor.
    pub(super) fn is_out(self) -> bool {
        matches!(self, Self::Assigned(_) | Self::Parted)
    }
}

/// Whether somebody still waits for a request's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Its caller does.
    Waits,
    /// Nobody does. Should its job be done before it can be ended, then it stays done: nobody was told otherwise.
    Left,
    /// It was told how it ended; only the end of its job is awaited, and nothing of that counts.
    Told,
}

/// What a streamed step has shown of its tokens, all of them committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// In their order.
    pub(super) sampled: Vec<Sampled>,
    /// How many are from earlier jobs than the one that an actor has now.
    pub(super) before: usize,
    /// Whether the last one stops the step.
    pub(super) stopped: bool,
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
    /// The conversation that it makes, in whose queue it waits as well.
    pub(super) other: Option<ConversationId>,
    /// Which of the answers that wait it goes on from.
    pub(super) choice: Option<usize>,
    /// With whom its conversation shares from here on, if it says so.
    pub(super) sharing: Option<Sharing>,
    /// Whether what it appends is pinned.
    pub(super) pin: bool,
    /// Whose it is, and how soon it is to be done.
    pub(super) party: Party,
    /// What is asked for.
    pub(super) ask: Ask,
    /// Whether it brought an input at all, be it one without tokens.
    pub(super) has_input: bool,
    /// What is run of it: its input, and around that what its vector needs; empty until it is tokenised.
    pub(super) tokens: Arc<Vec<TokenId>>,
    /// How many of them are its own.
    pub(super) text_len: usize,
    /// Where its pieces end, in its own tokens, where each is to have a vector.
    pub(super) ends: Vec<usize>,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Whether somebody waits for it.
    pub(super) caller: Caller,
    /// When it came.
    pub(super) since: Time,
    /// `None`: it may take as long as it takes.
    pub(super) deadline: Option<Deadline>,
    /// Runs that its present job was to have alone.
    pub(super) alone: u32,
    /// Whether it may be kept from the actor that died of what it asks: once it was given back it goes where there is
    /// room.
    pub(super) moves: bool,
    /// Of a streamed step.
    pub(super) shown: Shown,
    /// The pages that its present job began with, until its first commit.
    pub(super) base: Option<Resident>,
    /// Bytes of keys and values that its present job may come to take.
    pub(super) reserved: usize,
    /// Tokens that were not read, since others had read the same.
    pub(super) reused: usize,
    /// What an actor has done of it that gave it back.
    pub(super) carried: Option<Carried>,
    /// Its parts, while they are being done.
    pub(super) several: Option<Box<Several>>,
    /// Of which request it is a part, if it is one.
    pub(super) part: Option<Box<PartOf>>,
}

/// Where a job's commits go, and on which terms: once for each job, since the next one follows the first.
pub(super) struct Commits {
    pub(super) name: Option<ConversationId>,
    /// The answer that it went on from.
    pub(super) choice: Option<usize>,
    /// The pages that it began with.
    pub(super) base: Option<Resident>,
    /// With whom the conversation shares from here on.
    pub(super) sharing: Option<Sharing>,
}

impl Pending {
    /// A request that has just come in.
    pub(super) fn new(arrival: Arrival, since: Time, deadline: Option<Deadline>) -> Self {
        let has_input = arrival.input.is_some();
        let other = match &arrival.ask {
            Ask::Fork { to, .. } => Some(to.clone()),
            _ => None,
        };
        let (tokens, stage) = match arrival.input {
            Some(Given::Tokens(tokens)) => (tokens, Stage::Waiting),
            Some(Given::Text { .. }) => (Vec::new(), Stage::Untokenised),
            None => (Vec::new(), Stage::Waiting),
        };
        let mut pending = Self {
            conversation: arrival.conversation,
            other,
            choice: arrival.terms.choice,
            sharing: arrival.terms.sharing,
            pin: arrival.terms.pin,
            party: arrival.party,
            ask: arrival.ask,
            has_input,
            tokens: Arc::default(),
            text_len: 0,
            ends: Vec::new(),
            stage,
            caller: Caller::Waits,
            since,
            deadline,
            alone: 0,
            moves: true,
            shown: Shown::default(),
            base: None,
            reserved: 0,
            reused: 0,
            carried: None,
            several: None,
            part: None,
        };
        pending.take_text(tokens);
        pending
    }

    /// What stands around its text where a probe gives the vector.
    pub(super) fn frame(&self) -> Option<&Arc<Framed>> {
        match &self.ask {
            Ask::Embed(embed) => embed.frame.as_ref(),
            _ => None,
        }
    }

    /// Its input is there as tokens. Where no conversation stands before it, its frame does.
    pub(super) fn take_text(&mut self, tokens: Vec<TokenId>) {
        self.text_len = tokens.len();
        self.tokens = Arc::new(match self.frame() {
            Some(frame) if self.conversation.is_none() && !tokens.is_empty() => frame.around(&tokens),
            _ => tokens,
        });
    }

    /// The conversations in whose queues it stands.
    pub(super) fn names(&self) -> impl Iterator<Item = ConversationId> + use<> {
        [self.conversation.clone(), self.other.clone()].into_iter().flatten()
    }

    /// Where its job's next commit goes.
    pub(super) fn commits(&mut self) -> Commits {
        let (choice, base, sharing) = (self.choice.take(), self.base.take(), self.sharing.take());
        Commits { name: self.conversation.clone(), choice, base, sharing }
    }

    /// The request that it is a part of.
    pub(super) fn whole_of(&self) -> Option<RequestId> {
        Some(self.part.as_ref()?.whole)
    }

    /// A part of this request, which begins at `state`; `None` where it has no such part.
    pub(super) fn as_part(&self, whole: RequestId, number: RequestId, part: Part, state: State) -> Option<Self> {
        let (ask, tokens) = match (part, &self.ask) {
            (Part::Reading, Ask::Step(step)) => (step.part(0, step.seed), Arc::clone(&self.tokens)),
            (Part::Reading, Ask::Embed(_)) => (StepAsk::reading(), Arc::clone(&self.tokens)),
            (Part::Answering(0), Ask::Step(step)) => (step.part(step.count, step.seed), Arc::default()),
            (Part::Answering(index), Ask::Step(step)) => {
                (step.part(step.count, seed_of(step.seed, index)), Arc::default())
            }
            (Part::Probing, Ask::Embed(embed)) => (embed.plain(), Arc::new(self.frame()?.probe.clone())),
            (Part::Next(index), Ask::Embed(embed)) => {
                let (several, begin) = (self.several.as_ref()?, self.frame().map_or(0, |frame| frame.prefix.len()));
                let piece = several.pieces.get(index)?;
                let from = if index == 0 { 0 } else { begin + piece.start };
                let ask = if self.frame().is_some() { StepAsk::reading() } else { embed.plain() };
                (ask, Arc::new(self.tokens.get(from..begin + piece.end)?.to_vec()))
            }
            (Part::Piece(index), Ask::Embed(embed)) => {
                let (frame, piece) = (self.frame()?, self.several.as_ref()?.pieces.get(index)?);
                let begin = frame.prefix.len();
                (embed.plain(), Arc::new(frame.around(self.tokens.get(begin + piece.start..begin + piece.end)?)))
            }
            _ => return None,
        };
        let arrival = Arrival {
            request: number,
            conversation: None,
            ask,
            input: None,
            terms: Terms::default(),
            party: self.party.clone(),
            deadline: None,
        };
        let (has_input, text_len) = (!tokens.is_empty(), tokens.len());
        // What has read the input leaves it pinned to those that go on from there.
        let pin = self.pin && part == Part::Reading;
        let part = Some(Box::new(PartOf { whole, part, state }));
        Some(Self { has_input, tokens, text_len, pin, part, ..Self::new(arrival, self.since, None) })
    }

    /// Whether it is read to its end for what it gives for each token, which nobody else's reading has left.
    pub(super) fn reads_all(&self) -> bool {
        match &self.ask {
            Ask::Embed(embed) => embed.shape.pooling == Pooling::Mean,
            ask => matches!(ask, Ask::Score { .. }),
        }
    }

    /// Whether it is done in parts: several answers, and a probe behind a conversation.
    pub(super) fn is_parted(&self) -> bool {
        self.answers() > 1 || self.conversation.is_some() && self.frame().is_some()
    }

    /// How many answers are asked for.
    pub(super) fn answers(&self) -> usize {
        match &self.ask {
            Ask::Step(step) => step.n,
            _ => 1,
        }
    }

    /// The input that is still to be read: none where a token was shown that follows it.
    pub(super) fn to_read(&self) -> &[TokenId] {
        if self.shown.sampled.is_empty() { &self.tokens } else { &[] }
    }

    /// Whether its job has something to pin.
    pub(super) fn pins(&self) -> bool {
        self.pin && !self.to_read().is_empty()
    }

    /// What is still to be done: a streamed step goes on after the last token shown.
    pub(super) fn work(&self) -> Work {
        let tokens = if self.shown.sampled.is_empty() { Arc::clone(&self.tokens) } else { Arc::default() };
        match &self.ask {
            Ask::Embed(embed) => Work::Embed { tokens, shape: embed.shape },
            Ask::Score { top } => Work::Score { tokens, top: *top },
            Ask::Step(step) => Work::Step {
                tokens,
                count: step.count.saturating_sub(self.shown.sampled.len()),
                sampling: step.sampling.clone(),
                seed: step.seed,
                top: step.top,
                stream: step.stream,
                grammar: step.grammar.clone(),
                said: match step.grammar {
                    Some(_) => self.shown.sampled.iter().map(|sampled| sampled.token).collect(),
                    None => Vec::new(),
                },
            },
            Ask::Reset | Ask::Close | Ask::Fork { .. } | Ask::Rewind { .. } | Ask::Export | Ask::Import { .. } => {
                Work::Forget
            }
        }
    }

    /// A streamed step whose last token was shown, though its actor died before it could say so.
    pub(super) fn finished_stream(&mut self) -> Option<Outcome> {
        let stopped = self.shown.stopped;
        self.has_shown_all().then(|| Outcome::Stepped { sampled: std::mem::take(&mut self.shown.sampled), stopped })
    }

    /// Whether the last token shown is the step's last.
    pub(super) fn has_shown_all(&self) -> bool {
        let Ask::Step(step) = &self.ask else {
            return false;
        };
        let Shown { sampled, stopped, .. } = &self.shown;
        !sampled.is_empty() && (*stopped || sampled.len() >= step.count)
    }

    /// The whole outcome, where the last of several jobs ended with `outcome`.
    pub(super) fn whole(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Stepped { sampled, stopped } if self.shown.before > 0 => {
                let mut all = std::mem::take(&mut self.shown.sampled);
                all.truncate(self.shown.before);
                all.extend(sampled);
                Outcome::Stepped { sampled: all, stopped }
            }
            outcome => outcome,
        }
    }
}

impl StepAsk {
    /// What only reads.
    fn reading() -> Ask {
        let sampling = Sampling::GREEDY;
        Ask::Step(Self { count: 0, sampling, seed: 0, top: 0, stream: false, n: 1, grammar: None })
    }

    /// A part of this step.
    fn part(&self, count: usize, seed: u64) -> Ask {
        Ask::Step(Self { count, seed, n: 1, ..self.clone() })
    }
}

impl EmbedAsk {
    /// The same with nothing around what is run.
    fn plain(&self) -> Ask {
        Ask::Embed(Self { frame: None, ..self.clone() })
    }
}

/// The seed of an answer behind the first: a step of splitmix64 (Steele et al. 2014, "Fast Splittable Pseudorandom
/// Number Generators") from the request's, so that no two answers draw alike.
fn seed_of(seed: u64, index: usize) -> u64 {
    mix(seed.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}
