//! The vocabulary of the whole system: what can be asked of a conversation, what comes back, and
//! every error a caller can meet.
//!
//! After every error the conversation is as it was before the request (the tokens a streamed step
//! has already shown aside).

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    sync::{Arc, LazyLock},
    time::Duration,
};

use crate::{
    engine::Sampling,
    grammar::Constraint,
    keep::Kept,
    tokens::{TokenId, TokenizerKind},
    vectors::{Codes, Format, Kind, MadeBy},
};

/// The name of a conversation, chosen by its caller: at most 1,024 bytes. Their order is any that stays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConversationId {
    /// Of the name: what is looked for among many is then compared where it stands, and not by letters far away.
    hash: u64,
    name: Arc<str>,
}

impl ConversationId {
    fn new(name: Arc<str>) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { hash: hasher.finish(), name }
    }

    /// The name as its caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// What stands for the name is hashed, and not its letters again.
impl Hash for ConversationId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl From<&str> for ConversationId {
    fn from(name: &str) -> Self {
        Self::new(name.into())
    }
}

impl From<String> for ConversationId {
    fn from(name: String) -> Self {
        Self::new(name.into())
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConversationId").field(&self.name).finish()
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// On which terms a request uses its conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Which of the answers that wait in the conversation it keeps and goes on from (see [`Step::n`]); the others are
    /// dropped. `None` drops all of them and goes on from the input that they answer.
    pub choice: Option<usize>,
    /// From here on, what the conversation reads is shared with others or not. `None`: as before, and a new
    /// conversation shares with all that name no scope.
    pub sharing: Option<Sharing>,
    /// What the input appends, a system prompt say, never leaves the window, as its sinks do not; what is sampled behind
    /// it does. Only where all before it is pinned, or nothing stands there, and no more than
    /// [`Window::pinned_max`](crate::engine::Window::pinned_max), half the window, in all.
    pub pin: bool,
}

/// Whether conversations share the keys and values of what they have in common. It changes no answer, but what is
/// shared is answered sooner, which tells whoever asks that somebody has said the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// With those of the same scope; `None` is the scope of all that name none.
    With(Option<Scope>),
    /// With nobody.
    Nobody,
}

impl Default for Sharing {
    fn default() -> Self {
        Self::With(None)
    }
}

/// The name under which conversations share, chosen by their callers: at most 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The name as its caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Scope {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Scope {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// Whose request it is, as far as shares go: callers that are told apart do not take each other's turns. A name chosen
/// by them, at most 1,024 bytes; whoever names none is [`ClientId::default`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The name as its caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClientId {
    fn default() -> Self {
        // One for all: every request has a client, and most have this one.
        static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
        Self(Arc::clone(&NOBODY))
    }
}

impl From<&str> for ClientId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for ClientId {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// How much of the machine a request gets beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Nobody does: where both kinds wait, it has a sixteenth of what an interactive one has.
    Background,
}

/// Who has a request done, and how soon: what fair shares go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party {
    /// Whose it is.
    pub client: ClientId,
    /// How much it gets beside others.
    pub priority: Priority,
}

/// What a request appends to its conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Text, to be tokenised with nothing added; text that spells an added token becomes that token.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<TokenId>),
    /// Pieces of several kinds, one after the other; at most [`PARTS_MAX`]. No token spans two of them.
    Parts(Vec<Part>),
}

/// The most parts of an input. Not a setting: it only keeps parts without content from being an input without a limit.
pub const PARTS_MAX: usize = 4096;

/// A piece of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As [`Input::Text`].
    Text(String),
    /// Text that never becomes an added token, special or not, save one of white space: somebody else's words between
    /// markers of one's own.
    Literal(String),
    /// Tokens as they are.
    Tokens(Vec<TokenId>),
}

impl Part {
    /// Its size as `limits.text_bytes` counts it: bytes of text, or four for each token id.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Literal(text) => text.len(),
            Self::Tokens(tokens) => tokens.len().saturating_mul(size_of::<TokenId>()),
        }
    }
}

