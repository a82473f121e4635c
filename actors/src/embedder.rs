//! EmbedderActor: owns one engine on one OS thread, batches what waits, reports what was done.
//!
//! Jobs arrive as messages and wait in their conversation's queue. Between two runs of the engine the
//! actor lets its mailbox in: it sends itself a message to go on, which stands behind all that
//! arrived meanwhile, so every run batches whatever waits and no run waits for more.
//!
//! Its owner is told everything through a callback and keeps the reply ports, so that an actor that
//! dies or hangs takes none with it. [`Embedder`] is such an owner in small, for use under somebody
//! else's supervisor; `MotorBrain` is the other.
//!
//! The engine never leaves its thread and need not be `Send`: the actor is one of ractor's
//! thread-local actors, and its handlers may block.

use std::{panic::catch_unwind, sync::Arc, time::Duration};

use ractor::{
    ActorCell, ActorProcessingErr, ActorRef, SpawnErr,
    thread_local::{ThreadLocalActor, ThreadLocalActorSpawner},
};

mod client;
mod conversations;
mod crowd;
mod lane;
mod line;
mod pace;
mod ports;
mod readers;
mod stream;
mod task;
mod worker;

/// The words with which an actor panics that is told to crash, so that whoever asked for it knows its panic.
pub const CRASH: &str = "crashed on request";

pub use client::{Answer, Embedder, EmbedderOptions, StartError, TokenStep};
pub use stream::{TokenItem, TokenStream};
pub use worker::Worker;

use crate::{
    clock::Clock,
    engine::EngineLoader,
    job::{Job, Pulse, Report, RequestId, Running},
    vectors::Straighten,
};

/// Where an actor's reports go. Called on the actor's thread, so it must not block.
pub type ReportTo = Arc<dyn Fn(Report) + Send + Sync>;

/// The actor; its state is made from [`EmbedderArguments`].
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbedderActor;

/// What an [`EmbedderActor`] starts with.
#[derive(Clone)]
pub struct EmbedderArguments {
    /// Makes the engine, on the actor's thread.
    pub loader: Arc<dyn EngineLoader>,
    /// Told everything. Dropped when the actor is gone.
    pub report: ReportTo,
    /// Written around everything that is done with the engine.
    pub pulse: Pulse,
    /// What its times are read from.
    pub clock: Clock,
    /// For vectors that ask for it: a calibration.
    pub straighten: Option<Arc<dyn Straighten>>,
    /// The most prefill tokens in one run, at least 1; fewer ride where others wait.
    pub chunk: usize,
    /// No run beside others that wait is longer than this, as far as can be foreseen.
    pub beside_max: Duration,
}

impl EmbedderArguments {
    /// The actor is at work for no job from now on.
    fn busy(&self) {
        self.pulse.begin(Running { since: self.clock.now(), requests: Vec::new() });
    }
}

/// What an [`EmbedderActor`] is told.
#[derive(Debug)]
pub enum EmbedderMessage {
    /// A job for its conversation's queue.
    Job(Box<Job>),
    /// Nobody waits for this job any more: it ends with [`JobError::Cancelled`](crate::job::JobError::Cancelled).
    Cancel(RequestId),
    /// Give these jobs back between two runs, with [`Report::Returned`]: somebody else has nothing to do.
    Recall(Vec<RequestId>),
    /// Panic in the handler: a rehearsal of a death.
    Crash,
    /// Block the thread for so long: a rehearsal of a hang.
    Hang(Duration),
    /// The actor's message to itself: the mailbox has been let in, go on.
    Continue(Continue),
}

/// How long an actor that dallies does not look into its mailbox.
const DALLY_STEP: Duration = Duration::from_micros(50);

/// Only an actor tells itself to go on.
#[derive(Debug)]
pub struct Continue(());

/// What an [`EmbedderActor`] holds.
pub struct EmbedderState {
    arguments: EmbedderArguments,
    /// `None` until the engine is loaded.
    worker: Option<Worker>,
    /// Whether a [`EmbedderMessage::Continue`] is on its way.
    continuing: bool,
}

/// Spawns an actor on an OS thread of its own, linked to `supervisor` if there is one, without waiting for the load:
/// jobs sent before it is done wait in the mailbox. Must be called within a tokio runtime.
///
/// The owner hears [`Report::Ready`] or [`Report::LoadFailed`]; a panic of the loader reaches the
/// supervisor as `ActorFailed`.
///
/// # Errors
/// The name is taken, or the system gives no thread.
pub fn spawn_on_thread(
    name: Option<String>,
    supervisor: impl Into<Option<ActorCell>>,
    arguments: EmbedderArguments,
) -> Result<ActorRef<EmbedderMessage>, SpawnErr> {
    // A spawner each: one that is shared hangs every later spawn when one of its actors hangs. It
    // panics where the system gives it no thread or no file handle.
    let spawner = catch_unwind(ThreadLocalActorSpawner::new)
        .map_err(|_| SpawnErr::StartupFailed("the system gave no thread".into()))?;
    let (actor, _started) = match supervisor.into() {
        Some(supervisor) => EmbedderActor::spawn_linked_instant(name, arguments, supervisor, spawner)?,
        None => EmbedderActor::spawn_instant(name, arguments, spawner)?,
    };
    Ok(actor)
}

impl ThreadLocalActor for EmbedderActor {
    type Msg = EmbedderMessage;
    type State = EmbedderState;
    type Arguments = EmbedderArguments;

    /// Loads nothing: a failure here would be no supervision event.
    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(EmbedderState { arguments, worker: None, continuing: false })
    }

    async fn post_start(&self, myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        let arguments = &state.arguments;
        arguments.busy();
        match arguments.loader.load() {
            Ok(engine) => {
                arguments.pulse.set_interrupter(engine.interrupter());
                let info = engine.info().clone();
                state.worker = Some(Worker::new(engine, arguments));
                drop(arguments.pulse.end());
                (arguments.report)(Report::Ready(info));
            }
            Err(error) => {
                drop(arguments.pulse.end());
                myself.stop(Some(error.to_string()));
                (arguments.report)(Report::LoadFailed(error));
            }
        }
        Ok(())
    }

    /// The engine goes before the actor's end is told: a program that then ends must not do so while
    /// the runtime is still at work here.
    async fn post_stop(&self, _myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.arguments.busy();
        state.worker = None;
        drop(state.arguments.pulse.end());
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Without a worker the load has failed and the actor is about to stop.
        let Some(worker) = &mut state.worker else {
            return Ok(());
        };
        match message {
            EmbedderMessage::Job(job) => worker.accept(*job)?,
            EmbedderMessage::Continue(Continue(())) => {
                state.continuing = false;
                match worker.dallies() {
                    // The mailbox is let in again and again meanwhile.
                    true => std::thread::sleep(DALLY_STEP),
                    false => worker.run()?,
                }
            }
            EmbedderMessage::Cancel(request) => worker.cancel(request)?,
            EmbedderMessage::Recall(requests) => worker.recall(&requests)?,
            EmbedderMessage::Crash => panic!("{CRASH}"),
            EmbedderMessage::Hang(duration) => worker.hang(duration),
        }
        if worker.has_work() && !state.continuing {
            state.continuing = myself.cast(EmbedderMessage::Continue(Continue(()))).is_ok();
            if !state.continuing {
                // The actor is draining and takes no message, not even its own: finish what is here.
                while worker.has_work() {
                    worker.run()?;
                }
            }
        }
        Ok(())
    }
}
