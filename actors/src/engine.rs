//! The first port: what an actor needs from a model.
//!
//! An engine has one owner and lives on one thread. It has a slot for each conversation that it works on: the
//! tokens of the context and, for all of them but perhaps the last, their keys and values. The
//! window is the engine's: it ends a chunk where a slide is due, slides, and reports what left;
//! nobody above computes a slide, but where all that stays is read again ([`Slides::Recompute`]).
//!
//! Where [`EngineInfo::pages`] says so, keys and values lie in pages, which outlive slot and engine: a conversation is
//! its tokens and its [`Resident`] pages, and a slot only what a job works on. Any engine of the same loader opens one on
//! them ([`Engine::adopt`]) and tells what became of them ([`Engine::take_held`]). A page's rows are written once: a run
//! writes behind the rows that its slot holds, in a page of its own or in one where nobody else has written there, so
//! whoever shares a page, be it a run that was abandoned, changes nothing for the others.
//!
//! Invariant of every slot: `kv_len <= context_len <= window.size`, and `context_len - kv_len <= 1`
//! (the last token may have no keys and values yet, where it was sampled or [adopted](Engine::adopt) so; the next run
//! reads it first). Where the owner slides, `context_len` may be one more with a token that was sampled.

use std::{any::Any, borrow::Cow, fmt, sync::Arc, vec::Drain};

use crate::{grammar::Guide, tokens::TokenId};

/// What an engine works on for one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(pub u32);

/// The bound on the context. Lengths in tokens. Invariant: `slide >= 1`, `sinks + slide <= size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The most tokens a context holds.
    pub size: usize,
    /// The first tokens of a context, which never leave; a conversation that has pinned more keeps these, see
    /// [`Engine::pin`].
    pub sinks: usize,
    /// How many of the oldest tokens after the sinks leave at once when one more would not fit.
    pub slide: usize,
    /// What happens then.
    pub slides: Slides,
}

/// What happens where one more token does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slides {
    /// It is refused with [`EngineErrorKind::ContextFull`]: the settings forbid sliding, or the model's rotation could not be
    /// measured.
    Never,
    /// The engine lets the oldest tokens go and turns the keys of those behind them back. What these say stays theirs, of
    /// the tokens that left, too.
    Shift,
    /// The owner of the slot lets them go: it goes back to the tokens that never leave, and reads those behind them again.
    /// So a context is what its tokens say and nothing else, and any model can do it. The engine takes a token beyond its
    /// size only where it is sampled, and then nothing more.
    Recompute,
}

impl Window {
    /// The most tokens that a conversation may pin: half the window, and no more than a slide leaves.
    pub fn pinned_max(&self) -> usize {
        (self.size / 2).min(self.size.saturating_sub(self.slide))
    }

    /// How many of its first tokens a context keeps of which so many are pinned.
    pub fn kept_first(&self, pinned: usize) -> usize {
        self.sinks.max(pinned)
    }

    /// Tokens in the context of a conversation that has had `total` and never gone back; `None` where it cannot have had so
    /// many.
    pub fn len_after(&self, total: u64) -> Option<usize> {
        let size = self.size as u64;
        match total.checked_sub(size + 1) {
            None => Some(total as usize),
            Some(_) if self.slides == Slides::Never => None,
            Some(behind) => Some(self.size - self.slide + 1 + (behind % self.slide as u64) as usize),
        }
    }
}

/// What an engine is, read from the model's graph once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineInfo {
    /// Decoder layers.
    pub layers: usize,
    /// Width of a hidden state.
    pub hidden: usize,
    /// Rows of the vocabulary: every token id is below it.
    pub vocab: usize,
    /// Inputs of the model's own graph.
    pub inputs: usize,
    /// Whether the graph gives hidden states; without them only steps and scores are served.
    pub embeds: bool,
    /// The window in force.
    pub window: Window,
    /// Tokens that end a step.
    pub end_tokens: Vec<TokenId>,
    /// Bytes of keys and values a token of context takes.
    pub kv_bytes_per_token: usize,
    /// The pages that keys and values lie in; `None` where an engine keeps them to itself, and then a conversation
    /// stays with its engine and is read again after its death.
    pub pages: Option<PageSize>,
}

