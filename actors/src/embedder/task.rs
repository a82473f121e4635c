//! One job as a state machine: which row it needs next, what it makes of a row's output.
//!
//! A task knows its own tokens and what it has gathered so far; it knows no slot, no history and no
//! other job. A row may be taken partly (it ends where a slide is due), so a task counts what was
//! really read and scored and gives the rest again.
//!
//! Lengths are in tokens. Invariant: `read` never exceeds the input, `scores` runs at most one token
//! ahead of `read`.

use crate::{
    engine::{EngineInfo, RowOutput, Sampled, Slides, Want},
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
    /// Of a step: the tokens sampled so far.
    sampled: Vec<Sampled>,
    /// Of a score: one entry a token of the input so far.
    scores: Vec<Option<f32>>,
}

/// What a row brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Progress {
    /// A token that a streamed step shows now, and whether the step stops at it.
    pub(super) token: Option<(Sampled, bool)>,
    /// The job is done, or cannot be.
    pub(super) outcome: Option<Result<Outcome, BrainError>>,
}

impl Task {
    /// A job that goes on where another actor gave it back, or begins.
    pub(super) fn new(mut job: Job) -> Self {
        match job.carried.take().and_then(Carried::unpack::<Self>) {
            Some(task) => {
                let Job { work, text, .. } = task.job;
                Self { job: Job { work, text, ..job }, ..task }
            }
            None => Self {
                job,
                carried: None,
                rebuilt: false,
                started: false,
                read: 0,
                pooled: Vec::new(),
                sampled: Vec::new(),
                scores: Vec::new(),
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

    /// Begins on its context, or says why that cannot be.
    pub(super) fn start(&mut self, info: &EngineInfo) -> Result<(), BrainError> {
        let context_len = self.job.context.tokens.len();
        let new = self.input().len();
        self.job.work.check(context_len, info)?;
        if self.job.pins {
            self.job.context.check_pin(new, &info.window)?;
        }
        if info.window.slides == Slides::Never && context_len + new > info.window.size {
            return Err(BrainError::ContextFull { context_len, new, size: info.window.size });
        }
        if matches!(self.job.work, Work::Score { .. }) && context_len == 0 {
            // Nothing precedes the conversation's very first token.
            self.scores.push(None);
        }
        self.started = true;
        Ok(())
    }

    fn input(&self) -> &[TokenId] {
        self.job.work.input()
    }

    /// Tokens of the input that are still to be read.
    pub(super) fn rest(&self) -> usize {
        self.input().len() - self.read
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
        let rest = &self.input()[self.read..];
        let tokens = &rest[..rest.len().min(tokens_max)];
        let ends = tokens.len() == rest.len();
        let want = match &self.job.work {
            Work::Embed { shape, .. } => shape.want(ends),
            Work::Score { .. } => Want::Scores { first: self.scores_first(), next: rest.get(tokens.len()).copied() },
            Work::Step { count, sampling, seed, top, .. } if ends && *count > 0 => {
                Want::Next { sampling, seed: *seed, number: total + tokens.len() as u64, top: *top }
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
        self.read += taken;
        let all_read = self.rest() == 0;
        match &self.job.work {
            Work::Embed { tokens, shape } => {
                shape.absorb(&mut self.pooled, output.hidden);
                let finish = |pooled| shape.finish(pooled, tokens.len(), straighten);
                let outcome = all_read.then(|| Ok(Outcome::Embedded(finish(std::mem::take(&mut self.pooled)))));
                Progress { token: None, outcome }
            }
            Work::Score { tokens } => {
                self.scores.extend(output.scores.into_iter().map(Some));
                assert!(
                    (self.read..=tokens.len()).contains(&self.scores.len()),
                    "{} of {} tokens are read and {} scored",
                    self.read,
                    tokens.len(),
                    self.scores.len(),
                );
                let outcome = all_read.then(|| Ok(Outcome::Scored(std::mem::take(&mut self.scores))));
                Progress { token: None, outcome }
            }
            Work::Step { count, stream, .. } => {
                let stopped = match &output.sampled {
                    Some(Sampled { token, .. }) if end_tokens.contains(token) => true,
                    Some(Sampled { token, .. }) => match completes_a_stop(&mut self.job.text, *token) {
                        Ok(stopped) => stopped,
                        Err(error) => return Progress { token: None, outcome: Some(Err(error)) },
                    },
                    None => false,
                };
                let token = output.sampled.as_ref().filter(|_| *stream).map(|sampled| (sampled.clone(), stopped));
                self.sampled.extend(output.sampled);
                let sampled = self.sampled.len();
                assert!(sampled <= *count, "{sampled} tokens are sampled of {count}");
                let done = all_read && (stopped || self.sampled.len() == *count);
                let outcome =
                    done.then(|| Ok(Outcome::Stepped { sampled: std::mem::take(&mut self.sampled), stopped }));
                Progress { token, outcome }
            }
            Work::Forget => Progress { token: None, outcome: Some(Ok(Outcome::Forgotten)) },
        }
    }
}

/// Whether a step's text comes to a stop text with this token.
fn completes_a_stop(text: &mut Option<StepText>, token: TokenId) -> Result<bool, BrainError> {
    text.as_mut().map_or(Ok(false), |text| text.push(&[token]))
}
