//! [`Brain`]: typed async methods over a brain's messages.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorRef, RpcReplyPort};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    MotorBrain,
    config::{BrainArguments, BrainConfig, StartError},
    message::{BrainMessage, Envelope, QueuePort, ReplyQueue, stopped},
    stream::StepStream,
};
use crate::{
    engine::{EngineInfo, EngineLoader},
    message::{
        BrainError, Context, ConversationId, Embed, Embedded, Fork, Input, Reply, Request, Rewind, Score, Scored,
        Several, Step, Stepped,
    },
    policy::Stats,
    tokens::{TokenId, Tokenizer},
};

/// A handle on a running brain; cheap to clone.
///
/// Dropping a future of one of its methods cancels the request, unless it is already done. Dropping
/// every handle does not stop the brain: [`Brain::shutdown`] does.
#[derive(Clone, Debug)]
pub struct Brain {
    actor: ActorRef<BrainMessage>,
    /// Taken before a message is sent: a mailbox has no bound of its own.
    gate: Option<Gate>,
}

#[derive(Clone, Debug)]
struct Gate {
    permits: Arc<Semaphore>,
    limit: usize,
}

impl From<ActorRef<BrainMessage>> for Brain {
    /// A handle on a brain that was found by its name. What it sends is bounded by the brain itself.
    fn from(actor: ActorRef<BrainMessage>) -> Self {
        Self { actor, gate: None }
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
        let limit = config.limits.requests;
        let name = config.name.clone();
        let (started, ready) = oneshot::channel();
        let arguments = BrainArguments { config, loader, tokenizer, started: Some(started) };
        let (actor, _) = Actor::spawn(name, MotorBrain, arguments).await.map_err(StartError::Spawn)?;
        ready.await.unwrap_or(Err(StartError::Stopped))?;
        let permits = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Ok(Self { actor, gate: Some(Gate { permits, limit }) })
    }

    /// The actor behind it, to link, monitor or send to.
    pub fn actor_ref(&self) -> &ActorRef<BrainMessage> {
        &self.actor
    }

    /// What the model is.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] when the brain has stopped or has not loaded a model yet.
    pub async fn info(&self) -> Result<EngineInfo, BrainError> {
        self.stats().await.map(|stats| stats.model)
    }

    /// Any request. `deadline`: how long it may take; `None` as the settings say.
    ///
    /// # Errors
    /// See [`BrainError`]; the conversation is then as it was.
    pub async fn request(&self, request: Request, deadline: Option<Duration>) -> Result<Reply, BrainError> {
        let envelope = self.envelope(request, deadline)?;
        self.call(|port| BrainMessage::Request(envelope, port)).await?
    }

    /// Hands over a request whose reply comes to `replies`, with its `tag`, in the order in which
    /// requests are done: for a caller of many at once to whom that order matters.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`]: nothing comes to `replies`.
    pub fn request_to(
        &self,
        replies: &ReplyQueue,
        tag: u64,
        request: Request,
        deadline: Option<Duration>,
    ) -> Result<(), BrainError> {
        let envelope = self.envelope(request, deadline)?;
        // A brain that has stopped drops the port, which answers.
        let _ = self.actor.cast(BrainMessage::Queue(envelope, QueuePort::new(tag, replies)));
        Ok(())
    }

