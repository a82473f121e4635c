//! One job as a state machine: which row it needs next, what it makes of a row's output.
//!
//! A task knows its own tokens and what it has gathered so far; it knows no slot, no history and no
//! other job. A row may be taken partly (it ends where a slide is due), so a task counts what was
//! really read and scored and gives the rest again.
//!
//! A step that spells a grammar reads the tokens that this forces like those of its input, and they count as sampled.
//!
//! Lengths are in tokens. Invariant: `read` never exceeds the input, `scores` runs at most one token
//! ahead of `read`, and where the most likely tokens are listed there are as many lists as scores.

use crate::{
    engine::{EngineInfo, RowOutput, Sampled, Slides, Want},
    grammar::{Guide, SpellingError},
    job::{Carried, Commit, Job, Outcome, Work},
    message::BrainError,
    text::StepText,
    tokens::TokenId,
    vectors::Straighten,
};

/// A job and how far it has come.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) job: Job,
    /// What another actor has done of it and not committed.
    pub(super) carried: Option<Commit>,
    /// Another actor has read a context again for it that had slid.
    pub(super) rebuilt: bool,
    /// Whether it has been checked and has begun.
    pub(super) started: bool,
    /// Tokens of the input that were read.
    read: usize,
    /// Of an embed: the pooled hidden states so far.
    pooled: Vec<f32>,
    /// Of a step: the tokens sampled so far, and those that its grammar forced.
    sampled: Vec<Sampled>,
    /// Of a step with a grammar, where it stands in it; `None` until it begins here, since an actor that has given the
    /// job back, or is thought dead, may still have its own.
    guide: Option<Guide>,
    /// Tokens that the grammar forces next and that are still to be read.
    forced: Vec<TokenId>,
    /// Behind those the step ends.
    ends: bool,
    /// Of a score: one entry a token of the input so far.
    scores: Vec<Option<f32>>,
    /// As many, where the most likely tokens in each place are listed.
    top: Vec<Vec<(TokenId, f32)>>,
}

/// What a row brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// What a streamed step shows now.
    pub(super) shown: Option<Shown>,
    /// The job is done, or cannot be.
    pub(super) outcome: Option<Result<Outcome, BrainError>>,
}

/// Tokens of a step that are there now, one at least.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    /// Those that its grammar forced.
    pub(super) forced: Vec<Sampled>,
    /// The one that was sampled behind them.
    pub(super) sampled: Option<Sampled>,
    /// Whether the step stops behind them.
    pub(super) stopped: bool,
}

impl Task {
    /// A job that goes on where another actor gave it back, or begins.
    pub(super) fn new(mut job: Job) -> Self {
        match job.carried.take().and_then(Carried::unpack::<Self>) {
            Some(task) => {
                let Job { work, text, .. } = task.job;
                Self { job: Job { work, text, ..job }, guide: None, ..task }
            }
            None => Self {
                job,
                carried: None,
                rebuilt: false,
                started: false,
                read: 0,
                pooled: Vec::new(),
                sampled: Vec::new(),
                guide: None,
                forced: Vec::new(),
                ends: false,
                scores: Vec::new(),
                top: Vec::new(),
            },
        }
    }

    /// The first `count` tokens of the input need not be read: they are in the cache already. At least one is left.
    pub(super) fn skip(&mut self, count: usize) -> &[TokenId] {
        let (read, len) = (self.read, self.input().len());
        assert!(read == 0 && count < len, "{count} of {len} tokens are in the cache, {read} are read");
        self.read = count;
        &self.input()[..count]
    }

