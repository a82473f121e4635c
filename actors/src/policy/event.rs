//! What the policy is told and what it wants done: two closed vocabularies.
//!
//! They carry tokens and lengths, never text: a text that has arrived is known here by its number of
//! bytes until its tokens follow.

use std::{sync::Arc, time::Duration};

use crate::{
    engine::{EngineInfo, LoadError, Sampled, Sampling},
    grammar::Constraint,
    job::{Carried, History, Holding, Outcome, Report, RequestId, Running, Work},
    keep::{KeepError, Kept, KeptId},
    message::{BrainError, ConversationId, Party, Terms},
    tokens::TokenId,
    vectors::{Framed, Shape},
};

/// Which embedder actor; it keeps its index over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorIndex(pub usize);

/// An actor's life between two starts, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// What a request asks for, its input aside.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// See [`Embed`](crate::message::Embed).
    Embed(EmbedAsk),
    /// See [`Step`](crate::message::Step).
    Step(StepAsk),
    /// See [`Score`](crate::message::Score).
    Score {
        /// Most likely tokens to list in each place.
        top: usize,
    },
    /// See [`Request::Reset`](crate::message::Request::Reset).
    Reset,
    /// See [`Request::Close`](crate::message::Request::Close).
    Close,
    /// See [`Fork`](crate::message::Fork).
    Fork {
        /// The new conversation.
        to: ConversationId,
        /// How many tokens it has; `None`: all.
        at: Option<usize>,
    },
    /// See [`Request::Export`](crate::message::Request::Export).
    Export,
    /// See [`Import`](crate::message::Import).
    Import {
        /// What it is.
        states: Vec<Kept>,
    },
    /// See [`Rewind`](crate::message::Rewind).
    Rewind {
        /// How many tokens are left.
        context_len: usize,
    },
}

/// What an embed asks for, its input aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedAsk {
    /// What stands around the text where a probe gives the vector; `None`: the text's own states do.
    pub frame: Option<Arc<Framed>>,
    /// How hidden states become the vector.
    pub shape: Shape,
}

/// What a step asks for, its input aside.
#[derive(Clone, Debug, PartialEq)]
pub struct StepAsk {
    /// The most tokens to sample.
    pub count: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// For the random draws.
    pub seed: u64,
    /// Most likely tokens to list.
    pub top: usize,
    /// Commit and show token by token.
    pub stream: bool,
    /// How many answers.
    pub n: usize,
    /// What its tokens must spell; `None`: anything.
    pub grammar: Option<Constraint>,
}

/// What a request brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Tokens as they are.
    Tokens(Vec<TokenId>),
    /// What is not tokens yet: text, or parts. Its tokens follow in [`Event::Tokenised`], at its turn.
    Text {
        /// Its length, a token id among it counted as four bytes.
        bytes: usize,
    },
}

/// A request at the brain's door.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Its number; numbers grow in the order of arrival.
    pub request: RequestId,
    /// Whose turn it is; `None` for a stateless embed.
    pub conversation: Option<ConversationId>,
    /// What it asks for.
    pub ask: Ask,
    /// What it appends.
    pub input: Option<Given>,
    /// How it uses its conversation.
    pub terms: Terms,
    /// Whose it is, and how soon it is to be done.
    pub party: Party,
    /// How long it may take; `None`: as long as [`Limits::deadline`](super::Limits::deadline) says.
    pub deadline: Option<Duration>,
}