impl Input {
    /// Its size as `limits.text_bytes` counts it: bytes of text, and four for each token id.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Tokens(tokens) => tokens.len().saturating_mul(size_of::<TokenId>()),
            Self::Parts(parts) => parts.iter().map(Part::bytes).sum(),
        }
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<TokenId>> for Input {
    fn from(tokens: Vec<TokenId>) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<Vec<Part>> for Input {
    fn from(parts: Vec<Part>) -> Self {
        Self::Parts(parts)
    }
}

/// Appends the input and returns one vector for it in its context.
#[derive(Clone, Debug, PartialEq)]
pub struct Embed {
    /// `None`: the vector of the input alone, nothing is kept.
    pub conversation: Option<ConversationId>,
    /// What is embedded.
    pub input: Input,
    /// How the vector is made, where it is to be otherwise than settings say.
    pub vector: VectorTerms,
    /// How the conversation is used.
    pub terms: Terms,
}

/// How a vector is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorTerms {
    /// What the text is for.
    pub kind: Kind,
    /// How many numbers it has, from [`DIM_MIN`](crate::vectors::DIM_MIN) up to all; `None`: as settings say.
    pub dim: Option<usize>,
    /// Which numbers; `None`: as settings say.
    pub format: Option<Format>,
    /// It is given as the recipe makes it, `[hidden]`: not calibrated, cut, scaled or rounded. For who makes calibrations.
    pub raw: bool,
    /// Whether the text has one vector or each piece of it.
    pub pieces: Pieces,
}

/// What has a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pieces {
    /// The text.
    #[default]
    Whole,
    /// Each piece of a text that no conversation stands before: its vector is that of the piece behind all that stands
    /// before it in the text (late chunking), as if a conversation read one piece after the other. Pieces are cut where a
    /// token and a character begin, rather behind a line or a sentence than inside, and are no shorter than three quarters
    /// of what they may be, but for the last. A text longer than the window slides.
    Each {
        /// Tokens of a piece, at most; at least 1. [`PIECE_TOKENS`] is as good as any.
        tokens: usize,
    },
}

/// Tokens of a piece where nothing else is asked for: about a page of prose or a long function.
pub const PIECE_TOKENS: usize = 256;

impl Embed {
    /// The vector of an input alone, made as settings say.
    pub fn of(input: impl Into<Input>) -> Self {
        Self { conversation: None, input: input.into(), vector: VectorTerms::default(), terms: Terms::default() }
    }
}

/// Appends the input, if any, then samples `count` tokens, each appended.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose turn it is.
    pub conversation: ConversationId,
    /// Appended first. `None` goes on from the context's last token.
    pub input: Option<Input>,
    /// The most tokens to sample; an end token stops earlier. 0 only appends.
    pub count: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The same seed and history draw the same tokens. `None`: the brain draws one.
    pub seed: Option<u64>,
    /// How many of the most likely tokens to list for each sampled one.
    pub top: usize,
    /// Texts that end the step where its own text comes to one: see [`StopTexts`](crate::text::StopTexts) for how many
    /// and how long. The stop text is no part of the reply's text; the token that completes it is sampled and stays.
    pub stop: Vec<String>,
    /// What its tokens must spell, from the first one on, the end token aside; `None`: anything. A step whose grammar is
    /// spelled and goes no further ends there. Of a token that the grammar leaves no choice about nothing is sampled: its
    /// log-probability is 0, and it has no list of likely ones.
    pub grammar: Option<Constraint>,
    /// How many answers, at most [`N_MAX`]; more than one are drawn, each with a seed of its own, the first with that of
    /// a single one. The input is read once. Then all of them wait, and the conversation's next request says which one
    /// it goes on from ([`Terms::choice`]); a [`Fork`] keeps one under another name.
    pub n: usize,
    /// How the conversation is used.
    pub terms: Terms,
}

/// The most answers of a step. Not a setting: it only keeps one request from being as many as it likes.
pub const N_MAX: usize = 16;

