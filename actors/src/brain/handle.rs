//! [`Brain`]: typed async methods over a brain's messages.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::{mpsc, oneshot};

use super::{
    MotorBrain,
    config::{BrainArguments, BrainConfig, StartError},
    events::{self, Events, Subscribe},
    gate::{Gate, Lane, Permit, price, price_of_step},
    leaving::Waits,
    message::{BrainMessage, Envelope, Inner, Internal, QueuePort, ReplyQueue, Ticket, stopped},
    stream::StepStream,
};
use crate::{
    engine::{EngineInfo, EngineLoader},
    keep::Kept,
    message::{
        BrainError, ClientId, Context, ConversationId, Embed, Embedded, EmbeddedPieces, Fork, Import, Input,
        PIECE_TOKENS, Party, Pieces, Priority, Reply, Request, Rewind, Score, Scored, Several, Step, Stepped,
    },
    policy::{Health, Inspected, Limits, ListAsk, Listed, Stats},
    tokens::{TokenId, Tokenizer},
};

/// A handle on a running brain; cheap to clone.
///
/// A clone can be told whose requests go through it, how soon and within what time they are to be done: see
/// [`Brain::of`], [`Brain::at`], [`Brain::within`] and [`Brain::waiting`]. A handle that names no client is one client
/// with all others that name none, so two subsystems that are to have shares of their own say so by `of`.
///
/// Dropping a future of one of its methods cancels the request, unless it is already done. Dropping
/// every handle does not stop the brain: [`Brain::shutdown`] does.
#[derive(Clone, Debug)]
pub struct Brain {
    actor: ActorRef<BrainMessage>,
    /// Where a permit is taken before a message is sent: a mailbox has no bound of its own.
    pub(super) gate: Option<Arc<Gate>>,
    /// What the brain holds its callers to, where that is known.
    pub(super) limits: Option<Limits>,
    party: Party,
    pub(super) deadline: Option<Duration>,
    patience: Option<Duration>,
}

impl From<ActorRef<BrainMessage>> for Brain {
    /// A handle on a brain that was found by its name. What it sends is bounded by the brain itself, when it arrives.
    fn from(actor: ActorRef<BrainMessage>) -> Self {
        Self { actor, gate: None, limits: None, party: Party::default(), deadline: None, patience: None }
    }
}

impl Brain {
    /// Starts a brain and waits until its first actor is ready.
    ///
    /// # Errors
    /// [`StartError::Load`] where the first load fails in a way that trying again cannot help, or
    /// every actor has failed too often.
    pub async fn start(
        config: BrainConfig,
        loader: Arc<dyn EngineLoader>,
        tokenizer: Arc<dyn Tokenizer>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let name = config.name.clone();
        let (started, ready) = oneshot::channel();
        let arguments = BrainArguments { started: Some(started), ..BrainArguments::new(config, loader, tokenizer) };
        let (gate, limits) = (Arc::clone(&arguments.gate), arguments.config.limits);
        let (actor, _) = Actor::spawn(name, MotorBrain, arguments).await.map_err(StartError::Spawn)?;
        ready.await.unwrap_or(Err(StartError::Stopped))?;
        Ok(Self { gate: Some(gate), limits: Some(limits), ..Self::from(actor) })
    }

    /// A handle whose requests are answered with [`BrainError::Timeout`] when not done within `deadline`, from the
    /// moment on at which they are made.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// A handle whose requests are this client's, as far as shares go.
    #[must_use]
    pub fn of(&self, client: impl Into<ClientId>) -> Self {
        let party = Party { client: client.into(), ..self.party.clone() };
        Self { party, ..self.clone() }
    }

    /// A handle whose requests get so much beside others.
    #[must_use]
    pub fn at(&self, priority: Priority) -> Self {
        let party = Party { priority, ..self.party.clone() };
        Self { party, ..self.clone() }
    }