    /// Makes ready what its rows need here, or says why that cannot be.
    pub(super) fn make_ready(&mut self, info: &EngineInfo) -> Result<(), BrainError> {
        if !self.started {
            self.start(info)?;
        }
        let (None, Work::Step { grammar: Some(grammar), said, .. }) = (&self.guide, &self.job.work) else {
            return Ok(());
        };
        let sampled = self.sampled.iter().map(|sampled| sampled.token);
        let before = said.iter().copied().chain(sampled).chain(self.forced.iter().copied());
        self.guide = Some(Guide::behind(grammar, before).map_err(not_spelled)?);
        if self.forced.is_empty() && !self.ends {
            self.go_on(None)?;
        }
        if self.ends && self.forced.is_empty() && self.sampled.is_empty() {
            let found = "one that spells nothing".to_owned();
            return Err(BrainError::BadRequest {
                what: "grammar",
                found,
                expected: "one that some text spells".into(),
            });
        }
        Ok(())
    }

    /// Begins on its context, or says why that cannot be.
    fn start(&mut self, info: &EngineInfo) -> Result<(), BrainError> {
        let context_len = self.job.context.tokens.len();
        let new = self.input().len();
        self.job.work.check(context_len, info)?;
        if self.job.pins {
            self.job.context.check_pin(new, &info.window)?;
        }
        if info.window.slides == Slides::Never && context_len + new > info.window.size {
            return Err(BrainError::ContextFull { context_len, new, size: info.window.size });
        }
        if let Work::Score { top, .. } = self.job.work
            && context_len == 0
        {
            // Nothing precedes the conversation's very first token.
            self.scores.push(None);
            self.top.extend((top > 0).then(Vec::new));
        }
        self.started = true;
        Ok(())
    }

    fn input(&self) -> &[TokenId] {
        self.job.work.input()
    }

    /// Tokens that are still to be read: of the input, and behind it those that are forced.
    pub(super) fn rest(&self) -> usize {
        self.input().len() - self.read + self.forced.len()
    }

    /// Whether what its next row reads is pinned.
    pub(super) fn pins(&self) -> bool {
        self.job.pins && self.read < self.input().len()
    }

    /// Whether there is a token to be sampled behind what is still to be read.
    fn samples_next(&self) -> bool {
        self.job.work.count() > self.sampled.len() + self.forced.len() && !self.ends
    }

    /// Goes on in the grammar behind a token that was sampled.
    fn go_on(&mut self, token: Option<TokenId>) -> Result<(), BrainError> {
        let Some(guide) = &self.guide else { return Ok(()) };
        let most = self.job.work.count() - self.sampled.len();
        self.forced = guide.accept(token, most).map_err(not_spelled)?;
        self.ends = guide.is_over();
        for (index, token) in self.forced.iter().enumerate() {
            if completes_a_stop(&mut self.job.text, *token)? {
                self.forced.truncate(index + 1);
                self.ends = true;
                break;
            }
        }
        Ok(())
    }

    /// Whether the next token's score is still to be told by what stands before it.
    pub(super) fn scores_first(&self) -> bool {
        matches!(self.job.work, Work::Score { .. }) && self.scores.len() == self.read
    }

    /// Whether a token is sampled behind the input.
    pub(super) fn samples(&self) -> bool {
        self.job.work.count() > 0
    }

    /// Its next row: at most `tokens_max` new tokens and what it wants. `total`: how many tokens the
    /// conversation has had since its last reset.
    pub(super) fn row(&self, tokens_max: usize, total: u64) -> (&[TokenId], Want<'_>) {
        let input = &self.input()[self.read..];
        let rest = if input.is_empty() { &self.forced[..] } else { input };
        let tokens = &rest[..rest.len().min(tokens_max)];
        let ends = tokens.len() == self.rest();
        let want = match &self.job.work {
            Work::Embed { shape, .. } => shape.want(ends),
            Work::Score { top, .. } => {
                Want::Scores { first: self.scores_first(), next: rest.get(tokens.len()).copied(), top: *top }
            }
            Work::Step { sampling, seed, top, .. } if ends && self.samples_next() => {
                let (number, guide) = (total + tokens.len() as u64, self.guide.as_ref());
                Want::Next { sampling, seed: *seed, number, top: *top, guide }
            }
            Work::Step { .. } | Work::Forget => Want::Nothing,
        };
        (tokens, want)
    }