impl Step {
    /// A greedy step that appends `input` and samples `count` tokens.
    pub fn greedy(conversation: impl Into<ConversationId>, input: impl Into<Input>, count: usize) -> Self {
        Self {
            conversation: conversation.into(),
            input: Some(input.into()),
            count,
            sampling: Sampling::GREEDY,
            seed: None,
            top: 0,
            stop: Vec::new(),
            grammar: None,
            n: 1,
            terms: Terms::default(),
        }
    }
}

/// Appends the input and returns the log-probability of each of its tokens given all before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Whose turn it is.
    pub conversation: ConversationId,
    /// What is scored.
    pub input: Input,
    /// How many of the most likely tokens to list in each place: at most [`TOP_MAX`](crate::policy::TOP_MAX), and for all
    /// tokens together at most [`LISTED_MAX`](crate::policy::LISTED_MAX).
    pub top: usize,
    /// How the conversation is used.
    pub terms: Terms,
}

impl Score {
    /// A score of this input behind a conversation, with nothing listed and no terms of its own.
    pub fn of(conversation: impl Into<ConversationId>, input: impl Into<Input>) -> Self {
        Self { conversation: conversation.into(), input: input.into(), top: 0, terms: Terms::default() }
    }
}

/// Makes a conversation of another's first tokens. Neither sees what the other does from then on, and nothing is read
/// or copied but what one of them goes on to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Whose tokens.
    pub from: ConversationId,
    /// The new one's name: an unknown conversation, or one that is empty.
    pub to: ConversationId,
    /// How many of the context's tokens; `None`: all. Behind a slide it must be all of them.
    pub at: Option<usize>,
    /// Of the answers that wait in `from`, the one that the new conversation begins with; all of them still wait.
    /// `None` drops them.
    pub choice: Option<usize>,
}

/// Takes a conversation back to its first tokens; answers that wait in it are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewind {
    /// Which one.
    pub conversation: ConversationId,
    /// How many of the context's tokens are left; not fewer than there were behind the last slide.
    pub context_len: usize,
}

/// Makes a conversation of what another one was, perhaps elsewhere. Pages must be of this brain's loader; what has none
/// is read again. It shares with nobody until a request says
/// otherwise, and what it holds now stays its own, since who has made it is not known here.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// The new one's name: an unknown conversation, or one that is empty.
    pub conversation: ConversationId,
    /// Where it stands first, then the answers that wait in it; at least one.
    pub states: Vec<Kept>,
}

/// What can be asked of the brain about conversations.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// See [`Embed`].
    Embed(Embed),
    /// See [`Step`].
    Step(Step),
    /// See [`Score`].
    Score(Score),
    /// Empties a conversation. Succeeds on an unknown one, creating nothing.
    Reset(ConversationId),
    /// Forgets a conversation.
    Close(ConversationId),
    /// See [`Fork`].
    Fork(Fork),
    /// See [`Rewind`].
    Rewind(Rewind),
    /// What a conversation is, for [`Request::Import`]: where it stands first, then the answers that wait in it.
    Export(ConversationId),
    /// See [`Import`].
    Import(Import),
}

/// What every reply about a conversation's tokens says of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Tokens the model now sees: all since the last reset, less what the window dropped.
    pub context_len: usize,
    /// True once after a conversation that had slid was rebuilt from the tokens its window held.
    pub rebuilt: bool,
    /// Tokens that need not be read, since others had read the same before.
    pub reused: usize,
    /// Which rule made the tokens.
    pub tokenizer: TokenizerKind,
}

/// The reply to [`Embed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// The vector, made as settings and request say; where it was asked for as bytes, what these stand for.
    pub embedding: Vec<f32>,
    /// The bytes, where it was asked for as such.
    pub codes: Option<Codes>,
    /// By which recipe.
    pub recipe: MadeBy,
    /// Whether a calibration was applied.
    pub calibrated: bool,
    /// Of how many pieces of the text it is the mean, overlapping ones: more than 1 where the text is too long for one.
    pub pieces: usize,
    /// Tokens of the input.
    pub tokens: usize,
    /// The conversation afterwards; of a stateless embed, the tokens in the window, those around the text among them.
    pub context: Context,
}