    /// A handle whose requests wait for up to `patience` where no permit is free, instead of being
    /// [`BrainError::Overloaded`] at once: clients in turn, each one's in the order of their arrival. What returns at
    /// once ([`Brain::request_to`], [`Brain::step_stream_to`]) waits for nothing, nor does a handle on a brain that was
    /// found by its name.
    #[must_use]
    pub fn waiting(&self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self.clone() }
    }

    /// A handle that waits for permits as long as it takes, and has this deadline and no other.
    pub(super) fn patient(&self, deadline: Option<Duration>) -> Self {
        Self { deadline, patience: Some(Duration::MAX), ..self.clone() }
    }

    /// The actor behind it, to link, monitor or send to.
    pub fn actor_ref(&self) -> &ActorRef<BrainMessage> {
        &self.actor
    }

    /// What the brain holds its callers to; `None` for a handle on a brain that was found by its name.
    pub fn limits(&self) -> Option<&Limits> {
        self.limits.as_ref()
    }

    /// What the model is.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] when the brain has stopped or has not loaded a model yet.
    pub async fn info(&self) -> Result<EngineInfo, BrainError> {
        self.stats().await.map(|stats| stats.model)
    }

    /// Any request.
    ///
    /// # Errors
    /// See [`BrainError`]; the conversation is then as it was.
    pub async fn request(&self, request: Request) -> Result<Reply, BrainError> {
        let (lane, count) = price(&request);
        self.ask(request, lane, count, BrainMessage::Request).await
    }

    /// Hands over a request whose reply comes to `replies`, with its `tag`, in the order in which
    /// requests are done: for a caller of many at once to whom that order matters. The ticket takes it back.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`]: nothing comes to `replies`.
    pub fn request_to(&self, replies: &ReplyQueue, tag: u64, request: Request) -> Result<Ticket, BrainError> {
        let (lane, count) = price(&request);
        let envelope = self.envelope(request, self.enter(lane, count)?);
        let ticket = envelope.ticket;
        // A brain that has stopped drops the port, which answers.
        let _ = self.actor.cast(BrainMessage::Queue(envelope, QueuePort::new(tag, replies)));
        Ok(ticket)
    }

    /// See [`Embed`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn embed(&self, embed: Embed) -> Result<Embedded, BrainError> {
        if embed.vector.pieces != Pieces::Whole {
            let expected = "whole; `Brain::embed_pieces` gives each a vector".to_owned();
            return Err(BrainError::BadRequest { what: "pieces", found: "each".to_owned(), expected });
        }
        match self.request(Request::Embed(embed)).await? {
            Reply::Embedded(embedded) => Ok(embedded),
            _ => Err(another_answer()),
        }
    }

    /// A vector for each piece of a text: see [`Pieces::Each`], which is cut by [`PIECE_TOKENS`] where it asks for the whole.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn embed_pieces(&self, mut embed: Embed) -> Result<EmbeddedPieces, BrainError> {
        if embed.vector.pieces == Pieces::Whole {
            embed.vector.pieces = Pieces::Each { tokens: PIECE_TOKENS };
        }
        match self.request(Request::Embed(embed)).await? {
            Reply::EmbeddedPieces(embedded) => Ok(embedded),
            _ => Err(another_answer()),
        }
    }

    /// See [`Step`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn step(&self, step: Step) -> Result<Stepped, BrainError> {
        if step.n > 1 {
            let expected = "1; `Brain::several` gives several answers".to_owned();
            return Err(BrainError::BadRequest { what: "n", found: step.n.to_string(), expected });
        }
        match self.request(Request::Step(step)).await? {
            Reply::Stepped(stepped) => Ok(stepped),
            _ => Err(another_answer()),
        }
    }

    /// A step of several answers: see [`Step::n`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn several(&self, step: Step) -> Result<Several, BrainError> {
        if step.n < 2 {
            let expected = "2 or more; `Brain::step` gives one answer".to_owned();
            return Err(BrainError::BadRequest { what: "n", found: step.n.to_string(), expected });
        }
        match self.request(Request::Step(step)).await? {
            Reply::Several(several) => Ok(several),
            _ => Err(another_answer()),
        }
    }

    /// See [`Fork`]; of the new conversation.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn fork(&self, fork: Fork) -> Result<Context, BrainError> {
        self.stands(Request::Fork(fork)).await
    }

    /// Takes a conversation back to its first `context_len` tokens: see [`Rewind`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn rewind(
        &self,
        conversation: impl Into<ConversationId>,
        context_len: usize,
    ) -> Result<Context, BrainError> {
        self.stands(Request::Rewind(Rewind { conversation: conversation.into(), context_len })).await
    }

    /// What a conversation is: its tokens and, where engines have pages, their keys and values, as they are between two of
    /// its requests. Where it stands comes first, then the answers that wait in it.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn export(&self, conversation: impl Into<ConversationId>) -> Result<Vec<Kept>, BrainError> {
        match self.request(Request::Export(conversation.into())).await? {
            Reply::Exported(states) => Ok(states),
            _ => Err(another_answer()),
        }
    }

    /// Makes a conversation of what another one was: see [`Import`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn import(&self, import: Import) -> Result<Context, BrainError> {
        self.stands(Request::Import(import)).await
    }

    async fn stands(&self, request: Request) -> Result<Context, BrainError> {
        match self.request(request).await? {
            Reply::Stands(context) => Ok(context),
            _ => Err(another_answer()),
        }
    }

    /// A step that is committed and shown token by token. What goes wrong later is its last item.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`] and [`BrainError::Unavailable`].
    pub async fn step_stream(&self, step: Step) -> Result<StepStream, BrainError> {
        let (lane, count) = price_of_step(&step);
        let envelope = self.let_in(step, lane, count).await?;
        let waits = Waits::new(&self.actor, envelope.ticket);
        let (port, items) = mpsc::unbounded_channel();
        self.actor.cast(BrainMessage::Stream(envelope, port)).map_err(|_| stopped())?;
        Ok(StepStream::new(items, waits))
    }

    /// Hands over a step that is committed and shown token by token in `replies`, with its `tag`; see
    /// [`Brain::request_to`].
    ///
    /// # Errors
    /// [`BrainError::Overloaded`]: nothing comes to `replies`.
    pub fn step_stream_to(&self, replies: &ReplyQueue, tag: u64, step: Step) -> Result<Ticket, BrainError> {
        let (lane, count) = price_of_step(&step);
        let envelope = self.envelope(step, self.enter(lane, count)?);
        let ticket = envelope.ticket;
        // A brain that has stopped drops the port, which answers.
        let _ = self.actor.cast(BrainMessage::StreamQueue(envelope, QueuePort::new(tag, replies)));
        Ok(ticket)
    }

    /// Takes a request back, wherever it is; it is answered with [`BrainError::Cancelled`], and the conversation is as
    /// before it, but for what a streamed step has shown. False where it was done already.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`] and [`BrainError::Unavailable`].
    pub async fn cancel(&self, ticket: Ticket) -> Result<bool, BrainError> {
        self.control(|port| BrainMessage::Cancel(ticket, port)).await
    }

    /// The same of all requests of a conversation that are not done: how many those were.
    ///
    /// # Errors
    /// As [`Brain::cancel`].
    pub async fn cancel_conversation(&self, conversation: impl Into<ConversationId>) -> Result<usize, BrainError> {
        let conversation = conversation.into();
        self.control(|port| BrainMessage::CancelConversation(conversation, port)).await
    }

    /// The tokens that `input` has at a conversation's beginning; none for an empty one.
    ///
    /// # Errors
    /// See [`BrainError`]: the limits are those of a request.
    pub async fn tokenize(&self, input: impl Into<Input>) -> Result<Vec<TokenId>, BrainError> {
        self.ask(input.into(), Lane::Work, 1, BrainMessage::Tokenize).await
    }

    /// The text that `tokens` have from a conversation's beginning, special tokens as their text. Bytes that are no
    /// character are shown as U+FFFD.
    ///
    /// # Errors
    /// See [`BrainError`]: the limits are those of a request.
    pub async fn detokenize(&self, tokens: Vec<TokenId>) -> Result<String, BrainError> {
        self.ask(tokens, Lane::Work, 1, BrainMessage::Detokenize).await
    }

    /// See [`Score`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn score(&self, score: Score) -> Result<Scored, BrainError> {
        match self.request(Request::Score(score)).await? {
            Reply::Scored(scored) => Ok(scored),
            _ => Err(another_answer()),
        }
    }

    /// Empties a conversation and lifts its quarantine; an unknown one is not created.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn reset(&self, conversation: impl Into<ConversationId>) -> Result<(), BrainError> {
        self.request(Request::Reset(conversation.into())).await.map(drop)
    }

    /// Forgets a conversation.
    ///
    /// # Errors
    /// [`BrainError::UnknownConversation`], and see [`BrainError`].
    pub async fn close(&self, conversation: impl Into<ConversationId>) -> Result<(), BrainError> {
        self.request(Request::Close(conversation.into())).await.map(drop)
    }

    /// The brain's figures, at once: no actor is asked.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] when the brain has stopped or has not loaded a model yet.
    pub async fn stats(&self) -> Result<Stats, BrainError> {
        self.control(BrainMessage::Stats).await?
    }

    /// A page of the conversations, at once: see [`ListAsk`].
    ///
    /// # Errors
    /// [`BrainError::BadRequest`] for a limit out of its range; [`BrainError::Unavailable`] when the brain has stopped.
    pub async fn list(&self, ask: ListAsk) -> Result<Listed, BrainError> {
        self.control(|port| BrainMessage::List(ask, port)).await?
    }

    /// What a conversation is, at once.
    ///
    /// # Errors
    /// [`BrainError::UnknownConversation`]; [`BrainError::Unavailable`] when the brain has stopped.
    pub async fn inspect(&self, conversation: impl Into<ConversationId>) -> Result<Inspected, BrainError> {
        let conversation = conversation.into();
        self.control(|port| BrainMessage::Inspect(conversation, port)).await?
    }

    /// What happens from now on, as it happens. Whoever reads slowly loses events and is told how many; it holds nobody up.
    /// Dropping them ends it.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`] and [`BrainError::Unavailable`].
    pub async fn subscribe(&self) -> Result<Events, BrainError> {
        let (source, subscribe) = events::channel().await.map_err(|_| stopped())?;
        Ok(Events::from(source, self.subscribe_with(subscribe).await?))
    }

    /// The same for an actor: see [`Subscribe::actor`]. The number of the first event that it is told.
    ///
    /// # Errors
    /// As [`Brain::subscribe`].
    pub async fn subscribe_with(&self, subscribe: Subscribe) -> Result<u64, BrainError> {
        self.control(|port| BrainMessage::Subscribe(subscribe, port)).await
    }

    /// How the brain is, at once, also before it has loaded a model.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] when the brain has stopped.
    pub async fn health(&self) -> Result<Health, BrainError> {
        self.control(BrainMessage::Health).await
    }

    /// Panics in an actor's handler: a rehearsal of a death. Returns when handed on.
    ///
    /// # Errors
    /// [`BrainError::BadRequest`] for an actor that does not exist and where settings forbid it
    /// ([`BrainConfig::chaos`]), [`BrainError::Unavailable`] for an actor that is not running now.
    pub async fn crash(&self, actor: usize) -> Result<(), BrainError> {
        self.control(|port| BrainMessage::Crash(actor, port)).await?
    }

    /// Blocks an actor's thread: a rehearsal of a hang. Returns when handed on.
    ///
    /// # Errors
    /// As [`Brain::crash`].
    pub async fn hang(&self, actor: usize, duration: Duration) -> Result<(), BrainError> {
        self.control(|port| BrainMessage::Hang(actor, duration, port)).await?
    }

    /// Takes nothing more, finishes what was accepted within the time that settings say
    /// ([`BrainConfig::shutdown_max`]), answers the rest with an error, stops the actors and then itself. Returns when
    /// that is done; at once on a brain that has stopped.
    pub async fn shutdown(&self) {
        self.shut_down(None).await;
    }

    /// [`Brain::shutdown`] within this time.
    pub async fn shutdown_within(&self, time: Duration) {
        self.shut_down(Some(time)).await;
    }

    async fn shut_down(&self, within: Option<Duration>) {
        // Both errors mean that the brain has stopped.
        let _ = self.call(|port| BrainMessage::Shutdown(within, port)).await;
        let _ = self.actor.wait(None).await;
    }

    /// Asks for what has a deadline, as long as somebody waits for it.
    async fn ask<R, T>(
        &self,
        request: R,
        lane: Lane,
        count: usize,
        message: impl FnOnce(Envelope<R>, RpcReplyPort<Result<T, BrainError>>) -> BrainMessage,
    ) -> Result<T, BrainError> {
        let envelope = self.let_in(request, lane, count).await?;
        let mut waits = Waits::new(&self.actor, envelope.ticket);
        let answer = self.call(|port| message(envelope, port)).await;
        waits.is_over();
        answer?
    }

    /// Says what is done at once.
    async fn control<T>(&self, message: impl FnOnce(RpcReplyPort<T>) -> BrainMessage) -> Result<T, BrainError> {
        match self.patiently(Lane::Look, 1).await? {
            // The permit goes along: whoever asks and goes away at once has asked all the same.
            Some(permit) => {
                let let_in = |message| BrainMessage::Internal(Internal(Inner::LetIn(Box::new(message), permit)));
                self.call(|port| let_in(message(port))).await
            }
            None => self.call(message).await,
        }
    }

    /// What is waited at the gate is of the deadline.
    async fn let_in<R>(&self, request: R, lane: Lane, count: usize) -> Result<Envelope<R>, BrainError> {
        let since = self.gate.as_ref().map(|gate| gate.clock().now());
        let permit = self.patiently(lane, count).await?;
        let waited =
            self.gate.as_ref().zip(since).map_or(Duration::ZERO, |(gate, since)| gate.clock().now().since(since));
        let deadline = self.deadline.map(|deadline| deadline.saturating_sub(waited));
        Ok(Envelope { deadline, ..self.envelope(request, permit) })
    }

    /// A permit, at once or for those who wait when it is their turn. No gate: none is needed here.
    pub(super) async fn patiently(&self, lane: Lane, count: usize) -> Result<Option<Permit>, BrainError> {
        let (Some(gate), Some(patience)) = (&self.gate, self.patience) else {
            return self.enter(lane, count);
        };
        let (since, deadline) = (gate.clock().now(), self.deadline.filter(|deadline| *deadline < patience));
        let entered = gate.wait(lane, &self.party.client, count, deadline.unwrap_or(patience)).await;
        let entered = entered.inspect_err(|_| gate.has_refused());
        entered.map(Some).map_err(|error| match deadline {
            Some(deadline) if gate.clock().now().since(since) >= deadline => BrainError::Timeout { deadline },
            _ => error,
        })
    }

    fn enter(&self, lane: Lane, count: usize) -> Result<Option<Permit>, BrainError> {
        let entered = self.gate.as_ref().map(|gate| gate.enter(lane, &self.party.client, count));
        let refused = |_: &BrainError| self.gate.iter().for_each(|gate| gate.has_refused());
        entered.transpose().inspect_err(refused)
    }

    fn envelope<R>(&self, request: R, permit: Option<Permit>) -> Envelope<R> {
        Envelope { deadline: self.deadline, party: self.party.clone(), permit, ..Envelope::new(request) }
    }

    async fn call<T>(&self, message: impl FnOnce(RpcReplyPort<T>) -> BrainMessage) -> Result<T, BrainError> {
        let (port, reply) = oneshot::channel();
        self.actor.cast(message(port.into())).map_err(|_| stopped())?;
        reply.await.map_err(|_| stopped())
    }
}

/// Cannot happen: the policy answers what was asked.
fn another_answer() -> BrainError {
    BrainError::Engine { message: "the brain answered another request than this".to_owned() }
}
