//! An embedder actor used alone, under somebody else's supervisor: requests in, replies out.
//!
//! What conversations hold lies with the handle and not with the actor. So whoever supervises it may restart it: when an
//! actor has died or hangs, [`Embedder::restart`] puts a new one of the same loader in its place, and every clone of the
//! handle goes on where the last commit left it. Where keys and values lie in pages nothing is read again; otherwise a
//! conversation's next request reads its window first. There is no replay: whoever waits at an actor that is gone is
//! told so at once, and asks again.
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # use motorbrain_actors::{embedder::{Embedder, EmbedderOptions, TokenItem, TokenStep}, engine::EngineLoader, tokens::TokenId};
//! # async fn example(supervisor: ractor::ActorCell, loader: Arc<dyn EngineLoader>) -> Result<(), Box<dyn std::error::Error>> {
//! let embedder = Embedder::start(None, supervisor.clone(), loader, EmbedderOptions::default()).await?;
//! let hurried = embedder.of("alice").within(Duration::from_secs(2));
//! let mut stream = hurried.step_stream("talk", TokenStep::greedy(vec![TokenId(1)], 8)).await?;
//! while let Some(item) = stream.next().await {
//!     if let TokenItem::Failed { .. } = item {
//!         embedder.restart(None, supervisor.clone()).await?; // as the supervisor does when it hears of a death
//!     }
//! }
//! # Ok(()) }
//! ```

use std::{
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use ractor::{ActorCell, ActorRef, SpawnErr};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Sleep,
};
use tracing::Span;

use super::{
    EmbedderArguments, EmbedderMessage,
    conversations::{Conversations, Life},
    ports::{Port, Ports, Waiting},
    spawn_on_thread,
    stream::TokenStream,
};
use crate::{
    clock::Clock,
    engine::{EngineInfo, EngineLoader, LoadError, Sampled, Sampling},
    grammar::Constraint,
    job::{Done, History, Holding, Job, JobError, Outcome, Pulse, RequestId, Work, lock},
    message::{BrainError, ClientId, ConversationId, Party, Priority},
    spans::JobSpans,
    tokens::TokenId,
    vectors::Shape,
};

/// A handle to an embedder actor, and to those that follow it; clones share it. An actor ends with its supervisor, or
/// when it is stopped through [`Self::actor_ref`].
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
    party: Party,
    deadline: Option<Duration>,
    pins: bool,
}

/// What an [`Embedder`] starts its actors with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbedderOptions {
    /// How vectors are made; there is nothing here that makes them straight.
    pub shape: Shape,
    /// The most prefill tokens in one run, at least 1.
    pub chunk: usize,
    /// No run beside others that wait is longer than this, as far as can be foreseen.
    pub beside_max: Duration,
    /// The most jobs at once, those that wait for another of their conversation among them; beyond them a request is
    /// [`BrainError::Overloaded`]. At least 1.
    pub jobs_max: usize,
}

impl Default for EmbedderOptions {
    fn default() -> Self {
        Self { shape: Shape::default(), chunk: 256, beside_max: Duration::from_millis(250), jobs_max: 1024 }
    }
}

/// What outlives an actor.
struct Shared {
    loader: Arc<dyn EngineLoader>,
    options: EmbedderOptions,
    info: EngineInfo,
    conversations: Arc<Conversations>,
    jobs: Arc<Semaphore>,
    // A std mutex: held for a copy.
    present: Mutex<Present>,
}

/// The actor of the moment.
#[derive(Clone)]
struct Present {
    life: Life,
    actor: ActorRef<EmbedderMessage>,
    /// Weak: the actor alone keeps the ports, so that they go when it goes.
    ports: Weak<Ports>,
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
    /// What they must spell; `None`: anything. See [`Step::grammar`](crate::message::Step::grammar).
    pub grammar: Option<Constraint>,
}

impl TokenStep {
    /// Appends `tokens`, then samples the `count` most likely.
    pub fn greedy(tokens: Vec<TokenId>, count: usize) -> Self {
        Self { tokens, count, sampling: Sampling::GREEDY, seed: 0, top: 0, grammar: None }
    }

    fn work(self, stream: bool) -> Work {
        let Self { tokens, count, sampling, seed, top, grammar } = self;
        Work::Step { tokens: Arc::new(tokens), count, sampling, seed, top, stream, grammar, said: Vec::new() }
    }
}

/// What was asked for, and the conversation afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Tokens in the context.
    pub context_len: usize,
    /// True once after a conversation that had slid was read again, on an engine without pages: after a death, or a step
    /// that failed behind a slide.
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
    /// The loader has made another engine than before, and the conversations are not its.
    #[error("the loader makes another engine than before: a window of {found} tokens and a vocabulary of {vocab}")]
    Changed {
        /// Its window.
        found: usize,
        /// Its vocabulary.
        vocab: usize,
    },
}

