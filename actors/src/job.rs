//! What an embedder actor is given to do and what it reports: the protocol between MotorBrain (or
//! any other owner) and [`EmbedderActor`](crate::embedder::EmbedderActor). Tokens only; where a text may end a step,
//! what makes text of its tokens.
//!
//! The owner keeps the reply ports; an actor that dies takes none with it. What ran when it died
//! stands in its [`Pulse`], which lives outside the actor.

use std::{
    any::Any,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::Time,
    engine::{EngineInfo, Held, Interrupt, LoadError, Resident, Sampled, Sampling, Slides, Window},
    grammar::Constraint,
    keep::Kept,
    message::{BrainError, ConversationId, Party, check_vocabulary},
    spans::JobSpans,
    text::StepText,
    tokens::TokenId,
    vectors::{Pooling, Shape},
};

/// A request's number, unique in its owner's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The tokens a conversation's window holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The tokens of the context, oldest first; never more than the window's size.
    pub tokens: Arc<Vec<TokenId>>,
    /// All tokens since the last reset, those that left included.
    pub total: u64,
    /// The tokens that left, oldest first: all of them, or none where they are too many ([`LEFT_MAX`]) or do not tell how
    /// the context came to be. Always none under [`Slides::Recompute`], where the context's tokens tell all.
    pub left: Arc<Vec<TokenId>>,
    /// So many of the first tokens are pinned: they never leave, as the window's sinks do not.
    pub pinned: usize,
}

/// The most tokens that are remembered of those that left. Not a setting: it keeps what a conversation without end takes
/// small beside its window's keys and values, and the time to read it again within that of a long prompt.
pub const LEFT_MAX: usize = 16_384;

impl History {
    /// Whether tokens have left.
    pub fn has_slid(&self) -> bool {
        self.total > self.tokens.len() as u64
    }

    /// Whether keys and values are what the context's tokens say: then reading them again repeats it, and does not only
    /// rebuild it.
    pub fn is_plain(&self, window: &Window) -> bool {
        window.slides == Slides::Recompute || !self.has_slid()
    }

    /// All tokens since the last reset, in order, where reading them repeats the context, slides and all. `None` where
    /// they are not all known, or would lead elsewhere: behind a way back to what the last slide left, or in another window.
    pub fn all(&self, window: &Window) -> Option<Vec<TokenId>> {
        let (first, rest) = self.tokens.split_at(window.kept_first(self.pinned).min(self.tokens.len()));
        let is_whole = self.total == (self.left.len() + self.tokens.len()) as u64;
        let leads_here = window.len_after(self.total) == Some(self.tokens.len());
        (is_whole && leads_here).then(|| [first, &self.left, rest].concat())
    }

    /// Whether `new` tokens behind it may be pinned.
    ///
    /// # Errors
    /// [`BrainError::BadRequest`]: not all that stands before them is pinned, or that would be too much.
    pub fn check_pin(&self, new: usize, window: &Window) -> Result<(), BrainError> {
        let Self { total, pinned, .. } = *self;
        let bad = |found, expected| Err(BrainError::BadRequest { what: "pin", found, expected });
        if total != pinned as u64 {
            let found = format!("true behind {total} tokens of which {pinned} are pinned");
            return bad(found, "all before to be pinned, or nothing: reset the conversation and pin first".to_owned());
        }
        let (all, most, Window { size, slide, .. }) = (pinned + new, window.pinned_max(), *window);
        if all > most {
            let found = format!("true where {all} tokens would be pinned");
            let why = if most == size / 2 {
                format!("half a window of {size}: pin less, or raise `window.size`")
            } else {
                format!("what a slide of {slide} leaves in a window of {size}: pin less, or lower `window.slide`")
            };
            return bad(found, format!("at most {most}, {why}"));
        }
        Ok(())
    }

    /// Goes back to the first `context_len` tokens.
    pub fn truncate(&mut self, context_len: usize) {
        let left = self.tokens.len().saturating_sub(context_len);
        if left > 0 {
            Arc::make_mut(&mut self.tokens).truncate(context_len);
            self.total = self.total.saturating_sub(left as u64);
            self.pinned = self.pinned.min(context_len);
        }
    }
}

/// What there is of a conversation's keys and values, for the actor that is to go on with them.
#[derive(Clone, Debug, PartialEq)]
pub enum Holding {
    /// Nothing: the context is read first.
    Nothing,
    /// The actor's engine keeps the context, or a beginning of it, to itself, from the conversation's last job: the rest is
    /// read first. Whoever sends this need not know how much there is, only that the actor is still the same and has not
    /// said [`Done::lost`].
    Slot,
    /// Pages. They may hold less than the context, of which the rest is read first, or more: then it is the first
    /// tokens of the work's input that need not be read, and at least one is left of it.
    Pages(Resident),
}