/// A fault somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chaos {
    /// Panic in the actor's handler.
    Crash,
    /// Stop answering for so long.
    Hang(Duration),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The brain starts.
    Start,
    /// A request arrived.
    Arrived(Arrival),
    /// The tokens of a request's text, or why there are none.
    Tokenised {
        /// Which request.
        request: RequestId,
        /// Its tokens.
        result: Result<Vec<TokenId>, BrainError>,
        /// Where its pieces end, in tokens, of which each is to have a vector in the context of those before it; none
        /// where the text has one.
        ends: Vec<usize>,
    },
    /// Nobody waits for this request any more.
    Gone(RequestId),
    /// Its caller takes this request back.
    Cancelled(RequestId),
    /// Somebody takes everything back that is unfinished in a conversation.
    CancelledAll(ConversationId),
    /// An actor said something.
    Reported {
        /// Which one.
        actor: ActorIndex,
        /// In which of its lives.
        incarnation: Incarnation,
        /// What it said.
        report: Report,
    },
    /// An actor's life ended, be it one that was abandoned.
    Died {
        /// Which one.
        actor: ActorIndex,
        /// Which of its lives.
        incarnation: Incarnation,
        /// For whom it did what it died of; empty where it did nothing for anybody.
        running: Vec<RequestId>,
    },
    /// The answer to [`Effect::Observe`].
    Observed {
        /// Which actor.
        actor: ActorIndex,
        /// In which of its lives.
        incarnation: Incarnation,
        /// The run in progress.
        run: Option<Running>,
    },
    /// The answer to [`Effect::Put`].
    Put {
        /// Under which number.
        id: KeptId,
        /// What was written.
        conversation: ConversationId,
        /// How many bytes that takes, or why it was not.
        result: Result<u64, KeepError>,
    },
    /// The answer to [`Effect::Fetch`].
    Fetched {
        /// Under which number.
        id: KeptId,
        /// What was read.
        conversation: ConversationId,
        /// Its states, or why there are none.
        result: Result<Vec<Kept>, KeepError>,
    },
    /// Somebody asked for a fault.
    Chaos {
        /// The number under which it is answered.
        request: RequestId,
        /// Whom it shall hit.
        actor: ActorIndex,
        /// Which fault.
        chaos: Chaos,
    },
    /// [`Policy::next_deadline`](super::Policy::next_deadline) is reached.
    Timer,
    /// Take nothing more, finish what was accepted within this time, then stop.
    Shutdown {
        /// Whatever is unfinished then is answered with an error.
        within: Duration,
    },
}

/// A job for an actor; the shell adds what only it knows (span, cancel flag).
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Its number, under which it is reported.
    pub request: RequestId,
    /// The request that it serves: itself, or the one that asks for several answers.
    pub serves: RequestId,
    /// Whose tokens it goes on from; `None`: nobody's.
    pub conversation: Option<ConversationId>,
    /// The conversation's tokens, those of the request not among them. To be let go of before the
    /// conversation goes on, or they are copied.
    pub context: History,
    /// What there is of their keys and values.
    pub held: Holding,
    /// What another actor has done of the job.
    pub carried: Option<Carried>,
    /// What to do.
    pub work: Work,
    /// What its input appends is pinned.
    pub pins: bool,
    /// For whom, as fair shares go.
    pub party: Party,
    /// So many runs it shares with no other job.
    pub alone: u32,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// [`Outcome::Forgotten`] for what has nothing to say: a reset, a close, a fault handed on.
    pub outcome: Outcome,
    /// Tokens of the input.
    pub tokens: usize,
    /// Tokens in the context now.
    pub context_len: usize,
    /// The conversation had slid and was rebuilt since its last reply.
    pub rebuilt: bool,
    /// Tokens that were not read, since others had read the same before.
    pub reused: usize,
}