impl Embedder {
    /// Spawns an actor on a thread of its own under `supervisor` and waits for its engine.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        name: Option<String>,
        supervisor: ActorCell,
        loader: Arc<dyn EngineLoader>,
        options: EmbedderOptions,
    ) -> Result<Self, StartError> {
        let conversations = Arc::<Conversations>::default();
        let (present, load) = spawn(Life(0), name, supervisor, &loader, options, &conversations)?;
        let info = loaded(load).await?;
        let jobs = Arc::new(Semaphore::new(options.jobs_max.clamp(1, Semaphore::MAX_PERMITS)));
        let present = Mutex::new(present);
        let shared = Arc::new(Shared { loader, options, info, conversations, jobs, present });
        Ok(Self { shared, party: Party::default(), deadline: None, pins: false })
    }

    /// Puts a new actor in the place of one that has died or hangs, for this handle and all its clones; whoever still
    /// waits at the old one is told that it is gone. Until it is loaded requests are [`BrainError::Unavailable`]. One
    /// that hangs is interrupted and stops when it can; it keeps its name until then.
    ///
    /// # Errors
    /// See [`StartError`]; it can be tried again.
    pub async fn restart(&self, name: Option<String>, supervisor: ActorCell) -> Result<(), StartError> {
        let Shared { loader, options, info, conversations, .. } = &*self.shared;
        let life = {
            let mut present = lock(&self.shared.present);
            if let Some(ports) = present.ports.upgrade() {
                ports.give_up();
            }
            if let Some(run) = present.pulse.interrupter() {
                run.interrupt();
            }
            present.actor.stop(Some("another takes its place".to_owned()));
            (present.ports, present.life) = (Weak::new(), Life(present.life.0 + 1));
            present.life
        };
        let (present, load) = spawn(life, name, supervisor, loader, *options, conversations)?;
        let found = loaded(load).await?;
        if found != *info {
            present.actor.stop(None);
            return Err(StartError::Changed { found: found.window.size, vocab: found.vocab });
        }
        let mut last = lock(&self.shared.present);
        if last.life == life {
            *last = present;
        } else {
            // Somebody else has restarted it meanwhile.
            present.actor.stop(None);
        }
        Ok(())
    }

    /// The same handle for requests that are done within so long, or answered with [`BrainError::Timeout`] and taken
    /// back.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// The same handle for requests of this client, which shares the actor with others.
    #[must_use]
    pub fn of(&self, client: impl Into<ClientId>) -> Self {
        let party = Party { client: client.into(), ..self.party.clone() };
        Self { party, ..self.clone() }
    }

    /// The same handle for requests of this priority.
    #[must_use]
    pub fn at(&self, priority: Priority) -> Self {
        let party = Party { priority, ..self.party.clone() };
        Self { party, ..self.clone() }
    }

    /// The same handle for requests of which what they append never leaves the window: see
    /// [`Terms::pin`](crate::message::Terms::pin).
    #[must_use]
    pub fn pinning(&self) -> Self {
        Self { pins: true, ..self.clone() }
    }

    /// What the engine is.
    pub fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    /// The actor itself, to stop or to drain it.
    pub fn actor_ref(&self) -> ActorRef<EmbedderMessage> {
        self.present().actor
    }

    /// What it is doing, for a watchdog: without a deadline a call waits as long as its run hangs.
    pub fn pulse(&self) -> Pulse {
        self.present().pulse
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
        let done = self
            .request(conversation, Work::Embed { tokens: Arc::new(tokens), shape: self.shared.options.shape })
            .await?;
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
        conversation: impl Into<ConversationId>,
        step: TokenStep,
    ) -> Result<Answer<(Vec<Sampled>, bool)>, JobError> {
        let done = self.request(Some(conversation.into()), step.work(false)).await?;
        answer(done, |outcome| match outcome {
            Outcome::Stepped { sampled, stopped } => Some((sampled, stopped)),
            _ => None,
        })
    }

    /// The same, token by token: each is committed when it is shown, and stays. The deadline, if any, is that of the whole
    /// step and runs from here.
    ///
    /// # Errors
    /// The conversation is then as it was.
    pub async fn step_stream(
        &self,
        conversation: impl Into<ConversationId>,
        step: TokenStep,
    ) -> Result<TokenStream, JobError> {
        let (port, shown) = mpsc::unbounded_channel();
        let mut deadline = self.deadline.map(|deadline| (sleep(deadline), deadline));
        let sent = self.send(Some(conversation.into()), step.work(true), Port::Shown(port));
        let cancel = before(&mut deadline, sent).await??;
        Ok(TokenStream::new(shown, deadline, cancel))
    }

    /// Appends `tokens` and returns the log-probability of each given all before it.
    ///
    /// # Errors
    /// The conversation is then as it was.
    pub async fn score(
        &self,
        conversation: impl Into<ConversationId>,
        tokens: Vec<TokenId>,
    ) -> Result<Answer<Vec<Option<f32>>>, JobError> {
        let work = Work::Score { tokens: Arc::new(tokens), top: 0 };
        let done = self.request(Some(conversation.into()), work).await?;
        answer(done, |outcome| match outcome {
            Outcome::Scored { logprobs, .. } => Some(logprobs),
            _ => None,
        })
    }

    /// Forgets a conversation, known or not; its next request begins an empty one. It takes no place among the jobs.
    ///
    /// # Errors
    /// The actor is gone, or the deadline passed.
    pub async fn forget(&self, conversation: impl Into<ConversationId>) -> Result<(), JobError> {
        self.request(Some(conversation.into()), Work::Forget).await.map(drop)
    }

    async fn request(&self, conversation: Option<ConversationId>, work: Work) -> Result<Done, JobError> {
        let (port, reply) = oneshot::channel();
        let answered = async {
            let _cancel = self.send(conversation, work, Port::Done(port)).await?;
            reply.await.map_err(|_| gone().into())
        };
        before(&mut self.deadline.map(|deadline| (sleep(deadline), deadline)), answered).await?
    }

    /// Sends a job when its turn in its conversation has come. What comes back takes it back when it is dropped.
    async fn send(
        &self,
        conversation: Option<ConversationId>,
        work: Work,
        port: Port,
    ) -> Result<CancelOnDrop, JobError> {
        let permit = if matches!(work, Work::Forget) { None } else { Some(self.place()?) };
        let spans = JobSpans::new(Span::current());
        let pins = self.pins && permit.is_some();
        if pins && (conversation.is_none() || work.input().is_empty()) {
            let found = "true without a conversation or without tokens".to_owned();
            let expected = "tokens that a conversation keeps".to_owned();
            return Err(BrainError::BadRequest { what: "pin", found, expected }.into());
        }
        let mut taken = match &conversation {
            Some(name) => Some(self.shared.conversations.take(name).await),
            None => None,
        };
        // The actor that is there when the turn has come; its ports are not kept over an await.
        let Present { life, actor, ports, .. } = self.present();
        let (context, held) = match taken.as_deref_mut() {
            Some(conversation) => (conversation.context.clone(), conversation.begin(&work, life, &self.shared.info)),
            None => (History::default(), Holding::Nothing),
        };
        let waiting = Waiting { port, taken: conversation.clone().zip(taken), permit };
        let request = ports.upgrade().and_then(|ports| ports.wait_at(waiting)).ok_or_else(gone)?;
        let job = Job {
            request,
            conversation,
            context,
            held,
            carried: None,
            work,
            pins,
            text: None,
            party: self.party.clone(),
            alone: 0,
            spans,
        };
        actor.cast(EmbedderMessage::Job(Box::new(job))).map_err(|_| gone())?;
        Ok(CancelOnDrop(actor, request))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, BrainError> {
        let EmbedderOptions { jobs_max, beside_max, .. } = self.shared.options;
        Arc::clone(&self.shared.jobs).try_acquire_owned().map_err(|_| BrainError::Overloaded {
            what: "jobs of an embedder",
            limit: jobs_max,
            // A run, after which one of them may be done.
            retry_after: Some(beside_max),
        })
    }

    fn present(&self) -> Present {
        lock(&self.shared.present).clone()
    }
}