    /// Takes in what a row gave. `straighten`: what the actor has for vectors that ask for it.
    pub(super) fn absorb(
        &mut self,
        output: RowOutput,
        straighten: Option<&dyn Straighten>,
        end_tokens: &[TokenId],
    ) -> Progress {
        let (taken, rest) = (output.taken, self.rest());
        assert!(taken <= rest, "{taken} tokens of the input were taken, {rest} were left");
        let read = taken.min(self.input().len() - self.read);
        self.read += read;
        let forced: Vec<Sampled> = self.forced.drain(..taken - read).map(Sampled::forced).collect();
        let all_read = self.rest() == 0;
        match &self.job.work {
            Work::Embed { tokens, shape } => {
                shape.absorb(&mut self.pooled, output.hidden);
                let finish = |pooled| shape.finish(pooled, tokens.len(), straighten);
                let outcome = all_read.then(|| Ok(Outcome::Embedded(finish(std::mem::take(&mut self.pooled)))));
                Progress { shown: None, outcome }
            }
            Work::Score { tokens, top } => {
                self.scores.extend(output.scores.into_iter().map(Some));
                self.top.extend(output.top);
                let listed = if *top > 0 { self.scores.len() } else { 0 };
                assert_eq!(self.top.len(), listed, "lists, of {} tokens scored", self.scores.len());
                assert!(
                    (self.read..=tokens.len()).contains(&self.scores.len()),
                    "{} of {} tokens are read and {} scored",
                    self.read,
                    tokens.len(),
                    self.scores.len(),
                );
                let (logprobs, lists) = (&mut self.scores, &mut self.top);
                let scored = || Outcome::Scored { logprobs: std::mem::take(logprobs), top: std::mem::take(lists) };
                let outcome = all_read.then(scored).map(Ok);
                Progress { shown: None, outcome }
            }
            Work::Step { count, stream, .. } => {
                let (count, stream) = (*count, *stream);
                let sampled = output.sampled;
                let new = if stream { (forced.clone(), sampled.clone()) } else { (Vec::new(), None) };
                let last = sampled.as_ref().map(|sampled| sampled.token);
                self.sampled.extend(forced.into_iter().chain(sampled));
                let found = self.sampled.len();
                assert!(found <= count, "{found} tokens are sampled of {count}");
                let stopped = match self.stops_behind(last, end_tokens) {
                    Ok(stopped) => stopped,
                    Err(error) => return Progress { shown: None, outcome: Some(Err(error)) },
                };
                let (forced, sampled) = new;
                let is_new = sampled.is_some() || !forced.is_empty();
                let shown = is_new.then_some(Shown { forced, sampled, stopped });
                let done = self.rest() == 0 && (stopped || found == count);
                let outcome =
                    done.then(|| Ok(Outcome::Stepped { sampled: std::mem::take(&mut self.sampled), stopped }));
                Progress { shown, outcome }
            }
            Work::Forget => Progress { shown: None, outcome: Some(Ok(Outcome::Forgotten)) },
        }
    }

    /// Whether a step stops behind what it has sampled, the last of which is new.
    fn stops_behind(&mut self, new: Option<TokenId>, end_tokens: &[TokenId]) -> Result<bool, BrainError> {
        if let Some(token) = new {
            if end_tokens.contains(&token) || completes_a_stop(&mut self.job.text, token)? {
                return Ok(true);
            }
            self.go_on(Some(token))?;
        }
        Ok(self.ends && self.rest() == 0)
    }
}

fn not_spelled(error: SpellingError) -> BrainError {
    BrainError::Engine { message: error.to_string() }
}

/// Whether a step's text comes to a stop text with this token.
fn completes_a_stop(text: &mut Option<StepText>, token: TokenId) -> Result<bool, BrainError> {
    text.as_mut().map_or(Ok(false), |text| text.push(&[token]))
}