impl Answer {
    /// To what has nothing to say.
    pub(super) fn done() -> Self {
        Self { outcome: Outcome::Forgotten, tokens: 0, context_len: 0, rebuilt: false, reused: 0 }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Start an actor, without waiting for it.
    Spawn {
        /// Which one.
        actor: ActorIndex,
        /// The life that begins.
        incarnation: Incarnation,
    },
    /// Turn the request's text into tokens, then [`Event::Tokenised`]. A request that ends before is named in
    /// [`Effect::Fail`] or [`Effect::Drop`], and its text need not be.
    Tokenise {
        /// Which request.
        request: RequestId,
        /// Whose, as fair shares go.
        conversation: Option<ConversationId>,
        /// The last token of the context, which the text follows; `None`: it begins a conversation.
        behind: Option<TokenId>,
    },
    /// Give an actor a job.
    Send {
        /// Whom.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
        /// Which job.
        job: Assignment,
    },
    /// Have an actor give jobs back between two runs, with [`Report::Returned`]: another has nothing to do.
    Recall {
        /// Whom.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
        /// Which jobs.
        requests: Vec<RequestId>,
    },
    /// The request is done; it is never named again.
    Answer {
        /// Which one.
        request: RequestId,
        /// What it came to.
        answer: Answer,
    },
    /// The request failed; it is never named again.
    Fail {
        /// Which one.
        request: RequestId,
        /// Why.
        error: BrainError,
        /// Tokens of a streamed step that were shown and stay.
        committed: usize,
        /// An actor still works on it: what it takes up is free with [`Effect::Release`].
        lingers: bool,
    },
    /// The request is dropped unanswered: nobody waits for it.
    Drop {
        /// Which one.
        request: RequestId,
        /// As of [`Effect::Fail`].
        lingers: bool,
    },
    /// Nothing is done any more for a request that failed or was dropped before.
    Release(RequestId),
    /// Show the next token of a streamed step.
    Show {
        /// Which request.
        request: RequestId,
        /// The token.
        sampled: Sampled,
        /// Whether it is the step's last.
        last: bool,
    },
    /// Have an actor end a job that nobody waits for.
    Cancel {
        /// Whom.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
        /// Which job.
        request: RequestId,
    },
    /// Keep a conversation outside of memory, and tell how that went, with [`Event::Put`].
    Put {
        /// Under which number.
        id: KeptId,
        /// Which one.
        conversation: ConversationId,
        /// Where it stands, then the answers that wait.
        states: Vec<Kept>,
    },
    /// Read what is kept of a conversation, with [`Event::Fetched`].
    Fetch {
        /// Under which number.
        id: KeptId,
        /// Which one.
        conversation: ConversationId,
        /// The tokens of its states.
        expected: Vec<History>,
    },
    /// What is kept under this number, or to be kept, is not wanted any more.
    Forget(KeptId),
    /// Tell what the actor is running, with [`Event::Observed`].
    Observe {
        /// Which one.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
    },
    /// Interrupt the actor's run and leave its thread to itself; nothing it says counts any more.
    Abandon {
        /// Which one.
        actor: ActorIndex,
        /// Which life.
        incarnation: Incarnation,
    },
    /// Stop the actor; its death is awaited.
    Stop {
        /// Which one.
        actor: ActorIndex,
        /// Which life.
        incarnation: Incarnation,
    },
    /// Hand a fault on.
    Inflict {
        /// To whom.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
        /// Which fault.
        chaos: Chaos,
    },
    /// The first actor is ready: the brain serves.
    Started(EngineInfo),
    /// No actor ever became ready, and none will; all have stopped.
    StartFailed(LoadError),
    /// Everything is answered and every actor has stopped.
    ShutdownComplete,
    /// As that, but for this reason: every actor is down, and settings say to stop then.
    GaveUp(String),
    /// Something worth a line in the log.
    Notice(Notice),
}

/// Something worth a line in the log.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An actor is ready.
    Ready {
        /// Which one.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
    },
    /// An actor could not load its model.
    LoadFailed {
        /// Which one.
        actor: ActorIndex,
        /// Why.
        error: LoadError,
    },
    /// An actor's run took too long.
    Hung {
        /// Which one.
        actor: ActorIndex,
        /// In which life.
        incarnation: Incarnation,
        /// For how long it ran.
        ran: Duration,
    },
    /// An actor is started again after a pause.
    Restarting {
        /// Which one.
        actor: ActorIndex,
        /// The life that ended.
        incarnation: Incarnation,
        /// The pause.
        pause: Duration,
        /// Requests charged with the death.
        charged: usize,
    },
    /// An actor died too often; its conversations move.
    Down {
        /// Which one.
        actor: ActorIndex,
        /// How many conversations move.
        conversations: usize,
        /// Why it is not simply started again.
        reason: String,
        /// When it is tried again.
        pause: Duration,
    },
    /// What is asked has killed actors and is refused for a time. `None`: it was asked without a conversation.
    Quarantined(Option<ConversationId>),
    /// A conversation that had slid was read again from its window.
    Rebuilt(ConversationId),
    /// A conversation goes on with another actor than before.
    Adopted {
        /// Which one.
        conversation: ConversationId,
        /// With whom it was.
        from: ActorIndex,
        /// With whom it is.
        to: ActorIndex,
    },
    /// An idle conversation's keys and values have left memory.
    Left {
        /// Whose.
        conversation: ConversationId,
        /// They are in a file; else they are gone, and its tokens are read again.
        to_file: bool,
        /// Bytes of the pages that they lay in, those among them that others have, too.
        bytes: usize,
    },
    /// A conversation's keys and values are in memory again, from a file.
    Back {
        /// Whose.
        conversation: ConversationId,
        /// Bytes of memory that they take.
        bytes: usize,
    },
    /// A conversation's keys and values could not be written to a file or read from it; its tokens are read again.
    KeepFailed {
        /// Whose.
        conversation: ConversationId,
        /// Why.
        error: KeepError,
    },
    /// A conversation was forgotten that nobody closed: it was idle for too long, or left for another.
    Forgotten {
        /// Which one.
        conversation: ConversationId,
    },
    /// The thread of an actor that was abandoned has ended after all.
    Freed {
        /// Whose.
        actor: ActorIndex,
        /// In which of its lives.
        incarnation: Incarnation,
        /// How many abandoned threads there still are.
        abandoned: usize,
    },
    /// An event that cannot happen: a mistake in this program. Served as well as possible.
    Impossible(&'static str),
}