/// How large a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// Tokens whose keys and values it holds, in all layers; at least 1.
    pub tokens: usize,
    /// Bytes of its memory.
    pub bytes: usize,
}

/// Keys and values of a few tokens following each other, in all layers. Whose memory that is only engines know; it is
/// free when nobody has the page any more.
#[derive(Clone)]
pub struct Page(Arc<dyn Any + Send + Sync>);

impl Page {
    /// A page of an engine's memory.
    pub fn new<T: Any + Send + Sync>(memory: Arc<T>) -> Self {
        Self(memory)
    }

    /// Where its memory lies: as long as somebody has the page, no other page's does.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The memory, for the engine that knows its type.
    pub fn memory<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.0).downcast().ok()
    }

    /// How many have it, this one among them.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Two are equal where they are the same memory.
impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({:p})", Arc::as_ptr(&self.0))
    }
}

/// The pages of a context, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resident {
    /// Each full but the last that counts; what lies behind `kv_len` is nobody's.
    pub pages: Vec<Page>,
    /// Tokens of the context whose keys and values they hold.
    pub kv_len: usize,
}

impl Resident {
    /// Forgets what lies behind the first `kv_len` tokens. `page`: tokens of a page.
    pub fn truncate(&mut self, kv_len: usize, page: usize) {
        self.kv_len = self.kv_len.min(kv_len);
        self.pages.truncate(self.kv_len.div_ceil(page));
    }

    /// How many of its pages are not those that stand at the same places of another.
    pub fn pages_beside(&self, other: &Self) -> usize {
        self.pages.iter().enumerate().filter(|(index, page)| other.pages.get(*index) != Some(*page)).count()
    }

    /// Takes over what a slot says of its pages, if anything.
    pub fn apply(&mut self, held: Option<Held>) {
        if let Some(Held { keep, pages, kv_len }) = held {
            self.pages.truncate(keep);
            self.pages.extend(pages);
            self.kv_len = kv_len;
        }
    }
}

/// What became of a slot's pages: of those that its owner knew of it keeps the first `keep`, then come `pages`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// How many of the pages that were told last are still the slot's.
    pub keep: usize,
    /// Those behind them.
    pub pages: Vec<Page>,
    /// Tokens of the context whose keys and values they hold in all.
    pub kv_len: usize,
}

impl Held {
    /// This and what became of the pages after it, as one.
    pub fn then(mut self, next: Self) -> Self {
        let own = next.keep.saturating_sub(self.keep).min(self.pages.len());
        self.pages.truncate(own);
        self.pages.extend(next.pages);
        Self { keep: self.keep.min(next.keep), pages: self.pages, kv_len: next.kv_len }
    }
}

/// How a text's hidden states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The sum over the row's new tokens; whoever asked divides by their number.
    Sum,
    /// The hidden state of the row's last new token.
    Last,
}