type Loading = oneshot::Receiver<Result<EngineInfo, LoadError>>;

fn spawn(
    life: Life,
    name: Option<String>,
    supervisor: ActorCell,
    loader: &Arc<dyn EngineLoader>,
    options: EmbedderOptions,
    conversations: &Arc<Conversations>,
) -> Result<(Present, Loading), StartError> {
    let (loaded, load) = oneshot::channel();
    let owned = Arc::new(Ports::new(life, Arc::clone(conversations), loaded));
    let ports = Arc::downgrade(&owned);
    let pulse = Pulse::default();
    let arguments = EmbedderArguments {
        loader: Arc::clone(loader),
        report: Arc::new(move |report| owned.report(report)),
        pulse: pulse.clone(),
        clock: Clock::start(),
        straighten: None,
        chunk: options.chunk,
        beside_max: options.beside_max,
    };
    let actor = spawn_on_thread(name, supervisor, arguments).map_err(StartError::Spawn)?;
    Ok((Present { life, actor, ports, pulse }, load))
}

async fn loaded(load: Loading) -> Result<EngineInfo, StartError> {
    load.await.map_err(|_| StartError::Died)?.map_err(StartError::Load)
}

fn sleep(deadline: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(deadline))
}

/// What comes of `future`, unless the deadline is first.
async fn before<T>(
    deadline: &mut Option<(Pin<Box<Sleep>>, Duration)>,
    future: impl Future<Output = T>,
) -> Result<T, BrainError> {
    let Some((sleep, deadline)) = deadline else { return Ok(future.await) };
    tokio::select! {
        biased;
        done = future => Ok(done),
        () = sleep.as_mut() => Err(BrainError::Timeout { deadline: *deadline }),
    }
}

pub(super) fn gone() -> BrainError {
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
pub(super) struct CancelOnDrop(ActorRef<EmbedderMessage>, RequestId);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // An actor that is gone does nothing more.
        let _ = self.0.cast(EmbedderMessage::Cancel(self.1));
    }
}