    /// See [`Embed`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn embed(&self, embed: Embed) -> Result<Embedded, BrainError> {
        match self.request(Request::Embed(embed), None).await? {
            Reply::Embedded(embedded) => Ok(embedded),
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
        match self.request(Request::Step(step), None).await? {
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
        match self.request(Request::Step(step), None).await? {
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

    async fn stands(&self, request: Request) -> Result<Context, BrainError> {
        match self.request(request, None).await? {
            Reply::Stands(context) => Ok(context),
            _ => Err(another_answer()),
        }
    }

    /// A step that is committed and shown token by token. What goes wrong later is its last item.
    ///
    /// # Errors
    /// [`BrainError::Overloaded`] and [`BrainError::Unavailable`].
    pub async fn step_stream(&self, step: Step) -> Result<StepStream, BrainError> {
        let envelope = self.envelope(step, None)?;
        let (port, items) = mpsc::unbounded_channel();
        self.actor.cast(BrainMessage::Stream(envelope, port)).map_err(|_| stopped())?;
        Ok(StepStream::new(items))
    }

    /// Hands over a step that is committed and shown token by token in `replies`, with its `tag`; see
    /// [`Brain::request_to`].
    ///
    /// # Errors
    /// [`BrainError::Overloaded`]: nothing comes to `replies`.
    pub fn step_stream_to(
        &self,
        replies: &ReplyQueue,
        tag: u64,
        step: Step,
        deadline: Option<Duration>,
    ) -> Result<(), BrainError> {
        let envelope = self.envelope(step, deadline)?;
        // A brain that has stopped drops the port, which answers.
        let _ = self.actor.cast(BrainMessage::StreamQueue(envelope, QueuePort::new(tag, replies)));
        Ok(())
    }

    /// The tokens that `input` has at a conversation's beginning; none for an empty one.
    ///
    /// # Errors
    /// See [`BrainError`]: the limits are those of a request.
    pub async fn tokenize(&self, input: impl Into<Input>) -> Result<Vec<TokenId>, BrainError> {
        let envelope = self.envelope(input.into(), None)?;
        self.call(|port| BrainMessage::Tokenize(envelope, port)).await?
    }

    /// The text that `tokens` have from a conversation's beginning, special tokens as their text. Bytes that are no
    /// character are shown as U+FFFD.
    ///
    /// # Errors
    /// See [`BrainError`]: the limits are those of a request.
    pub async fn detokenize(&self, tokens: Vec<TokenId>) -> Result<String, BrainError> {
        let envelope = self.envelope(tokens, None)?;
        self.call(|port| BrainMessage::Detokenize(envelope, port)).await?
    }

    /// See [`Score`].
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn score(&self, score: Score) -> Result<Scored, BrainError> {
        match self.request(Request::Score(score), None).await? {
            Reply::Scored(scored) => Ok(scored),
            _ => Err(another_answer()),
        }
    }

    /// Empties a conversation and lifts its quarantine; an unknown one is not created.
    ///
    /// # Errors
    /// See [`BrainError`].
    pub async fn reset(&self, conversation: impl Into<ConversationId>) -> Result<(), BrainError> {
        self.request(Request::Reset(conversation.into()), None).await.map(drop)
    }

    /// Forgets a conversation.
    ///
    /// # Errors
    /// [`BrainError::UnknownConversation`], and see [`BrainError`].
    pub async fn close(&self, conversation: impl Into<ConversationId>) -> Result<(), BrainError> {
        self.request(Request::Close(conversation.into()), None).await.map(drop)
    }

    /// The brain's figures, at once: no actor is asked.
    ///
    /// # Errors
    /// [`BrainError::Unavailable`] when the brain has stopped or has not loaded a model yet.
    pub async fn stats(&self) -> Result<Stats, BrainError> {
        self.call(BrainMessage::Stats).await?
    }

    /// Panics in an actor's handler: a rehearsal of a death. Returns when handed on.
    ///
    /// # Errors
    /// [`BrainError::BadRequest`] for an actor that does not exist, [`BrainError::Unavailable`] for
    /// one that is not running now.
    pub async fn crash(&self, actor: usize) -> Result<(), BrainError> {
        self.call(|port| BrainMessage::Crash(actor, port)).await?
    }

    /// Blocks an actor's thread: a rehearsal of a hang. Returns when handed on.
    ///
    /// # Errors
    /// As [`Brain::crash`].
    pub async fn hang(&self, actor: usize, duration: Duration) -> Result<(), BrainError> {
        self.call(|port| BrainMessage::Hang(actor, duration, port)).await?
    }

    /// Takes nothing more, finishes what was accepted, stops the actors and then itself. Returns when
    /// that is done; at once on a brain that has stopped.
    pub async fn shutdown(&self) {
        // Both errors mean that the brain has stopped.
        let _ = self.call(BrainMessage::Shutdown).await;
        let _ = self.actor.wait(None).await;
    }

    fn envelope<R>(&self, request: R, deadline: Option<Duration>) -> Result<Envelope<R>, BrainError> {
        let permit = match &self.gate {
            Some(gate) => Some(
                Arc::clone(&gate.permits)
                    .try_acquire_owned()
                    .map_err(|_| BrainError::Overloaded { what: "requests", limit: gate.limit })?,
            ),
            None => None,
        };
        Ok(Envelope { request, deadline, permit })
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