/// A job on its way from one actor to another, with what was done of it. Only actors look into it.
#[derive(Clone)]
pub struct Carried(Arc<dyn Any + Send + Sync>);

impl Carried {
    /// Packed by an actor.
    pub fn new<T: Any + Send + Sync>(load: T) -> Self {
        Self(Arc::new(load))
    }

    /// Unpacked by the next one; `None` where it is not of this kind.
    pub fn unpack<T: Any + Send + Sync + Clone>(self) -> Option<T> {
        self.0.downcast().ok().map(Arc::unwrap_or_clone)
    }
}

/// Two are equal where they are the same.
impl PartialEq for Carried {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carried")
    }
}

/// The work itself. Inputs are checked against vocabulary and limits by the owner.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// See [`Embed`](crate::message::Embed). Not empty.
    Embed {
        /// What is run.
        tokens: Arc<Vec<TokenId>>,
        /// How its hidden states become the vector.
        shape: Shape,
    },
    /// See [`Step`](crate::message::Step). Not both empty and of count 0.
    Step {
        /// Appended first.
        tokens: Arc<Vec<TokenId>>,
        /// The most tokens to sample.
        count: usize,
        /// How tokens are chosen.
        sampling: Sampling,
        /// For the random draws.
        seed: u64,
        /// Most likely tokens to list.
        top: usize,
        /// Commit and report token by token.
        stream: bool,
        /// What its tokens must spell; `None`: anything.
        grammar: Option<Constraint>,
        /// Of one with a grammar, the tokens that it has sampled before, all of them committed.
        said: Vec<TokenId>,
    },
    /// See [`Score`](crate::message::Score). Not empty.
    Score {
        /// What is scored.
        tokens: Arc<Vec<TokenId>>,
        /// Most likely tokens to list in each place.
        top: usize,
    },
    /// Give the conversation's slot back; the answer to a reset as to a close. Never fails.
    Forget,
}

impl Work {
    /// What is read before anything is sampled.
    pub fn input(&self) -> &[TokenId] {
        match self {
            Self::Embed { tokens, .. } | Self::Step { tokens, .. } | Self::Score { tokens, .. } => tokens,
            Self::Forget => &[],
        }
    }

    /// Whether something is wanted of each token of the input, so that none of them may be taken over from others.
    pub fn reads_all(&self) -> bool {
        match self {
            Self::Embed { shape, .. } => shape.pooling == Pooling::Mean,
            Self::Score { .. } => true,
            Self::Step { .. } | Self::Forget => false,
        }
    }

    /// How many tokens it samples at most.
    pub fn count(&self) -> usize {
        if let Self::Step { count, .. } = self { *count } else { 0 }
    }

    /// What only the model and what the work follows can say: whether there is anything to do, and whether the model can,
    /// with tokens that it knows. `context_len`: tokens that it follows.
    ///
    /// # Errors
    /// [`BrainError::EmptyInput`], [`BrainError::Engine`] of an embed where the graph gives no hidden states, and
    /// [`BrainError::InvalidToken`].
    pub fn check(&self, context_len: usize, model: &EngineInfo) -> Result<(), BrainError> {
        let bias = match self {
            Self::Forget => return Ok(()),
            Self::Step { sampling, .. } => &sampling.logit_bias[..],
            Self::Embed { .. } | Self::Score { .. } => &[],
        };
        if self.input().is_empty() && (self.count() == 0 || context_len == 0) {
            let reason = if self.count() == 0 { "no input" } else { "a step without input on an empty conversation" };
            return Err(BrainError::EmptyInput { reason });
        }
        if matches!(self, Self::Embed { .. }) && !model.embeds {
            return Err(BrainError::Engine {
                message: "the model's graph gives no hidden states: it steps and scores, but cannot embed".to_owned(),
            });
        }
        check_vocabulary(self.input().iter().chain(bias.iter().map(|(token, _)| token)), model.vocab)
    }
}