/// How the next token is chosen from the model's distribution. What is set works in this order: bias,
/// penalties, temperature, `top_k`, `top_p`, `min_p`. A penalty counts the tokens that the window holds when the token
/// is drawn: those that left with a slide no longer count, and reading the window again changes nothing.
///
/// [`Self::GREEDY`] has all of it off, so that what is wanted is set upon it:
/// `Sampling { temperature: 1.0, min_p: 0.05, ..Sampling::GREEDY }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: the largest logit, of which the smallest id wins a tie. Otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep only the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most likely tokens whose probability reaches `top_p`; 1 keeps all (Holtzman et al.
    /// 2020, "The Curious Case of Neural Text Degeneration", arXiv 1904.09751).
    pub top_p: f32,
    /// Keep the tokens that are at least `min_p` times as probable as the most likely one; 0 keeps all (Nguyen et al.
    /// 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", arXiv 2407.01082).
    pub min_p: f32,
    /// Above 1 makes the window's tokens less likely: a positive logit of theirs is divided by it, a negative one
    /// multiplied; 1 is off (Keskar et al. 2019, "CTRL", arXiv 1909.05858; for negative logits as in transformers'
    /// `RepetitionPenaltyLogitsProcessor`).
    pub repetition_penalty: f32,
    /// Taken off the logit of each token that the window holds, once; 0 is off (OpenAI's API, `presence_penalty`).
    pub presence_penalty: f32,
    /// Taken off the logit of each token as often as the window holds it; 0 is off (OpenAI's API,
    /// `frequency_penalty`).
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens (OpenAI's API, `logit_bias`). It is a sum and no more: -100 makes a token
    /// e^100 times less likely, which bans it as long as the model's logits are no farther apart.
    pub logit_bias: Cow<'static, [(TokenId, f32)]>,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Cow::Borrowed(&[]),
    };

    /// Whether the choice depends on the tokens that the window holds.
    pub fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// What a row wants back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want<'a> {
    /// Nothing: the tokens are read into the cache.
    Nothing,
    /// The pooled hidden states (after the final norm) of the row's new tokens that this run read.
    Hidden(Pooling),
    /// Log-probabilities of given tokens.
    Scores {
        /// Also score the first new token, which means that the context's last token is run (again)
        /// for its logits. On an empty context nothing precedes it, and it has no score.
        first: bool,
        /// The token after the row's last one, where the request goes on: scored by this row.
        next: Option<TokenId>,
        /// How many of the most likely tokens to list in the place of each that is scored.
        top: usize,
    },
    /// Sample the next token and append it. With no new tokens the context's last token is run
    /// again for its logits, unless it has no keys and values yet.
    Next {
        /// How it is chosen. Token ids in it that the vocabulary lacks are [`EngineErrorKind::Rejected`].
        sampling: &'a Sampling,
        /// With `number` it determines the random draw.
        seed: u64,
        /// How many tokens the conversation had since its last reset before this one.
        number: u64,
        /// How many of the most likely tokens to list with their log-probabilities, whatever a grammar says of them.
        top: usize,
        /// What says which tokens may be chosen; `None`: any. Where none of them is possible, or that cannot be said, the
        /// row is [`EngineErrorKind::Rejected`].
        guide: Option<&'a Guide>,
    },
}

/// A slot with its new tokens and what it wants back.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The slot; each slot at most once in a run.
    pub slot: SlotIndex,
    /// New tokens to append. A run may take only the first of them: it ends where a slide is due.
    pub tokens: &'a [TokenId],
    /// What comes back.
    pub want: Want<'a>,
}

/// A token drawn from the model's distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: TokenId,
    /// Its log-probability under the model itself: before all that [`Sampling`] does.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, best first; as many as asked for.
    pub top: Vec<(TokenId, f32)>,
}

impl Sampled {
    /// A token that a grammar left no choice about.
    pub fn forced(token: TokenId) -> Self {
        Self { token, logprob: 0.0, top: Vec::new() }
    }
}

/// What a run did to one row's slot, and what the row wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowOutput {
    /// How many of the row's tokens were read and appended. Less than given where a slide is due
    /// first, possibly 0 (see [`Want::Scores`] and [`Want::Next`] on a full context); give the rest
    /// again. Nothing is sampled before all were taken.
    pub taken: usize,
    /// Tokens that left the context. They stood right behind the first ones that never leave, the sinks or what is
    /// [pinned](Engine::pin): the new context is the old one, then what was taken, then what was sampled, less the
    /// `dropped` tokens from there.
    pub dropped: usize,
    /// Tokens in the context now.
    pub context_len: usize,
    /// For [`Want::Hidden`]: one vector, empty if nothing was taken.
    pub hidden: Vec<f32>,
    /// For [`Want::Scores`]: log-probabilities of consecutive tokens, in order.
    pub scores: Vec<f32>,
    /// The most likely tokens in the place of each of these, best first; no lists where none were asked for.
    pub top: Vec<Vec<(TokenId, f32)>>,
    /// For [`Want::Next`], once all tokens were taken.
    pub sampled: Option<Sampled>,
}