/// The reply to an [`Embed`] of [`Pieces::Each`].
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedPieces {
    /// In their order; they cover the text without a gap.
    pub pieces: Vec<EmbeddedPiece>,
    /// By which recipe the vectors were made.
    pub recipe: MadeBy,
    /// Whether a calibration was applied.
    pub calibrated: bool,
    /// Tokens of the input.
    pub tokens: usize,
    /// The tokens in the window behind the last piece, those around the text among them.
    pub context: Context,
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedPiece {
    /// Its vector, as [`Embedded::embedding`].
    pub embedding: Vec<f32>,
    /// The bytes, where it was asked for as such.
    pub codes: Option<Codes>,
    /// Where it stands in the text, in bytes; of parts, in their texts one behind the other.
    pub bytes: Range<usize>,
    /// Its tokens.
    pub tokens: usize,
}

/// Why a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The last sampled token is an end token, or completes a stop text.
    Stop,
    /// As many tokens as asked for.
    Count,
}

/// The reply to [`Step`]. `token_ids`, `logprobs` and `top` have one entry a sampled token.
#[derive(Clone, Debug, PartialEq)]
pub struct Stepped {
    /// The sampled tokens, an end token among them.
    pub token_ids: Vec<TokenId>,
    /// What they add to the text of all tokens before them in the context, without the end token and up to a stop text.
    /// Bytes that begin a character wait for the step that completes it: the texts of single steps joined are that of one.
    pub text: String,
    /// The model's own log-probability of each: before all that [`Sampling`] does.
    pub logprobs: Vec<f32>,
    /// The most likely tokens in each place, best first; empty lists if none were asked for.
    pub top: Vec<Vec<(TokenId, f32)>>,
    /// Why it ended.
    pub finished: Finished,
    /// The conversation afterwards.
    pub context: Context,
}

/// The reply to a [`Step`] of several answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Several {
    /// As many as asked for, each with the context that it would leave.
    pub choices: Vec<Stepped>,
    /// The conversation while they wait: its input is read, and nothing sampled.
    pub context: Context,
}

/// The reply to [`Score`].
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// One entry a token of the input; `None` for a conversation's very first.
    pub logprobs: Vec<Option<f32>>,
    /// The most likely tokens in each place, best first, and in that of a conversation's very first nothing; no lists if
    /// none were asked for.
    pub top: Vec<Vec<(TokenId, f32)>>,
    /// The conversation afterwards.
    pub context: Context,
}

/// The reply to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Request::Embed`].
    Embedded(Embedded),
    /// To [`Request::Embed`] of [`Pieces::Each`].
    EmbeddedPieces(EmbeddedPieces),
    /// To [`Request::Step`].
    Stepped(Stepped),
    /// To [`Request::Step`] with [`Step::n`] above 1.
    Several(Several),
    /// To [`Request::Score`].
    Scored(Scored),
    /// To [`Request::Fork`] and [`Request::Import`], of the new conversation, and to [`Request::Rewind`].
    Stands(Context),
    /// To [`Request::Export`].
    Exported(Vec<Kept>),
    /// To [`Request::Reset`] and [`Request::Close`].
    Done,
}

/// The code of a [`BrainError`], as the pipe protocol spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not a request, or a value out of its range.
    BadRequest,
    /// Nothing to read.
    EmptyInput,
    /// An id outside the vocabulary.
    InvalidToken,
    /// Over the limits.
    InputTooLong,
    /// More keys and values than there may be.
    TooLarge,
    /// The window may not or cannot slide.
    ContextFull,
    /// Closing, forking or rewinding what is not there.
    UnknownConversation,
    /// Forking to what is there.
    ConversationExists,
    /// Tokens that were asked for have left with a slide.
    BehindSlide,
    /// What was imported is of another model.
    Mismatch,
    /// No permit was free.
    Overloaded,
    /// The deadline passed.
    Timeout,
    /// The actor died twice under this request.
    Restarted,
    /// What is asked has killed actors.
    Quarantined,
    /// Its caller took it back.
    Cancelled,
    /// Every actor is down for good, or the brain is shutting down.
    Unavailable,
    /// The runtime refused this row.
    Engine,
}

