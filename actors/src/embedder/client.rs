//! An embedder actor used alone, under somebody else's supervisor: requests in, replies out.
//!
//! There is no restart and no replay here; that is `MotorBrain`'s part. What is here is that nobody
//! waits for a dead actor: the reply ports belong to the actor's report callback, so they are gone
//! when it is, and whoever waited at one is told.

use std::sync::{Arc, Weak};

use ractor::{ActorCell, ActorRef, SpawnErr};
use tokio::sync::oneshot;

use super::{EmbedderArguments, EmbedderMessage, EmbeddingConfig, ports::Ports, spawn_on_thread};
use crate::{
    engine::{EngineInfo, EngineLoader, LoadError, Sampled, Sampling},
    job::{Cancel, Done, History, Holding, Job, JobError, Outcome, Pulse, Work},
    message::{BrainError, ConversationId, check_vocabulary},
    tokens::TokenId,
};

/// A handle to one embedder actor; clones share it. The actor ends with its supervisor, or when it is
/// stopped through [`Self::actor_ref`].
#[derive(Clone)]
pub struct Embedder {
    actor: ActorRef<EmbedderMessage>,
    /// Weak: the actor alone keeps the ports, so that they go when it goes.
    ports: Weak<Ports>,
    info: Arc<EngineInfo>,
    pulse: Pulse,
}

/// A step over tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStep {
    /// Appended first; empty goes on from the context's last token.
    pub tokens: Vec<TokenId>,
    /// The most tokens to sample.
    pub count: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// For the random draws.
    pub seed: u64,
    /// Most likely tokens to list for each.
    pub top: usize,
}

impl TokenStep {
    /// Appends `tokens`, then samples the `count` most likely.
    pub fn greedy(tokens: Vec<TokenId>, count: usize) -> Self {
        Self { tokens, count, sampling: Sampling::GREEDY, seed: 0, top: 0 }
    }
}

/// What was asked for, and the conversation afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Tokens in the context.
    pub context_len: usize,
    /// True once after a step that failed behind a slide had to be undone by rebuilding, on an engine without pages.
    pub rebuilt: bool,
}