/// Whose fault a failed run is, so that its owner knows what to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// The row is bad or the runtime refused it; the engine is well.
    Rejected,
    /// The window may not or cannot slide and the row does not fit.
    ContextFull,
    /// The run was stopped through [`Interrupt::interrupt`]; nobody is to blame.
    Interrupted,
    /// No memory for this row; others may still fit.
    OutOfMemory,
    /// The engine is broken and must be made anew.
    Fatal,
}

/// A failed call; the engine's slots are as they were before it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What its owner does about it.
    pub kind: EngineErrorKind,
    /// The row to blame, an index into the rows of the run, where one is to blame.
    pub row: Option<usize>,
    /// What was wrong, what was expected.
    pub message: String,
}

/// Stops a run from another thread.
pub trait Interrupt: Send + Sync {
    /// Makes the run in progress, or the next one, end soon with [`EngineErrorKind::Interrupted`].
    fn interrupt(&self);
}

/// A language model with a KV cache. One owner, one thread.
pub trait Engine: 'static {
    /// What the engine is.
    fn info(&self) -> &EngineInfo;

    /// A new, empty slot.
    ///
    /// # Errors
    /// [`EngineErrorKind::OutOfMemory`].
    fn open(&mut self) -> Result<SlotIndex, EngineError>;

    /// A slot on pages that any engine of the same loader has filled: `context` is what they hold, and at most one
    /// token more, which was sampled, or appended without a run. The pages are not written to but behind what `held`
    /// counts.
    ///
    /// # Errors
    /// [`EngineErrorKind::Rejected`] where the pages are another loader's, or this engine has none.
    fn adopt(&mut self, context: &[TokenId], held: &Resident) -> Result<SlotIndex, EngineError> {
        let _ = (context, held);
        Err(EngineError {
            kind: EngineErrorKind::Rejected,
            row: None,
            message: "this engine keeps keys and values to itself".to_owned(),
        })
    }

    /// From now on the first `pinned` tokens of a slot's context never leave, those that it has and those to come; where
    /// that is fewer than the window's sinks, these do not. Said of a new slot before its first run, and again before
    /// tokens are appended to one that are to be pinned, too.
    ///
    /// # Panics
    /// If the slot is not open, or that is more than [`Window::pinned_max`].
    fn pin(&mut self, slot: SlotIndex, pinned: usize);

    /// What became of a slot's pages since it was adopted or this was last asked; `None` without pages.
    ///
    /// # Panics
    /// If the slot is not open.
    fn take_held(&mut self, slot: SlotIndex) -> Option<Held> {
        let _ = slot;
        None
    }

    /// Gives a slot and its memory back.
    ///
    /// # Panics
    /// If the slot is not open.
    fn close(&mut self, slot: SlotIndex);

    /// Takes the slot back to its first `context_len` tokens.
    ///
    /// # Errors
    /// [`EngineErrorKind::Rejected`] when that lies behind the slot's last slide or is more than it
    /// holds; the slot is then unchanged.
    fn rewind(&mut self, slot: SlotIndex, context_len: usize) -> Result<(), EngineError>;

    /// One execution of the model over a batch of rows. Commits all rows or none; outputs are in the
    /// order of `rows`, handed over in memory that the engine keeps. Every row makes progress: a token is taken, scored
    /// or sampled, or the context's last one gets its keys and values, so that giving the rest again comes to an end.
    ///
    /// # Errors
    /// See [`EngineErrorKind`]; no slot has changed.
    fn run(&mut self, rows: &[Row<'_>]) -> Result<Drain<'_, RowOutput>, EngineError>;

    /// Bytes of KV memory held by all slots; where there are pages, those of the loader's. Costs nothing.
    fn kv_bytes(&self) -> usize;

    /// A handle that stops a run of this engine from another thread.
    fn interrupter(&self) -> Arc<dyn Interrupt>;
}

/// Why an engine could not be made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// True where trying again may help (memory, a file that is being replaced); a wrong contract,
    /// file or library stays wrong.
    pub transient: bool,
    /// What was wrong, what was expected, with its causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What pages come from: only where all of it is equal do a page's bytes mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// A hash of the model's graph and weights.
    pub model: [u8; 32],
    /// How the model is run, in words.
    pub form: String,
    /// How a page's bytes follow each other, in words.
    pub layout: String,
    /// Tokens of a page.
    pub page: usize,
    /// The window in force: what has left, and how keys have turned, is its doing.
    pub window: Window,
}