impl ErrorCode {
    /// All of them, in their order.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::EmptyInput,
        Self::InvalidToken,
        Self::InputTooLong,
        Self::TooLarge,
        Self::ContextFull,
        Self::UnknownConversation,
        Self::ConversationExists,
        Self::BehindSlide,
        Self::Mismatch,
        Self::Overloaded,
        Self::Timeout,
        Self::Restarted,
        Self::Quarantined,
        Self::Cancelled,
        Self::Unavailable,
        Self::Engine,
    ];

    /// The code as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::EmptyInput => "empty_input",
            Self::InvalidToken => "invalid_token",
            Self::InputTooLong => "input_too_long",
            Self::TooLarge => "too_large",
            Self::ContextFull => "context_full",
            Self::UnknownConversation => "unknown_conversation",
            Self::ConversationExists => "conversation_exists",
            Self::BehindSlide => "behind_slide",
            Self::Mismatch => "mismatch",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Restarted => "restarted",
            Self::Quarantined => "quarantined",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Engine => "engine",
        }
    }

    /// Whether the same request may succeed later. What has killed actors is not among them: whoever sends it again
    /// kills again.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Timeout | Self::Unavailable)
    }
}

/// Why a request was not served. The conversation is as it was before it.
///
/// `Debug` is what a `main` that returns it prints: its sentence, for people.
#[derive(Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BrainError {
    /// A value out of its range.
    #[error("{what} is {found}, expected {expected}")]
    BadRequest {
        /// The field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// Nothing to read.
    #[error("nothing to read: {reason}")]
    EmptyInput {
        /// Which kind of nothing.
        reason: &'static str,
    },
    /// An id outside the vocabulary.
    #[error("token id {token} is outside the vocabulary of {vocab}")]
    InvalidToken {
        /// The id.
        token: i64,
        /// Ids are below it.
        vocab: usize,
    },
    /// Over the limits.
    #[error("the input has {found} bytes, at most {limit} are read (`limits.text_bytes`)")]
    InputTooLong {
        /// Bytes of the text, or four for each token id.
        found: usize,
        /// `limits.text_bytes`.
        limit: usize,
    },
    /// More keys and values than there may be, were it alone.
    #[error(
        "this may come to take {needed} bytes of keys and values, all conversations together may take {limit} \
         (`memory.kv_bytes`): ask for less, take a smaller window, or raise it"
    )]
    TooLarge {
        /// Bytes of its context, its input and what it samples.
        needed: usize,
        /// `memory.kv_bytes`.
        limit: usize,
    },
    /// The window may not or cannot slide.
    #[error("the context of {context_len} tokens and {new} more do not fit the window of {size}, which does not slide")]
    ContextFull {
        /// Tokens in the context.
        context_len: usize,
        /// Tokens that were to be appended.
        new: usize,
        /// `window.size`.
        size: usize,
    },
    /// Closing, forking or rewinding what is not there.
    #[error("there is no conversation `{conversation}`")]
    UnknownConversation {
        /// Its name.
        conversation: ConversationId,
    },
    /// Forking to what is there.
    #[error("conversation `{conversation}` holds tokens already; close it, or fork to another name")]
    ConversationExists {
        /// Its name.
        conversation: ConversationId,
    },
    /// Tokens that were asked for have left with a slide.
    #[error(
        "the window of conversation `{conversation}` has slid: {found} tokens are asked for, expected {least} to {most}"
    )]
    BehindSlide {
        /// Its name.
        conversation: ConversationId,
        /// What was asked for.
        found: usize,
        /// The fewest that it can go back to.
        least: usize,
        /// Tokens in the context.
        most: usize,
    },
    /// What was to be imported is of another model, or of one that is run in another way: its tokens alone may fit.
    #[error("the conversation is of another {what}: {found}, expected {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What it says.
        found: String,
        /// What it is here.
        expected: String,
    },
    /// No permit was free.
    #[error("{limit} {what} are the most at once{}", after(*retry_after))]
    Overloaded {
        /// Of what there are too many.
        what: &'static str,
        /// The limit that was reached.
        limit: usize,
        /// When it is worth asking again; `None` where waiting alone does not help.
        retry_after: Option<Duration>,
    },
    /// The deadline passed.
    #[error("not done within {} ms", deadline.as_millis())]
    Timeout {
        /// How long it was allowed to take.
        deadline: Duration,
    },
    /// The actor died twice under this request.
    #[error("the actor died twice under this request")]
    Restarted,
    /// What is asked has killed actors, and is asked of none for a time.
    #[error("{} killed actors and is refused{}", culprit(conversation.as_ref()), after(Some(*retry_after)))]
    Quarantined {
        /// Whose requests those were; a reset lifts it. `None`: this input, asked without a conversation.
        conversation: Option<ConversationId>,
        /// When it is tried again.
        retry_after: Duration,
    },
    /// Its caller took it back.
    #[error("cancelled by its caller")]
    Cancelled,
    /// Every actor is down for good, or the brain is shutting down.
    #[error("{reason}")]
    Unavailable {
        /// Which of the two.
        reason: String,
    },
    /// The runtime refused this row.
    #[error("the runtime refused: {message}")]
    Engine {
        /// The runtime's own words.
        message: String,
    },
}

