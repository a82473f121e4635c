//! What a brain is told. Callers use [`Brain`](super::Brain) or send these themselves.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ractor::RpcReplyPort;
use tokio::sync::mpsc;
use tracing::Span;

use super::{events::Subscribe, gate::Permit};
use crate::{
    engine::Sampled,
    message::{BrainError, ClientId, ConversationId, Input, Party, Priority, Reply, Request, Step, Stepped},
    policy::{Health, Inspected, ListAsk, Listed, Stats},
    spans::Recorded,
    tokens::TokenId,
};

/// Names a request, so that it can be taken back. No two of a process are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// One that names nothing yet.
    pub fn draw() -> Self {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        Self(DRAWN.fetch_add(1, Ordering::Relaxed))
    }
}

/// A request with whose it is and how long it may take.
#[derive(Debug)]
pub struct Envelope<R = Request> {
    /// What is asked for.
    pub(super) request: R,
    /// From its arrival; `None`: what the settings say.
    pub(super) deadline: Option<Duration>,
    /// Whose it is.
    pub(super) party: Party,
    /// Under which it can be taken back.
    pub(super) ticket: Ticket,
    /// Given back when the request is done; without one it has to be let in when it arrives.
    pub(super) permit: Option<Permit>,
    /// In which it was made: what is done for it is told as a part of that.
    pub(super) span: Recorded,
}

impl<R> Envelope<R> {
    /// A request of nobody in particular that may take as long as the brain's settings say, made in the caller's span.
    pub fn new(request: R) -> Self {
        let (party, ticket, span) = (Party::default(), Ticket::draw(), Span::current().into());
        Self { request, deadline: None, party, ticket, permit: None, span }
    }

    /// Answered with [`BrainError::Timeout`] when not done within `deadline`.
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Whose it is, as far as shares go.
    pub fn of(mut self, client: impl Into<ClientId>) -> Self {
        self.party.client = client.into();
        self
    }

    /// How much it gets beside others.
    pub fn at(mut self, priority: Priority) -> Self {
        self.party.priority = priority;
        self
    }

    /// What [`BrainMessage::Cancel`] takes it back by.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<R> From<R> for Envelope<R> {
    fn from(request: R) -> Self {
        Self::new(request)
    }
}

/// Where a streamed step's items go. No more than its tokens and one last item are ever in it.
pub type StreamPort = mpsc::UnboundedSender<StepItem>;

/// Where the replies to many requests go, each with its request's tag, in the order in which the
/// requests are done. (Futures that wait for a reply each wake up in any order.)
pub type ReplyQueue = mpsc::UnboundedSender<(u64, Delivery)>;

/// What comes through a [`ReplyQueue`].
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// The next token of a streamed step, as [`StepItem::Token`].
    Token {
        /// The token.
        sampled: Sampled,
        /// The text that is now complete.
        text: String,
    },
    /// The request's end. The tokens that a streamed step has shown before an error stay, and its input.
    End(Result<Reply, BrainError>),
}

/// One request's place in a [`ReplyQueue`]. It is answered in any case: by its end, if by nobody.
#[derive(Debug)]
pub struct QueuePort {
    tag: u64,
    replies: Option<ReplyQueue>,
}

impl QueuePort {
    /// The place of the request with this tag.
    pub fn new(tag: u64, replies: &ReplyQueue) -> Self {
        Self { tag, replies: Some(replies.clone()) }
    }

    /// Whether nobody reads the queue any more.
    pub(super) fn is_closed(&self) -> bool {
        self.replies.as_ref().is_none_or(ReplyQueue::is_closed)
    }

    /// Puts a token of a streamed step into the queue; false where nobody reads it any more.
    pub(super) fn show(&self, sampled: Sampled, text: String) -> bool {
        let replies = self.replies.as_ref();
        replies.is_some_and(|replies| replies.send((self.tag, Delivery::Token { sampled, text })).is_ok())
    }

    /// Puts a request's end into the queue.
    pub(super) fn send(mut self, result: Result<Reply, BrainError>) {
        self.send_once(result);
    }