/// One job for an embedder actor. Jobs of one conversation are done in the order of their arrival.
#[derive(Clone, Debug)]
pub struct Job {
    /// Named in every event about the job.
    pub request: RequestId,
    /// Whose it is; `None`: nobody's, and then nothing is kept of it.
    pub conversation: Option<ConversationId>,
    /// The tokens that the work follows.
    pub context: History,
    /// What there is of their keys and values.
    pub held: Holding,
    /// What another actor has done of this job.
    pub carried: Option<Carried>,
    /// What to do.
    pub work: Work,
    /// What its input appends is pinned: it may be, by [`History::check_pin`].
    pub pins: bool,
    /// The text so far of a step that a stop text may end.
    pub text: Option<StepText>,
    /// For whom, as fair shares go.
    pub party: Party,
    /// So many runs it shares with no other job, since it is suspected of killing actors; then it is said to be
    /// [`Report::Cleared`].
    pub alone: u32,
    /// What is told of it.
    pub spans: JobSpans,
}

/// What a conversation gained and lost: the new context is the old one followed by `appended`, less the `dropped` tokens
/// behind those that never leave (see [`RowOutput`](crate::engine::RowOutput)).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Tokens appended or sampled.
    pub appended: Vec<TokenId>,
    /// So many of the first of them are pinned, as all before them are.
    pub pinned: usize,
    /// How many left.
    pub dropped: usize,
    /// What became of its pages, as told of those that the job began with; `None` where there are none, or they stay as
    /// they are.
    pub held: Option<Held>,
}

impl Commit {
    /// Applies the commit to a history in the engine's window.
    pub fn apply(&self, history: &mut History, window: &Window) {
        history.pinned += self.pinned;
        let sinks = window.kept_first(history.pinned);
        let tokens = Arc::make_mut(&mut history.tokens);
        tokens.extend_from_slice(&self.appended);
        let (len, end) = (tokens.len(), sinks + self.dropped);
        debug_assert!(self.dropped == 0 || end <= len, "tokens {sinks} to {end} leave a history of {len}");
        history.total += self.appended.len() as u64;
        if self.dropped > 0 && window.slides == Slides::Recompute {
            // What has left is never read again, and reading what has stayed repeats it.
            tokens.drain(sinks..end);
            history.left = Arc::default();
        } else if self.dropped > 0 {
            let is_whole = history.total == (history.left.len() + len) as u64;
            let dropped = tokens.drain(sinks..end);
            if is_whole && history.left.len() + self.dropped <= LEFT_MAX {
                Arc::make_mut(&mut history.left).extend(dropped);
            } else {
                history.left = Arc::default();
            }
        }
    }
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// To [`Work::Embed`]: the vector, in the shape asked for.
    Embedded(Vec<f32>),
    /// To a text that is embedded in pieces, a vector each: never a job's.
    Pieces(Vec<Vec<f32>>),
    /// To [`Work::Step`]: everything sampled, streamed or not.
    Stepped {
        /// One entry a token.
        sampled: Vec<Sampled>,
        /// Whether the last one is an end token or completes a stop text.
        stopped: bool,
    },
    /// To steps that go on from one place, several answers to one request: never a job's.
    Several(Vec<Choice>),
    /// To [`Work::Score`].
    Scored {
        /// One entry a token; `None` for a conversation's very first.
        logprobs: Vec<Option<f32>>,
        /// The most likely tokens in each place, nothing in that of the very first; no lists where none were asked for.
        top: Vec<Vec<(TokenId, f32)>>,
    },
    /// To what moves a conversation and runs nothing: never a job's.
    Moved,
    /// What a conversation is: never a job's.
    Exported(Vec<Kept>),
    /// To [`Work::Forget`].
    Forgotten,
}

/// One of several answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// One entry a token.
    pub sampled: Vec<Sampled>,
    /// Whether the last one is an end token or completes a stop text.
    pub stopped: bool,
    /// Tokens in the context behind it.
    pub context_len: usize,
}

/// Why a job was not done; the conversation is as after its last commit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JobError {
    /// An answer for the caller.
    #[error(transparent)]
    Failed(#[from] BrainError),
    /// It was taken back before it was done.
    #[error("cancelled before it was done")]
    Cancelled,
}

/// A finished job.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Which job.
    pub request: RequestId,
    /// What it came to.
    pub outcome: Result<Outcome, JobError>,
    /// What it did to its conversation since the last [`Report::Token`]; empty where it failed.
    pub commit: Commit,
    /// Tokens in the context now.
    pub context_len: usize,
    /// The conversation had slid and was rebuilt from the tokens of its window.
    pub rebuilt: bool,
    /// An engine without pages could not go back to the last commit and holds nothing of the conversation now. One that was
    /// still reading the context again keeps what it has of that: [`Holding::Slot`] goes on from there.
    pub lost: bool,
    /// What a job that was not done had read since its last commit, where that lies in pages: nobody's, but whoever reads
    /// the same need not. As a commit to the job's context and pages as of that last commit (the first: those that it began
    /// with): `held.kv_len` counts tokens of the context followed by `appended`, among them what the job had sampled. Where
    /// the context itself was still being read, `appended` is empty and `held.kv_len` less than the context's length.
    /// `dropped` is 0: behind a slide, or where nothing was read, there is nothing.
    pub read: Option<Commit>,
}