/// Why a page has no bytes, or bytes are no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// Engines keep keys and values to themselves, or none was made yet.
    #[error("there are no pages")]
    NoPages,
    /// It comes from elsewhere.
    #[error("the page is another loader's")]
    Foreign,
    /// It has not the rows that are asked for, or no page has.
    #[error("{rows} rows of a page are asked for, of {found}")]
    Rows {
        /// Rows that are asked for.
        rows: usize,
        /// Those that are written for good; where bytes are to be a page, those that one has.
        found: usize,
    },
    /// They are not as many as so many rows have.
    #[error("{found} bytes are no page of {rows} rows, expected {expected}")]
    Length {
        /// Rows that they should be.
        rows: usize,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// They begin as no page's do.
    #[error("there are no pages of kind {kind}")]
    Kind {
        /// What they begin with.
        kind: u8,
    },
    /// The system has no memory for it.
    #[error("a page of {bytes} bytes does not fit")]
    NoMemory {
        /// What it takes.
        bytes: usize,
    },
}

/// Makes engines: called on the actor's own thread, once for each incarnation. Makes bytes of their pages and pages of
/// bytes, on any thread.
pub trait EngineLoader: Send + Sync + 'static {
    /// A fresh engine with no open slot. May take long and may block.
    ///
    /// # Errors
    /// Why there is none.
    fn load(&self) -> Result<Box<dyn Engine>, LoadError>;

    /// Bytes of all pages that there are; 0 where engines keep keys and values to themselves.
    fn kv_bytes(&self) -> usize {
        0
    }

    /// What all its pages come from.
    ///
    /// # Errors
    /// [`PageError::NoPages`].
    fn origin(&self) -> Result<Origin, PageError> {
        Err(PageError::NoPages)
    }

    /// How many bytes [`Self::save`] makes of a page's first `rows`.
    ///
    /// # Errors
    /// The page is another loader's, or has not so many rows.
    fn saved_bytes(&self, page: &Page, rows: usize) -> Result<usize, PageError> {
        let _ = (page, rows);
        Err(PageError::NoPages)
    }

    /// Appends a page's first `rows`, which are written for good, as bytes. Others may go on writing behind them.
    ///
    /// # Errors
    /// The page is another loader's, or has not so many rows; nothing is appended.
    fn save(&self, page: &Page, rows: usize, to: &mut Vec<u8>) -> Result<(), PageError> {
        let _ = (page, rows, to);
        Err(PageError::NoPages)
    }

    /// A new page of such bytes of a loader of the same [`Origin`]: to the bit the same `rows`, and no others. Whatever
    /// the bytes are, it is a page that engines can read.
    ///
    /// # Errors
    /// They are no page of so many rows, or there is no memory for one.
    fn restore(&self, bytes: &[u8], rows: usize) -> Result<Page, PageError> {
        let _ = (bytes, rows);
        Err(PageError::NoPages)
    }
}