    fn send_once(&mut self, result: Result<Reply, BrainError>) {
        if let Some(replies) = self.replies.take() {
            // Who went away wants no answer.
            let _ = replies.send((self.tag, Delivery::End(result)));
        }
    }
}

impl Drop for QueuePort {
    fn drop(&mut self) {
        self.send_once(Err(stopped()));
    }
}

/// What a request meets that comes after the end.
pub(super) fn stopped() -> BrainError {
    BrainError::Unavailable { reason: "the brain has stopped".to_owned() }
}

/// An item of a streamed step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepItem {
    /// The next token; it is committed.
    Token {
        /// The token.
        sampled: Sampled,
        /// The text that is now complete and was not shown before: never a part of a character, nor what may begin a
        /// stop text. The pieces joined are the step's text.
        text: String,
    },
    /// The last item: the whole step.
    Stepped(Stepped),
    /// The last item: the step failed.
    Failed {
        /// Why.
        error: BrainError,
        /// How many tokens were shown; they, and the step's input before them, stay.
        committed: usize,
    },
}

/// What a [`MotorBrain`](super::MotorBrain) is told.
#[derive(Debug)]
pub enum BrainMessage {
    /// A request about a conversation. One whose port is closed is cancelled.
    Request(Envelope, RpcReplyPort<Result<Reply, BrainError>>),
    /// A request whose reply goes to a queue. One whose queue is closed is cancelled.
    Queue(Envelope, QueuePort),
    /// A request to which nobody wants the reply.
    Tell(Envelope),
    /// A step that is shown token by token. One whose port is closed is cancelled.
    Stream(Envelope<Step>, StreamPort),
    /// A step that is shown token by token in a queue. One whose queue is closed is cancelled.
    StreamQueue(Envelope<Step>, QueuePort),
    /// The tokens of an input at a conversation's beginning. One whose port is closed is cancelled.
    Tokenize(Envelope<Input>, RpcReplyPort<Result<Vec<TokenId>, BrainError>>),
    /// The text of tokens from a conversation's beginning. One whose port is closed is cancelled.
    Detokenize(Envelope<Vec<TokenId>>, RpcReplyPort<Result<String, BrainError>>),
    /// Takes a request back, wherever it is: it is answered with [`BrainError::Cancelled`]. Answered with whether it was
    /// still to be answered.
    Cancel(Ticket, RpcReplyPort<bool>),
    /// The same of all requests of a conversation that are not done. Answered with how many those were.
    CancelConversation(ConversationId, RpcReplyPort<usize>),
    /// The brain's figures, at once.
    Stats(RpcReplyPort<Result<Stats, BrainError>>),
    /// A page of the conversations, at once.
    List(ListAsk, RpcReplyPort<Result<Listed, BrainError>>),
    /// What a conversation is, at once.
    Inspect(ConversationId, RpcReplyPort<Result<Inspected, BrainError>>),
    /// From now on the subscriber is told what happens. Answered with the number of the first event that it is told.
    Subscribe(Subscribe, RpcReplyPort<u64>),
    /// How the brain is, at once.
    Health(RpcReplyPort<Health>),
    /// Panics in an actor's handler: a rehearsal, where settings allow it. Answered when handed on.
    Crash(usize, RpcReplyPort<Result<(), BrainError>>),
    /// Blocks an actor's thread for so long: a rehearsal, where settings allow it. Answered when handed on.
    Hang(usize, Duration, RpcReplyPort<Result<(), BrainError>>),
    /// Takes nothing more, finishes within this time what was accepted, then stops; answered before the end. `None`: the
    /// time that settings say.
    Shutdown(Option<Duration>, RpcReplyPort<()>),
    /// What the brain's own parts tell it.
    Internal(Internal),
}

/// What the brain's own parts tell it; nobody else can make one.
#[derive(Debug)]
pub struct Internal(pub(super) Inner);

/// What they have to say.
#[derive(Debug)]
pub(super) enum Inner {
    /// There are notes to be read.
    Wake,
    /// Nobody waits for this request any more.
    Gone(Ticket),
    /// A message that was let in, with its permit.
    LetIn(Box<BrainMessage>, Permit),
}