/// Why there is no embedder.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The actor could not be spawned: its name is taken.
    #[error("the embedder actor could not be spawned")]
    Spawn(#[source] SpawnErr),
    /// The engine could not be loaded.
    #[error("the engine could not be loaded")]
    Load(#[source] LoadError),
    /// The actor died while it loaded the engine.
    #[error("the embedder actor died while it loaded the engine")]
    Died,
}

impl Embedder {
    /// Spawns an actor on a thread of its own under `supervisor` and waits for its engine. `chunk` is
    /// the most prefill tokens in one run.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        name: Option<String>,
        supervisor: ActorCell,
        loader: Arc<dyn EngineLoader>,
        embedding: EmbeddingConfig,
        chunk: usize,
    ) -> Result<Self, StartError> {
        let (loaded, load) = oneshot::channel();
        let owned = Arc::new(Ports::new(loaded));
        let ports = Arc::downgrade(&owned);
        let pulse = Pulse::default();
        let report = Arc::new(move |report| owned.report(report));
        let arguments = EmbedderArguments { loader, report, pulse: pulse.clone(), embedding, chunk };
        let actor = spawn_on_thread(name, supervisor, arguments).map_err(StartError::Spawn)?;
        let info = load.await.map_err(|_| StartError::Died)?.map_err(StartError::Load)?;
        Ok(Self { actor, ports, info: Arc::new(info), pulse })
    }

    /// What the engine is.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// The actor itself, to stop or to drain it.
    pub fn actor_ref(&self) -> &ActorRef<EmbedderMessage> {
        &self.actor
    }

    /// What it is running, for a watchdog: a call waits as long as its run hangs.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Appends `tokens` and returns one vector for them in their context; without a conversation that
    /// of the tokens alone, and nothing is kept.
    ///
    /// # Errors
    /// The conversation is then as it was.
    pub async fn embed(
        &self,
        conversation: Option<ConversationId>,
        tokens: Vec<TokenId>,
    ) -> Result<Answer<Vec<f32>>, JobError> {
        let done = self.request(conversation, Work::Embed { tokens: Arc::new(tokens) }).await?;
        answer(done, |outcome| match outcome {
            Outcome::Embedded(vector) => Some(vector),
            _ => None,
        })
    }

    /// Appends tokens, then samples. The value's `stopped` is whether the last token is an end token.
    ///
    /// # Errors
    /// The conversation is then as it was.
    pub async fn step(
        &self,
        conversation: ConversationId,
        step: TokenStep,
    ) -> Result<Answer<(Vec<Sampled>, bool)>, JobError> {
        let TokenStep { tokens, count, sampling, seed, top } = step;
        let tokens = Arc::new(tokens);
        let work = Work::Step { tokens, count, sampling, seed, top, stream: false };
        let done = self.request(Some(conversation), work).await?;
        answer(done, |outcome| match outcome {
            Outcome::Stepped { sampled, stopped } => Some((sampled, stopped)),
            _ => None,
        })
    }

    /// Appends `tokens` and returns the log-probability of each given all before it.
    ///
    /// # Errors
    /// The conversation is then as it was.
    pub async fn score(
        &self,
        conversation: ConversationId,
        tokens: Vec<TokenId>,
    ) -> Result<Answer<Vec<Option<f32>>>, JobError> {
        let work = Work::Score { tokens: Arc::new(tokens) };
        let done = self.request(Some(conversation), work).await?;
        answer(done, |outcome| match outcome {
            Outcome::Scored(scores) => Some(scores),
            _ => None,
        })
    }

    /// Forgets a conversation, known or not; its next request begins an empty one.
    ///
    /// # Errors
    /// The actor is gone.
    pub async fn forget(&self, conversation: ConversationId) -> Result<(), JobError> {
        self.request(Some(conversation), Work::Forget).await.map(drop)
    }

    async fn request(&self, conversation: Option<ConversationId>, work: Work) -> Result<Done, JobError> {
        self.check(&work)?;
        let cancel = CancelOnDrop(Cancel::default());
        let (port, reply) = oneshot::channel();
        // Not kept over an await: only the actor keeps the ports.
        let ports = || self.ports.upgrade().ok_or_else(gone);
        let shared = match &conversation {
            Some(name) => Some(ports()?.conversation(name)),
            None => None,
        };
        let taken = match shared {
            Some(conversation) => Some(conversation.lock_owned().await),
            None => None,
        };
        let (context, held) = match taken.as_deref() {
            Some(conversation) => (conversation.context.clone(), conversation.held.clone()),
            None => (History::default(), Holding::Nothing),
        };
        let request = ports()?.wait_at(port, conversation.clone().zip(taken));
        let job = Job {
            request,
            conversation,
            context,
            held,
            carried: None,
            work,
            text: None,
            alone: false,
            cancel: cancel.0.clone(),
            span: tracing::Span::current(),
        };
        self.actor.cast(EmbedderMessage::Job(Box::new(job))).map_err(|_| gone())?;
        reply.await.map_err(|_| gone().into())
    }

    fn check(&self, work: &Work) -> Result<(), BrainError> {
        let (Work::Embed { tokens } | Work::Step { tokens, .. } | Work::Score { tokens }) = work else {
            return Ok(());
        };
        check_vocabulary(tokens.iter(), self.info.vocab)
    }
}

fn gone() -> BrainError {
    BrainError::Unavailable { reason: "the embedder actor is gone".to_owned() }
}

fn answer<T>(done: Done, value: impl Fn(Outcome) -> Option<T>) -> Result<Answer<T>, JobError> {
    let Done { outcome, context_len, rebuilt, .. } = done;
    match value(outcome?) {
        Some(value) => Ok(Answer { value, context_len, rebuilt }),
        None => Err(BrainError::Engine { message: "the actor answered another question".to_owned() }.into()),
    }
}

/// A caller that stops waiting takes its job back.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