/// When to ask again, where `pause` is what it is likely to take: not sooner than in a millisecond, and not later than in
/// half a minute, since what is foreseen that far is not known.
pub(crate) fn worth_waiting(pause: Duration) -> Duration {
    pause.clamp(Duration::from_millis(1), Duration::from_secs(30))
}

fn after(retry_after: Option<Duration>) -> String {
    // Rounded up: whoever waits so long does not come too early.
    retry_after.map_or(String::new(), |after| format!("; ask again in {} ms", after.as_nanos().div_ceil(1_000_000)))
}

fn culprit(conversation: Option<&ConversationId>) -> String {
    match conversation {
        Some(name) => format!("conversation `{name}`, until it is reset,"),
        None => "this input".to_owned(),
    }
}

/// Some graphs accept any id in silence.
pub(crate) fn check_vocabulary<'t>(
    tokens: impl IntoIterator<Item = &'t TokenId>,
    vocab: usize,
) -> Result<(), BrainError> {
    match tokens.into_iter().find(|token| token.0 as usize >= vocab) {
        Some(token) => Err(BrainError::InvalidToken { token: token.0.into(), vocab }),
        None => Ok(()),
    }
}

impl fmt::Debug for BrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BrainError {
    /// The error's code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::BadRequest { .. } => ErrorCode::BadRequest,
            Self::EmptyInput { .. } => ErrorCode::EmptyInput,
            Self::InvalidToken { .. } => ErrorCode::InvalidToken,
            Self::InputTooLong { .. } => ErrorCode::InputTooLong,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::ContextFull { .. } => ErrorCode::ContextFull,
            Self::UnknownConversation { .. } => ErrorCode::UnknownConversation,
            Self::ConversationExists { .. } => ErrorCode::ConversationExists,
            Self::BehindSlide { .. } => ErrorCode::BehindSlide,
            Self::Mismatch { .. } => ErrorCode::Mismatch,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::Timeout { .. } => ErrorCode::Timeout,
            Self::Restarted => ErrorCode::Restarted,
            Self::Quarantined { .. } => ErrorCode::Quarantined,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Unavailable { .. } => ErrorCode::Unavailable,
            Self::Engine { .. } => ErrorCode::Engine,
        }
    }
}