/// What an embedder actor tells its owner.
#[derive(Clone, Debug)]
pub enum Report {
    /// The engine is loaded; jobs are being done.
    Ready(EngineInfo),
    /// The engine could not be loaded; the actor stops.
    LoadFailed(LoadError),
    /// A streamed step's next tokens are committed.
    Token {
        /// Which job.
        request: RequestId,
        /// Those that its grammar left no choice about.
        forced: Vec<Sampled>,
        /// The one that was sampled behind them; `None`: none was yet.
        sampled: Option<Sampled>,
        /// Whether the last of them stops the step: it is an end token, completes a stop text or ends the grammar.
        stopped: bool,
        /// What was appended (the step's input, before its first token, and the tokens) and left.
        commit: Commit,
        /// Tokens in the context now.
        context_len: usize,
    },
    /// A job is done.
    Done(Done),
    /// The first run of this life went well.
    Runs,
    /// A job has survived the runs that it was to have alone.
    Cleared {
        /// Which job.
        request: RequestId,
    },
    /// A job is given back, as it was asked for, to be gone on with elsewhere.
    Returned {
        /// Which job.
        request: RequestId,
        /// What was done of it.
        carried: Carried,
    },
    /// KV memory changed.
    Memory {
        /// Bytes held by all slots.
        kv_bytes: usize,
    },
}

/// Something that an actor is doing with its engine: a run, or a slot that is opened, moved or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// When it began.
    pub since: Time,
    /// The jobs that it is done for: of a run those with a row in it, those among them whose conversation's history is
    /// being read again.
    pub requests: Vec<RequestId>,
}

/// What was counted of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many had so many rows.
    pub by_rows: Vec<usize>,
    /// Tokens that they read.
    pub read: u64,
    /// Tokens that they sampled.
    pub decoded: u64,
}

impl Runs {
    /// Adds the others, which are none then.
    pub fn take(&mut self, others: &mut Self) {
        if self.by_rows.len() < others.by_rows.len() {
            self.by_rows.resize(others.by_rows.len(), 0);
        }
        for (count, other) in self.by_rows.iter_mut().zip(&mut others.by_rows) {
            *count += mem::take(other);
        }
        self.read += mem::take(&mut others.read);
        self.decoded += mem::take(&mut others.decoded);
    }
}

/// Where an actor writes what it is doing, for its owner to read when it hangs or dies.
#[derive(Clone, Default)]
pub struct Pulse(Arc<PulseInner>);

#[derive(Default)]
struct PulseInner {
    // std mutexes: held for a copy, never across an await or a run.
    running: Mutex<Option<Running>>,
    runs: Mutex<Runs>,
    interrupter: Mutex<Option<Arc<dyn Interrupt>>>,
}

impl Pulse {
    /// A run begins.
    pub fn begin(&self, running: Running) {
        *lock(&self.0.running) = Some(running);
    }

    /// It ended; gives back what was begun.
    pub fn end(&self) -> Option<Running> {
        lock(&self.0.running).take()
    }

    /// The run in progress, or the one during which the actor died.
    pub fn running(&self) -> Option<Running> {
        lock(&self.0.running).clone()
    }

    /// A run went well: how many rows it had, and how many tokens it read and sampled.
    pub fn ran(&self, rows: usize, read: usize, decoded: usize) {
        let mut runs = lock(&self.0.runs);
        if runs.by_rows.len() <= rows {
            runs.by_rows.resize(rows + 1, 0);
        }
        runs.by_rows[rows] += 1;
        runs.read += read as u64;
        runs.decoded += decoded as u64;
    }

    /// Moves what was counted of runs that went well there.
    pub fn take_runs(&self, to: &mut Runs) {
        to.take(&mut lock(&self.0.runs));
    }

    /// The engine is loaded and can be interrupted.
    pub fn set_interrupter(&self, interrupter: Arc<dyn Interrupt>) {
        *lock(&self.0.interrupter) = Some(interrupter);
    }

    /// Stops the run in progress; `None` until the engine is loaded.
    pub fn interrupter(&self) -> Option<Arc<dyn Interrupt>> {
        lock(&self.0.interrupter).clone()
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.running()).finish()
    }
}

/// For values that a panic elsewhere leaves whole, so that a poisoned lock is as good as another.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
